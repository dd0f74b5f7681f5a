package simd

//go:generate go run -C _gen ./arm64 -dir ..

// Kernels is one complete set of inner loops for one CPU tier.
//
// Unless a function says otherwise its slices have equal length, do not overlap,
// and may be empty or unaligned. Sums may be reordered and fused (see doc.go),
// but every set gives the same bits for the same input, however it is called.
type Kernels struct {
	Name string // "generic", "vek", "avx2", "neon", …

	// Dot returns Σ x[i]·y[i].
	Dot func(x, y []float32) float32
	// Sum returns Σ x[i].
	Sum func(x []float32) float32
	// Max returns the largest x[i], -Inf for an empty x, NaN if any x[i] is NaN.
	Max func(x []float32) float32
	// Axpy adds a·x to y.
	Axpy func(y []float32, a float32, x []float32)
	// Add adds x to y.
	Add func(y, x []float32)
	// Mul multiplies y by x, element by element.
	Mul func(y, x []float32)
	// Scale multiplies y by a.
	Scale func(y []float32, a float32)
	// DotRows sets out[i] = Σ_j rows[i*stride+j]·x[j]: len(out) rows of len(x) columns.
	DotRows func(out, x, rows []float32, stride int)
	// AxpyRows adds Σ_i a[i]·rows[i*stride : i*stride+len(y)] to y, i in order.
	AxpyRows func(y, a, rows []float32, stride int)
	// ExpSub sets y[i] = exp(x[i]-sub) and returns the sum of y. y may be x.
	ExpSub func(y, x []float32, sub float32) float32
	// SwiGLU sets y = silu(gate)∘up, silu(z) = z/(1+exp(-z)).
	SwiGLU func(y, gate, up []float32)
	// SwiGLUBackward sets dgate and dup from dy and the inputs of SwiGLU.
	// dgate may be gate and dup may be up.
	SwiGLUBackward func(dgate, dup, dy, gate, up []float32)
	// GELU sets y = ½x(1+tanh(√(2/π)(x+0.044715x³))). y may be x.
	GELU func(y, x []float32)
	// GELUBackward sets dx from dy and the input of GELU. dx may be dy.
	GELUBackward func(dx, dy, x []float32)
	// TurnPairs turns the pairs a, b = x[2i], x[2i+1] in place, each product rounded:
	//
	//	a, b = a·cos[2i] - b·sign·sin[2i], b·cos[2i+1] + a·sign·sin[2i+1]
	//
	// The length is even. All sets give the same bits.
	TurnPairs func(x, cos, sin []float32, sign float32)
	// AdamW updates w, m and v by the gradient g (see AdamWStep).
	AdamW func(w, m, v, g []float32, s *AdamWStep)
	// RoundBF16 sets y[i] to x[i] rounded to the nearest bfloat16, ties to even. NaN
	// stays NaN. y may be x.
	RoundBF16 func(y, x []float32)
	// StochasticBF16 sets y[i] to one of the two bfloat16 next to x[i], by random bits that
	// the key (see RandomKey) and first+i decide; the expected value is x[i]. A number
	// of bfloat16 stays, NaN stays NaN, and beyond the largest one lies Inf. y may be
	// x. All sets give the same bits, but for those of NaN.
	StochasticBF16 func(y, x []float32, key uint64, first uint32)
	// ToInt8 rounds x to 8 bits, block by block of 32 (see Int8): with m the largest |x| of
	// the block, d = m/127, q = x·(127/m) to the nearest, halves to even, and s = Σ q.
	// Where m < 2⁻¹⁰⁰, d and q are 0; where a number is NaN or infinite, d is one of these
	// and q is 0. All sets give the same bits (but for those of NaN).
	ToInt8 func(q []int8, d []float32, s []int32, x []float32)
	// Weights are the types of packed weights.
	Weights
	// Transpose sets dst[j*ldd+i] = src[i*lds+j] for i < rows and j < cols.
	Transpose func(dst []float32, ldd int, src []float32, lds, rows, cols int)
	// Tile is the micro-kernel of the matrix products.
	Tile Tile
	// TileBF16 is the micro-kernel of products of bfloat16 numbers; it has Seal.
	TileBF16 Tile
}

// AdamWStep holds the constants of one AdamW step (Loshchilov & Hutter 2019, arXiv:1711.05101v3, alg. 2):
//
//	m = β₁m + (1-β₁)g;  v = β₂v + (1-β₂)g²
//	w = w·(1 - LR·Decay) - LR·(m/C1)/(√(v/C2)+Eps)
//
// with C1 = 1-β₁ᵗ and C2 = 1-β₂ᵗ. g is multiplied by GradScale first.
type AdamWStep struct {
	LR, Beta1, Beta2, Eps, Decay, C1, C2, GradScale float32
}

// Tile is the micro-kernel of a blocked matrix product of A and B, and the packing it
// wants: rows of A as they are, and panels of B, NR columns wide, k steps of NR numbers.
// A panel is followed by at least PackSlack numbers that packing may overwrite.
type Tile struct {
	MR, NR int
	// Run adds (or sets, when accumulate is false) the product of up to MR rows of A
	// and a panel of B to a tile of C. The products are summed from zero, p = 0…k-1 in
	// order, and the sum is then added to C:
	//
	//	c[i*ldc+j] (+)= Σ_p a[i*lda+p]·b[p*NR+j]   for i < rows ≤ MR, j < NR
	//
	// An element does not depend on rows. If there is a Seal, a and b are sealed, and
	// the sum may take some steps together, always in the same way. rows, k ≥ 1.
	Run func(rows, k int, a []float32, lda int, b, c []float32, ldc int, accumulate bool)
	// PackRows fills panels that lie side by side in the rows of src:
	// dst[q*panel+p*NR+j] = src[p*stride+q*NR+j] for q < panels, p < k, j < NR.
	PackRows func(dst []float32, panel int, src []float32, stride, k, panels int)
	// Seal, if not nil, turns the panel in src, as it is packed, into the one that Run
	// reads, its numbers rounded to bfloat16, k ≥ 1. A panel may be sealed in parts, each
	// but the last of a multiple of SealSteps steps; a part begins in dst at NR numbers
	// for every step before it, or half as many if Half is set.
	Seal func(dst, src []float32, k int)
	// SealRow does the same for a row of A, which is src.
	SealRow func(dst, src []float32)
	// Half says that what is sealed has two bfloat16 in a 32-bit word of dst (which are
	// no float32 then, just bits): a row of A is a sequence of them, the even steps in
	// the low halves, as they lie in the memory of a little-endian machine; how they lie
	// in a panel of B is between Seal and Run. Seal and SealRow add zeros for the
	// steps from k on that Run reads, up to a multiple of 4, for which there is room.
	Half bool
	// Narrow, if not nil, is a tile that gives the same bits, for products of no more
	// columns than it has.
	Narrow *Tile
}

// PackSlack is the number of elements after a panel that packing may overwrite.
const PackSlack = 8

// SealSteps is the unit in which a panel is sealed in parts.
const SealSteps = 16

package simd

import "math"

// generic is the portable set and the meaning of all the others. Products are
// rounded before they are added (float32(x*y) + s), so that it gives the same
// bits on every architecture.
var generic = Kernels{
	Name:           "generic",
	Dot:            dotGeneric,
	Sum:            sumGeneric,
	Max:            maxGeneric,
	Axpy:           axpyGeneric,
	Add:            addGeneric,
	Mul:            mulGeneric,
	Scale:          scaleGeneric,
	DotRows:        dotRowsGeneric,
	AxpyRows:       axpyRowsGeneric,
	ExpSub:         expSubGeneric,
	SwiGLU:         swiGLUGeneric,
	SwiGLUBackward: swiGLUBackwardGeneric,
	GELU:           geluGeneric,
	GELUBackward:   geluBackwardGeneric,
	TurnPairs:      turnPairsGeneric,
	AdamW:          adamWGeneric,
	RoundBF16:      roundBF16Generic,
	StochasticBF16: stochasticBF16Generic,
	ToInt8:         toInt8Generic,
	Weights:        weightsGeneric,
	Transpose:      transposeGeneric,
	Tile: Tile{
		MR: 4, NR: 4,
		Run:      tileGeneric,
		PackRows: packRowsGeneric,
	},
	TileBF16: Tile{
		MR: 4, NR: 4,
		Run:      tileGeneric,
		PackRows: packRowsGeneric,
		Seal:     sealGeneric,
		SealRow:  sealRowGeneric,
	},
}

func dotGeneric(x, y []float32) float32 {
	y = y[:len(x)]
	var s0, s1, s2, s3 float32
	for len(x) >= 4 {
		s0 += float32(x[0] * y[0])
		s1 += float32(x[1] * y[1])
		s2 += float32(x[2] * y[2])
		s3 += float32(x[3] * y[3])
		x, y = x[4:], y[4:]
	}
	for i, v := range x {
		s0 += float32(v * y[i])
	}
	return (s0 + s1) + (s2 + s3)
}

func sumGeneric(x []float32) float32 {
	var s0, s1, s2, s3 float32
	for len(x) >= 4 {
		s0 += x[0]
		s1 += x[1]
		s2 += x[2]
		s3 += x[3]
		x = x[4:]
	}
	for _, v := range x {
		s0 += v
	}
	return (s0 + s1) + (s2 + s3)
}

func maxGeneric(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		if v != v {
			return v
		}
		if v > m {
			m = v
		}
	}
	return m
}

func axpyGeneric(y []float32, a float32, x []float32) {
	x = x[:len(y)]
	for i := range y {
		y[i] += float32(a * x[i])
	}
}

func addGeneric(y, x []float32) {
	x = x[:len(y)]
	for i := range y {
		y[i] += x[i]
	}
}

func mulGeneric(y, x []float32) {
	x = x[:len(y)]
	for i := range y {
		y[i] *= x[i]
	}
}

func scaleGeneric(y []float32, a float32) {
	for i := range y {
		y[i] *= a
	}
}

func dotRowsGeneric(out, x, rows []float32, stride int) {
	for i := range out {
		out[i] = dotGeneric(x, rows[i*stride:i*stride+len(x)])
	}
}

func axpyRowsGeneric(y, a, rows []float32, stride int) {
	for i, v := range a {
		axpyGeneric(y, v, rows[i*stride:i*stride+len(y)])
	}
}

func expSubGeneric(y, x []float32, sub float32) float32 {
	x = x[:len(y)]
	var s float32
	for i := range y {
		e := exp32(x[i] - sub)
		y[i] = e
		s += e
	}
	return s
}

// sigmoid32 is 1/(1+exp(-x)). For x < -88.7 it is 1/(1+Inf) = 0.
func sigmoid32(x float32) float32 { return 1 / (1 + exp32(-x)) }

func swiGLUGeneric(y, gate, up []float32) {
	gate, up = gate[:len(y)], up[:len(y)]
	for i := range y {
		y[i] = float32(gate[i]*sigmoid32(gate[i])) * up[i]
	}
}

// swiGLUBackwardGeneric: with σ = sigmoid(gate), silu'(z) = σ·(1 + z·(1-σ)).
func swiGLUBackwardGeneric(dgate, dup, dy, gate, up []float32) {
	dup, dy, gate, up = dup[:len(dgate)], dy[:len(dgate)], gate[:len(dgate)], up[:len(dgate)]
	for i := range dgate {
		z, u, d := gate[i], up[i], dy[i]
		s := sigmoid32(z)
		dup[i] = d * float32(z*s)
		dgate[i] = float32(d*u) * float32(s*(1+float32(z*(1-s))))
	}
}

// GELU's constants: 2√(2/π) and 0.044715 (Hendrycks & Gimpel 2016,
// arXiv:1606.08415v5, §2). As ½(1+tanh u) = sigmoid(2u), gelu(x) = x·sigmoid(v) with
// v = 2√(2/π)·(x + 0.044715x³), and gelu'(x) = σ + x·σ·(1-σ)·2√(2/π)·(1 + 3·0.044715x²).
const (
	geluA = 1.5957691216057308
	geluB = 0.044715
)

func geluGeneric(y, x []float32) {
	x = x[:len(y)]
	for i := range y {
		z := x[i]
		v := geluA * z * (1 + float32(geluB*float32(z*z)))
		y[i] = z * sigmoid32(v)
	}
}

func geluBackwardGeneric(dx, dy, x []float32) {
	dy, x = dy[:len(dx)], x[:len(dx)]
	for i := range dx {
		z := x[i]
		q := float32(geluB * float32(z*z))
		s := sigmoid32(geluA * z * (1 + q))
		t := float32(geluA*z) * (1 + float32(3*q))
		dx[i] = dy[i] * float32(s*(1+float32(t*(1-s))))
	}
}

func turnPairsGeneric(x, cos, sin []float32, sign float32) {
	cos, sin = cos[:len(x)], sin[:len(x)]
	for i := 0; i < len(x); i += 2 {
		a, b := x[i], x[i+1]
		x[i] = float32(a*cos[i]) - float32(b*(sign*sin[i]))
		x[i+1] = float32(b*cos[i+1]) + float32(a*(sign*sin[i+1]))
	}
}

func adamWGeneric(w, m, v, g []float32, s *AdamWStep) {
	m, v, g = m[:len(w)], v[:len(w)], g[:len(w)]
	keep := 1 - float32(s.LR*s.Decay)
	b1, b2 := 1-s.Beta1, 1-s.Beta2
	r1, r2 := 1/s.C1, 1/s.C2
	for i := range w {
		d := g[i] * s.GradScale
		m[i] = float32(s.Beta1*m[i]) + float32(b1*d)
		v[i] = float32(s.Beta2*v[i]) + float32(b2*float32(d*d))
		den := float32(math.Sqrt(float64(float32(v[i]*r2)))) + s.Eps
		w[i] = float32(w[i]*keep) - float32(s.LR*float32(m[i]*r1))/den
	}
}

// tileGeneric computes two rows at a time, whose sums fit in registers. A last row
// without a second one is computed twice.
func tileGeneric(rows, k int, a []float32, lda int, b, c []float32, ldc int, accumulate bool) {
	for i := 0; i < rows; i += 2 {
		i1 := min(i+1, rows-1)
		var s00, s01, s02, s03, s10, s11, s12, s13 float32
		bp := b[:4*k]
		ap0, ap1 := a[i*lda:i*lda+k], a[i1*lda:i1*lda+k]
		for p := 0; p < len(ap0) && p < len(ap1) && len(bp) >= 4; p++ {
			a0, a1 := ap0[p], ap1[p]
			s00 += float32(a0 * bp[0])
			s01 += float32(a0 * bp[1])
			s02 += float32(a0 * bp[2])
			s03 += float32(a0 * bp[3])
			s10 += float32(a1 * bp[0])
			s11 += float32(a1 * bp[1])
			s12 += float32(a1 * bp[2])
			s13 += float32(a1 * bp[3])
			bp = bp[4:]
		}
		c0, c1 := c[i*ldc:i*ldc+4], c[i1*ldc:i1*ldc+4]
		if accumulate {
			s00, s01, s02, s03 = c0[0]+s00, c0[1]+s01, c0[2]+s02, c0[3]+s03
			s10, s11, s12, s13 = c1[0]+s10, c1[1]+s11, c1[2]+s12, c1[3]+s13
		}
		c0[0], c0[1], c0[2], c0[3] = s00, s01, s02, s03
		c1[0], c1[1], c1[2], c1[3] = s10, s11, s12, s13
	}
}

func packRowsGeneric(dst []float32, panel int, src []float32, stride, k, panels int) {
	for q := range panels {
		d := dst[q*panel:]
		for p := range k {
			copy(d[p*4:(p+1)*4], src[p*stride+q*4:])
		}
	}
}

func transposeGeneric(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	for i := range rows {
		for j, v := range src[i*lds : i*lds+cols] {
			dst[j*ldd+i] = v
		}
	}
}

// roundBF16Generic adds half of the last place that stays, or a little less if the
// number is even there, and cuts.
func roundBF16Generic(y, x []float32) {
	x = x[:len(y)]
	for i, v := range x {
		u := math.Float32bits(v)
		if v != v {
			u |= 1 << 22 // quiet, and NaN whatever is cut
		} else {
			u += 0x7fff + u>>16&1
		}
		y[i] = math.Float32frombits(u &^ 0xffff)
	}
}

// sealGeneric is Seal where Run multiplies float32 numbers.
func sealGeneric(dst, src []float32, k int) { roundBF16Generic(dst[:4*k], src) }

func sealRowGeneric(dst, src []float32) { roundBF16Generic(dst[:len(src)], src) }

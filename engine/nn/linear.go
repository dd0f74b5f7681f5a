package nn

import (
	"sync"

	"github.com/guardcpu/guardcpu/simd"
)

// Linear sets y = x·Wᵀ, or with an adapter (Hu et al. 2021, arXiv:2106.09685v2, eq. 3)
//
//	y = x·(W + s·B·A)ᵀ = x·Wᵀ + s·(x·Aᵀ)·Bᵀ
//
// x is [T,Cols], y is [T,Rows], p is W [Rows,Cols]: its float32 master if it has
// one, else the stored weight. Few rows are multiplied with weights that have no 8-bit
// product as they lie; others are unpacked while the product packs its panels. With c.Int8 set, x is
// rounded to 8 bits for the product with stored blocks of small integers ([simd.Int8]).
// y must not overlap x. It panics if the shapes disagree.
func Linear(c *Ctx, y, x Mat, p *Param) { linear(c, y, x, p, false) }

// linear is Linear, or with add set y += x·(W + s·B·A)ᵀ.
func linear(c *Ctx, y, x Mat, p *Param, add bool) {
	j := productsPool.Get().(*products)
	defer productsPool.Put(j)
	j.one[0] = projection{y: y, w: p}
	j.run(c, x, j.one[:], add)
	j.one[0] = projection{}
}

// projection is a product y = x·Wᵀ + b of an input that several share; b may be nil.
type projection struct {
	y    Mat
	w, b *Param
}

// project computes the projections of x: those whose weights are read as they lie in one
// parallel section.
func project(c *Ctx, x Mat, ps ...projection) {
	j := productsPool.Get().(*products)
	defer productsPool.Put(j)
	j.run(c, x, ps, false)
	for _, p := range ps {
		AddBias(c, p.y, p.b)
	}
}

// products is the scratch of linear products.
type products struct {
	one  [1]projection
	int8 []simd.Product // with activations rounded to 8 bits
	few  []simd.Product // of few rows
	x    simd.Int8
}

var productsPool = sync.Pool{New: func() any { return new(products) }}

// run computes y (+)= x·(W + s·B·A)ᵀ for all projections.
func (j *products) run(c *Ctx, x Mat, ps []projection, add bool) {
	for _, p := range ps {
		checkLinear("Linear", p.y, x, p.w)
	}
	if x.Rows == 0 {
		return
	}
	// Few rows are as fast with float32 numbers; a trace that asks for bfloat16 gets them all the same.
	few := c.Int8 || c.Compute.On(c.K) == ComputeF32
	for _, p := range ps {
		product := simd.Product{Y: p.y.Data, LDY: p.y.Stride, N: p.w.Rows, Add: add, F32: p.w.numbers()}
		if product.F32 == nil && p.w.Stored.Type.Kernels != nil {
			product.Packed, product.Bytes = p.w.Stored.Type.Kernels(c.K), p.w.Stored.Data
		}
		switch k := product.Packed; {
		case k != nil && k.DotInt8 != nil && c.Int8:
			j.int8 = append(j.int8, product)
		case few && (k != nil || product.F32 != nil) && x.Rows <= mostFew(k):
			j.few = append(j.few, product)
		default:
			c.Gemm(p.y.Data, p.y.Stride, x.Rows, p.w.Rows, p.w.Cols, operand(x), p.w.operand(c, true), add)
		}
	}
	if len(j.int8) > 0 {
		j.x.Resize(x.Rows, x.Cols)
		c.rows(x.Rows, x.Cols, func(lo, hi int) {
			for t := lo; t < hi; t++ {
				j.x.SetRow(c.K, t, x.Row(t))
			}
		})
		simd.MulInt8(c.Par.For, &j.x, j.int8)
		clear(j.int8)
		j.int8 = j.int8[:0]
	}
	if len(j.few) > 0 {
		c.K.MulFew(c.Par.For, x.Data, x.Stride, x.Rows, x.Cols, j.few)
		clear(j.few)
		j.few = j.few[:0]
	}
	for _, p := range ps {
		if a := p.w.Adapter; a != nil {
			z := scratchMat(x.Rows, a.A.Rows)
			a.down(c, *z, x)
			c.Gemm(p.y.Data, p.y.Stride, x.Rows, p.w.Rows, a.B.Cols, operand(*z), a.B.operand(c, true), true)
			matPool.Put(z)
		}
	}
}

// mostFew is how many rows are multiplied with weights of a type, or with numbers if k is
// nil, without packing panels.
func mostFew(k *simd.Packed) int {
	switch {
	case k == nil:
		return fewRows
	case k.DotRows != nil:
		return fewPacked
	case k.DotInt8 == nil || k.BlockLen > simd.Int8Len: // not Q8_0 and Q4_0, which keep the bits they had
		return fewUnpacked
	}
	return 0
}

const (
	// fewPacked is for weights of 16 bits.
	fewPacked = 8
	// fewUnpacked is for weights that are unpacked a few rows at a time, once for all rows of
	// x. The panels of a product pay from some 50 rows on (benchmarks/LOG.md).
	fewUnpacked = 32
)

// LinearBackward adds the gradient of the input of y = x·(W + s·B·A)ᵀ,
//
//	dx += dy·(W + s·B·A) = dy·W + s·(dy·B)·A
//
// and hands the factors of the gradient of W + s·B·A, which is dyᵀ·x, to the sink:
// sink.Linear(p, dy, x), also for a weight with an adapter (see [AdapterBackward]).
//
// dx, x are [T,Cols], dy is [T,Rows]. A dx without Data is skipped, a nil sink too.
// dx must not overlap dy. It panics if the shapes disagree.
func LinearBackward(c *Ctx, dx, dy, x Mat, p *Param, s Sink) {
	linearBackward(c, dx, dy, x, p, s, true)
}

// linearBackward is LinearBackward, or with add unset dx = dy·(W + s·B·A).
func linearBackward(c *Ctx, dx, dy, x Mat, p *Param, s Sink, add bool) {
	checkLinear("LinearBackward", dy, x, p)
	if x.Rows == 0 {
		return
	}
	if dx.Data != nil {
		sameShape("LinearBackward", "dx", dx, "x", x)
		// y = x·Wᵀ
		c.Gemm(dx.Data, dx.Stride, dy.Rows, p.Cols, p.Rows, operand(dy), p.operand(c, false), add)
		// y += s·(x·Aᵀ)·Bᵀ
		if a := p.Adapter; a != nil {
			dz := scratchMat(dy.Rows, a.B.Cols)
			defer matPool.Put(dz)
			a.up(c, *dz, dy)
			c.Gemm(dx.Data, dx.Stride, dy.Rows, p.Cols, a.A.Rows, operand(*dz), a.A.operand(c, false), true)
		}
	}
	if s != nil {
		s.Linear(p, dy, x)
	}
}

// AdapterBackward turns the factors of the gradient of a weight's product into
// those of its adapter's two matrices. With z = s·x·Aᵀ and dz = s·dy·B,
//
//	y += z·Bᵀ   dB += dyᵀ·z    sink.Linear(a.B, dy, z)
//	            dA += dzᵀ·x    sink.Linear(a.A, dz, x)
//
// dy is [T,Rows], x is [T,Cols]. A sink that trains adapters calls it from its
// own Linear; s is where A and B go.
func AdapterBackward(c *Ctx, a *Adapter, dy, x Mat, s Sink) {
	z := scratchMat(x.Rows, a.A.Rows)
	defer matPool.Put(z)
	a.down(c, *z, x)
	s.Linear(a.B, dy, *z)
	a.up(c, *z, dy)
	s.Linear(a.A, *z, x)
}

// AdapterRowsBackward is AdapterBackward for rows of W + s·B·A taken by [Embed]:
//
//	y_t += s·B[ids_t]·A   dB[ids_t] += s·dy_t·Aᵀ       sink.Rows(a.B, ids, s·dy·Aᵀ)
//	                      dA += Σ_t s·B[ids_t]ᵀ·dy_t   sink.Linear(a.A, s·B[ids], dy)
//
// dy is [T,Cols].
func AdapterRowsBackward(c *Ctx, a *Adapter, ids []int32, dy Mat, s Sink) {
	z := scratchMat(dy.Rows, a.A.Rows)
	defer matPool.Put(z)
	a.down(c, *z, dy)
	s.Rows(a.B, ids, *z)
	for t, id := range ids {
		copy(z.Row(t), a.B.F32[int(id)*a.B.Cols:])
	}
	c.K.Scale(z.Data, a.Scale)
	s.Linear(a.A, *z, dy)
}

// down sets z = s·x·Aᵀ [T,R].
func (a *Adapter) down(c *Ctx, z, x Mat) {
	c.Gemm(z.Data, z.Stride, z.Rows, z.Cols, x.Cols, operand(x), a.A.operand(c, true), false)
	c.K.Scale(z.Data, a.Scale)
}

// up sets z = s·dy·B [T,R].
func (a *Adapter) up(c *Ctx, z, dy Mat) {
	c.Gemm(z.Data, z.Stride, z.Rows, z.Cols, dy.Cols, operand(dy), a.B.operand(c, false), false)
	c.K.Scale(z.Data, a.Scale)
}

func checkLinear(op string, y, x Mat, p *Param) {
	if x.Cols != p.Cols || y.Cols != p.Rows || y.Rows != x.Rows {
		panicf("%s: y is %v, x is %v, %s is %d×%d", op, y, x, p.Name, p.Rows, p.Cols)
	}
	if a := p.Adapter; a != nil && (a.A.Cols != p.Cols || a.B.Rows != p.Rows || a.A.Rows != a.B.Cols) {
		panicf("%s: %s is %d×%d, its adapter B·A is %d×%d·%d×%d", op, p.Name, p.Rows, p.Cols, a.B.Rows, a.B.Cols, a.A.Rows, a.A.Cols)
	}
}

func operand(m Mat) simd.Operand { return simd.Operand{Data: m.Data, Stride: m.Stride} }

func transposed(m Mat) simd.Operand {
	return simd.Operand{Data: m.Data, Stride: m.Stride, Trans: true}
}

// numbers returns the weight where it lies in memory as float32: the master, or a
// stored weight of that type; else nil.
func (p *Param) numbers() []float32 {
	if p.F32 != nil {
		return p.F32
	}
	w, _ := p.Stored.Float32s()
	return w
}

// operand returns the weight as a factor of a product, or its transpose.
func (p *Param) operand(c *Ctx, trans bool) simd.Operand {
	if w := p.numbers(); w != nil {
		return simd.Operand{Data: w, Stride: p.Cols, Trans: trans}
	}
	return simd.Operand{Trans: trans, Unpack: func(dst []float32, row, col int) {
		p.Stored.Unpack(c.K, dst, row, col)
	}}
}

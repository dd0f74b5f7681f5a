package nn

import "github.com/guardcpu/guardcpu/simd"

// Linear sets y = x·Wᵀ, or with an adapter (Hu et al. 2021, arXiv:2106.09685v2, eq. 3)
//
//	y = x·(W + s·B·A)ᵀ = x·Wᵀ + s·(x·Aᵀ)·Bᵀ
//
// x is [T,Cols], y is [T,Rows], p is W [Rows,Cols]: its float32 master if it has
// one, else the stored weight, unpacked while the product packs its panels.
// y must not overlap x. It panics if the shapes disagree.
func Linear(c *Ctx, y, x Mat, p *Param) { linear(c, y, x, p, false) }

// linear is Linear, or with add set y += x·(W + s·B·A)ᵀ.
func linear(c *Ctx, y, x Mat, p *Param, add bool) {
	checkLinear("Linear", y, x, p)
	if x.Rows == 0 {
		return
	}
	c.Gemm(y.Data, y.Stride, x.Rows, p.Rows, p.Cols, operand(x), p.operand(c, true), add)
	if a := p.Adapter; a != nil {
		z := scratchMat(x.Rows, a.A.Rows)
		defer matPool.Put(z)
		a.down(c, *z, x)
		c.Gemm(y.Data, y.Stride, x.Rows, p.Rows, a.B.Cols, operand(*z), a.B.operand(c, true), true)
	}
}

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

// operand returns the weight as a factor of a product, or its transpose.
func (p *Param) operand(c *Ctx, trans bool) simd.Operand {
	if p.F32 != nil {
		return simd.Operand{Data: p.F32, Stride: p.Cols, Trans: trans}
	}
	if w, ok := p.Stored.Float32s(); ok {
		return simd.Operand{Data: w, Stride: p.Cols, Trans: trans}
	}
	return simd.Operand{Trans: trans, Unpack: func(dst []float32, row, col int) {
		p.Stored.Unpack(c.K, dst, row, col)
	}}
}

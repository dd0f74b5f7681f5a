package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The constants and steps are those of simd/exp.go and simd/generic.go.

func activation(g *gen) {
	g.fn("expSub"+g.isa, "func(y, x *float32, sub float32, n int) float32", "sets y = exp(x-sub) and returns Σ y.")
	sub := g.broadcast("sub")
	reduce(g, 4, []string{"y", "x"}, func(acc reg.VecVirtual, l lanes, p []reg.GPVirtual) {
		x := l.load(p[1])
		g.VSUBPS(sub, x, x)
		y := exp(g, x)
		l.store(y, p[0])
		if l.masked() {
			l.fill(g.zero(), y)
		}
		g.VADDPS(y, acc, acc)
	})

	g.fn("swiGLU"+g.isa, "func(y, gate, up *float32, n int)", "sets y = gate·sigmoid(gate)·up.")
	elementwise(g, 2, []string{"y", "gate", "up"}, func(l lanes, p []reg.GPVirtual) {
		z := l.load(p[1])
		y := sigmoid(g, z)
		g.VMULPS(z, y, y)
		g.VMULPS(l.load(p[2]), y, y)
		l.store(y, p[0])
	})

	g.fn("swiGLUBackward"+g.isa, "func(dgate, dup, dy, gate, up *float32, n int)", "is SwiGLUBackward.")
	elementwise(g, 2, []string{"dgate", "dup", "dy", "gate", "up"}, func(l lanes, p []reg.GPVirtual) {
		z, u, dy := l.load(p[3]), l.load(p[4]), l.load(p[2])
		s := sigmoid(g, z)
		g.VMULPS(dy, u, u) // dy·up
		zs := g.vec()
		g.VMULPS(s, z, zs)
		g.VMULPS(dy, zs, dy)
		l.store(dy, p[1])
		// σ·(1 + z·(1-σ)) = σ + zσ·(1-σ)
		t := g.vec()
		g.VMOVUPS(g.f32(1), t)
		g.VSUBPS(s, t, t)
		g.VFMADD213PS(g.f32(1), z, t)
		g.VMULPS(s, t, t)
		g.VMULPS(u, t, t)
		l.store(t, p[0])
	})

	g.fn("gelu"+g.isa, "func(y, x *float32, n int)", "is GELU.")
	elementwise(g, 2, []string{"y", "x"}, func(l lanes, p []reg.GPVirtual) {
		z := l.load(p[1])
		v, _ := geluArg(g, z)
		s := sigmoid(g, v)
		g.VMULPS(z, s, s)
		l.store(s, p[0])
	})

	g.fn("geluBackward"+g.isa, "func(dx, dy, x *float32, n int)", "is GELUBackward.")
	elementwise(g, 2, []string{"dx", "dy", "x"}, func(l lanes, p []reg.GPVirtual) {
		z := l.load(p[2])
		v, q := geluArg(g, z)
		s := sigmoid(g, v)
		// t = 2√(2/π)·x·(1+3q)
		t := g.vec()
		g.VMOVUPS(g.f32(3), t)
		g.VFMADD213PS(g.f32(1), q, t)
		g.VMULPS(g.f32(1.5957691216057308), z, z)
		g.VMULPS(z, t, t)
		// σ·(1 + t·(1-σ))
		d := g.vec()
		g.VMOVUPS(g.f32(1), d)
		g.VSUBPS(s, d, d)
		g.VFMADD213PS(g.f32(1), t, d)
		g.VMULPS(s, d, d)
		g.VMULPS(l.load(p[1]), d, d)
		l.store(d, p[0])
	})
}

// exp returns exp(x); it destroys x.
func exp(g *gen, x reg.VecVirtual) reg.VecVirtual {
	n, r, p := g.vec(), g.vec(), g.vec()
	g.VMULPS(g.f32(1.44269504088896341), x, n)
	if g.wide() {
		g.VRNDSCALEPS(operand.U8(8), n, n) // to nearest, even
	} else {
		g.VROUNDPS(operand.U8(8), n, n)
	}
	g.VMOVAPS(x, r)
	g.VFNMADD231PS(g.f32(0.693359375), n, r)
	g.VFNMADD231PS(g.f32(-2.12194440e-4), n, r)
	g.VMOVUPS(g.f32(1.9875691500e-4), p)
	for _, c := range []float64{1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1} {
		g.VFMADD213PS(g.f32(c), r, p)
	}
	r2 := g.vec()
	g.VMULPS(r, r, r2)
	g.VFMADD213PS(r, r2, p)
	g.VADDPS(g.f32(1), p, p)
	g.VCVTPS2DQ(n, n)
	g.VPSLLD(operand.U8(23), n, n)
	g.VPADDD(n, p, p)
	// 0 below expMin, +Inf above expMax; NaN is neither and has gone through.
	g.where(0x11, x, g.f32(-87.3365447504), nil, p)
	g.where(0x1e, x, g.f32(88.7228317261), g.bits(0x7f800000), p)
	return p
}

// sigmoid returns 1/(1+exp(-z)).
func sigmoid(g *gen, z reg.VecVirtual) reg.VecVirtual {
	x := g.vec()
	g.VXORPS(g.bits(0x80000000), z, x)
	e := exp(g, x)
	g.VADDPS(g.f32(1), e, e)
	one := g.vec()
	g.VMOVUPS(g.f32(1), one)
	g.VDIVPS(e, one, e)
	return e
}

// geluArg returns v = 2√(2/π)·z·(1+q) and q = 0.044715·z².
func geluArg(g *gen, z reg.VecVirtual) (v, q reg.VecVirtual) {
	v, q = g.vec(), g.vec()
	g.VMULPS(z, z, q)
	g.VMULPS(g.f32(0.044715), q, q)
	t := g.vec()
	g.VADDPS(g.f32(1), q, t)
	g.VMULPS(g.f32(1.5957691216057308), z, v)
	g.VMULPS(t, v, v)
	return v, q
}

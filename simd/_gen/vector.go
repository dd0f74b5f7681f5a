package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func vector(g *gen) {
	g.fn("dot"+g.isa, "func(x, y *float32, n int) float32", "returns Σ x[i]·y[i].")
	reduce(g, 4, []string{"x", "y"}, func(acc reg.VecVirtual, l lanes, p []reg.GPVirtual) {
		x := l.load(p[0])
		if l.masked() {
			g.VFMADD231PS(l.load(p[1]), x, acc)
		} else {
			g.VFMADD231PS(l.at(p[1]), x, acc)
		}
	})

	g.fn("sum"+g.isa, "func(x *float32, n int) float32", "returns Σ x[i].")
	reduce(g, 4, []string{"x"}, func(acc reg.VecVirtual, l lanes, p []reg.GPVirtual) {
		g.VADDPS(l.load(p[0]), acc, acc)
	})

	maximum(g)

	g.fn("axpy"+g.isa, "func(y *float32, a float32, x *float32, n int)", "adds a·x to y.")
	a := g.broadcast("a")
	elementwise(g, 4, []string{"y", "x"}, func(l lanes, p []reg.GPVirtual) {
		y := l.load(p[0])
		g.VFMADD231PS(l.load(p[1]), a, y)
		l.store(y, p[0])
	})

	g.fn("add"+g.isa, "func(y, x *float32, n int)", "adds x to y.")
	elementwise(g, 4, []string{"y", "x"}, func(l lanes, p []reg.GPVirtual) {
		y := l.load(p[0])
		g.VADDPS(l.load(p[1]), y, y)
		l.store(y, p[0])
	})

	g.fn("mul"+g.isa, "func(y, x *float32, n int)", "multiplies y by x.")
	elementwise(g, 4, []string{"y", "x"}, func(l lanes, p []reg.GPVirtual) {
		y := l.load(p[0])
		g.VMULPS(l.load(p[1]), y, y)
		l.store(y, p[0])
	})

	g.fn("scale"+g.isa, "func(y *float32, a float32, n int)", "multiplies y by a.")
	s := g.broadcast("a")
	elementwise(g, 4, []string{"y"}, func(l lanes, p []reg.GPVirtual) {
		y := l.load(p[0])
		g.VMULPS(s, y, y)
		l.store(y, p[0])
	})

	g.fn("roundBF16"+g.isa, "func(y, x *float32, n int)", "sets y[i] to x[i] rounded to bfloat16, ties to even.")
	elementwise(g, 2, []string{"y", "x"}, func(l lanes, p []reg.GPVirtual) {
		x, u := l.load(p[1]), g.vec()
		g.VPSRLD(operand.U8(16), x, u)
		g.VANDPS(g.bits(1), u, u)
		g.VPADDD(g.bits(0x7fff), u, u)
		g.VPADDD(x, u, u)
		nan := g.vec()
		g.VORPS(g.bits(1<<22), x, nan)
		g.where(3, x, x, nan, u) // unordered
		g.VANDPS(g.bits(0xffff0000), u, u)
		l.store(u, p[0])
	})
}

// elementwise is a function of the given pointers and n.
func elementwise(g *gen, unroll int, names []string, body func(l lanes, p []reg.GPVirtual)) {
	p := g.args(names...)
	g.loop(g.arg("n"), unroll, p, func(l lanes) { body(l, p) })
	g.end()
}

// reduce is a function that returns a sum, kept in unroll accumulators.
func reduce(g *gen, unroll int, names []string, body func(acc reg.VecVirtual, l lanes, p []reg.GPVirtual)) {
	p := g.args(names...)
	accs := make([]reg.VecVirtual, unroll)
	for i := range accs {
		accs[i] = g.zero()
	}
	g.loop(g.arg("n"), unroll, p, func(l lanes) { body(accs[l.unit], l, p) })
	g.Store(g.sumLanes(g.sumTree(accs)), g.ReturnIndex(0))
	g.end()
}

// maximum keeps the largest number seen, and whether there was a NaN, which
// VMAXPS would lose.
func maximum(g *gen) {
	const negInf, nan = 0xff800000, 0x7fc00000
	g.fn("max"+g.isa, "func(x *float32, n int) float32", "returns the largest x[i], -Inf if n = 0, NaN if there is one.")
	p := g.args("x")
	var accs []reg.VecVirtual
	for range 4 {
		y := g.vec()
		g.VMOVUPS(g.bits(negInf), y)
		accs = append(accs, y)
	}
	bad := g.zero()
	g.loop(g.arg("n"), 4, p, func(l lanes) {
		x := l.load(p[0])
		if l.masked() {
			l.fill(g.bits(negInf), x)
		}
		g.where(3, x, x, g.bits(0xffffffff), bad) // unordered
		g.VMAXPS(x, accs[l.unit], accs[l.unit])
	})
	g.VMAXPS(accs[2], accs[0], accs[0])
	g.VMAXPS(accs[3], accs[1], accs[1])
	g.VMAXPS(accs[1], accs[0], accs[0])
	h := g.fold(accs[0], g.VMAXPS)
	x, y := g.XMM(), h.AsX()
	g.VEXTRACTF128(operand.U8(1), h, x)
	g.VMAXPS(x, y, x)
	t := g.XMM()
	g.VPERMILPS(operand.U8(0x4e), x, t)
	g.VMAXPS(x, t, x)
	g.VPERMILPS(operand.U8(0xb1), x, t)
	g.VMAXPS(x, t, x)
	r, done := g.GP32(), g.label("done")
	if g.wide() {
		k := g.K()
		g.VPMOVD2M(bad, k)
		g.KMOVW(k, r)
	} else {
		g.VMOVMSKPS(bad, r)
	}
	g.TESTL(r, r)
	g.JZ(ref(done))
	g.VMOVSS(g.word(nan), x)
	g.Label(done)
	g.Store(x, g.ReturnIndex(0))
	g.end()
}

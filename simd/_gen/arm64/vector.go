package main

import "fmt"

// The sums are those of the avx2 set, in its order: eight vectors here are four of
// eight lanes there. (The bits are the same, too.)
func vector(g *gen) {
	g.fn("dotNEON", "func(x, y *float32, n int) float32", "returns Σ x[i]·y[i].", func() {
		g.reduce([]string{"x", "y"}, func(acc vecs, l lanes, p []reg) {
			x, y := l.load(p[0]), l.load(p[1])
			g.fmla(acc, x, y)
		})
	})

	g.fn("sumNEON", "func(x *float32, n int) float32", "returns Σ x[i].", func() {
		g.reduce([]string{"x"}, func(acc vecs, l lanes, p []reg) {
			g.op(fadd, acc, acc, l.load(p[0]))
		})
	})

	g.fn("maxNEON", "func(x *float32, n int) float32", "returns the largest x[i], -Inf if n = 0, NaN if there is one.", func() {
		p, n := g.args("x"), g.arg("n")
		acc := g.vecs(8)
		g.scope(func() {
			inf := g.bits(0xff800000)
			g.move(acc, inf)
		})
		g.loop(n, 8, p, func(l lanes) {
			x := l.load(p[0])
			if l.rest != nil { // lanes past the end take what is there already
				mask := l.mask()
				g.goOp("VBIF", "B16", x, acc[:2], mask)
			}
			a := acc[:len(x)]
			g.op(fmax, a, a, x)
		})
		g.fold(fmax, acc)
		g.op(fmax, acc[:1], acc[:1], acc[1:2])
		g.op(fmaxv, acc[:1], acc[:1], nil)
		g.ret(acc[0])
	})

	g.fn("axpyNEON", "func(y *float32, a float32, x *float32, n int)", "adds a·x to y.", func() {
		a := g.broadcast("a")
		g.elementwise(8, []string{"y", "x"}, func(l lanes, p []reg) {
			y, x := l.load(p[0]), l.load(p[1])
			g.fmla(y, x, a)
			l.store(y, p[0])
		})
	})

	g.fn("addNEON", "func(y, x *float32, n int)", "adds x to y.", func() {
		g.elementwise(8, []string{"y", "x"}, func(l lanes, p []reg) {
			y, x := l.load(p[0]), l.load(p[1])
			g.op(fadd, y, y, x)
			l.store(y, p[0])
		})
	})

	g.fn("mulNEON", "func(y, x *float32, n int)", "multiplies y by x.", func() {
		g.elementwise(8, []string{"y", "x"}, func(l lanes, p []reg) {
			y, x := l.load(p[0]), l.load(p[1])
			g.op(fmul, y, y, x)
			l.store(y, p[0])
		})
	})

	g.fn("scaleNEON", "func(y *float32, a float32, n int)", "multiplies y by a.", func() {
		a := g.broadcast("a")
		g.elementwise(8, []string{"y"}, func(l lanes, p []reg) {
			y := l.load(p[0])
			g.op(fmul, y, y, a)
			l.store(y, p[0])
		})
	})

	g.fn("roundBF16NEON", "func(y, x *float32, n int)", "sets y[i] to x[i] rounded to bfloat16, ties to even.", func() {
		one, half, quiet, high := g.bits(1), g.bits(0x7fff), g.bits(1<<22), g.bits(0xffff0000)
		g.elementwise(4, []string{"y", "x"}, func(l lanes, p []reg) {
			x := l.load(p[1])
			u, number := g.vecs(len(x)), g.vecs(len(x))
			g.op(fcmeq, number, x, x)
			for i, v := range u {
				g.ins("VUSHR", "$16", s4(x[i]), s4(v))
			}
			g.goOp("VAND", "B16", u, u, one)
			g.goOp("VADD", "S4", u, u, half)
			g.goOp("VADD", "S4", u, u, x)
			g.goOp("VORR", "B16", x, x, quiet)
			g.goOp("VBSL", "B16", number, u, x)
			g.goOp("VAND", "B16", number, number, high)
			l.store(number, p[0])
		})
	})

	g.fn("turnPairsNEON", "func(x, cos, sin *float32, sign float32, n int)", "is TurnPairs.", func() {
		sign, minus := g.broadcast("sign"), g.vecs(1)
		g.scope(func() { // the sign bit of even lanes
			r := g.reg()
			g.ins("MOVD", "$0x80000000", r)
			g.ins("VDUP", r, fmt.Sprintf("V%d.D2", int(minus[0])))
		})
		g.elementwise(2, []string{"x", "cos", "sin"}, func(l lanes, p []reg) {
			x, sin, other := l.load(p[0]), l.load(p[2]), g.vecs(2)
			for i, v := range other {
				g.ins("VREV64", s4(x[i]), s4(v))
			}
			g.op(fmul, sin, sin, sign)
			g.op(fmul, sin, other, sin)
			g.goOp("VEOR", "B16", sin, sin, minus)
			g.op(fmul, x, x, l.load(p[1]))
			g.op(fadd, x, x, sin)
			l.store(x, p[0])
		})
	})

	// The steps and constants are those of simd/stochastic.go.
	g.fn("stochasticBF16NEON", "func(y, x *float32, n int, k0, k1, first uint32)", "is StochasticBF16 with the halves of the key.", func() {
		k0, k1, index := g.broadcast("k0"), g.broadcast("k1"), g.vecs(2)
		mul1, mul2, eight := g.bits(0x7feb352d), g.bits(0x846ca68b), g.bits(8)
		quiet, high := g.bits(1<<22), g.bits(0xffff0000)
		g.iota(index)
		g.goOp("VADD", "S4", index, index, g.broadcast("first"))
		g.elementwise(2, []string{"y", "x"}, func(l lanes, p []reg) {
			x, h, t := l.load(p[1]), g.vecs(2), g.vecs(2)
			xorShift := func(bits int) {
				for i := range h {
					g.ins("VUSHR", fmt.Sprintf("$%d", bits), s4(h[i]), s4(t[i]))
				}
				g.goOp("VEOR", "B16", h, h, t)
			}
			g.goOp("VEOR", "B16", h, index, k0)
			g.goOp("VADD", "S4", index, index, eight)
			xorShift(16)
			g.op(mul, h, h, mul1)
			xorShift(15)
			g.goOp("VADD", "S4", h, h, k1)
			g.op(mul, h, h, mul2)
			for _, v := range h {
				g.ins("VUSHR", "$16", s4(v), s4(v))
			}
			g.goOp("VADD", "S4", h, h, x)
			g.op(fcmeq, t, x, x)
			g.goOp("VORR", "B16", x, x, quiet)
			g.goOp("VBSL", "B16", t, h, x)
			g.goOp("VAND", "B16", t, t, high)
			l.store(t, p[0])
		})
	})
}

// elementwise is a function of the given pointers and n.
func (g *gen) elementwise(count int, names []string, body func(l lanes, p []reg)) {
	p := g.args(names...)
	g.loop(g.arg("n"), count, p, func(l lanes) { body(l, p) })
}

// reduce is a function that returns a sum, kept in eight vectors.
func (g *gen) reduce(names []string, body func(acc vecs, l lanes, p []reg)) {
	p, n := g.args(names...), g.arg("n")
	acc := g.vecs(8)
	g.zero(acc)
	g.loop(n, 8, p, func(l lanes) { body(acc[:l.count], l, p) })
	g.ret(g.sum(acc))
}

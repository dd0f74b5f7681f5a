package main

// The constants and steps are those of simd/exp.go and simd/generic.go, products
// fused as in the avx2 set.

func activation(g *gen) {
	g.fn("expSubNEON", "func(y, x *float32, sub float32, n int) float32", "sets y = exp(x-sub) and returns Σ y.", func() {
		sub, e := g.broadcast("sub"), newExp(g)
		p, n := g.args("y", "x"), g.arg("n")
		acc := g.vecs(8)
		g.zero(acc)
		step := func(l lanes, acc vecs) {
			x := l.load(p[1])
			g.op(fsub, x, x, sub)
			y := e.exp(x)
			l.store(y, p[0])
			if l.rest != nil {
				g.goOp("VAND", "B16", y, y, l.mask())
			}
			g.op(fadd, acc, acc, y)
		}
		// Four times two vectors, for there are not the registers for eight.
		g.times(n, 32, func() {
			for i := 0; i < 8; i += 2 {
				g.scope(func() { step(lanes{g: g, count: 2}, acc[i:i+2]) })
				g.ins("ADD", "$32", p[0], p[0])
				g.ins("ADD", "$32", p[1], p[1])
			}
		})
		g.loop(n, 2, p, func(l lanes) { step(l, acc[:2]) })
		g.ret(g.sum(acc))
	})

	g.fn("swiGLUNEON", "func(y, gate, up *float32, n int)", "sets y = gate·sigmoid(gate)·up.", func() {
		e := newExp(g)
		g.elementwise(2, []string{"y", "gate", "up"}, func(l lanes, p []reg) {
			z := l.load(p[1])
			y := e.sigmoid(z)
			g.op(fmul, y, y, z)
			g.op(fmul, y, y, l.load(p[2]))
			l.store(y, p[0])
		})
	})

	g.fn("swiGLUBackwardNEON", "func(dgate, dup, dy, gate, up *float32, n int)", "is SwiGLUBackward.", func() {
		e := newExp(g)
		g.elementwise(2, []string{"dgate", "dup", "dy", "gate", "up"}, func(l lanes, p []reg) {
			z := l.load(p[3])
			s := e.sigmoid(z)
			u, dy := l.load(p[4]), l.load(p[2])
			g.op(fmul, u, u, dy) // dy·up
			zs := g.vecs(2)
			g.op(fmul, zs, z, s)
			g.op(fmul, dy, zs, dy)
			l.store(dy, p[1])
			g.free(zs, dy)
			// σ·(1 + z·(1-σ))
			t := e.derivative(s, z)
			g.op(fmul, t, t, u)
			l.store(t, p[0])
		})
	})

	g.fn("geluNEON", "func(y, x *float32, n int)", "is GELU.", func() {
		e, c := newExp(g), newGELU(g)
		g.elementwise(2, []string{"y", "x"}, func(l lanes, p []reg) {
			z := l.load(p[1])
			v, q := c.arg(e, z)
			g.free(q)
			s := e.sigmoid(v)
			g.op(fmul, s, s, z)
			l.store(s, p[0])
		})
	})

	g.fn("geluBackwardNEON", "func(dx, dy, x *float32, n int)", "is GELUBackward.", func() {
		e, c := newExp(g), newGELU(g)
		three := g.constant(3)
		g.elementwise(2, []string{"dx", "dy", "x"}, func(l lanes, p []reg) {
			z := l.load(p[2])
			v, q := c.arg(e, z)
			// t = 2√(2/π)·x·(1+3q)
			t := g.vecs(2)
			g.move(t, e.one)
			g.fmla(t, q, three)
			g.op(fmul, z, z, c.a)
			g.op(fmul, t, t, z)
			g.free(z, q)
			// σ·(1 + t·(1-σ))
			d := e.derivative(e.sigmoid(v), t)
			g.op(fmul, d, d, l.load(p[1]))
			l.store(d, p[0])
		})
	})
}

// expConstants are the constants of exp, loaded at the beginning of a function.
type expConstants struct {
	g                  *gen
	log2e, hi, lo      vecs
	c                  []vecs // c7 first
	one, min, max, inf vecs
}

func newExp(g *gen) *expConstants {
	e := &expConstants{g: g,
		log2e: g.constant(1.44269504088896341), hi: g.constant(0.693359375), lo: g.constant(-2.12194440e-4),
		one: g.constant(1), min: g.constant(-87.3365447504), max: g.constant(88.7228317261), inf: g.bits(0x7f800000)}
	for _, c := range []float64{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1} {
		e.c = append(e.c, g.constant(c))
	}
	return e
}

// exp returns exp(x), and frees x.
func (e *expConstants) exp(x vecs) vecs {
	g := e.g
	n, r, p, t := g.vecs(len(x)), g.vecs(len(x)), g.vecs(len(x)), g.vecs(len(x))
	g.op(fmul, n, x, e.log2e)
	g.op(frintn, n, n, nil)
	g.move(r, x)
	g.fmls(r, n, e.hi)
	g.fmls(r, n, e.lo)
	g.move(p, e.c[0])
	for _, c := range e.c[1:] {
		g.move(t, c)
		g.fmla(t, p, r)
		p, t = t, p
	}
	g.op(fmul, t, r, r)
	g.fmla(r, p, t)
	g.op(fadd, p, r, e.one)
	g.op(fcvtzs, n, n, nil)
	for _, v := range n {
		g.ins("VSHL", "$23", s4(v), s4(v))
	}
	g.goOp("VADD", "S4", p, p, n)
	// 0 below expMin, +Inf above expMax; NaN is neither and has gone through.
	g.op(fcmgt, n, e.min, x)
	g.op(bic, p, p, n)
	g.op(fcmgt, n, x, e.max)
	g.goOp("VBIT", "B16", p, e.inf, n)
	g.free(x, n, r, t)
	return p
}

// sigmoid returns 1/(1+exp(-z)).
func (e *expConstants) sigmoid(z vecs) vecs {
	g, x := e.g, e.g.vecs(len(z))
	g.op(fneg, x, z, nil)
	s := e.exp(x)
	g.op(fadd, s, s, e.one)
	g.op(fdiv, s, e.one, s)
	return s
}

// derivative returns s·(1 + t·(1-s)), the derivative of z·σ(z) for s = σ(z), t = z.
func (e *expConstants) derivative(s, t vecs) vecs {
	g := e.g
	d, r := g.vecs(len(s)), g.vecs(len(s))
	g.op(fsub, d, e.one, s)
	g.move(r, e.one)
	g.fmla(r, d, t)
	g.op(fmul, r, r, s)
	g.free(d)
	return r
}

// geluConstants are 2√(2/π) and 0.044715.
type geluConstants struct{ a, b vecs }

func newGELU(g *gen) geluConstants {
	return geluConstants{a: g.constant(1.5957691216057308), b: g.constant(0.044715)}
}

// arg returns v = 2√(2/π)·z·(1+q) and q = 0.044715·z².
func (c geluConstants) arg(e *expConstants, z vecs) (v, q vecs) {
	g := e.g
	v, q = g.vecs(len(z)), g.vecs(len(z))
	g.op(fmul, q, z, z)
	g.op(fmul, q, q, c.b)
	g.op(fmul, v, z, c.a)
	g.scope(func() {
		t := g.vecs(len(z))
		g.op(fadd, t, q, e.one)
		g.op(fmul, v, v, t)
	})
	return v, q
}

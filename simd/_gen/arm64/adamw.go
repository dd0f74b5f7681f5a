package main

func adamw(g *gen) {
	g.fn("adamWNEON", "func(w, m, v, grad *float32, n int, s *float32)", "is AdamW.", func() {
		var c [10]vecs
		g.scope(func() {
			s := g.arg("s")
			for i := range c {
				c[i] = g.vecs(1)
				g.ins("VLD1R.P", mem(4, s), "["+s4(c[i][0])+"]")
			}
		})
		for i := range c {
			g.inUse.vecs[c[i][0]] = true
		}
		// In the order adamWNEON of kernels_neon_arm64.go has them.
		keep, lr, b1, c1, b2, c2, r1, r2, eps, scale := c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9]
		g.elementwise(2, []string{"w", "m", "v", "grad"}, func(l lanes, p []reg) {
			d := l.load(p[3])
			g.op(fmul, d, d, scale)
			m := l.load(p[1])
			g.op(fmul, m, m, b1)
			g.fmla(m, d, c1)
			l.store(m, p[1])
			g.op(fmul, d, d, d)
			v := l.load(p[2])
			g.op(fmul, v, v, b2)
			g.fmla(v, d, c2)
			l.store(v, p[2])
			g.op(fmul, v, v, r2)
			g.op(fsqrt, v, v, nil)
			g.op(fadd, v, v, eps)
			g.op(fmul, m, m, r1)
			g.op(fmul, m, m, lr)
			g.op(fdiv, m, m, v)
			g.op(fneg, m, m, nil)
			g.fmla(m, l.load(p[0]), keep)
			l.store(m, p[0])
		})
	})
}

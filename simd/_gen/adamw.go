package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func adamw(g *gen) {
	g.fn("adamW"+g.isa, "func(w, m, v, grad *float32, n int, s *float32)", "is AdamW.")
	s := g.arg("s")
	c := func(i int) reg.VecVirtual {
		y := g.vec()
		g.VBROADCASTSS(operand.Mem{Base: s, Disp: 4 * i}, y)
		return y
	}
	// In the order adamWAVX2 of kernels_avx2_amd64.go has them.
	keep, lr, b1, c1, b2, c2, r1, r2, eps, scale := c(0), c(1), c(2), c(3), c(4), c(5), c(6), c(7), c(8), c(9)
	elementwise(g, 1, []string{"w", "m", "v", "grad"}, func(l lanes, p []reg.GPVirtual) {
		d := l.load(p[3])
		g.VMULPS(scale, d, d)
		m := l.load(p[1])
		g.VMULPS(b1, m, m)
		g.VFMADD231PS(d, c1, m)
		l.store(m, p[1])
		g.VMULPS(d, d, d)
		v := l.load(p[2])
		g.VMULPS(b2, v, v)
		g.VFMADD231PS(d, c2, v)
		l.store(v, p[2])
		g.VMULPS(r2, v, v)
		g.VSQRTPS(v, v)
		g.VADDPS(eps, v, v)
		g.VMULPS(r1, m, m)
		g.VMULPS(lr, m, m)
		g.VDIVPS(v, m, m)
		w := l.load(p[0])
		g.VFMSUB213PS(m, keep, w)
		l.store(w, p[0])
	})
}

package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func turn(g *gen) {
	g.fn("turnPairsAVX2", "func(x, cos, sin *float32, sign float32, n int)", "is TurnPairs.")
	sign := g.broadcast("sign")
	elementwise(g, 2, []string{"x", "cos", "sin"}, func(l lanes, p []reg.GPVirtual) {
		x, other, sin := l.load(p[0]), g.YMM(), l.load(p[2])
		g.VPERMILPS(operand.U8(0xb1), x, other)
		g.VMULPS(sign, sin, sin)
		g.VMULPS(other, sin, sin)
		g.VMULPS(l.load(p[1]), x, x)
		g.VADDSUBPS(sin, x, x) // even lanes -, odd lanes +
		l.store(x, p[0])
	})
}

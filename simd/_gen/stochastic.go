package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// stochastic has the steps and constants of simd/stochastic.go.
func stochastic(g *gen) {
	g.fn("stochasticBF16AVX2", "func(y, x *float32, n int, k0, k1, first uint32)", "is StochasticBF16 with the halves of the key.")
	k0, k1, i := g.broadcast("k0"), g.broadcast("k1"), g.broadcast("first")
	g.VPADDD(g.table("iota8", 8, func(i int) operand.Constant { return operand.U32(i) }), i, i)
	elementwise(g, 2, []string{"y", "x"}, func(l lanes, p []reg.GPVirtual) {
		x, h, t := l.load(p[1]), g.YMM(), g.YMM()
		g.VPXOR(k0, i, h)
		g.VPADDD(g.word(8), i, i)
		g.VPSRLD(operand.U8(16), h, t)
		g.VPXOR(t, h, h)
		g.VPMULLD(g.word(0x7feb352d), h, h)
		g.VPSRLD(operand.U8(15), h, t)
		g.VPXOR(t, h, h)
		g.VPADDD(k1, h, h)
		g.VPMULLD(g.word(0x846ca68b), h, h)
		g.VPSRLD(operand.U8(16), h, h)
		g.VPADDD(x, h, h)
		g.VORPS(g.word(1<<22), x, t)
		g.where(3, x, x, t, h) // unordered
		g.VANDPS(g.word(0xffff0000), h, h)
		l.store(h, p[0])
	})
}

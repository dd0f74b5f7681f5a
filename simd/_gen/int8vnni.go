package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func int8VNNI(g *gen) {
	for _, t := range []*int8Type{q8_0, q4_0} {
		dotInt8(g, t, "VNNI")
	}
	g.isa = "AVX512"
	for _, t := range []*int8Type{q8_0, q4_0} {
		tileVNNI(g, t)
	}
}

// tileVNNI is a tile of 8 rows of x and 16 of weights, a lane each. The weights are made
// unsigned, and the sums begin with what that adds, negative.
func tileVNNI(g *gen, t *int8Type) {
	const rows = 8
	g.fn("tile"+t.name+"VNNI", "func(c *float32, q *int8, cols int, d *float32, s *int32, blocksInRow int, panel *byte, blocks int)",
		"adds to c the products of 8 rows of x, cols bytes and blocksInRow scales apart, and a panel; blocks ≥ 1.")
	c, q, d, s := g.arg("c"), g.arg("q"), g.arg("d"), g.arg("s")
	qs, ds := g.arg("cols"), g.stride("blocksInRow")
	panel, n := g.arg("panel"), g.arg("blocks")
	qr, dr, sr := g.rowsOf(q, qs, rows), g.rowsOf(d, ds, rows), g.rowsOf(s, ds, rows)
	block := g.label("block")
	g.Label(block)
	var sums [rows]reg.VecVirtual
	for i := range sums {
		sums[i] = g.ZMM()
		g.VPBROADCASTD(sr.at(i, 0), sums[i])
		g.VPSLLD(t.offset(), sums[i], sums[i])
		g.VPSUBD(sums[i], g.bits(0), sums[i])
	}
	for k := range 8 {
		w := g.ZMM()
		g.VMOVUPS(operand.Mem{Base: panel, Disp: 4 * panelCols * k}, w)
		if !t.unsigned {
			g.VXORPS(g.bits(0x80808080), w, w)
		}
		for i, sum := range sums {
			g.VPDPBUSD_BCST(qr.at(i, 4*k), w, sum)
		}
	}
	for i, sum := range sums {
		dw, dx := g.ZMM(), g.ZMM()
		g.VBROADCASTSS(dr.at(i, 0), dx)
		g.VMULPS(operand.Mem{Base: panel, Disp: 32 * panelCols}, dx, dw)
		g.VCVTDQ2PS(sum, sum)
		g.VMULPS(dw, sum, sum)
		at := operand.Mem{Base: c, Disp: 4 * panelCols * i}
		g.VADDPS(at, sum, sum)
		g.VMOVUPS(sum, at)
	}
	qr.advance(g, 32)
	dr.advance(g, 4)
	sr.advance(g, 4)
	g.ADDQ(operand.I32(panelBytes), panel)
	g.DECQ(n)
	g.JNZ(ref(block))
	g.end()
}

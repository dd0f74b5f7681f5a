package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// tileRows is how many rows the tiles of AVX-512 have: 28 sums, of 32 registers.
const tileRows = 14

func gemm512(g *gen) {
	g.isa = "AVX512"
	for rows := 1; rows <= tileRows; rows++ {
		tile(g, "AVX512", rows, func(a operand.Mem, b, sums [2]reg.VecVirtual) {
			g.VFMADD231PS_BCST(a, b[0], sums[0])
			g.VFMADD231PS_BCST(a, b[1], sums[1])
		})
	}
	packRows(g)
	transpose16(g)
}

// transpose16 transposes 16×16 numbers at a time: 4×4 in each quarter of the registers,
// as in transpose, and then the quarters.
func transpose16(g *gen) {
	g.fn("transpose16AVX512", "func(dst *float32, ldd int, src *float32, lds, cols int)",
		"is Kernels.Transpose for 16 rows and a multiple of 16 columns, at least 16.")
	dst, ldd, src, lds, k := g.arg("dst"), g.stride("ldd"), g.arg("src"), g.stride("lds"), g.arg("cols")
	lds3, ldd3 := g.GP64(), g.GP64()
	g.LEAQ(operand.Mem{Base: lds, Index: lds, Scale: 2}, lds3)
	g.LEAQ(operand.Mem{Base: ldd, Index: ldd, Scale: 2}, ldd3)
	// Row i of four that begin at base.
	nth := func(base, step, step3 reg.Register, i int) operand.Mem {
		return []operand.Mem{
			{Base: base}, {Base: base, Index: step, Scale: 1},
			{Base: base, Index: step, Scale: 2}, {Base: base, Index: step3, Scale: 1},
		}[i]
	}
	block := g.label("block")
	g.Label(block)
	s := g.GP64()
	g.MOVQ(src, s)
	var q [4][4]reg.VecVirtual // quarter l of q[h][c] is column 4l+c of rows 4h…4h+3
	for h := range q {
		var r, t [4]reg.VecVirtual
		for i := range r {
			r[i], t[i] = g.ZMM(), g.ZMM()
			g.VMOVUPS(nth(s, lds, lds3, i), r[i])
		}
		g.LEAQ(operand.Mem{Base: s, Index: lds, Scale: 4}, s)
		for i := 0; i < 4; i += 2 {
			g.VUNPCKLPS(r[i+1], r[i], t[i])
			g.VUNPCKHPS(r[i+1], r[i], t[i+1])
		}
		for c := range q[h] {
			q[h][c] = g.ZMM()
			g.VSHUFPS(operand.U8([]byte{0x44, 0xee}[c%2]), t[c/2+2], t[c/2], q[h][c])
		}
	}
	// The even quarters of two registers, or the odd ones.
	pick := func(odd int, a, b reg.VecVirtual) reg.VecVirtual {
		z := g.ZMM()
		g.VSHUFF32X4(operand.U8([]byte{0x88, 0xdd}[odd]), b, a, z)
		return z
	}
	var col [16]reg.VecVirtual
	for c := range 4 {
		for odd := range 2 {
			upper, lower := pick(odd, q[0][c], q[1][c]), pick(odd, q[2][c], q[3][c])
			for half := range 2 {
				col[8*half+4*odd+c] = pick(half, upper, lower)
			}
		}
	}
	for j, z := range col {
		g.VMOVUPS(z, nth(dst, ldd, ldd3, j%4))
		if j%4 == 3 {
			g.LEAQ(operand.Mem{Base: dst, Index: ldd, Scale: 4}, dst)
		}
	}
	g.ADDQ(operand.I32(64), src)
	g.SUBQ(operand.I32(16), k)
	g.JNZ(ref(block))
	g.end()
}

package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// packed has the kernels of packed weights: unpacking, and products of 16-bit weights.
func packed(g *gen) {
	unpack16(g, "unpackF16AVX2", "sets dst to the n binary16 numbers in src; n is a multiple of 8.", loadF16)
	unpack16(g, "unpackBF16AVX2", "sets dst to the n bfloat16 numbers in src; n is a multiple of 8.", loadBF16)
	dotRows16(g, "dotRowsF16AVX2", loadF16)
	dotRows16(g, "dotRowsBF16AVX2", loadBF16)
	unpackQ8_0(g)
	unpackQ4_0(g)
}

// loadF16 loads 8 binary16 numbers.
func loadF16(g *gen, m operand.Mem) reg.VecVirtual {
	y := g.YMM()
	g.VCVTPH2PS(m, y)
	return y
}

// loadBF16 loads 8 bfloat16 numbers.
func loadBF16(g *gen, m operand.Mem) reg.VecVirtual {
	y := g.YMM()
	g.VPMOVZXWD(m, y)
	g.VPSLLD(operand.U8(16), y, y)
	return y
}

func unpack16(g *gen, name, doc string, load func(g *gen, m operand.Mem) reg.VecVirtual) {
	g.fn(name, "func(dst *float32, src *byte, n int)", doc)
	dst, src, n := g.arg("dst"), g.arg("src"), g.arg("n")
	for _, u := range []int{4, 1} {
		top, next := g.label("loop"), g.label("next")
		g.Label(top)
		g.CMPQ(n, operand.I32(8*u))
		g.JL(ref(next))
		for i := range u {
			g.VMOVUPS(load(g, operand.Mem{Base: src, Disp: 16 * i}), operand.Mem{Base: dst, Disp: 32 * i})
		}
		g.ADDQ(operand.I32(16*u), src)
		g.ADDQ(operand.I32(32*u), dst)
		g.SUBQ(operand.I32(8*u), n)
		g.JMP(ref(top))
		g.Label(next)
	}
	g.end()
}

// rowsOf addresses up to eight rows that begin stride bytes apart.
type rowsOf struct {
	base, base4     reg.GPVirtual // rows 0 and 4
	stride, stride3 reg.GPVirtual
}

// rowsOf returns the addresses of count rows from base on; advance moves them.
func (g *gen) rowsOf(base, stride reg.GPVirtual, count int) rowsOf {
	r := rowsOf{base: base, stride: stride, stride3: g.GP64()}
	g.LEAQ(operand.Mem{Base: stride, Index: stride, Scale: 2}, r.stride3)
	if count > 4 {
		r.base4 = g.GP64()
		g.LEAQ(operand.Mem{Base: base, Index: stride, Scale: 4}, r.base4)
	}
	return r
}

func (r rowsOf) at(i, disp int) operand.Mem {
	m := operand.Mem{Base: r.base, Disp: disp}
	if i >= 4 {
		m.Base = r.base4
	}
	switch i % 4 {
	case 1, 2:
		m.Index, m.Scale = r.stride, uint8(i%4)
	case 3:
		m.Index, m.Scale = r.stride3, 1
	}
	return m
}

// advance moves all rows by n bytes.
func (r rowsOf) advance(g *gen, n int) {
	g.ADDQ(operand.I32(n), r.base)
	if r.base4 != nil {
		g.ADDQ(operand.I32(n), r.base4)
	}
}

// dotRows16 is dotRows for weights of 16 bits, without a tail: the same sums of two vectors a
// row, in the same order.
func dotRows16(g *gen, name string, load func(g *gen, m operand.Mem) reg.VecVirtual) {
	g.fn(name, "func(out *float32, count int, x *float32, n int, rows *byte, stride int)",
		"sets out[i] = Σ_j rows[i,j]·x[j] for i < count, j < n, a multiple of 8; rows begin stride bytes apart.")
	out, count, x0, n0 := g.arg("out"), g.arg("count"), g.arg("x"), g.arg("n")
	base, stride := g.arg("rows"), g.arg("stride")
	for _, group := range []int{4, 1} {
		top, next := g.label("rows"), g.label("next")
		g.Label(top)
		g.CMPQ(count, operand.I32(group))
		g.JL(ref(next))
		var sums [4][2]reg.VecVirtual
		for i := range group {
			sums[i] = [2]reg.VecVirtual{g.zero(), g.zero()}
		}
		x, p, n := g.GP64(), g.GP64(), g.GP64()
		g.MOVQ(x0, x)
		g.MOVQ(base, p)
		g.MOVQ(n0, n)
		r := g.rowsOf(p, stride, group)
		ahead := g.GP64()
		if group == 4 { // the next rows, in the order of memory
			g.LEAQ(operand.Mem{Base: base, Index: stride, Scale: 4}, ahead)
		}
		for u := 2; u > 0; u-- {
			loop, end := g.label("loop"), g.label("end")
			g.Label(loop)
			g.CMPQ(n, operand.I32(8*u))
			g.JL(ref(end))
			if group == 4 {
				for k := range u {
					g.PREFETCHT0(operand.Mem{Base: ahead, Disp: 64 * k})
				}
				g.ADDQ(operand.I32(64*u), ahead)
			}
			for k := range u {
				v := g.YMM()
				g.VMOVUPS(operand.Mem{Base: x, Disp: 32 * k}, v)
				for i := range group {
					g.VFMADD231PS(load(g, r.at(i, 16*k)), v, sums[i][k])
				}
			}
			g.ADDQ(operand.I32(32*u), x)
			g.ADDQ(operand.I32(16*u), p)
			g.SUBQ(operand.I32(8*u), n)
			g.JMP(ref(loop))
			g.Label(end)
		}
		for i := range group {
			g.VADDPS(sums[i][1], sums[i][0], sums[i][0])
		}
		h := sums[0][0]
		if group == 4 {
			g.VHADDPS(sums[1][0], h, h)
			g.VHADDPS(sums[3][0], sums[2][0], sums[2][0])
			g.VHADDPS(sums[2][0], h, h)
		} else {
			g.VHADDPS(h, h, h)
			g.VHADDPS(h, h, h)
		}
		s := g.XMM()
		g.VEXTRACTF128(operand.U8(1), h, s)
		g.VADDPS(s, h.AsX(), s)
		if group == 4 {
			g.VMOVUPS(s, operand.Mem{Base: out})
			g.LEAQ(operand.Mem{Base: base, Index: stride, Scale: 4}, base)
		} else {
			g.VMOVSS(s, operand.Mem{Base: out})
			g.ADDQ(stride, base)
		}
		g.ADDQ(operand.I32(4*group), out)
		g.SUBQ(operand.I32(group), count)
		g.JMP(ref(top))
		g.Label(next)
	}
	g.end()
}

// scale16 broadcasts the binary16 number at m.
func (g *gen) scale16(m operand.Mem) reg.VecVirtual {
	h, y := g.XMM(), g.YMM()
	g.VPBROADCASTW(m, h)
	g.VCVTPH2PS(h, y)
	return y
}

func unpackQ8_0(g *gen) {
	g.fn("unpackQ8_0AVX2", "func(dst *float32, src *byte, blocks int)", "is the Unpack of Q8_0, blocks ≥ 1.")
	dst, src, blocks := g.arg("dst"), g.arg("src"), g.arg("blocks")
	top := g.label("block")
	g.Label(top)
	d := g.scale16(operand.Mem{Base: src})
	for i := range 4 {
		y := g.YMM()
		g.VPMOVSXBD(operand.Mem{Base: src, Disp: 2 + 8*i}, y)
		g.VCVTDQ2PS(y, y)
		g.VMULPS(d, y, y)
		g.VMOVUPS(y, operand.Mem{Base: dst, Disp: 32 * i})
	}
	g.ADDQ(operand.I32(34), src)
	g.ADDQ(operand.I32(128), dst)
	g.DECQ(blocks)
	g.JNZ(ref(top))
	g.end()
}

func unpackQ4_0(g *gen) {
	g.fn("unpackQ4_0AVX2", "func(dst *float32, src *byte, blocks int)", "is the Unpack of Q4_0, blocks ≥ 1.")
	dst, src, blocks := g.arg("dst"), g.arg("src"), g.arg("blocks")
	low, eight := g.XMM(), g.XMM()
	g.VMOVDQU(g.bits(0x0f0f0f0f), low)
	g.VMOVDQU(g.bits(0x08080808), eight)
	top := g.label("block")
	g.Label(top)
	d := g.scale16(operand.Mem{Base: src})
	lo, hi := g.XMM(), g.XMM()
	g.VMOVDQU(operand.Mem{Base: src, Disp: 2}, lo)
	g.VPSRLW(operand.U8(4), lo, hi)
	for i, x := range []reg.VecVirtual{lo, hi} {
		g.VPAND(low, x, x)
		g.VPSUBB(eight, x, x)
		for j := range 2 {
			y := g.YMM()
			if j == 1 {
				g.VPSRLDQ(operand.U8(8), x, x)
			}
			g.VPMOVSXBD(x, y)
			g.VCVTDQ2PS(y, y)
			g.VMULPS(d, y, y)
			g.VMOVUPS(y, operand.Mem{Base: dst, Disp: 64*i + 32*j})
		}
	}
	g.ADDQ(operand.I32(18), src)
	g.ADDQ(operand.I32(128), dst)
	g.DECQ(blocks)
	g.JNZ(ref(top))
	g.end()
}

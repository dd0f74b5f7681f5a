package main

import (
	"math"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// blocks has the Unpack of types in blocks of 32, and of 256, which have no product of their own.
func blocks(g *gen) {
	fours := func(disp int, table string, values [16]int8) func(src reg.Register) [2]reg.VecVirtual {
		return func(src reg.Register) [2]reg.VecVirtual {
			return g.lookUp(operand.Mem{Base: src, Disp: disp}, g.shuffle(table, values))
		}
	}
	f16 := func(src reg.Register) reg.VecVirtual { return g.scale16(operand.Mem{Base: src}) }
	minimum := func(src reg.Register) reg.VecVirtual { return g.scale16(operand.Mem{Base: src, Disp: 2}) }
	unpack32(g, "IQ4_NL", 18, f16, nil, fours(2, "iq4nl", iq4NL))
	unpack32(g, "MXFP4", 17, g.scaleE8M0, nil, fours(1, "e2m1", e2M1))
	unpack32(g, "Q4_1", 20, f16, minimum, func(src reg.Register) [2]reg.VecVirtual {
		return g.nibblesOf(operand.Mem{Base: src, Disp: 4})
	})
	// Five bits: where the fifth is not set, a number is 16 less, which is what setting the
	// upper half of the byte means; or where it is set, 16 more.
	unpack32(g, "Q5_0", 22, f16, nil, func(src reg.Register) [2]reg.VecVirtual {
		return g.fives(src, 2, 0xf0, true)
	})
	unpack32(g, "Q5_1", 24, f16, minimum, func(src reg.Register) [2]reg.VecVirtual {
		return g.fives(src, 4, 0x10, false)
	})
	unpackIQ4_XS(g)
}

// The tables of package simd.
var (
	iq4NL = [16]int8{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}
	e2M1  = [16]int8{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}
)

// shuffle returns sixteen bytes that VPSHUFB takes numbers from.
func (g *gen) shuffle(name string, values [16]int8) operand.Mem {
	return g.table(name, 16, func(i int) operand.Constant { return operand.U8(values[i]) })
}

// nibblesOf returns the lower and the upper halves of 16 bytes, a byte each.
func (g *gen) nibblesOf(m operand.Mem) [2]reg.VecVirtual {
	lo, hi := g.XMM(), g.XMM()
	g.VMOVDQU(m, lo)
	g.VPSRLW(operand.U8(4), lo, hi)
	g.VPAND(g.word(0x0f0f0f0f), lo, lo)
	g.VPAND(g.word(0x0f0f0f0f), hi, hi)
	return [2]reg.VecVirtual{lo, hi}
}

// lookUp returns what the halves of 16 bytes stand for.
func (g *gen) lookUp(m, values operand.Mem) [2]reg.VecVirtual {
	q := g.nibblesOf(m)
	t := g.XMM()
	g.VMOVDQU(values, t)
	for _, x := range q {
		g.VPSHUFB(x, t, x)
	}
	return q
}

// fives returns the numbers of 32 bits at disp and of the halves of 16 bytes after them; those whose
// bit is set, or with unset those whose bit is not, have the bits of mark too.
func (g *gen) fives(src reg.Register, disp int, mark byte, unset bool) [2]reg.VecVirtual {
	q := g.nibblesOf(operand.Mem{Base: src, Disp: disp + 4})
	for i, x := range q {
		bits, one := g.XMM(), g.XMM()
		g.VPBROADCASTW(operand.Mem{Base: src, Disp: disp + 2*i}, bits)
		g.VPSHUFB(g.table("eights", 16, func(i int) operand.Constant { return operand.U8(i / 8) }), bits, bits)
		g.VMOVDQU(g.table("bits", 16, func(i int) operand.Constant { return operand.U8(1 << (i % 8)) }), one)
		g.VPAND(one, bits, bits)
		if unset {
			g.VPXOR(one, one, one)
		}
		g.VPCMPEQB(one, bits, bits)
		g.VPAND(g.word(uint32(mark)*0x01010101), bits, bits)
		g.VPOR(bits, x, x)
	}
	return q
}

// scaleE8M0 broadcasts 2^(e-128), e the byte at src.
func (g *gen) scaleE8M0(src reg.Register) reg.VecVirtual {
	e, p, y := g.GP64(), g.GP64(), g.YMM()
	g.MOVBQZX(operand.Mem{Base: src}, e)
	g.LEAQ(g.table("e8m0", 256, func(e int) operand.Constant {
		return operand.U32(math.Float32bits(float32(math.Ldexp(1, e-128))))
	}), p)
	g.VBROADCASTSS(operand.Mem{Base: p, Index: e, Scale: 4}, y)
	return y
}

// put stores 32 signed bytes, times d and plus m, if it is not nil.
func (g *gen) put(q [2]reg.VecVirtual, d, m reg.VecVirtual, dst reg.Register) {
	for i, x := range q {
		for j := range 2 {
			if j == 1 {
				g.VPSRLDQ(operand.U8(8), x, x)
			}
			y := g.YMM()
			g.VPMOVSXBD(x, y)
			g.VCVTDQ2PS(y, y)
			g.VMULPS(d, y, y)
			if m != nil {
				g.VADDPS(m, y, y)
			}
			g.VMOVUPS(y, operand.Mem{Base: dst, Disp: 64*i + 32*j})
		}
	}
}

// unpack32 is the Unpack of a type of blocks of 32.
func unpack32(g *gen, name string, bytes int, scale, minimum func(src reg.Register) reg.VecVirtual, load func(src reg.Register) [2]reg.VecVirtual) {
	g.fn("unpack"+name+"AVX2", "func(dst *float32, src *byte, blocks int)", "is the Unpack of "+name+", blocks ≥ 1.")
	dst, src, n := g.arg("dst"), g.arg("src"), g.arg("blocks")
	top := g.label("block")
	g.Label(top)
	d := scale(src)
	var m reg.VecVirtual
	if minimum != nil {
		m = minimum(src)
	}
	g.put(load(src), d, m, dst)
	g.ADDQ(operand.I32(bytes), src)
	g.ADDQ(operand.I32(128), dst)
	g.DECQ(n)
	g.JNZ(ref(top))
	g.end()
}

// unpackIQ4_XS computes the eight scales of a block first.
func unpackIQ4_XS(g *gen) {
	g.fn("unpackIQ4_XSAVX2", "func(dst *float32, src *byte, blocks int)", "is the Unpack of IQ4_XS, blocks ≥ 1.")
	dst, src, n := g.arg("dst"), g.arg("src"), g.arg("blocks")
	scales := g.AllocLocal(32)
	top := g.label("block")
	g.Label(top)
	lo, hi := g.YMM(), g.YMM()
	g.VPBROADCASTD(operand.Mem{Base: src, Disp: 4}, lo)
	g.VPBROADCASTW(operand.Mem{Base: src, Disp: 2}, hi)
	g.VPSRLVD(g.table("times4", 8, func(i int) operand.Constant { return operand.U32(4 * i) }), lo, lo)
	g.VPSRLVD(g.table("times2", 8, func(i int) operand.Constant { return operand.U32(2 * i) }), hi, hi)
	g.VPAND(g.word(15), lo, lo)
	g.VPAND(g.word(3), hi, hi)
	g.VPSLLD(operand.U8(4), hi, hi)
	g.VPOR(hi, lo, lo)
	g.VPSUBD(g.word(32), lo, lo)
	g.VCVTDQ2PS(lo, lo)
	g.VMULPS(g.scale16(operand.Mem{Base: src}), lo, lo)
	g.VMOVUPS(lo, scales)
	for k := range 8 {
		d := g.YMM()
		g.VBROADCASTSS(scales.Offset(4*k), d)
		at := g.GP64()
		g.LEAQ(operand.Mem{Base: dst, Disp: 128 * k}, at)
		g.put(g.lookUp(operand.Mem{Base: src, Disp: 8 + 16*k}, g.shuffle("iq4nl", iq4NL)), d, nil, at)
	}
	g.ADDQ(operand.I32(136), src)
	g.ADDQ(operand.I32(1024), dst)
	g.DECQ(n)
	g.JNZ(ref(top))
	g.end()
}

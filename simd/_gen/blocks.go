package main

import (
	"math"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// blocks has the Unpack of types of 4, 5 and fewer bits that are looked up or computed, grids of the others.
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
	unpackNVFP4(g)
	unpackTQ2_0(g)
	unpackTQ1_0(g)
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

// unpackNVFP4 unpacks four groups of 16 a block.
func unpackNVFP4(g *gen) {
	g.fn("unpackNVFP4AVX2", "func(dst *float32, src *byte, blocks int)", "is the Unpack of NVFP4, blocks ≥ 1.")
	dst, src, n, scales := g.arg("dst"), g.arg("src"), g.arg("blocks"), g.GP64()
	g.LEAQ(g.table("ue4m3", 256, func(v int) operand.Constant {
		e, m := v>>3&15, float64(v&7)
		x := math.Ldexp(8+m, e-11)
		switch {
		case v == 127:
			x = 0
		case e == 0:
			x = math.Ldexp(m, -10)
		}
		return operand.U32(math.Float32bits(float32(x)))
	}), scales)
	top := g.label("block")
	g.Label(top)
	for k := range 4 {
		v, d, lo, hi, t := g.GP64(), g.YMM(), g.XMM(), g.XMM(), g.XMM()
		g.MOVBQZX(operand.Mem{Base: src, Disp: k}, v)
		g.VBROADCASTSS(operand.Mem{Base: scales, Index: v, Scale: 4}, d)
		g.VMOVQ(operand.Mem{Base: src, Disp: 4 + 8*k}, lo)
		g.VPSRLW(operand.U8(4), lo, hi)
		g.VMOVDQU(g.shuffle("e2m1", e2M1), t)
		for j, x := range []reg.VecVirtual{lo, hi} {
			y := g.YMM()
			g.VPAND(g.word(0x0f0f0f0f), x, x)
			g.VPSHUFB(x, t, x)
			g.VPMOVSXBD(x, y)
			g.VCVTDQ2PS(y, y)
			g.VMULPS(d, y, y)
			g.VMOVUPS(y, operand.Mem{Base: dst, Disp: 64*k + 32*j})
		}
	}
	g.ADDQ(operand.I32(36), src)
	g.ADDQ(operand.I32(256), dst)
	g.DECQ(n)
	g.JNZ(ref(top))
	g.end()
}

// unpackTQ2_0 unpacks the four pairs of bits of 32 bytes, twice a block.
func unpackTQ2_0(g *gen) {
	g.fn("unpackTQ2_0AVX2", "func(dst *float32, src *byte, blocks int)", "is the Unpack of TQ2_0, blocks ≥ 1.")
	dst, src, n := g.arg("dst"), g.arg("src"), g.arg("blocks")
	top := g.label("block")
	g.Label(top)
	d := g.scale16(operand.Mem{Base: src, Disp: 64})
	for k := range 8 {
		q := [2]reg.VecVirtual{g.XMM(), g.XMM()}
		for i, x := range q {
			g.VMOVDQU(operand.Mem{Base: src, Disp: k/4*32 + 16*i}, x)
			if k%4 > 0 {
				g.VPSRLW(operand.U8(k%4*2), x, x)
			}
			g.VPAND(g.word(0x03030303), x, x)
			g.VPSUBB(g.word(0x01010101), x, x)
		}
		at := g.GP64()
		g.LEAQ(operand.Mem{Base: dst, Disp: 128 * k}, at)
		g.put(q, d, nil, at)
	}
	g.ADDQ(operand.I32(66), src)
	g.ADDQ(operand.I32(1024), dst)
	g.DECQ(n)
	g.JNZ(ref(top))
	g.end()
}

// unpackTQ1_0 takes the digits off the bytes one after another: three times a byte is the digit
// and, as a fraction, what is left.
func unpackTQ1_0(g *gen) {
	g.fn("unpackTQ1_0AVX2", "func(dst *float32, src *byte, blocks int)", "is the Unpack of TQ1_0, blocks ≥ 1.")
	dst, src, n := g.arg("dst"), g.arg("src"), g.arg("blocks")
	top := g.label("block")
	g.Label(top)
	d := g.scale16(operand.Mem{Base: src, Disp: 52})
	for _, part := range []struct{ from, digits, step, at int }{{0, 5, 32, 0}, {16, 5, 32, 16}, {32, 5, 16, 160}} {
		left, digit := g.YMM(), g.YMM()
		g.VPMOVZXBW(operand.Mem{Base: src, Disp: part.from}, left)
		for n := range part.digits {
			g.VPADDW(left, left, digit)
			g.VPADDW(left, digit, digit)
			g.VPAND(g.word(0x00ff00ff), digit, left)
			g.VPSRLW(operand.U8(8), digit, digit)
			g.VPSUBW(g.word(0x00010001), digit, digit)
			for j := range 2 {
				x, y := g.XMM(), g.YMM()
				g.VEXTRACTI128(operand.U8(j), digit, x)
				g.VPMOVSXWD(x, y)
				g.VCVTDQ2PS(y, y)
				g.VMULPS(d, y, y)
				g.VMOVUPS(y, operand.Mem{Base: dst, Disp: 4*(part.at+n*part.step) + 32*j})
			}
		}
	}
	left, digit := g.XMM(), g.XMM()
	g.VPMOVZXBD(operand.Mem{Base: src, Disp: 48}, left)
	for n := range 4 {
		g.VPADDD(left, left, digit)
		g.VPADDD(left, digit, digit)
		g.VPAND(g.word(255), digit, left)
		g.VPSRLD(operand.U8(8), digit, digit)
		g.VPSUBD(g.word(1), digit, digit)
		g.VCVTDQ2PS(digit, digit)
		g.VMULPS(d.AsX(), digit, digit)
		g.VMOVUPS(digit, operand.Mem{Base: dst, Disp: 4 * (240 + 4*n)})
	}
	g.ADDQ(operand.I32(54), src)
	g.ADDQ(operand.I32(1024), dst)
	g.DECQ(n)
	g.JNZ(ref(top))
	g.end()
}

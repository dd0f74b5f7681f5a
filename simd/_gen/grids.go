package main

import (
	"math"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// grids has the Unpack of types whose weights are coordinates of points of a grid: eight
// times 32 a block, in groups of 8.
func grids(g *gen) {
	unpackGrid(g, "IQ2_XXS", 66, 0x1p-3, func(u *gridUnpack) {
		rest := u.load(6, 8, 4)
		d := u.scale(u.bits(rest, 28, 4))
		for l := range 4 {
			y := u.signed(u.eight(u.load(2+l, 8, 1)), u.bits(rest, 7*l, 7))
			u.store(l, y, d)
		}
	})
	unpackGrid(g, "IQ2_XS", 74, 0x1p-3, func(u *gridUnpack) {
		s := u.load(66, 1, 1)
		d := [2]reg.VecVirtual{u.scale(u.bits(s, 0, 4)), u.scale(u.bits(s, 4, 4))}
		for l := range 4 {
			word := u.load(2+2*l, 8, 2)
			y := u.signed(u.eight(u.bits(word, 0, 9)), u.bits(word, 9, 7))
			u.store(l, y, d[l/2])
		}
	})
	unpackGrid(g, "IQ2_S", 82, 0x1p-3, func(u *gridUnpack) {
		s, high := u.load(74, 1, 1), u.load(66, 1, 1)
		d := [2]reg.VecVirtual{u.scale(u.bits(s, 0, 4)), u.scale(u.bits(s, 4, 4))}
		for l := range 4 {
			index := u.join(u.load(2+l, 4, 1), high, 2*l, 2)
			y := u.signed(u.eight(index), u.load(34+l, 4, 1))
			u.store(l, y, d[l/2])
		}
	})
	unpackGrid(g, "IQ3_XXS", 98, 0x1p-2, func(u *gridUnpack) {
		rest := u.load(66, 4, 4)
		d := u.scale(u.bits(rest, 28, 4))
		for l := range 4 {
			y := u.signed(u.twoFours(u.load(2+2*l, 8, 1), u.load(3+2*l, 8, 1)), u.bits(rest, 7*l, 7))
			u.store(l, y, d)
		}
	})
	unpackGrid(g, "IQ3_S", 110, 1, func(u *gridUnpack) {
		high := u.load(66, 1, 1)
		d := u.scale(u.nibble(106))
		for l := range 4 {
			first := u.join(u.load(2+2*l, 8, 1), high, 2*l, 1)
			second := u.join(u.load(3+2*l, 8, 1), high, 2*l+1, 1)
			u.store(l, u.signed(u.twoFours(first, second), u.load(74+l, 4, 1)), d)
		}
	})
	unpackGrid(g, "IQ1_S", 50, 1, func(u *gridUnpack) {
		word := u.load(34, 2, 2)
		d, delta := u.scale(u.bits(word, 12, 3)), u.delta(word, 15)
		for l := range 4 {
			y := u.floats(u.eight(u.join(u.load(2+l, 4, 1), word, 3*l, 3)))
			u.g.VADDPS(delta, y, y)
			u.store(l, y, d)
		}
	})
	unpackGrid(g, "IQ1_M", 56, 1, func(u *gridUnpack) {
		s, high := u.sixBits(48), u.load(32, 2, 2)
		d := [2]reg.VecVirtual{u.scale(u.bits(s, 0, 3)), u.scale(u.bits(s, 3, 3))}
		for l := range 4 {
			y := u.floats(u.eight(u.join(u.load(l, 4, 1), high, 4*l, 3)))
			g.VADDPS(u.delta(high, 4*l+3), y, y)
			u.store(l, y, d[l/2])
		}
	})
}

// gridUnpack is a program that unpacks a group of 32 weights, the one that k counts.
type gridUnpack struct {
	g                         *gen
	dst, src, k, points, sign reg.GPVirtual
	d                         reg.VecVirtual // the block's scale
}

// unpackGrid is the Unpack of a type. A group of 32 or 16 weights has the scale factor·d·(2s+1).
func unpackGrid(g *gen, name string, bytes int, factor float64, group func(u *gridUnpack)) {
	g.fn("unpack"+name+"AVX2", "func(dst *float32, src *byte, blocks int, points, signs *int8)",
		"is the Unpack of "+name+", blocks ≥ 1: points are its grid's, signs ±1 for each number that stands for signs.")
	u := &gridUnpack{g: g, dst: g.arg("dst"), src: g.arg("src"), points: g.arg("points"), sign: g.arg("signs"), k: g.GP64()}
	n := g.arg("blocks")
	block, top := g.label("block"), g.label("group")
	g.Label(block)
	if name == "IQ1_M" {
		u.scattered(48)
	} else {
		u.d = g.XMM()
		g.VPBROADCASTW(operand.Mem{Base: u.src}, u.d)
	}
	g.VCVTPH2PS(u.d, u.d)
	if factor != 1 {
		g.VMULPS(g.word(math.Float32bits(float32(factor))), u.d, u.d)
	}
	g.XORQ(u.k, u.k)
	g.Label(top)
	group(u)
	g.ADDQ(operand.I32(128), u.dst)
	g.INCQ(u.k)
	g.CMPQ(u.k, operand.I32(8))
	g.JNE(ref(top))
	g.ADDQ(operand.I32(bytes), u.src)
	g.DECQ(n)
	g.JNZ(ref(block))
	g.end()
}

// load loads the unsigned number of size bytes at disp + k·step.
func (u *gridUnpack) load(disp int, step uint8, size int) reg.GPVirtual {
	r, m := u.g.GP64(), operand.Mem{Base: u.src, Disp: disp, Index: u.k, Scale: step}
	switch size {
	case 1:
		u.g.MOVBQZX(m, r)
	case 2:
		u.g.MOVWQZX(m, r)
	default:
		u.g.MOVL(m, r.As32())
	}
	return r
}

// bits returns count bits of r from first on.
func (u *gridUnpack) bits(r reg.GPVirtual, first, count int) reg.GPVirtual {
	b := u.g.GP64()
	u.g.MOVL(r.As32(), b.As32())
	if first > 0 {
		u.g.SHRL(operand.U8(first), b.As32())
	}
	u.g.ANDL(operand.U32(1<<count-1), b.As32())
	return b
}

// join returns low, a byte, with the bits of high above it.
func (u *gridUnpack) join(low, high reg.GPVirtual, first, count int) reg.GPVirtual {
	b := u.bits(high, first, count)
	u.g.SHLL(operand.U8(8), b.As32())
	u.g.ORL(b.As32(), low.As32())
	return low
}

// nibble returns the four bits at k of the bytes at disp.
func (u *gridUnpack) nibble(disp int) reg.GPVirtual {
	g, at, b, even := u.g, u.g.GP64(), u.g.GP64(), u.g.label("even")
	g.MOVQ(u.k, at)
	g.SHRQ(operand.U8(1), at)
	g.MOVBQZX(operand.Mem{Base: u.src, Disp: disp, Index: at, Scale: 1}, b)
	g.TESTQ(operand.U32(1), u.k)
	g.JZ(ref(even))
	g.SHRL(operand.U8(4), b.As32())
	g.Label(even)
	g.ANDL(operand.U32(15), b.As32())
	return b
}

// sixBits returns the lower six bits, or for an odd k the next ones, of word k/2 at disp.
func (u *gridUnpack) sixBits(disp int) reg.GPVirtual {
	g, at, b, even := u.g, u.g.GP64(), u.g.GP64(), u.g.label("even")
	g.MOVQ(u.k, at)
	g.SHRQ(operand.U8(1), at)
	g.MOVWQZX(operand.Mem{Base: u.src, Disp: disp, Index: at, Scale: 2}, b)
	g.TESTQ(operand.U32(1), u.k)
	g.JZ(ref(even))
	g.SHRL(operand.U8(6), b.As32())
	g.Label(even)
	return b
}

// scattered sets d to the binary16 number in the upper four bits of the four words at disp.
func (u *gridUnpack) scattered(disp int) {
	g, d := u.g, u.g.GP64()
	g.XORQ(d, d)
	for i := range 4 {
		w := g.GP64()
		g.MOVWQZX(operand.Mem{Base: u.src, Disp: disp + 2*i}, w)
		g.SHRL(operand.U8(12), w.As32())
		if i > 0 {
			g.SHLL(operand.U8(4*i), w.As32())
		}
		g.ORL(w.As32(), d.As32())
	}
	u.d = g.XMM()
	g.VMOVD(d.As32(), u.d)
}

// scale returns the block's scale times 2s+1.
func (u *gridUnpack) scale(s reg.GPVirtual) reg.VecVirtual {
	g, x, y := u.g, u.g.XMM(), u.g.YMM()
	g.LEAL(operand.Mem{Base: s, Index: s, Scale: 1, Disp: 1}, s.As32())
	g.VXORPS(x, x, x)
	g.VCVTSI2SSL(s.As32(), x, x)
	g.VMULSS(u.d, x, x)
	g.VBROADCASTSS(x, y)
	return y
}

// delta returns ⅛ with the sign that is bit b of r.
func (u *gridUnpack) delta(r reg.GPVirtual, b int) reg.VecVirtual {
	g, bit, x, y := u.g, u.bits(r, b, 1), u.g.XMM(), u.g.YMM()
	g.SHLL(operand.U8(31), bit.As32())
	g.ORL(operand.U32(math.Float32bits(0.125)), bit.As32())
	g.VMOVD(bit.As32(), x)
	g.VBROADCASTSS(x, y)
	return y
}

// eight returns the point of eight coordinates, twoFours two of four.
func (u *gridUnpack) eight(index reg.GPVirtual) reg.VecVirtual {
	x := u.g.XMM()
	u.g.VMOVQ(operand.Mem{Base: u.points, Index: index, Scale: 8}, x)
	return x
}

func (u *gridUnpack) twoFours(first, second reg.GPVirtual) reg.VecVirtual {
	x := u.g.XMM()
	u.g.VMOVD(operand.Mem{Base: u.points, Index: first, Scale: 4}, x)
	u.g.VPINSRD(operand.U8(1), operand.Mem{Base: u.points, Index: second, Scale: 4}, x, x)
	return x
}

// signed returns the coordinates with the signs of that number.
func (u *gridUnpack) signed(x reg.VecVirtual, signs reg.GPVirtual) reg.VecVirtual {
	s := u.g.XMM()
	u.g.VMOVQ(operand.Mem{Base: u.sign, Index: signs, Scale: 8}, s)
	u.g.VPSIGNB(s, x, x)
	return u.floats(x)
}

func (u *gridUnpack) floats(x reg.VecVirtual) reg.VecVirtual {
	y := u.g.YMM()
	u.g.VPMOVSXBD(x, y)
	u.g.VCVTDQ2PS(y, y)
	return y
}

// store writes y·d as group l of eight.
func (u *gridUnpack) store(l int, y, d reg.VecVirtual) {
	u.g.VMULPS(d, y, y)
	u.g.VMOVUPS(y, operand.Mem{Base: u.dst, Disp: 32 * l})
}

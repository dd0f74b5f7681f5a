package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// supers has the K types: unpacking, and products with activations of 8 bits.
func supers(g *gen) {
	for _, t := range superTypes {
		dotSuper(g, t)
		packSuper(g, t)
		tileSuper(g, t)
		unpackSuper(g, t)
	}
}

// superType is a type of blocks of 256 weights w = d·s·(q-2^offset) - n·m.
type superType struct {
	name   string
	bytes  int
	d      int // place of d, a binary16 number, which n follows
	part   int // weights of a scale: 16 or 32
	minima bool
	offset uint8 // 0 if there is none; else scales are signed
	// sums is how often sums of two products of q and a byte can be added to each other in 16 bits, 2^sums at a time.
	sums int
	// load returns 32 of the integers q, from column 32·c on, one a byte; at addresses the block.
	load func(g *gen, at func(disp int) operand.Mem, c int) reg.VecVirtual
	// scales returns the scales of eight rows, a byte each, scale i of a row in byte i%4 of its
	// lane in vector i/4, and the minima.
	scales func(g *gen, w rowsOf) (s, m []reg.VecVirtual)
	// one returns the scales, and the minima, of one block in 16 bytes each.
	one func(g *gen, src reg.Register) (s, m reg.VecVirtual)
}

var superTypes = []*superType{
	{name: "Q2_K", bytes: 84, d: 80, part: 16, minima: true, sums: 2, scales: scalesQ2_K, one: oneQ2_K,
		load: func(g *gen, at func(int) operand.Mem, c int) reg.VecVirtual {
			return g.shifted(at(16+c/4*32), -2*(c%4), 0x03)
		}},
	{name: "Q3_K", bytes: 110, d: 108, part: 16, offset: 2, sums: 2, scales: scalesQ3_K, one: oneQ3_K,
		load: func(g *gen, at func(int) operand.Mem, c int) reg.VecVirtual {
			return g.or(g.shifted(at(32+c/4*32), -2*(c%4), 0x03), g.shifted(at(0), 2-c, 0x04))
		}},
	{name: "Q4_K", bytes: 144, part: 32, minima: true, sums: 3, scales: scalesQ4_K, one: oneQ4_K,
		load: func(g *gen, at func(int) operand.Mem, c int) reg.VecVirtual {
			return g.shifted(at(16+c/2*32), -4*(c%2), 0x0f)
		}},
	{name: "Q5_K", bytes: 176, part: 32, minima: true, sums: 2, scales: scalesQ4_K, one: oneQ4_K,
		load: func(g *gen, at func(int) operand.Mem, c int) reg.VecVirtual {
			return g.or(g.shifted(at(48+c/2*32), -4*(c%2), 0x0f), g.shifted(at(16), 4-c, 0x10))
		}},
	{name: "Q6_K", bytes: 210, d: 208, part: 16, offset: 5, sums: 1, scales: scalesQ6_K, one: oneQ6_K,
		load: func(g *gen, at func(int) operand.Mem, c int) reg.VecVirtual {
			return g.or(g.shifted(at(c/4*64+c%2*32), -4*(c%4/2), 0x0f), g.shifted(at(128+c/4*32), 4-2*(c%4), 0x30))
		}},
}

// shifted loads 32 bytes, shifts their bits left, or right if by is negative, and keeps those of the mask.
func (g *gen) shifted(m operand.Mem, by int, mask uint32) reg.VecVirtual {
	y := g.YMM()
	g.VMOVDQU(m, y)
	switch {
	case by > 0:
		g.VPSLLW(operand.U8(by), y, y)
	case by < 0:
		g.VPSRLW(operand.U8(-by), y, y)
	}
	g.VPAND(g.word(mask*0x01010101), y, y)
	return y
}

func (g *gen) or(a, b reg.VecVirtual) reg.VecVirtual {
	g.VPOR(b, a, a)
	return a
}

// words16 returns the four words of 16 bytes of eight rows, a row in a lane.
func (g *gen) words16(w rowsOf, disp int) []reg.VecVirtual {
	var r [4]reg.VecVirtual
	for i := range r {
		r[i] = g.YMM()
		g.VMOVDQU(w.at(i, disp), r[i].AsX())
		g.VINSERTI128(operand.U8(1), w.at(i+4, disp), r[i], r[i])
	}
	return g.transpose4(r)
}

// transpose4 transposes 4×4 words in each half.
func (g *gen) transpose4(r [4]reg.VecVirtual) []reg.VecVirtual {
	t := []reg.VecVirtual{g.YMM(), r[0], g.YMM(), r[2]}
	for i := 0; i < 4; i += 2 {
		g.VPUNPCKLDQ(r[i+1], r[i], t[i])
		g.VPUNPCKHDQ(r[i+1], r[i], t[i+1])
	}
	y := []reg.VecVirtual{r[1], t[0], r[3], t[1]}
	g.VPUNPCKLQDQ(t[2], t[0], y[0])
	g.VPUNPCKHQDQ(t[2], t[0], y[1])
	g.VPUNPCKLQDQ(t[3], t[1], y[2])
	g.VPUNPCKHQDQ(t[3], t[1], y[3])
	return y
}

// bitsOf returns bits of every byte of y, shifted like those of shifted; y stays.
func (g *gen) bitsOf(y reg.VecVirtual, by int, mask uint32) reg.VecVirtual {
	v := g.YMM()
	switch {
	case by > 0:
		g.VPSLLW(operand.U8(by), y, v)
	case by < 0:
		g.VPSRLW(operand.U8(-by), y, v)
	default:
		g.VPAND(g.word(mask*0x01010101), y, v)
		return v
	}
	g.VPAND(g.word(mask*0x01010101), v, v)
	return v
}

func scalesQ2_K(g *gen, w rowsOf) (s, m []reg.VecVirtual) {
	s = g.words16(w, 0)
	return s, s // pick takes the halves of the bytes apart
}

func scalesQ3_K(g *gen, w rowsOf) (s, m []reg.VecVirtual) {
	var r [4]reg.VecVirtual
	for i := range r { // 12 bytes, and those two before them that are in the block
		r[i] = g.YMM()
		g.VMOVDQU(w.at(i, 94), r[i].AsX())
		g.VINSERTI128(operand.U8(1), w.at(i+4, 94), r[i], r[i])
		g.VPSRLDQ(operand.U8(2), r[i], r[i])
	}
	b := g.transpose4(r)
	for i := range 4 {
		v := g.or(g.bitsOf(b[i%2], -i/2*4, 0x0f), g.bitsOf(b[2], 4-2*i, 0x30))
		g.VPSUBB(g.word(0x20202020), v, v)
		s = append(s, v)
	}
	return s, nil
}

func scalesQ4_K(g *gen, w rowsOf) (s, m []reg.VecVirtual) {
	b := g.words16(w, 0)
	s = []reg.VecVirtual{g.bitsOf(b[1], 0, 0x3f), g.or(g.bitsOf(b[3], 0, 0x0f), g.bitsOf(b[1], -2, 0x30))}
	m = []reg.VecVirtual{g.bitsOf(b[2], 0, 0x3f), g.or(g.bitsOf(b[3], -4, 0x0f), g.bitsOf(b[2], -2, 0x30))}
	return s, m
}

func scalesQ6_K(g *gen, w rowsOf) (s, m []reg.VecVirtual) { return g.words16(w, 192), nil }

// words4 returns four words in memory.
func (g *gen) words4(a, b, c, d uint32) operand.Mem {
	return g.table(fmt.Sprintf("w%x_%x_%x_%x", a, b, c, d), 4, func(i int) operand.Constant {
		return operand.U32([]uint32{a, b, c, d}[i])
	})
}

// words returns words of y in another order, shifted right and masked.
func (g *gen) words(y reg.VecVirtual, order operand.U8, shift, mask operand.Mem) reg.VecVirtual {
	v := g.XMM()
	g.VPSHUFD(order, y, v)
	g.VPSRLVD(shift, v, v)
	g.VPAND(mask, v, v)
	return v
}

func oneQ2_K(g *gen, src reg.Register) (s, m reg.VecVirtual) {
	s, m = g.XMM(), g.XMM()
	g.VMOVDQU(operand.Mem{Base: src}, s)
	g.VPSRLW(operand.U8(4), s, m)
	g.VPAND(g.word(0x0f0f0f0f), s, s)
	g.VPAND(g.word(0x0f0f0f0f), m, m)
	return s, m
}

func oneQ3_K(g *gen, src reg.Register) (s, m reg.VecVirtual) {
	y := g.XMM()
	g.VMOVDQU(operand.Mem{Base: src, Disp: 94}, y)
	g.VPSRLDQ(operand.U8(2), y, y)
	s = g.words(y, 0x44, g.words4(0, 0, 4, 4), g.word(0x0f0f0f0f))
	high := g.words(y, 0xaa, g.words4(0, 2, 4, 6), g.word(0x03030303))
	g.VPSLLD(operand.U8(4), high, high)
	g.VPOR(high, s, s)
	g.VPSUBB(g.word(0x20202020), s, s)
	return s, nil
}

func oneQ4_K(g *gen, src reg.Register) (s, m reg.VecVirtual) {
	y := g.XMM()
	g.VMOVDQU(operand.Mem{Base: src}, y)
	s = g.words(y, 0b11_10_11_01, g.words4(0, 0, 0, 4), g.words4(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f))
	high := g.words(y, 0b10_10_01_01, g.words4(2, 2, 2, 2), g.words4(0, 0x30303030, 0, 0x30303030))
	g.VPOR(high, s, s)
	m = g.XMM()
	g.VPSRLDQ(operand.U8(8), s, m)
	return s, m
}

func oneQ6_K(g *gen, src reg.Register) (s, m reg.VecVirtual) {
	s = g.XMM()
	g.VMOVDQU(operand.Mem{Base: src, Disp: 192}, s)
	return s, nil
}

// unpackSuper unpacks block by block; the products of d and the scales, and of n and the minima, are on the stack.
func unpackSuper(g *gen, t *superType) {
	g.fn("unpack"+t.name+"AVX2", "func(dst *float32, src *byte, blocks int)", "is the Unpack of "+t.name+", blocks ≥ 1.")
	dst, src, blocks := g.arg("dst"), g.arg("src"), g.arg("blocks")
	local := g.AllocLocal(2 * 64)
	top := g.label("block")
	g.Label(top)
	s, m := t.one(g, src)
	for i, v := range []reg.VecVirtual{s, m} {
		if v == nil {
			continue
		}
		by := g.scale16(operand.Mem{Base: src, Disp: t.d + 2*i})
		for h := range 16 / (t.part / 16) / 8 {
			f := g.YMM()
			if h == 1 {
				g.VPSRLDQ(operand.U8(8), v, v)
			}
			if t.offset > 0 {
				g.VPMOVSXBD(v, f)
			} else {
				g.VPMOVZXBD(v, f)
			}
			g.VCVTDQ2PS(f, f)
			g.VMULPS(f, by, f)
			g.VMOVUPS(f, local.Offset(64*i+32*h))
		}
	}
	for c := range 8 {
		q := t.load(g, func(disp int) operand.Mem { return operand.Mem{Base: src, Disp: disp} }, c)
		if t.offset > 0 {
			g.VPSUBB(g.word(0x01010101<<t.offset), q, q)
		}
		high := g.XMM()
		g.VEXTRACTI128(operand.U8(1), q, high)
		for h, x := range []reg.Register{q.AsX(), high} {
			scale, min := g.YMM(), g.YMM()
			at := 4 * t.scaleOf(c, h)
			g.VBROADCASTSS(local.Offset(at), scale)
			if m != nil {
				g.VBROADCASTSS(local.Offset(64+at), min)
			}
			for j := range 2 {
				if j == 1 {
					g.VPSRLDQ(operand.U8(8), x, x)
				}
				y := g.YMM()
				g.VPMOVSXBD(x, y)
				g.VCVTDQ2PS(y, y)
				g.VMULPS(y, scale, y)
				if m != nil {
					g.VSUBPS(min, y, y)
				}
				g.VMOVUPS(y, operand.Mem{Base: dst, Disp: 128*c + 64*h + 32*j})
			}
		}
	}
	g.ADDQ(operand.I32(t.bytes), src)
	g.ADDQ(operand.I32(1024), dst)
	g.DECQ(blocks)
	g.JNZ(ref(top))
	g.end()
}

// pick shuffles the bytes of every lane: pattern has the numbers of four bytes, 8 for 0.
func (g *gen) pick(y reg.VecVirtual, pattern [4]int) reg.VecVirtual {
	v := g.YMM()
	name := fmt.Sprintf("pick%d%d%d%d", pattern[0], pattern[1], pattern[2], pattern[3])
	g.VPSHUFB(g.table(name, 8, func(i int) operand.Constant {
		var word uint32
		for j, b := range pattern {
			at := uint32(0x80)
			if b < 8 {
				at = uint32(i%4*4 + b)
			}
			word |= at << (8 * j)
		}
		return operand.U32(word)
	}), y, v)
	return v
}

// scalePair returns scales i and j, which are in one vector, as two numbers of 16 bits.
func (t *superType) scalePair(g *gen, s []reg.VecVirtual, i, j int) reg.VecVirtual {
	if t.offset > 0 {
		v := g.pick(s[i/4], [4]int{8, i % 4, 8, j % 4})
		g.VPSRAW(operand.U8(8), v, v)
		return v
	}
	v := g.pick(s[i/4], [4]int{i % 4, 8, j % 4, 8})
	if t.part == 16 {
		g.VPAND(g.word(0x000f000f), v, v)
	}
	return v
}

// minimum returns minimum i as numbers.
func (t *superType) minimum(g *gen, m []reg.VecVirtual, i int) reg.VecVirtual {
	v := g.pick(m[i/4], [4]int{i % 4, 8, 8, 8})
	if t.part == 16 {
		g.VPSRLD(operand.U8(4), v, v)
	}
	g.VCVTDQ2PS(v, v)
	return v
}

// scaleOf returns the number of the scale of half h of the 32 weights c.
func (t *superType) scaleOf(c, h int) int { return (32*c + 16*h) / t.part }

// halves8 returns the binary16 numbers at disp of eight rows.
func (g *gen) halves8(w rowsOf, disp int) reg.VecVirtual {
	h, y := g.XMM(), g.YMM()
	g.VPXOR(h, h, h)
	for i := range 8 {
		g.VPINSRW(operand.U8(i), w.at(i, disp), h, h)
	}
	g.VCVTPH2PS(h, y)
	return y
}

// sumsOf returns the integer sums of 32 columns of eight rows, in 16 bits, two a row, for the first
// and the second half, or for both together if sums allows that; with sums 1 they are of 32 bits.
func (t *superType) sumsOf(g *gen, w rowsOf, q reg.Register, c int) (a, b reg.VecVirtual) {
	add := g.VPADDW
	var halves [2]reg.VecVirtual
	for h := range halves {
		var pair [2]reg.VecVirtual
		for k := range pair {
			var r [2]reg.VecVirtual
			for l := range r {
				r[l] = t.load(g, func(disp int) operand.Mem { return w.at(4*h+2*k+l, disp) }, c)
				g.VPMADDUBSW(operand.Mem{Base: q, Disp: 32 * c}, r[l], r[l])
			}
			pair[k] = g.transposeAdd(g.VPADDW, r[0], r[1], false)
			if t.sums == 1 {
				g.VPMADDWD(g.word(0x00010001), pair[k], pair[k])
				add = g.VPADDD
			}
		}
		halves[h] = g.transposeAdd(add, pair[0], pair[1], true)
	}
	a, b = g.YMM(), halves[0]
	g.VPERM2I128(operand.U8(0x20), halves[1], halves[0], a)
	g.VPERM2I128(operand.U8(0x31), halves[1], halves[0], b)
	if t.sums == 3 {
		g.VPADDW(b, a, a)
		b = nil
	}
	return a, b
}

// dotSuper multiplies one row of x with rows of weights, eight at a time: a lane is a row.
func dotSuper(g *gen, t *superType) {
	g.fn("dot"+t.name+"AVX2", "func(y *float32, groups int, q *int8, d, ds *float32, h *int16, blocks int, w *byte, rowBytes int)",
		"is the DotInt8 of one row and 8·groups rows of weights; groups and blocks ≥ 1.")
	y, groups := g.arg("y"), g.arg("groups")
	base, stride := g.arg("w"), g.arg("rowBytes")
	group, block := g.label("group"), g.label("block")
	g.Label(group)
	q, d, n := g.arg("q"), g.arg("d"), g.arg("blocks")
	var ds, h reg.GPVirtual
	if t.minima && t.part == 32 {
		ds = g.arg("ds")
	}
	if t.part == 16 {
		h = g.arg("h")
	}
	w := g.rowsOf(base, stride, 8)
	ahead := g.GP64()
	g.LEAQ(operand.Mem{Base: base, Index: stride, Scale: 8}, ahead)
	sum := g.zero()
	g.Label(block)
	for i := 0; i < 8*t.bytes; i += 64 {
		g.PREFETCHT0(operand.Mem{Base: ahead, Disp: i})
	}
	s, m := t.scales(g, w)
	sumA := g.zero()
	var sumB reg.VecVirtual
	if t.minima {
		sumB = g.zero()
	}
	for c := range 8 {
		a, b := t.sumsOf(g, w, q, c)
		i, j := t.scaleOf(c, 0), t.scaleOf(c, 1)
		switch {
		case t.sums == 1:
			for _, p := range []struct {
				sum   reg.VecVirtual
				scale int
			}{{a, i}, {b, j}} {
				v := g.pick(s[p.scale/4], [4]int{8, 8, 8, p.scale % 4})
				g.VPSRAD(operand.U8(24), v, v)
				g.VPMULLD(v, p.sum, p.sum)
			}
			g.VPADDD(b, a, a)
		case b == nil:
			g.VPMADDWD(t.scalePair(g, s, i, i), a, a)
		default:
			v := t.scalePair(g, s, i, i)
			g.VPMADDWD(v, a, a)
			if j != i {
				v = t.scalePair(g, s, j, j)
			}
			g.VPMADDWD(v, b, b)
			g.VPADDD(b, a, a)
		}
		var hx reg.VecVirtual
		if h != nil {
			hx = g.YMM()
			g.VPBROADCASTD(operand.Mem{Base: h, Disp: 4 * c}, hx)
		}
		if t.offset > 0 {
			v := t.scalePair(g, s, i, j)
			g.VPMADDWD(hx, v, v)
			g.VPSLLD(operand.U8(t.offset), v, v)
			g.VPSUBD(v, a, a)
		}
		dx := g.YMM()
		g.VBROADCASTSS(operand.Mem{Base: d, Disp: 4 * c}, dx)
		g.VCVTDQ2PS(a, a)
		g.VMULPS(dx, a, a)
		g.VADDPS(a, sumA, sumA)
		if !t.minima {
			continue
		}
		x := []reg.VecVirtual{g.YMM()}
		if t.part == 32 {
			g.VBROADCASTSS(operand.Mem{Base: ds, Disp: 4 * c}, x[0])
		} else {
			x = g.halfSums(hx, dx)
		}
		for k, x := range x {
			v := t.minimum(g, m, t.scaleOf(c, k))
			g.VMULPS(x, v, v)
			g.VADDPS(v, sumB, sumB)
		}
	}
	g.VMULPS(g.halves8(w, t.d), sumA, sumA)
	if t.minima {
		g.VMULPS(g.halves8(w, t.d+2), sumB, sumB)
		g.VSUBPS(sumB, sumA, sumA)
	}
	g.VADDPS(sumA, sum, sum)
	g.ADDQ(operand.I32(256), q)
	g.ADDQ(operand.I32(32), d)
	if ds != nil {
		g.ADDQ(operand.I32(32), ds)
	}
	if h != nil {
		g.ADDQ(operand.I32(32), h)
	}
	g.ADDQ(operand.I32(8*t.bytes), ahead)
	w.advance(g, t.bytes)
	g.DECQ(n)
	g.JNZ(ref(block))
	g.VMOVUPS(sum, operand.Mem{Base: y})
	g.ADDQ(operand.I32(32), y)
	seven := g.GP64() // base is at the second row now
	g.LEAQ(operand.Mem{Base: base, Index: stride, Scale: 4}, seven)
	g.LEAQ(operand.Mem{Base: seven, Index: w.stride3, Scale: 1}, base)
	g.DECQ(groups)
	g.JNZ(ref(group))
	g.end()
}

// halfSums returns the products of the two sums of 16 bits in hx and dx.
func (g *gen) halfSums(hx, dx reg.VecVirtual) []reg.VecVirtual {
	lo, hi := g.YMM(), hx
	g.VPSLLD(operand.U8(16), hx, lo)
	g.VPSRAD(operand.U8(16), lo, lo)
	g.VPSRAD(operand.U8(16), hx, hi)
	for _, v := range []reg.VecVirtual{lo, hi} {
		g.VCVTDQ2PS(v, v)
		g.VMULPS(dx, v, v)
	}
	return []reg.VecVirtual{lo, hi}
}

// A panel of 16 rows has for each block 8 times 8 groups of 16×4 integers and their scales, two
// equal numbers of 16 bits a row; then the minima as numbers, then d and n.
func (t *superType) columnBytes() int { return 32*panelCols + 32/t.part*4*panelCols }

// minimaAt and dAt are places in a block of a panel.
func (t *superType) minimaAt() int { return 8 * t.columnBytes() }
func (t *superType) dAt() int {
	if !t.minima {
		return t.minimaAt()
	}
	return t.minimaAt() + 256/t.part*4*panelCols
}
func (t *superType) panelBytes() int {
	if !t.minima {
		return t.dAt() + 4*panelCols
	}
	return t.dAt() + 2*4*panelCols
}

// packSuper fills half a panel: 8 rows, whose integers are transposed by fours.
func packSuper(g *gen, t *superType) {
	g.fn("pack"+t.name+"AVX2", "func(panel, w *byte, rowBytes, blocks int)",
		fmt.Sprintf("packs blocks ≥ 1 blocks of 8 rows, one half of a panel of 16, which has %d bytes a block.", t.panelBytes()))
	dst, base, stride, n := g.arg("panel"), g.arg("w"), g.arg("rowBytes"), g.arg("blocks")
	w := g.rowsOf(base, stride, 8)
	block := g.label("block")
	g.Label(block)
	to := func(y reg.VecVirtual, disp int) { g.VMOVUPS(y, operand.Mem{Base: dst, Disp: disp}) }
	s, m := t.scales(g, w)
	for i := range 256 / t.part {
		c, k := i*t.part/32, i*t.part%32/16
		to(t.scalePair(g, s, i, i), c*t.columnBytes()+32*panelCols+4*panelCols*k)
		if t.minima {
			to(t.minimum(g, m, i), t.minimaAt()+4*panelCols*i)
		}
	}
	to(g.halves8(w, t.d), t.dAt())
	if t.minima {
		to(g.halves8(w, t.d+2), t.dAt()+4*panelCols)
	}
	for c := range 8 {
		r := make([]reg.VecVirtual, 8)
		for i := range r {
			r[i] = t.load(g, func(disp int) operand.Mem { return w.at(i, disp) }, c)
		}
		for i, y := range g.transpose8(r) {
			to(y, c*t.columnBytes()+4*panelCols*i)
		}
	}
	g.ADDQ(operand.I32(t.panelBytes()), dst)
	w.advance(g, t.bytes)
	g.DECQ(n)
	g.JNZ(ref(block))
	g.end()
}

// tileSuper is a tile of 4 rows of x and 16 of weights. The integer sums of 32 columns are in
// registers, the float32 ones of a block on the stack.
func tileSuper(g *gen, t *superType) {
	const rows, vecs = 4, panelCols / 8
	g.fn("tile"+t.name+"AVX2", "func(c *float32, q *int8, cols int, d, ds *float32, h *int16, blocksInRow int, panel *byte, blocks int)",
		"adds to c the products of 4 rows of x, cols bytes and blocksInRow scales apart, and a panel; blocks ≥ 1.")
	c, q, d := g.arg("c"), g.arg("q"), g.arg("d")
	qs, ss := g.arg("cols"), g.stride("blocksInRow")
	panel, n := g.arg("panel"), g.arg("blocks")
	qr, dr := g.rowsOf(q, qs, rows), g.rowsOf(d, ss, rows)
	dsr, hr := dr, dr
	if t.minima && t.part == 32 {
		dsr.base = g.arg("ds")
	}
	if t.part == 16 {
		hr.base = g.arg("h")
	}
	local := g.AllocLocal(2 * rows * vecs * 32)
	floats := func(i, j int) operand.Mem { return local.Offset(32 * (vecs*i + j)) }
	ints := func(i, j int) operand.Mem { return local.Offset(32 * (rows*vecs + vecs*i + j)) }
	group := 1 << t.sums // steps of 4 columns that are added in 16 bits
	block, column := g.label("block"), g.label("column")
	g.Label(block)
	zero := g.zero()
	for i := range rows {
		for j := range vecs {
			g.VMOVUPS(zero, floats(i, j))
		}
	}
	left := g.GP64()
	g.MOVQ(operand.U32(8), left)
	g.Label(column)
	var acc [rows][vecs]reg.VecVirtual
	for k := range 8 {
		var w [vecs]reg.VecVirtual
		for j := range w {
			w[j] = g.YMM()
			g.VMOVDQU(operand.Mem{Base: panel, Disp: 4*panelCols*k + 32*j}, w[j])
		}
		for i := range rows {
			x := g.YMM()
			g.VPBROADCASTD(qr.at(i, 4*k), x)
			for j := range w {
				p := g.YMM()
				g.VPMADDUBSW(x, w[j], p)
				if k%group == 0 {
					acc[i][j] = p
				} else {
					g.VPADDW(p, acc[i][j], acc[i][j])
				}
			}
		}
		if k%group < group-1 {
			continue
		}
		for i := range rows {
			for j := range vecs {
				scale := 32*panelCols + 32*j
				if t.part == 16 {
					scale += k / 4 * 4 * panelCols
				}
				g.VPMADDWD(operand.Mem{Base: panel, Disp: scale}, acc[i][j], acc[i][j])
				if k >= group {
					g.VPADDD(ints(i, j), acc[i][j], acc[i][j])
				}
				if k < 7 {
					g.VMOVDQU(acc[i][j], ints(i, j))
				}
			}
		}
	}
	if t.offset > 0 {
		var pairs [vecs]reg.VecVirtual // the scales of both halves
		for j := range pairs {
			pairs[j] = g.YMM()
			g.VMOVDQU(operand.Mem{Base: panel, Disp: 32*panelCols + 32*j}, pairs[j])
			g.VPBLENDW(operand.U8(0xaa), operand.Mem{Base: panel, Disp: 36*panelCols + 32*j}, pairs[j], pairs[j])
		}
		for i := range rows {
			hx := g.YMM()
			g.VPBROADCASTD(hr.at(i, 0), hx)
			for j := range vecs {
				v := g.YMM()
				g.VPMADDWD(pairs[j], hx, v)
				g.VPSLLD(operand.U8(t.offset), v, v)
				g.VPSUBD(v, acc[i][j], acc[i][j])
			}
		}
	}
	for i := range rows {
		dx := g.YMM()
		g.VBROADCASTSS(dr.at(i, 0), dx)
		for j, s := range acc[i] {
			g.VCVTDQ2PS(s, s)
			g.VMULPS(dx, s, s)
			g.VADDPS(floats(i, j), s, s)
			g.VMOVUPS(s, floats(i, j))
		}
	}
	g.ADDQ(operand.I32(32), q)
	g.ADDQ(operand.I32(4), d)
	if dsr.base != d {
		g.ADDQ(operand.I32(4), dsr.base)
	}
	if hr.base != d {
		g.ADDQ(operand.I32(4), hr.base)
	}
	g.ADDQ(operand.I32(t.columnBytes()), panel)
	g.DECQ(left)
	g.JNZ(ref(column))
	// the panel is at the minima now, the others behind the block
	var sums [rows][vecs]reg.VecVirtual
	for k := 0; t.minima && k < 256/t.part; k++ {
		for i := range rows {
			x := g.YMM()
			at := 4*(k*t.part/32) - 32
			if t.part == 32 {
				g.VBROADCASTSS(dsr.at(i, at), x)
			} else {
				g.VPBROADCASTD(hr.at(i, at), x)
				if k%2 == 0 {
					g.VPSLLD(operand.U8(16), x, x)
				}
				g.VPSRAD(operand.U8(16), x, x)
				g.VCVTDQ2PS(x, x)
				dx := g.YMM()
				g.VBROADCASTSS(dr.at(i, at), dx)
				g.VMULPS(dx, x, x)
			}
			for j := range vecs {
				v := g.YMM()
				g.VMULPS(operand.Mem{Base: panel, Disp: 4*panelCols*k + 32*j}, x, v)
				if k == 0 {
					sums[i][j] = g.zero()
				}
				g.VADDPS(v, sums[i][j], sums[i][j])
			}
		}
	}
	at := t.dAt() - t.minimaAt()
	for j := range vecs {
		dw := g.YMM()
		g.VMOVUPS(operand.Mem{Base: panel, Disp: at + 32*j}, dw)
		var nw reg.VecVirtual
		if t.minima {
			nw = g.YMM()
			g.VMOVUPS(operand.Mem{Base: panel, Disp: at + 4*panelCols + 32*j}, nw)
		}
		for i := range rows {
			v := g.YMM()
			g.VMULPS(floats(i, j), dw, v)
			if t.minima {
				g.VMULPS(nw, sums[i][j], sums[i][j])
				g.VSUBPS(sums[i][j], v, v)
			}
			to := operand.Mem{Base: c, Disp: 4*panelCols*i + 32*j}
			g.VADDPS(to, v, v)
			g.VMOVUPS(v, to)
		}
	}
	g.ADDQ(operand.I32(t.panelBytes()-t.minimaAt()), panel)
	g.DECQ(n)
	g.JNZ(ref(block))
	g.end()
}

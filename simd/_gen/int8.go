package main

import (
	"math"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// int8s has the products of packed weights with activations of 8 bits.
func int8s(g *gen) {
	toInt8(g)
	for _, t := range []*int8Type{q8_0, q4_0} {
		dotInt8(g, t, "AVX2")
		packInt8(g, t)
		tileInt8(g, t)
	}
}

// int8Type is a type of blocks of 32 small integers: a binary16 scale, then the integers.
type int8Type struct {
	name  string
	bytes int
	// load returns the 32 integers at m, one a byte, 0…15 for Q4_0. It needs the constants, in registers.
	load   func(g *gen, m operand.Mem, consts []reg.VecVirtual) reg.VecVirtual
	consts func(g *gen) []operand.Mem
	// unsigned integers are 8 too large.
	unsigned bool
}

var (
	q8_0 = &int8Type{name: "Q8_0", bytes: 34,
		consts: func(*gen) []operand.Mem { return nil },
		load: func(g *gen, m operand.Mem, _ []reg.VecVirtual) reg.VecVirtual {
			y := g.YMM()
			g.VMOVDQU(m, y)
			return y
		}}
	q4_0 = &int8Type{name: "Q4_0", bytes: 18, unsigned: true,
		consts: func(g *gen) []operand.Mem { return []operand.Mem{g.nibbles(), g.word(0x0f0f0f0f)} },
		load: func(g *gen, m operand.Mem, consts []reg.VecVirtual) reg.VecVirtual {
			y := g.YMM()
			g.VBROADCASTI128(m, y)
			g.VPSRLVD(consts[0], y, y) // the upper half of the vector: the upper halves of the bytes
			g.VPAND(consts[1], y, y)
			return y
		}}
)

// offset returns the binary logarithm of what was added to the integers to make them
// unsigned.
func (t *int8Type) offset() operand.U8 {
	if t.unsigned {
		return 3
	}
	return 7
}

// registers loads constants.
func (g *gen) registers(ms []operand.Mem) []reg.VecVirtual {
	var ys []reg.VecVirtual
	for _, m := range ms {
		y := g.YMM()
		g.VMOVDQU(m, y)
		ys = append(ys, y)
	}
	return ys
}

// nibbles returns shift counts: 0 for the lower four lanes, 4 for the upper.
func (g *gen) nibbles() operand.Mem {
	return g.table("nibbles", 8, func(i int) operand.Constant { return operand.U32(i / 4 * 4) })
}

// toInt8 rounds a block of 32 at a time.
func toInt8(g *gen) {
	const least, inf = 0x0d800000, 0x7f800000 // 2⁻¹⁰⁰
	g.fn("toInt8AVX2", "func(q *int8, d *float32, s *int32, x *float32, blocks int)", "is ToInt8, blocks ≥ 1.")
	q, d, s, x, blocks := g.arg("q"), g.arg("d"), g.arg("s"), g.arg("x"), g.arg("blocks")
	order := g.YMM() // puts in order what the two packing steps leave
	m := g.StaticGlobal("lanes")
	g.DataAttributes(rodata)
	for i, l := range []uint32{0, 4, 1, 5, 2, 6, 3, 7} {
		g.AddDatum(4*i, operand.U32(l))
	}
	g.VMOVDQU(m, order)
	abs := g.YMM()
	g.VMOVUPS(g.bits(0x7fffffff), abs)
	top, next, small, bad := g.label("block"), g.label("next"), g.label("small"), g.label("bad")
	g.Label(top)
	v, most := make([]reg.VecVirtual, 4), g.YMM()
	for i := range v {
		v[i] = g.YMM()
		g.VMOVUPS(operand.Mem{Base: x, Disp: 32 * i}, v[i])
		if i == 0 {
			g.VPAND(abs, v[i], most)
		} else {
			a := g.YMM()
			g.VPAND(abs, v[i], a)
			g.VPMAXSD(a, most, most)
		}
	}
	m4, t := most.AsX(), g.XMM()
	g.VEXTRACTI128(operand.U8(1), most, t)
	g.VPMAXSD(t, m4, m4)
	g.VPSHUFD(operand.U8(0x4e), m4, t)
	g.VPMAXSD(t, m4, m4)
	g.VPSHUFD(operand.U8(0xb1), m4, t)
	g.VPMAXSD(t, m4, m4)
	bits := g.GP32()
	g.VMOVD(m4, bits)
	by := g.XMM()
	g.VMOVSS(g.word(math.Float32bits(127)), by)
	scale := g.XMM()
	g.VDIVSS(by, m4, scale)
	g.CMPL(bits, operand.U32(least))
	g.JB(ref(small))
	g.VMOVSS(scale, operand.Mem{Base: d})
	g.CMPL(bits, operand.U32(inf))
	g.JAE(ref(bad))
	inv, i32 := g.YMM(), make([]reg.VecVirtual, 4)
	g.VDIVSS(m4, by, inv.AsX())
	g.VBROADCASTSS(inv.AsX(), inv)
	sum := g.YMM()
	for i := range v {
		i32[i] = v[i]
		g.VMULPS(inv, v[i], v[i])
		g.VCVTPS2DQ(v[i], i32[i])
		switch i {
		case 1:
			g.VPADDD(i32[0], i32[1], sum)
		case 2, 3:
			g.VPADDD(i32[i], sum, sum)
		}
	}
	g.VPACKSSDW(i32[1], i32[0], i32[0])
	g.VPACKSSDW(i32[3], i32[2], i32[2])
	g.VPACKSSWB(i32[2], i32[0], i32[0])
	g.VPERMD(i32[0], order, i32[0])
	g.VMOVDQU(i32[0], operand.Mem{Base: q})
	s4 := sum.AsX()
	g.VEXTRACTI128(operand.U8(1), sum, t)
	g.VPADDD(t, s4, s4)
	g.VPSHUFD(operand.U8(0x4e), s4, t)
	g.VPADDD(t, s4, s4)
	g.VPSHUFD(operand.U8(0xb1), s4, t)
	g.VPADDD(t, s4, s4)
	g.VMOVD(s4, operand.Mem{Base: s})
	g.Label(next)
	g.ADDQ(operand.I32(32), q)
	g.ADDQ(operand.I32(4), d)
	g.ADDQ(operand.I32(4), s)
	g.ADDQ(operand.I32(128), x)
	g.DECQ(blocks)
	g.JNZ(ref(top))
	g.end()

	g.Label(small)
	g.MOVL(operand.U32(0), operand.Mem{Base: d})
	g.Label(bad)
	g.VMOVDQU(g.zero(), operand.Mem{Base: q})
	g.MOVL(operand.U32(0), operand.Mem{Base: s})
	g.JMP(ref(next))
}

// transposeAdd is a step of summing the lanes of several vectors at once: it adds
// neighbouring lanes (with quad, pairs of lanes) of a, and of b, and leaves the sums of a and b
// in turn. add is VPADDD, or VPADDW where a lane is two sums of 16 bits.
func (g *gen) transposeAdd(add func(...operand.Op), a, b reg.VecVirtual, quad bool) reg.VecVirtual {
	lo := g.YMM()
	if quad {
		g.VPUNPCKLQDQ(b, a, lo)
		g.VPUNPCKHQDQ(b, a, a)
	} else {
		g.VPUNPCKLDQ(b, a, lo)
		g.VPUNPCKHDQ(b, a, a)
	}
	add(a, lo, lo)
	return lo
}

// scales8 returns the scales of a block of eight rows.
func (g *gen) scales8(w rowsOf) reg.VecVirtual {
	h, y := g.XMM(), g.YMM()
	g.VPXOR(h, h, h)
	for i := range 8 {
		g.VPINSRW(operand.U8(i), w.at(i, 0), h, h)
	}
	g.VCVTPH2PS(h, y)
	return y
}

// addScaled adds isum·(dw·dx) to y, each result rounded.
func (g *gen) addScaled(y, isum, dw, dx reg.VecVirtual) {
	g.VMULPS(dx, dw, dw)
	g.VCVTDQ2PS(isum, isum)
	g.VMULPS(dw, isum, isum)
	g.VADDPS(isum, y, y)
}

// sumBytes returns the integer sums of a block of eight rows of bytes and q.
func (g *gen) sumBytes(w rowsOf, q reg.Register, ones, flip reg.VecVirtual, vnni bool) reg.VecVirtual {
	x := g.YMM()
	g.VMOVDQU(operand.Mem{Base: q}, x)
	var halves [2]reg.VecVirtual
	for h := range halves {
		var pair [2]reg.VecVirtual
		for k := range pair {
			var r [2]reg.VecVirtual
			for l := range r {
				v := g.YMM()
				g.VMOVDQU(w.at(4*h+2*k+l, 2), v)
				if vnni {
					g.VPXOR(flip, v, v)
					r[l] = g.zero()
					g.VPDPBUSD(x, v, r[l])
					continue
				}
				r[l] = g.YMM() // x with the signs of w, to be multiplied with |w|
				g.VPSIGNB(v, x, r[l])
				g.VPABSB(v, v)
				g.VPMADDUBSW(r[l], v, r[l]) // at most 2·128·127
				g.VPMADDWD(ones, r[l], r[l])
			}
			pair[k] = g.transposeAdd(g.VPADDD, r[0], r[1], false)
		}
		halves[h] = g.transposeAdd(g.VPADDD, pair[0], pair[1], true)
	}
	lo, isum := g.YMM(), g.YMM()
	g.VPERM2I128(operand.U8(0x20), halves[1], halves[0], lo)
	g.VPERM2I128(operand.U8(0x31), halves[1], halves[0], isum)
	g.VPADDD(lo, isum, isum)
	return isum
}

// sumNibbles returns the integer sums of a block of eight rows of nibbles and q; without
// VNNI a lane has two sums of 16 bits, to be added. A vector holds the nibbles of rows i
// and i+4: each half is a row, so that four lanes are left to sum in place of eight.
func (g *gen) sumNibbles(w rowsOf, q reg.Register, mask reg.VecVirtual, vnni bool) reg.VecVirtual {
	lo, hi := g.YMM(), g.YMM()
	g.VBROADCASTI128(operand.Mem{Base: q}, lo)
	g.VBROADCASTI128(operand.Mem{Base: q, Disp: 16}, hi)
	add := g.VPADDW // of eight times at most 2·15·127
	if vnni {
		add = g.VPADDD
	}
	var r [4]reg.VecVirtual
	for i := range r {
		v, u := g.YMM(), g.YMM()
		g.VMOVDQU(w.at(i, 2), v.AsX())
		g.VINSERTI128(operand.U8(1), w.at(i+4, 2), v, v)
		g.VPSRLW(operand.U8(4), v, u)
		g.VPAND(mask, v, v)
		g.VPAND(mask, u, u)
		if vnni {
			r[i] = g.zero()
			g.VPDPBUSD(lo, v, r[i])
			g.VPDPBUSD(hi, u, r[i])
			continue
		}
		r[i] = v
		g.VPMADDUBSW(lo, v, v)
		g.VPMADDUBSW(hi, u, u)
		g.VPADDW(u, v, v)
	}
	return g.transposeAdd(add, g.transposeAdd(add, r[0], r[1], false), g.transposeAdd(add, r[2], r[3], false), true)
}

// dotInt8 multiplies one row of x with rows of weights, eight at a time: a lane of the
// sum is a row. The next eight rows are fetched meanwhile.
//
// With VNNI, which adds products of four bytes to 32 bits, weights that are signed are
// made unsigned by adding 128.
func dotInt8(g *gen, t *int8Type, isa string) {
	vnni := isa == "VNNI"
	g.fn("dot"+t.name+isa, "func(y *float32, groups int, q *int8, d *float32, s *int32, blocks int, w *byte, rowBytes int)",
		"is the DotInt8 of one row and 8·groups rows of weights; groups and blocks ≥ 1.")
	y, groups := g.arg("y"), g.arg("groups")
	base, stride := g.arg("w"), g.arg("rowBytes")
	// what the sums of a block of eight rows need in registers
	ones, flip, mask := g.YMM(), g.YMM(), g.YMM()
	if !vnni {
		g.VMOVDQU(g.word(0x00010001), ones)
	} else if !t.unsigned {
		g.VMOVDQU(g.word(0x80808080), flip)
	}
	if t.unsigned {
		g.VMOVDQU(g.word(0x0f0f0f0f), mask)
	}
	group, block := g.label("group"), g.label("block")
	g.Label(group)
	q, d, n := g.arg("q"), g.arg("d"), g.arg("blocks")
	var s reg.GPVirtual
	if t.unsigned || vnni {
		s = g.arg("s")
	}
	w := g.rowsOf(base, stride, 8)
	ahead := g.GP64()
	g.LEAQ(operand.Mem{Base: base, Index: stride, Scale: 8}, ahead)
	sum := g.zero()
	g.Label(block)
	for i := 0; i < 8*t.bytes; i += 64 {
		g.PREFETCHT0(operand.Mem{Base: ahead, Disp: i})
	}
	var isum reg.VecVirtual
	if t.unsigned {
		isum = g.sumNibbles(w, q, mask, vnni)
		if !vnni {
			g.VPMADDWD(ones, isum, isum)
		}
	} else {
		isum = g.sumBytes(w, q, ones, flip, vnni)
	}
	if t.unsigned || vnni {
		c := g.YMM()
		g.VPBROADCASTD(operand.Mem{Base: s}, c)
		g.VPSLLD(t.offset(), c, c)
		g.VPSUBD(c, isum, isum)
		g.ADDQ(operand.I32(4), s)
	}
	dx := g.YMM()
	g.VBROADCASTSS(operand.Mem{Base: d}, dx)
	g.addScaled(sum, isum, g.scales8(w), dx)
	g.ADDQ(operand.I32(32), q)
	g.ADDQ(operand.I32(4), d)
	g.ADDQ(operand.I32(8*t.bytes), ahead)
	w.advance(g, t.bytes)
	g.DECQ(n)
	g.JNZ(ref(block))
	g.VMOVUPS(sum, operand.Mem{Base: y})
	g.ADDQ(operand.I32(32), y)
	// base is at the second row now
	seven := g.GP64()
	g.LEAQ(operand.Mem{Base: base, Index: stride, Scale: 4}, seven)
	g.LEAQ(operand.Mem{Base: seven, Index: w.stride3, Scale: 1}, base)
	g.DECQ(groups)
	g.JNZ(ref(group))
	g.end()
}

// A panel of 16 rows has for each block 8 groups of 16×4 integers, then 16 scales.
const (
	panelCols  = 16
	panelBytes = 32*panelCols + 4*panelCols
)

// packInt8 fills half a panel: 8 rows, whose integers are transposed by fours.
func packInt8(g *gen, t *int8Type) {
	g.fn("pack"+t.name+"AVX2", "func(panel, w *byte, rowBytes, blocks int)",
		"packs blocks ≥ 1 blocks of 8 rows, one half of a panel of 16.")
	dst, base, stride, n := g.arg("panel"), g.arg("w"), g.arg("rowBytes"), g.arg("blocks")
	w := g.rowsOf(base, stride, 8)
	consts := g.registers(t.consts(g))
	block := g.label("block")
	g.Label(block)
	g.VMOVUPS(g.scales8(w), operand.Mem{Base: dst, Disp: 32 * panelCols})
	r := make([]reg.VecVirtual, 8)
	for i := range r {
		r[i] = t.load(g, w.at(i, 2), consts)
	}
	for i, y := range g.transpose8(r) {
		g.VMOVUPS(y, operand.Mem{Base: dst, Disp: 4 * panelCols * i})
	}
	g.ADDQ(operand.I32(panelBytes), dst)
	w.advance(g, t.bytes)
	g.DECQ(n)
	g.JNZ(ref(block))
	g.end()
}

// transpose8 transposes 8×8 numbers of 32 bits.
func (g *gen) transpose8(r []reg.VecVirtual) []reg.VecVirtual {
	// pairs, then quadruples, then halves
	t := make([]reg.VecVirtual, 8)
	for i := 0; i < 8; i += 2 {
		t[i], t[i+1] = g.YMM(), r[i]
		g.VUNPCKLPS(r[i+1], r[i], t[i])
		g.VUNPCKHPS(r[i+1], r[i], t[i+1])
	}
	q := make([]reg.VecVirtual, 8)
	for h := 0; h < 8; h += 4 {
		for i := range 2 {
			q[h+2*i], q[h+2*i+1] = g.YMM(), t[h+i]
			g.VSHUFPS(operand.U8(0x44), t[h+i+2], t[h+i], q[h+2*i])
			g.VSHUFPS(operand.U8(0xee), t[h+i+2], t[h+i], q[h+2*i+1])
		}
	}
	y := make([]reg.VecVirtual, 8)
	for i := range 4 {
		y[i], y[i+4] = g.YMM(), q[i]
		g.VPERM2F128(operand.U8(0x20), q[i+4], q[i], y[i])
		g.VPERM2F128(operand.U8(0x31), q[i+4], q[i], y[i+4])
	}
	return y
}

// tileInt8 is a tile of 4 rows of x and 16 of weights. The integer sums of a block are in
// registers, the float32 ones in c.
func tileInt8(g *gen, t *int8Type) {
	const rows, vecs = 4, panelCols / 8
	g.fn("tile"+t.name+"AVX2", "func(c *float32, q *int8, cols int, d *float32, s *int32, blocksInRow int, panel *byte, blocks int)",
		"adds to c the products of 4 rows of x, cols bytes and blocksInRow scales apart, and a panel; blocks ≥ 1.")
	c, q, d := g.arg("c"), g.arg("q"), g.arg("d")
	qs, ds := g.arg("cols"), g.stride("blocksInRow")
	panel, n := g.arg("panel"), g.arg("blocks")
	qr, dr := g.rowsOf(q, qs, rows), g.rowsOf(d, ds, rows)
	sr := dr
	if t.unsigned {
		sr.base = g.arg("s")
	}
	block := g.label("block")
	g.Label(block)
	var sums [rows][vecs]reg.VecVirtual
	for k := range 8 {
		var w, abs [vecs]reg.VecVirtual
		for j := range w {
			w[j] = g.YMM()
			g.VMOVDQU(operand.Mem{Base: panel, Disp: 4*panelCols*k + 32*j}, w[j])
			if !t.unsigned {
				abs[j] = g.YMM()
				g.VPABSB(w[j], abs[j])
			}
		}
		for i := range rows {
			x := g.YMM()
			g.VPBROADCASTD(qr.at(i, 4*k), x)
			for j := range w {
				p := g.YMM()
				if t.unsigned {
					g.VPMADDUBSW(x, w[j], p)
				} else {
					g.VPSIGNB(w[j], x, p)
					g.VPMADDUBSW(p, abs[j], p)
					g.VPMADDWD(g.bits(0x00010001), p, p)
				}
				switch {
				case k == 0:
					sums[i][j] = p
				case t.unsigned: // at most 8·2·15·127
					g.VPADDW(p, sums[i][j], sums[i][j])
				default:
					g.VPADDD(p, sums[i][j], sums[i][j])
				}
			}
		}
	}
	for i := range rows {
		dx := g.YMM()
		g.VBROADCASTSS(dr.at(i, 0), dx)
		var off reg.VecVirtual
		if t.unsigned {
			off = g.YMM()
			g.VPBROADCASTD(sr.at(i, 0), off)
			g.VPSLLD(operand.U8(3), off, off)
		}
		for j, s := range sums[i] {
			if t.unsigned {
				g.VPMADDWD(g.bits(0x00010001), s, s)
				g.VPSUBD(off, s, s)
			}
			dw := g.YMM()
			g.VMULPS(operand.Mem{Base: panel, Disp: 32*panelCols + 32*j}, dx, dw)
			g.VCVTDQ2PS(s, s)
			g.VMULPS(dw, s, s)
			at := operand.Mem{Base: c, Disp: 4*panelCols*i + 32*j}
			g.VADDPS(at, s, s)
			g.VMOVUPS(s, at)
		}
	}
	g.ADDQ(operand.I32(32), q)
	g.ADDQ(operand.I32(4), d)
	if t.unsigned {
		g.ADDQ(operand.I32(4), sr.base)
	}
	g.ADDQ(operand.I32(panelBytes), panel)
	g.DECQ(n)
	g.JNZ(ref(block))
	g.end()
}

package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func gemm(g *gen) {
	tile(g)
	packRows16(g)
	packRows6(g)
	packCols(g, 8)
	packCols(g, 6)
}

// tile is the 6×16 micro-kernel: 12 sums, 2 vectors of B, 2 broadcasts of A.
func tile(g *gen) {
	g.fn("tileAVX2", "func(k int, a, b, c *float32, ldc int, accumulate bool)",
		"is Tile.Run for 6×16 and k ≥ 1.")
	k, a, b, c, ldc := g.arg("k"), g.arg("a"), g.arg("b"), g.arg("c"), g.stride("ldc")
	ldc3 := g.GP64()
	g.LEAQ(operand.Mem{Base: ldc, Index: ldc, Scale: 2}, ldc3)
	c3 := g.GP64()
	g.LEAQ(operand.Mem{Base: c, Index: ldc3, Scale: 1}, c3)
	row := func(i, disp int) operand.Mem {
		m := operand.Mem{Base: c, Disp: disp}
		if i >= 3 {
			m.Base = c3
		}
		if i%3 > 0 {
			m.Index, m.Scale = ldc, uint8(i%3)
		}
		return m
	}
	for i := range 6 {
		g.PREFETCHT0(row(i, 0))
		g.PREFETCHT0(row(i, 60))
	}
	var sums [6][2]reg.VecVirtual
	for i := range sums {
		for j := range sums[i] {
			sums[i][j] = g.zero()
		}
	}
	step := func(p int) {
		b0, b1 := g.YMM(), g.YMM()
		g.VMOVUPS(operand.Mem{Base: b, Disp: 64 * p}, b0)
		g.VMOVUPS(operand.Mem{Base: b, Disp: 64*p + 32}, b1)
		for i := range sums {
			v := g.YMM()
			g.VBROADCASTSS(operand.Mem{Base: a, Disp: 24*p + 4*i}, v)
			g.VFMADD231PS(b0, v, sums[i][0])
			g.VFMADD231PS(b1, v, sums[i][1])
		}
	}
	const unroll = 4
	four, rest, one, store := g.label("four"), g.label("rest"), g.label("one"), g.label("store")
	g.SUBQ(operand.I32(unroll), k)
	g.JL(ref(rest))
	g.Label(four)
	for p := range unroll {
		step(p)
	}
	g.ADDQ(operand.I32(24*unroll), a)
	g.ADDQ(operand.I32(64*unroll), b)
	g.SUBQ(operand.I32(unroll), k)
	g.JGE(ref(four))
	g.Label(rest)
	g.ADDQ(operand.I32(unroll), k)
	g.JZ(ref(store))
	g.Label(one)
	step(0)
	g.ADDQ(operand.I32(24), a)
	g.ADDQ(operand.I32(64), b)
	g.DECQ(k)
	g.JNZ(ref(one))

	g.Label(store)
	acc := g.GP8()
	g.Load(g.Param("accumulate"), acc)
	set := g.label("set")
	g.TESTB(acc, acc)
	g.JZ(ref(set))
	for i := range sums {
		for j, s := range sums[i] {
			g.VADDPS(row(i, 32*j), s, s)
		}
	}
	g.Label(set)
	for i := range sums {
		for j, s := range sums[i] {
			g.VMOVUPS(s, row(i, 32*j))
		}
	}
	g.end()
}

// packRows16 copies row after row, so that memory is read in order.
func packRows16(g *gen) {
	g.fn("packRows16AVX2", "func(dst *float32, panel int, src *float32, stride, k, panels int)",
		"is Tile.PackRows for panels 16 wide, k ≥ 1 and panels ≥ 1.")
	copyRows(g, 64, func(src, dst reg.Register) {
		y0, y1 := g.YMM(), g.YMM()
		g.VMOVUPS(operand.Mem{Base: src}, y0)
		g.VMOVUPS(operand.Mem{Base: src, Disp: 32}, y1)
		g.VMOVUPS(y0, operand.Mem{Base: dst})
		g.VMOVUPS(y1, operand.Mem{Base: dst, Disp: 32})
	})
}

func packRows6(g *gen) {
	g.fn("packRows6AVX2", "func(dst *float32, panel int, src *float32, stride, k, panels int)",
		"is Tile.PackRows for panels 6 wide, k ≥ 1 and panels ≥ 1.")
	copyRows(g, 24, func(src, dst reg.Register) {
		x, r := g.XMM(), g.GP64()
		g.VMOVUPS(operand.Mem{Base: src}, x)
		g.MOVQ(operand.Mem{Base: src, Disp: 16}, r)
		g.VMOVUPS(x, operand.Mem{Base: dst})
		g.MOVQ(r, operand.Mem{Base: dst, Disp: 16})
	})
}

// copyRows is the body of packRows: width bytes at a time are copied by move.
func copyRows(g *gen, width int, move func(src, dst reg.Register)) {
	dst, panel, src := g.arg("dst"), g.stride("panel"), g.arg("src")
	stride, k, panels := g.stride("stride"), g.arg("k"), g.arg("panels")
	s, d, n := g.GP64(), g.GP64(), g.GP64()
	row, next := g.label("row"), g.label("next")
	g.Label(row)
	g.MOVQ(src, s)
	g.MOVQ(dst, d)
	g.MOVQ(panels, n)
	g.Label(next)
	move(s, d)
	g.ADDQ(operand.I32(width), s)
	g.ADDQ(panel, d)
	g.DECQ(n)
	g.JNZ(ref(next))
	g.ADDQ(stride, src)
	g.ADDQ(operand.I32(width), dst)
	g.DECQ(k)
	g.JNZ(ref(row))
	g.end()
}

// packCols transposes blocks of n×8. With n = 6 each of the 8 vectors written has two
// lanes too many, which the next one overwrites; the last ones fall into PackSlack.
func packCols(g *gen, n int) {
	name := map[int]string{8: "packCols8AVX2", 6: "packCols6AVX2"}[n]
	g.fn(name, "func(dst, src *float32, stride, width, k int)",
		map[int]string{
			8: "sets dst[p*width+i] = src[i*stride+p] for i < 8 and p < k, a multiple of 8, k ≥ 8.",
			6: "sets dst[p*width+i] = src[i*stride+p] for i < 6 and p < k, a multiple of 8, k ≥ 8;\n// for i = 6 and 7 it writes any number.",
		}[n])
	dst, src, stride, width, k := g.arg("dst"), g.arg("src"), g.stride("stride"), g.stride("width"), g.arg("k")
	stride3, src4, width3 := g.GP64(), g.GP64(), g.GP64()
	g.LEAQ(operand.Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	g.LEAQ(operand.Mem{Base: src, Index: stride, Scale: 4}, src4)
	g.LEAQ(operand.Mem{Base: width, Index: width, Scale: 2}, width3)
	nth := func(base, step, step3 reg.Register, i int) operand.Mem {
		switch i {
		case 0:
			return operand.Mem{Base: base}
		case 3:
			return operand.Mem{Base: base, Index: step3, Scale: 1}
		}
		return operand.Mem{Base: base, Index: step, Scale: uint8(i)}
	}
	block := g.label("block")
	g.Label(block)
	r := make([]reg.VecVirtual, 8)
	for i := range r {
		switch {
		case i >= n:
			r[i] = r[i-2]
			continue
		case i < 4:
			r[i] = g.YMM()
			g.VMOVUPS(nth(src, stride, stride3, i), r[i])
		default:
			r[i] = g.YMM()
			g.VMOVUPS(nth(src4, stride, stride3, i-4), r[i])
		}
	}
	// 8×8 transpose: pairs, then quadruples, then halves.
	t := make([]reg.VecVirtual, 8)
	for i := range t {
		t[i] = g.YMM()
		if i%2 == 0 {
			g.VUNPCKLPS(r[i+1], r[i], t[i])
		} else {
			g.VUNPCKHPS(r[i], r[i-1], t[i])
		}
	}
	q := make([]reg.VecVirtual, 8)
	for i := range q {
		q[i] = g.YMM()
		h := i / 4 * 4
		lo := t[h+(i%4)/2]
		hi := t[h+(i%4)/2+2]
		g.VSHUFPS(operand.U8([]byte{0x44, 0xee}[i%2]), hi, lo, q[i])
	}
	d4 := g.GP64()
	g.LEAQ(operand.Mem{Base: dst, Index: width, Scale: 4}, d4)
	for i := range 8 {
		y := g.YMM()
		if i < 4 {
			g.VPERM2F128(operand.U8(0x20), q[i+4], q[i], y)
			g.VMOVUPS(y, nth(dst, width, width3, i))
		} else {
			g.VPERM2F128(operand.U8(0x31), q[i], q[i-4], y)
			g.VMOVUPS(y, nth(d4, width, width3, i-4))
		}
	}
	g.LEAQ(operand.Mem{Base: d4, Index: width, Scale: 4}, dst)
	g.ADDQ(operand.I32(32), src)
	g.ADDQ(operand.I32(32), src4)
	g.SUBQ(operand.I32(8), k)
	g.JNZ(ref(block))
	g.end()
}

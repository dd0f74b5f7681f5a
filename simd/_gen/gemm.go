package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func gemm(g *gen) {
	for rows := 1; rows <= 6; rows++ {
		tile(g, "AVX2", rows, func(a operand.Mem, b, sums [2]reg.VecVirtual) {
			v := g.YMM()
			g.VBROADCASTSS(a, v)
			g.VFMADD231PS(b[0], v, sums[0])
			g.VFMADD231PS(b[1], v, sums[1])
		})
	}
	packRows(g)
	transpose(g)
}

// tile is the micro-kernel for a number of rows and two vectors of columns: two sums for
// each row, two vectors of B. fma adds the products of a number of A to the sums of its row.
func tile(g *gen, isa string, rows int, fma func(a operand.Mem, b, sums [2]reg.VecVirtual)) {
	const vectors = 2
	size := g.size()
	g.fn(fmt.Sprintf("tile%d%s", rows, isa), "func(k int, a *float32, lda int, b, c *float32, ldc int, accumulate bool)",
		fmt.Sprintf("is Tile.Run for %d×%d and k ≥ 1.", rows, vectors*size/4))
	k, a, lda, b, c, ldc := g.arg("k"), g.arg("a"), g.stride("lda"), g.arg("b"), g.arg("c"), g.stride("ldc")
	at := func(base, ld reg.GPVirtual) []operand.Mem { // the rows
		bases, ld3 := []reg.GPVirtual{base}, g.GP64()
		if rows > 3 {
			g.LEAQ(operand.Mem{Base: ld, Index: ld, Scale: 2}, ld3)
		}
		for i := 3; i < rows; i += 3 {
			next := g.GP64()
			g.LEAQ(operand.Mem{Base: bases[len(bases)-1], Index: ld3, Scale: 1}, next)
			bases = append(bases, next)
		}
		ms := make([]operand.Mem, rows)
		for i := range ms {
			ms[i] = operand.Mem{Base: bases[i/3]}
			if i%3 > 0 {
				ms[i].Index, ms[i].Scale = ld, uint8(i%3)
			}
		}
		return ms
	}
	ca := at(c, ldc)
	aa := at(a, lda)
	for i := range rows {
		for line := 0; line < vectors*size; line += 64 {
			g.PREFETCHT0(ca[i].Offset(line))
		}
		g.PREFETCHT0(ca[i].Offset(vectors*size - 4))
	}
	sums := make([][vectors]reg.VecVirtual, rows)
	for i := range sums {
		for j := range sums[i] {
			sums[i][j] = g.zero()
		}
	}
	step := func(p int) {
		var bs [vectors]reg.VecVirtual
		for j := range bs {
			bs[j] = g.vec()
			g.VMOVUPS(operand.Mem{Base: b, Disp: (vectors*p + j) * size}, bs[j])
		}
		for i := range sums {
			fma(aa[i].Offset(4*p), bs, sums[i])
		}
	}
	next := func(steps int) {
		for i := 0; i < rows; i += 3 {
			g.ADDQ(operand.I32(4*steps), aa[i].Base)
		}
		g.ADDQ(operand.I32(vectors*size*steps), b)
	}
	const unroll = 4
	four, rest, one, store := g.label("four"), g.label("rest"), g.label("one"), g.label("store")
	g.SUBQ(operand.I32(unroll), k)
	g.JL(ref(rest))
	g.Label(four)
	for p := range unroll {
		step(p)
	}
	next(unroll)
	g.SUBQ(operand.I32(unroll), k)
	g.JGE(ref(four))
	g.Label(rest)
	g.ADDQ(operand.I32(unroll), k)
	g.JZ(ref(store))
	g.Label(one)
	step(0)
	next(1)
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
			g.VADDPS(ca[i].Offset(size*j), s, s)
		}
	}
	g.Label(set)
	for i := range sums {
		for j, s := range sums[i] {
			g.VMOVUPS(s, ca[i].Offset(size*j))
		}
	}
	g.end()
}

// packRows copies row after row, so that memory is read in order.
func packRows(g *gen) {
	size := g.size()
	g.fn(fmt.Sprintf("packRows%d%s", size/2, g.isa), "func(dst *float32, panel int, src *float32, stride, k, panels int)",
		fmt.Sprintf("is Tile.PackRows for panels %d wide, k ≥ 1 and panels ≥ 1.", size/2))
	dst, panel, src := g.arg("dst"), g.stride("panel"), g.arg("src")
	stride, k, panels := g.stride("stride"), g.arg("k"), g.arg("panels")
	s, d, n := g.GP64(), g.GP64(), g.GP64()
	ahead := g.GP64() // 16 rows
	g.LEAQ(operand.Mem{Base: stride, Index: stride, Scale: 1}, ahead)
	row, next := g.label("row"), g.label("next")
	g.Label(row)
	g.MOVQ(src, s)
	g.MOVQ(dst, d)
	g.MOVQ(panels, n)
	g.Label(next)
	for line := 0; line < 2*size; line += 64 {
		g.PREFETCHT0(operand.Mem{Base: s, Disp: line, Index: ahead, Scale: 8})
	}
	y0, y1 := g.vec(), g.vec()
	g.VMOVUPS(operand.Mem{Base: s}, y0)
	g.VMOVUPS(operand.Mem{Base: s, Disp: size}, y1)
	g.VMOVUPS(y0, operand.Mem{Base: d})
	g.VMOVUPS(y1, operand.Mem{Base: d, Disp: size})
	g.ADDQ(operand.I32(2*size), s)
	g.ADDQ(panel, d)
	g.DECQ(n)
	g.JNZ(ref(next))
	g.ADDQ(stride, src)
	g.ADDQ(operand.I32(2*size), dst)
	g.DECQ(k)
	g.JNZ(ref(row))
	g.end()
}

// transpose transposes 8×8 numbers at a time.
func transpose(g *gen) {
	g.fn("transpose8AVX2", "func(dst *float32, ldd int, src *float32, lds, cols int)",
		"is Kernels.Transpose for 8 rows and a multiple of 8 columns, at least 8.")
	dst, width, src, stride, k := g.arg("dst"), g.stride("ldd"), g.arg("src"), g.stride("lds"), g.arg("cols")
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
		r[i] = g.YMM()
		if i < 4 {
			g.VMOVUPS(nth(src, stride, stride3, i), r[i])
		} else {
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

package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func rows(g *gen) {
	dotRows(g)
	axpyRows(g)
}

// dotRows takes four rows at a time, which share the loads of x, and then one.
// Each row has two sums whatever its group, so that its bits do not depend on it.
func dotRows(g *gen) {
	g.fn("dotRows"+g.isa, "func(out *float32, count int, x *float32, n int, rows *float32, stride int)",
		"sets out[i] = Σ_j rows[i*stride+j]·x[j] for i < count, j < n.")
	out, count, x0, n0 := g.arg("out"), g.arg("count"), g.arg("x"), g.arg("n")
	base, stride := g.arg("rows"), g.stride("stride")
	stride3 := g.GP64()
	g.LEAQ(operand.Mem{Base: stride, Index: stride, Scale: 2}, stride3)

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
		g.loop(n, 2, []reg.GPVirtual{x, p}, func(l lanes) {
			v := l.load(x)
			for i := range group {
				m := operand.Mem{Base: p, Disp: l.off}
				switch i {
				case 1, 2:
					m.Index, m.Scale = stride, uint8(i)
				case 3:
					m.Index, m.Scale = stride3, 1
				}
				if l.masked() {
					g.VFMADD231PS(l.loadMem(m), v, sums[i][l.unit])
				} else {
					g.VFMADD231PS(m, v, sums[i][l.unit])
				}
			}
		})
		for i := range group {
			g.VADDPS(sums[i][1], sums[i][0], sums[i][0])
			sums[i][0] = g.fold(sums[i][0], g.VADDPS)
		}
		// Lanes as in sumLanes, for all rows at once.
		h := sums[0][0]
		if group == 4 {
			g.VHADDPS(sums[1][0], h, h)
			g.VHADDPS(sums[3][0], sums[2][0], sums[2][0])
			g.VHADDPS(sums[2][0], h, h)
		} else {
			g.VHADDPS(h, h, h)
			g.VHADDPS(h, h, h)
		}
		r := g.XMM()
		g.VEXTRACTF128(operand.U8(1), h, r)
		g.VADDPS(r, h.AsX(), r)
		if group == 4 {
			g.VMOVUPS(r, operand.Mem{Base: out})
			g.LEAQ(operand.Mem{Base: base, Index: stride, Scale: 4}, base)
		} else {
			g.VMOVSS(r, operand.Mem{Base: out})
			g.ADDQ(stride, base)
		}
		g.ADDQ(operand.I32(4*group), out)
		g.SUBQ(operand.I32(group), count)
		g.JMP(ref(top))
		g.Label(next)
	}
	g.end()
}

// axpyRows keeps a piece of y in registers and goes down the rows.
func axpyRows(g *gen) {
	g.fn("axpyRows"+g.isa, "func(y *float32, n int, a *float32, count int, rows *float32, stride int)",
		"adds Σ_i a[i]·rows[i*stride+j] to y[j] for i < count, j < n; count ≥ 1.")
	y, n, a0, count := g.arg("y"), g.arg("n"), g.arg("a"), g.arg("count")
	base, stride := g.arg("rows"), g.stride("stride")
	size := g.size()
	down := func(width int, mask reg.Virtual) {
		sums := make([]reg.VecVirtual, width)
		for i := range sums {
			sums[i] = lanes{g: g, off: size * i, mask: mask}.load(y)
		}
		a, p, i := g.GP64(), g.GP64(), g.GP64()
		g.MOVQ(a0, a)
		g.MOVQ(base, p)
		g.MOVQ(count, i)
		row := g.label("row")
		g.Label(row)
		v := g.vec()
		g.VBROADCASTSS(operand.Mem{Base: a}, v)
		for i, s := range sums {
			l := lanes{g: g, off: size * i, mask: mask}
			if mask != nil {
				g.VFMADD231PS(l.load(p), v, s)
			} else {
				g.VFMADD231PS(l.at(p), v, s)
			}
		}
		g.ADDQ(operand.I32(4), a)
		g.ADDQ(stride, p)
		g.DECQ(i)
		g.JNZ(ref(row))
		for i, s := range sums {
			lanes{g: g, off: size * i, mask: mask}.store(s, y)
		}
	}
	for _, width := range []int{8, 4, 1} {
		top, next := g.label("cols"), g.label("next")
		g.Label(top)
		g.CMPQ(n, operand.I32(size/4*width))
		g.JL(ref(next))
		down(width, nil)
		g.ADDQ(operand.I32(size*width), y)
		g.ADDQ(operand.I32(size*width), base)
		g.SUBQ(operand.I32(size/4*width), n)
		g.JMP(ref(top))
		g.Label(next)
	}
	done := g.label("done")
	g.TESTQ(n, n)
	g.JZ(ref(done))
	down(1, g.mask(n))
	g.Label(done)
	g.end()
}

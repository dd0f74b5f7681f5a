package main

import "fmt"

// The layout of a sealed panel is that of bfmmla: for four steps, and two columns of
// the panel after two, a vector with the four numbers of one and of the other.

func bf16(g *gen) {
	g.fn("tileNEONBF16", "func(k int, a, b, c *float32, ldc int, accumulate bool)",
		"is Tile.Run for 6×16 and sealed panels of 4·k steps, k ≥ 1.", func() { tileBF16(g) })
	g.fn("seal16NEONBF16", "func(dst, src *float32, k int)",
		"is Tile.Seal for panels 16 wide of 4·k steps, k ≥ 1.", func() { seal(g, 16) })
	g.fn("seal6NEONBF16", "func(dst, src *float32, k int)",
		"is Tile.Seal for panels 6 wide of 4·k steps, k ≥ 1.", func() { seal(g, 6) })
}

// tileBF16 keeps 3×8 sums of 2×2; it reads three vectors of A and eight of B for four steps.
func tileBF16(g *gen) {
	k, a, b := g.arg("k"), g.arg("a"), g.arg("b")
	row := g.tileRows()
	sums := g.vecs(24)
	g.zero(sums)
	top := g.label("steps")
	g.place(top)
	g.scope(func() {
		av, bv := g.vecs(3), g.vecs(4)
		g.ins("FLDPQ.P", mem(32, a), fmt.Sprintf("(%s, %s)", av[0].f(), av[1].f()))
		g.ins("FMOVQ.P", mem(16, a), av[2].f())
		for j := 0; j < 8; j += 2 {
			w := bv[j%4 : j%4+2] // by turns, so that loads need not wait
			g.ins("FLDPQ.P", mem(32, b), fmt.Sprintf("(%s, %s)", w[0].f(), w[1].f()))
			for i := range av {
				s := sums[8*i+j : 8*i+j+2]
				g.op(bfmmla, s, av[i:i+1], w)
			}
		}
	})
	g.ins("SUBS", "$1", k, k)
	g.ins("BNE", top)
	// Two sums beside each other have four numbers of each of two rows. One register
	// that is free makes the next one free.
	var out vecs
	free := g.vecs(1)
	for i := range 3 {
		var even, odd vecs
		for j := 0; j < 8; j += 2 {
			s, t := sums[8*i+j:8*i+j+1], sums[8*i+j+1:8*i+j+2]
			g.goOp("VZIP1", "D2", free, s, t)
			g.goOp("VZIP2", "D2", t, s, t)
			even, odd = append(even, free[0]), append(odd, t[0])
			free = s
		}
		out = append(append(out, even...), odd...)
	}
	g.storeTile(out, row, k, append(free, g.vecs(3)...))
}

// seal transposes four steps of four columns and rounds them.
func seal(g *gen, width int) {
	dst, src, k := g.arg("dst"), g.arg("src"), g.arg("k")
	top := g.label("steps")
	g.place(top)
	for i := 0; i < width; i += 4 {
		g.scope(func() {
			cols := min(4, width-i)
			r, t := g.vecs(4), g.vecs(4)
			for p, v := range r {
				op := "FMOVQ"
				if cols == 2 {
					op = "FMOVD"
				}
				g.ins(op, mem(4*(p*width+i), src), v.f())
			}
			g.transpose(r, t)
			for q := range cols / 2 {
				g.op(bfcvtn, t[q:q+1], r[2*q:2*q+1], nil)
				g.op(bfcvtn2, t[q:q+1], r[2*q+1:2*q+2], nil)
			}
			g.storeVecs(t[:cols/2], 8*i, dst)
		})
	}
	g.ins("ADD", fmt.Sprintf("$%d", 16*width), src, src)
	g.ins("ADD", fmt.Sprintf("$%d", 8*width), dst, dst)
	g.ins("SUBS", "$1", k, k)
	g.ins("BNE", top)
}

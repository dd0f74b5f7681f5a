package main

import "fmt"

// A vector for bfmmla has four steps of one row of A, and of the next; or of one column
// of B, and of the next, eight of which make four steps of a sealed panel.

func bf16(g *gen) {
	for rows := 1; rows <= 6; rows++ {
		g.fn(fmt.Sprintf("tile%dNEONBF16", rows), tileSignature,
			fmt.Sprintf("is Tile.Run for %d×16 and what is sealed, 4·k steps, k ≥ 1.", rows), func() { tileBF16(g, rows) })
	}
	g.fn("sealNEONBF16", "func(dst, src *float32, k int)", "is Tile.Seal for 4·k steps, k ≥ 1.", func() { seal(g) })
	g.fn("sealRowNEONBF16", "func(dst, src *float32, k int)", "is Tile.SealRow for 4·k steps, k ≥ 1.", func() { sealRow(g) })
}

// tileBF16 keeps eight sums of 2×2 for every two rows.
func tileBF16(g *gen, rows int) {
	k, b := g.arg("k"), g.arg("b")
	a, c := g.rows("a", "lda", rows), g.rows("c", "ldc", rows)
	for _, r := range c {
		g.ins("PRFM", mem(0, r), "PLDL1KEEP")
	}
	pairs := (rows + 1) / 2
	sums := g.vecs(8 * pairs)
	g.zero(sums)
	top := g.label("steps")
	g.place(top)
	g.scope(func() {
		av, bv := g.vecs(pairs), g.vecs(4)
		for i, p := range a {
			if i%2 == 0 {
				g.ins("FMOVD.P", mem(8, p), av[i/2].f())
			} else {
				g.ins("VLD1.P", mem(8, p), fmt.Sprintf("V%d.D[1]", int(av[i/2])))
			}
		}
		for j := 0; j < 8; j += 2 {
			w := bv[j%4 : j%4+2] // by turns, so that loads need not wait
			g.ins("FLDPQ.P", mem(32, b), fmt.Sprintf("(%s, %s)", w[0].f(), w[1].f()))
			for i := range av {
				g.op(bfmmla, sums[8*i+j:8*i+j+2], av[i:i+1], w)
			}
		}
	})
	g.ins("SUBS", "$1", k, k)
	g.ins("BNE", top)
	// Two sums beside each other have four numbers of each of two rows. One register
	// that is free makes the next one free.
	var out vecs
	free := g.vecs(1)
	for i := range pairs {
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
	g.free(free)
	g.storeTile(out, c, k)
}

// seal transposes four steps of four columns and rounds them.
func seal(g *gen) {
	dst, src, k := g.arg("dst"), g.arg("src"), g.arg("k")
	top := g.label("steps")
	g.place(top)
	for i := 0; i < 16; i += 4 {
		g.scope(func() {
			r, t := g.vecs(4), g.vecs(4)
			for p, v := range r {
				g.ins("FMOVQ", mem(64*p+4*i, src), v.f())
			}
			g.transpose(r, t)
			g.op(bfcvtn, t[:2], vecs{r[0], r[2]}, nil)
			g.op(bfcvtn2, t[:2], vecs{r[1], r[3]}, nil)
			g.storeVecs(t[:2], 8*i, dst)
		})
	}
	g.ins("ADD", "$256", src, src)
	g.ins("ADD", "$128", dst, dst)
	g.ins("SUBS", "$1", k, k)
	g.ins("BNE", top)
}

func sealRow(g *gen) {
	dst, src, k := g.arg("dst"), g.arg("src"), g.arg("k")
	for _, groups := range []int{4, 1} {
		g.times(k, groups, func() {
			v := g.vecs(groups)
			g.loadVecs(v, 0, src)
			for i := range v {
				g.op(bfcvtn, v[i:i+1], v[i:i+1], nil)
				g.ins("FMOVD", v[i].f(), mem(8*i, dst))
			}
			g.ins("ADD", fmt.Sprintf("$%d", 16*groups), src, src)
			g.ins("ADD", fmt.Sprintf("$%d", 8*groups), dst, dst)
		})
	}
}

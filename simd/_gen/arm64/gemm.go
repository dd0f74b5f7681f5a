package main

import "fmt"

func gemm(g *gen) {
	for rows := 1; rows <= 6; rows++ {
		g.fn(fmt.Sprintf("tile%dNEON", rows), tileSignature, fmt.Sprintf("is Tile.Run for %d×16 and k ≥ 1.", rows), func() { tile(g, rows) })
	}
	g.fn("packRows16NEON", "func(dst *float32, panel int, src *float32, stride, k, panels int)",
		"is Tile.PackRows for k ≥ 1 and panels ≥ 1.", func() { packRows(g) })
	for _, rows := range []int{8, 4} {
		g.fn(fmt.Sprintf("transpose%dNEON", rows), "func(dst *float32, ldd int, src *float32, lds, cols int)",
			fmt.Sprintf("sets dst[j*ldd+i] = src[i*lds+j] for i < %d and j < cols, a multiple of 4, cols ≥ 4.", rows),
			func() { transposeRows(g, rows) })
	}
}

const tileSignature = "func(k int, a *float32, lda int, b, c *float32, ldc int, accumulate bool)"

// tile is a micro-kernel of up to 6×16: four vectors of sums for each row. The lanes of
// a vector of A are a row's factors of four steps.
func tile(g *gen, rows int) {
	k, b := g.arg("k"), g.arg("b")
	a, c := g.rows("a", "lda", rows), g.rows("c", "ldc", rows)
	for _, r := range c {
		g.ins("PRFM", mem(0, r), "PLDL1KEEP")
	}
	sums := g.vecs(4 * rows)
	g.zero(sums)
	// step adds the products of a step, whose factors of A are lane of av.
	step := func(av vecs, lane int) {
		g.scope(func() {
			bv := g.vecs(2)
			for j := 0; j < 4; j += 2 {
				g.ins("FLDPQ.P", mem(32, b), fmt.Sprintf("(%s, %s)", bv[0].f(), bv[1].f()))
				for i := range rows {
					g.element(fmlaElement, sums[4*i+j], bv[0], av[i], lane)
					g.element(fmlaElement, sums[4*i+j+1], bv[1], av[i], lane)
				}
			}
		})
	}
	for _, steps := range []int{4, 1} {
		g.times(k, steps, func() {
			av := g.vecs(rows)
			for i, v := range av {
				g.ins(map[int]string{4: "FMOVQ.P", 1: "FMOVS.P"}[steps], mem(4*steps, a[i]), v.f())
			}
			for p := range steps {
				step(av, p)
			}
		})
	}
	g.storeTile(sums, c, k)
}

// rows returns pointers to the rows of a matrix, whose stride counts numbers.
func (g *gen) rows(name, stride string, n int) []reg {
	row := []reg{g.arg(name)}
	g.scope(func() {
		ld := g.stride(stride)
		for i := 1; i < n; i++ {
			row = append(row, g.reg())
			g.ins("ADD", ld, row[i-1], row[i])
		}
	})
	for _, r := range row {
		g.use(r)
	}
	return row
}

// storeTile writes the sums of a tile to the rows of c, or adds them to what is there.
// It uses a register and four vectors.
func (g *gen) storeTile(sums vecs, c []reg, r reg) {
	set := g.label("set")
	g.ins("MOVBU", g.param("accumulate"), r)
	g.ins("CBZ", r, set)
	g.scope(func() {
		v := g.vecs(4)
		for i, p := range c {
			g.loadVecs(v, 0, p)
			s := sums[4*i : 4*i+4]
			g.op(fadd, s, v, s)
		}
	})
	g.place(set)
	for i, p := range c {
		g.storeVecs(sums[4*i:4*i+4], 0, p)
	}
}

// packRows copies 64 bytes at a time, row after row, so that memory is read in order.
func packRows(g *gen) {
	dst, panel, src := g.arg("dst"), g.stride("panel"), g.arg("src")
	stride, k, panels := g.stride("stride"), g.arg("k"), g.arg("panels")
	s, d, n := g.reg(), g.reg(), g.reg()
	row, next := g.label("row"), g.label("next")
	g.place(row)
	g.ins("MOVD", src, s)
	g.ins("MOVD", dst, d)
	g.ins("MOVD", panels, n)
	g.place(next)
	g.scope(func() {
		v := g.vecs(4)
		g.loadVecs(v, 0, s)
		g.storeVecs(v, 0, d)
	})
	g.ins("ADD", "$64", s, s)
	g.ins("ADD", panel, d, d)
	g.ins("SUBS", "$1", n, n)
	g.ins("BNE", next)
	g.ins("ADD", stride, src, src)
	g.ins("ADD", "$64", dst, dst)
	g.ins("SUBS", "$1", k, k)
	g.ins("BNE", row)
}

// transposeRows takes four columns of all rows at a time, in blocks of 4×4.
func transposeRows(g *gen, rows int) {
	dst, ldd, k := g.arg("dst"), g.stride("ldd"), g.arg("cols")
	src := g.rows("src", "lds", rows)
	block, p := g.label("block"), g.reg()
	g.place(block)
	g.scope(func() {
		r, t := g.vecs(rows), g.vecs(4)
		for i, v := range r {
			g.ins("FMOVQ.P", mem(16, src[i]), v.f())
		}
		for i := 0; i < rows; i += 4 {
			g.transpose(r[i:i+4], t)
		}
		for j := range 4 {
			if j == 0 {
				g.ins("MOVD", dst, p)
			} else {
				g.ins("ADD", ldd, p, p)
			}
			var column vecs
			for i := 0; i < rows; i += 4 {
				column = append(column, r[i+j])
			}
			g.storeVecs(column, 0, p)
		}
	})
	g.ins("ADD", ldd, p, dst)
	g.ins("SUBS", "$4", k, k)
	g.ins("BNE", block)
}

// transpose makes four rows in r four columns. It uses t.
func (g *gen) transpose(r, t vecs) {
	for j := 0; j < 4; j += 2 { // pairs: columns 0 and 2, 1 and 3
		g.goOp("VTRN1", "S4", t[j:j+1], r[j:j+1], r[j+1:j+2])
		g.goOp("VTRN2", "S4", t[j+1:j+2], r[j:j+1], r[j+1:j+2])
	}
	g.goOp("VZIP1", "D2", r[0:2], t[0:2], t[2:4])
	g.goOp("VZIP2", "D2", r[2:4], t[0:2], t[2:4])
}

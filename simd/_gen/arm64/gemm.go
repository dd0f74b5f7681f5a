package main

import "fmt"

func gemm(g *gen) {
	g.fn("tileNEON", "func(k int, a, b, c *float32, ldc int, accumulate bool)",
		"is Tile.Run for 6×16 and k ≥ 1.", func() { tile(g) })
	g.fn("packRows16NEON", "func(dst *float32, panel int, src *float32, stride, k, panels int)",
		"is Tile.PackRows for panels 16 wide, k ≥ 1 and panels ≥ 1.", func() {
			copyRows(g, 64, func(src, dst reg) {
				v := g.vecs(4)
				g.loadVecs(v, 0, src)
				g.storeVecs(v, 0, dst)
			})
		})
	g.fn("packRows6NEON", "func(dst *float32, panel int, src *float32, stride, k, panels int)",
		"is Tile.PackRows for panels 6 wide, k ≥ 1 and panels ≥ 1.", func() {
			copyRows(g, 24, func(src, dst reg) {
				v := g.vecs(2)
				g.ins("FMOVQ", mem(0, src), v[0].f())
				g.ins("FMOVD", mem(16, src), v[1].f())
				g.ins("FMOVQ", v[0].f(), mem(0, dst))
				g.ins("FMOVD", v[1].f(), mem(16, dst))
			})
		})
	g.fn("packCols16NEON", "func(dst, src *float32, stride, k int)",
		"sets dst[p*16+i] = src[i*stride+p] for i < 16 and p < k, a multiple of 4, k ≥ 4.", func() { packCols(g, 16) })
	g.fn("packCols6NEON", "func(dst, src *float32, stride, k int)",
		"sets dst[p*6+i] = src[i*stride+p] for i < 6 and p < k, a multiple of 4, k ≥ 4.", func() { packCols(g, 6) })
}

// tile is the 6×16 micro-kernel: 24 vectors of sums, 4 of B, and of A three for two
// steps, whose lanes are the factors.
func tile(g *gen) {
	k, a, b := g.arg("k"), g.arg("a"), g.arg("b")
	row := g.tileRows()
	sums := g.vecs(24)
	g.zero(sums)
	bv := g.vecs(4)
	// step adds the products of a step, whose factors of A begin at lane of av.
	step := func(av vecs, lane int) {
		for i := range 6 {
			at := lane + i
			for j := range 4 {
				g.element(fmlaElement, sums[4*i+j], bv[j], av[at/4], at%4)
			}
		}
	}
	loadB := func() {
		g.ins("FLDPQ.P", mem(32, b), fmt.Sprintf("(%s, %s)", bv[0].f(), bv[1].f()))
		g.ins("FLDPQ.P", mem(32, b), fmt.Sprintf("(%s, %s)", bv[2].f(), bv[3].f()))
	}
	g.times(k, 2, func() {
		av := g.vecs(3)
		g.ins("FLDPQ.P", mem(32, a), fmt.Sprintf("(%s, %s)", av[0].f(), av[1].f()))
		g.ins("FMOVQ.P", mem(16, a), av[2].f())
		loadB()
		step(av, 0)
		loadB()
		step(av, 6)
	})
	store := g.label("store")
	g.ins("CBZ", k, store)
	g.scope(func() {
		av := g.vecs(2)
		g.ins("FMOVQ", mem(0, a), av[0].f())
		g.ins("FMOVD", mem(16, a), av[1].f())
		loadB()
		step(av, 0)
	})

	g.place(store)
	g.storeTile(sums, row, k, bv)
}

// storeTile writes the sums of a 6×16 tile to the rows of c, or adds them to what is
// there. It uses a register and four vectors.
func (g *gen) storeTile(sums vecs, row []reg, r reg, tmp vecs) {
	set := g.label("set")
	g.ins("MOVBU", g.param("accumulate"), r)
	g.ins("CBZ", r, set)
	for i, p := range row {
		g.loadVecs(tmp, 0, p)
		s := sums[4*i : 4*i+4]
		g.op(fadd, s, tmp, s)
	}
	g.place(set)
	for i, p := range row {
		g.storeVecs(sums[4*i:4*i+4], 0, p)
	}
}

// tileRows returns pointers to the six rows of the tile of c, and has them fetched.
func (g *gen) tileRows() []reg {
	row := []reg{g.arg("c")}
	ldc := g.stride("ldc")
	for i := 1; i < 6; i++ {
		row = append(row, g.reg())
		g.ins("ADD", ldc, row[i-1], row[i])
	}
	for _, r := range row {
		g.ins("PRFM", mem(0, r), "PLDL1KEEP")
	}
	return row
}

// copyRows is the body of packRows: width bytes at a time are copied by move, row
// after row, so that memory is read in order.
func copyRows(g *gen, width int, move func(src, dst reg)) {
	dst, panel, src := g.arg("dst"), g.stride("panel"), g.arg("src")
	stride, k, panels := g.stride("stride"), g.arg("k"), g.arg("panels")
	s, d, n := g.reg(), g.reg(), g.reg()
	row, next := g.label("row"), g.label("next")
	g.place(row)
	g.ins("MOVD", src, s)
	g.ins("MOVD", dst, d)
	g.ins("MOVD", panels, n)
	g.place(next)
	g.scope(func() { move(s, d) })
	g.ins("ADD", fmt.Sprintf("$%d", width), s, s)
	g.ins("ADD", panel, d, d)
	g.ins("SUBS", "$1", n, n)
	g.ins("BNE", next)
	g.ins("ADD", stride, src, src)
	g.ins("ADD", fmt.Sprintf("$%d", width), dst, dst)
	g.ins("SUBS", "$1", k, k)
	g.ins("BNE", row)
}

// packCols transposes 4 columns of all rows at a time, in blocks of 4×4; of 6 rows the
// last two are a block of 2×4.
func packCols(g *gen, width int) {
	dst, src, stride, k := g.arg("dst"), g.arg("src"), g.stride("stride"), g.arg("k")
	p := g.reg()
	block := g.label("block")
	g.place(block)
	g.ins("MOVD", src, p)
	load := func(v vec) {
		g.ins("FMOVQ", mem(0, p), v.f())
		g.ins("ADD", stride, p, p)
	}
	for i := 0; i < width; i += 4 {
		g.scope(func() {
			rows := min(4, width-i)
			r, t := g.vecs(4), g.vecs(4)
			for _, v := range r[:rows] {
				load(v)
			}
			g.transpose(r, t)
			for j, v := range r {
				if rows == 4 {
					g.ins("FMOVQ", v.f(), mem(4*(j*width+i), dst))
				} else {
					g.ins("FMOVD", v.f(), mem(4*(j*width+i), dst))
				}
			}
		})
	}
	g.ins("ADD", fmt.Sprintf("$%d", 16*width), dst, dst)
	g.ins("ADD", "$16", src, src)
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

package main

import "fmt"

// The sums of products of bytes, by what the CPU has. Each multiplies a block of
// weights w, two vectors, by one of activations x, and returns four partial sums.
var dots = []struct {
	suffix string
	dot    func(g *gen, t vec, w, x vecs)
}{
	{"NEON", func(g *gen, t vec, w, x vecs) {
		// Two products of bytes fit 16 bits, for activations are at least -127.
		g.scope(func() {
			p := g.vecs(2)
			g.op(smull, p, w, x)
			g.op(smlal2, p, w, x)
			g.op(saddlp, vecs{t}, p[:1], nil)
			g.op(sadalp, vecs{t}, p[1:], nil)
		})
	}},
	{"NEONDot", func(g *gen, t vec, w, x vecs) {
		g.zero(vecs{t})
		g.op(sdot, vecs{t}, w[:1], x[:1])
		g.op(sdot, vecs{t}, w[1:], x[1:])
	}},
}

func int8Products(g *gen) {
	for _, isa := range dots {
		for _, f := range formats {
			for _, rows := range []int{1, 2, 4} {
				g.fn(fmt.Sprintf("dot%sx%d%s", f.name, rows, isa.suffix),
					"func(y *float32, ldy, groups int, q *int8, d *float32, blocks int, w *byte, stride int)",
					fmt.Sprintf("sets y[i*ldy+j] for i < %d and j < 4·groups to the products of rows of\n// activations q, d with rows of weights, stride bytes apart; blocks, groups ≥ 1.", rows),
					func() { dotInt8(g, f, rows, isa.dot) })
			}
		}
	}
	const run = "func(c *float32, q *int8, d *float32, stride, blocks int, panel *byte, accumulate bool)"
	const runDoc = "is Int8Tile.Run for rows of q and d that are stride blocks long; blocks ≥ 1."
	const pack = "func(panel, w *byte, rowBytes, blocks int)"
	g.fn("tileInt8NEON", run, runDoc, func() { tileRows(g, dots[0].dot) })
	g.fn("tileInt8NEONDot", run, runDoc, func() { tileElements(g) })
	g.fn("tileInt8NEONBF16", run, runDoc, func() { tilePairs(g) })
	for _, f := range formats {
		g.fn("pack"+f.name+"NEON", pack, "is Int8Tile.Pack for tileInt8NEON; blocks ≥ 1.", func() { packPanel(g, f, 4, packAsRows) })
		g.fn("pack"+f.name+"NEONDot", pack, "is Int8Tile.Pack for tileInt8NEONDot; blocks ≥ 1.", func() { packPanel(g, f, 8, packAsElements) })
		g.fn("pack"+f.name+"NEONBF16", pack, "is Int8Tile.Pack for tileInt8NEONBF16; blocks ≥ 1.", func() { packPanel(g, f, 8, packAsPairs) })
	}
}

// scaleInto adds isum·(dw·dx) to y, rounding each time; it destroys isum and t.
func (g *gen) scaleInto(y, isum, dw, dx, t vecs) {
	g.op(fmul, t, dw, dx)
	g.op(scvtf, isum, isum, nil)
	g.op(fmul, isum, isum, t)
	g.op(fadd, y, y, isum)
}

// sumFour returns the sums of the lanes of each of four vectors of integers.
func (g *gen) sumFour(t vecs) vecs {
	g.goOp("VADDP", "S4", t[:1], t[:1], t[1:2])
	g.goOp("VADDP", "S4", t[2:3], t[2:3], t[3:4])
	g.goOp("VADDP", "S4", t[:1], t[:1], t[2:3])
	return t[:1]
}

// dotInt8 goes along four rows of weights, which it reads once for all rows of
// activations. A vector of sums has one row of activations.
func dotInt8(g *gen, f blockFormat, rows int, dot func(g *gen, t vec, w, x vecs)) {
	y, ldy, groups := g.arg("y"), g.stride("ldy"), g.arg("groups")
	q, d, blocks, w, stride := g.arg("q"), g.arg("d"), g.arg("blocks"), g.arg("w"), g.arg("stride")
	f.prepare(g)
	wp := []reg{w, g.reg(), g.reg(), g.reg()}
	for i := 1; i < 4; i++ {
		g.ins("ADD", stride, wp[i-1], wp[i])
	}
	g.ins("ADD", fmt.Sprintf("%s<<1", stride), stride, stride) // to the next group, three rows
	qBytes, dBytes := g.reg(), g.reg()
	g.ins("LSL", "$5", blocks, qBytes)
	g.ins("LSL", "$2", blocks, dBytes)
	qp, dp := []reg{q}, []reg{d}
	for i := 1; i < rows; i++ {
		qp, dp = append(qp, g.reg()), append(dp, g.reg())
		g.ins("ADD", qBytes, qp[i-1], qp[i])
		g.ins("ADD", dBytes, dp[i-1], dp[i])
	}
	group, block, n := g.label("group"), g.label("block"), g.reg()
	g.place(group)
	sums := g.vecs(rows)
	g.zero(sums)
	g.ins("MOVD", blocks, n)
	g.place(block)
	g.scope(func() {
		dw := g.vecs(1)
		var weights []vecs
		for i, p := range wp {
			g.ins("VLD1.P", mem(2, p), fmt.Sprintf("V%d.H[%d]", int(dw[0]), i))
			weights = append(weights, f.load(g, p))
		}
		g.op(fcvtl, dw, dw, nil)
		for i := range rows {
			g.scope(func() {
				x, dx, t := g.vecs(2), g.vecs(1), g.vecs(4)
				g.ins("FLDPQ.P", mem(32, qp[i]), fmt.Sprintf("(%s, %s)", x[0].f(), x[1].f()))
				g.ins("VLD1R.P", mem(4, dp[i]), fmt.Sprintf("[%s]", s4(dx[0])))
				for j, v := range weights {
					dot(g, t[j], v, x)
				}
				g.scaleInto(sums[i:i+1], g.sumFour(t), dw, dx, t[1:2])
			})
		}
	})
	g.ins("SUBS", "$1", n, n)
	g.ins("BNE", block)
	g.scope(func() {
		p := g.reg()
		g.ins("MOVD", y, p)
		for i, v := range sums {
			g.ins("FMOVQ", v.f(), mem(0, p))
			if i+1 < rows {
				g.ins("ADD", ldy, p, p)
			}
		}
	})
	g.ins("ADD", "$16", y, y)
	for i := range rows {
		g.ins("SUB", qBytes, qp[i], qp[i])
		g.ins("SUB", dBytes, dp[i], dp[i])
	}
	for _, p := range wp { // each has moved along its row
		g.ins("ADD", stride, p, p)
	}
	g.ins("SUBS", "$1", groups, groups)
	g.ins("BNE", group)
}

// tileArgs loads the arguments of a tile: pointers to the panel and to four rows.
type tileArgs struct {
	c, blocks, panel reg
	q, d             []reg
}

func newTileArgs(g *gen) tileArgs {
	a := tileArgs{c: g.arg("c"), blocks: g.arg("blocks"), panel: g.arg("panel")}
	a.q, a.d = []reg{g.arg("q"), g.reg(), g.reg(), g.reg()}, []reg{g.arg("d"), g.reg(), g.reg(), g.reg()}
	g.scope(func() {
		stride, qBytes := g.arg("stride"), g.reg()
		g.ins("LSL", "$5", stride, qBytes)
		g.ins("LSL", "$2", stride, stride)
		for i := 1; i < 4; i++ {
			g.ins("ADD", qBytes, a.q[i-1], a.q[i])
			g.ins("ADD", stride, a.d[i-1], a.d[i])
		}
	})
	return a
}

// sums returns the tile's sums, n vectors of four, from c or 0.
func (a tileArgs) sums(g *gen, n int) vecs {
	sums := g.vecs(n)
	g.zero(sums)
	start := g.label("start")
	g.scope(func() {
		r := g.reg()
		g.ins("MOVBU", g.param("accumulate"), r)
		g.ins("CBZ", r, start)
	})
	g.loadVecs(sums, 0, a.c)
	g.place(start)
	return sums
}

// loop runs body for every block.
func (a tileArgs) loop(g *gen, body func()) {
	top := g.label("block")
	g.place(top)
	g.scope(body)
	g.ins("SUBS", "$1", a.blocks, a.blocks)
	g.ins("BNE", top)
}

// row loads a block of row i of the activations.
func (a tileArgs) row(g *gen, i int) vecs {
	x := g.vecs(2)
	g.ins("FLDPQ.P", mem(32, a.q[i]), fmt.Sprintf("(%s, %s)", x[0].f(), x[1].f()))
	return x
}

// scale returns the scale of row i in all lanes.
func (a tileArgs) scale(g *gen, i int) vecs {
	d := g.vecs(1)
	g.ins("VLD1R.P", mem(4, a.d[i]), fmt.Sprintf("[%s]", s4(d[0])))
	return d
}

// tileRows is a tile of 4×4. Its panel has for every block four scales and four rows
// of 32 bytes.
func tileRows(g *gen, dot func(g *gen, t vec, w, x vecs)) {
	a := newTileArgs(g)
	sums := a.sums(g, 4)
	a.loop(g, func() {
		dw, w := g.vecs(1), g.vecs(8)
		g.ins("FMOVQ.P", mem(16, a.panel), dw[0].f())
		g.loadVecs(w, 0, a.panel)
		g.ins("ADD", "$128", a.panel, a.panel)
		for i := range sums {
			g.scope(func() {
				x, dx, t := a.row(g, i), a.scale(g, i), g.vecs(4)
				for j := range t {
					dot(g, t[j], w[2*j:2*j+2], x)
				}
				g.scaleInto(sums[i:i+1], g.sumFour(t), dw, dx, t[1:2])
			})
		}
	})
	g.storeVecs(sums, 0, a.c)
}

// tileElements is a tile of 4×8 for SDOT by element: a lane is a row of weights. Its panel
// has for every block eight scales, and of each four bytes along the rows those of
// eight rows.
func tileElements(g *gen) {
	a := newTileArgs(g)
	sums := a.sums(g, 8)
	a.loop(g, func() {
		isum, dw := g.vecs(8), g.vecs(2)
		g.zero(isum)
		g.ins("FLDPQ.P", mem(32, a.panel), fmt.Sprintf("(%s, %s)", dw[0].f(), dw[1].f()))
		g.scope(func() {
			var x []vecs
			for i := range 4 {
				x = append(x, a.row(g, i))
			}
			w := g.vecs(2)
			for k := range 8 {
				g.ins("FLDPQ.P", mem(32, a.panel), fmt.Sprintf("(%s, %s)", w[0].f(), w[1].f()))
				for i := range 4 {
					g.element(sdotElement, isum[2*i], w[0], x[i][k/4], k%4)
					g.element(sdotElement, isum[2*i+1], w[1], x[i][k/4], k%4)
				}
			}
		})
		for i := range 4 {
			g.scope(func() {
				g.scaleInto(sums[2*i:2*i+2], isum[2*i:2*i+2], dw, a.scale(g, i), g.vecs(2))
			})
		}
	})
	g.storeVecs(sums, 0, a.c)
}

// tilePairs is a tile of 4×8 for SMMLA, of sums of 2×2. Its panel has for every block
// the scales of two rows, twice, for each two of eight rows; and of each eight bytes
// along the rows those of two rows, two after two.
func tilePairs(g *gen) {
	a := newTileArgs(g)
	sums := a.sums(g, 8)
	// Row after row, or 2×2 after 2×2: the same exchange leads there and back.
	exchange := func() {
		t := g.vecs(1)
		for i := range 2 {
			for h := range 2 {
				u, v := sums[4*i+h:4*i+h+1], sums[4*i+2+h:4*i+2+h+1]
				g.move(t, u)
				g.goOp("VZIP1", "D2", u, t, v)
				g.goOp("VZIP2", "D2", v, t, v)
			}
		}
		g.free(t)
	}
	exchange()
	// Now sums[4i+h] is of rows 2i, 2i+1 with weights 4h, 4h+1; sums[4i+2+h] with 4h+2, 4h+3.
	pair := func(i, j int) vec { return sums[4*i+j%2*2+j/2] }
	a.loop(g, func() {
		isum := g.vecs(8)
		g.zero(isum)
		scales := g.reg()
		g.ins("MOVD", a.panel, scales)
		g.ins("ADD", "$64", a.panel, a.panel)
		g.scope(func() {
			var x []vecs
			for i := 0; i < 4; i += 2 {
				v := g.vecs(4)
				g.scope(func() {
					r, s := a.row(g, i), a.row(g, i+1)
					for k := range 2 {
						g.goOp("VZIP1", "D2", v[2*k:2*k+1], r[k:k+1], s[k:k+1])
						g.goOp("VZIP2", "D2", v[2*k+1:2*k+2], r[k:k+1], s[k:k+1])
					}
				})
				x = append(x, v)
			}
			w := g.vecs(4)
			for k := range 4 {
				g.loadVecs(w, 64*k, a.panel)
				for i := range x {
					g.op(smmla, isum[4*i:4*i+4], x[i][k:k+1], w)
				}
			}
		})
		g.ins("ADD", "$256", a.panel, a.panel)
		dw := g.vecs(4)
		g.loadVecs(dw, 0, scales)
		for i := range 2 {
			g.scope(func() {
				d, t := a.scale(g, 2*i), g.vecs(4)
				g.goOp("VZIP1", "D2", d, d, a.scale(g, 2*i+1))
				g.scaleInto(vecs{pair(i, 0), pair(i, 1), pair(i, 2), pair(i, 3)}, isum[4*i:4*i+4], dw, d, t)
			})
		}
	})
	exchange()
	g.storeVecs(sums, 0, a.c)
}

// packPanel reads blocks of rows, rowBytes apart, four rows at a time; put writes what
// a tile reads for one block.
func packPanel(g *gen, f blockFormat, rows int, put func(g *gen, panel reg, row, rows int, scales vecs, w []vecs)) {
	panel, w, rowBytes, blocks := g.arg("panel"), g.arg("w"), g.arg("rowBytes"), g.arg("blocks")
	f.prepare(g)
	top, p := g.label("block"), g.reg()
	next := g.reg()
	g.place(top)
	g.ins("MOVD", w, next)
	g.scope(func() {
		for r := 0; r < rows; r += 4 {
			g.scope(func() {
				scales := g.vecs(1)
				var v []vecs
				for i := range 4 {
					g.ins("MOVD", next, p)
					g.ins("ADD", rowBytes, next, next)
					g.ins("VLD1.P", mem(2, p), fmt.Sprintf("V%d.H[%d]", int(scales[0]), i))
					v = append(v, f.load(g, p))
				}
				g.op(fcvtl, scales, scales, nil)
				put(g, panel, r, rows, scales, v)
			})
		}
	})
	g.ins("ADD", fmt.Sprintf("$%d", f.bytes), w, w)
	g.ins("SUBS", "$1", blocks, blocks)
	g.ins("BNE", top)
}

func packAsRows(g *gen, panel reg, row, rows int, scales vecs, w []vecs) {
	g.ins("FMOVQ.P", scales[0].f(), mem(16, panel))
	for _, v := range w {
		g.ins("FSTPQ.P", fmt.Sprintf("(%s, %s)", v[0].f(), v[1].f()), mem(32, panel))
	}
}

func packAsElements(g *gen, panel reg, row, rows int, scales vecs, w []vecs) {
	g.ins("FMOVQ", scales[0].f(), mem(4*row, panel))
	t := g.vecs(4)
	for h := range 2 {
		r := vecs{w[0][h], w[1][h], w[2][h], w[3][h]}
		g.transpose(r, t)
		for k, v := range r {
			g.ins("FMOVQ", v.f(), mem(32+32*(4*h+k)+4*row, panel))
		}
	}
	if row+4 == rows {
		g.ins("ADD", "$288", panel, panel)
	}
}

func packAsPairs(g *gen, panel reg, row, rows int, scales vecs, w []vecs) {
	t := g.vecs(2)
	g.goOp("VZIP1", "D2", t[:1], scales, scales)
	g.goOp("VZIP2", "D2", t[1:], scales, scales)
	g.storeVecs(t, 8*row, panel)
	for h := range 2 {
		for half, op := range []string{"VZIP1", "VZIP2"} {
			g.goOp(op, "D2", t, vecs{w[0][h], w[2][h]}, vecs{w[1][h], w[3][h]})
			g.storeVecs(t, 64+64*(2*h+half)+8*row, panel)
		}
	}
	if row+4 == rows {
		g.ins("ADD", "$320", panel, panel)
	}
}

package main

import "fmt"

func rows(g *gen) {
	g.fn("dotRowsNEON", "func(out *float32, count int, x *float32, n int, rows *float32, stride int)",
		"sets out[i] = Σ_j rows[i*stride+j]·x[j] for i < count, j < n.", func() { dotRows(g) })
	g.fn("axpyRowsNEON", "func(y *float32, n int, a *float32, count int, rows *float32, stride int)",
		"adds Σ_i a[i]·rows[i*stride+j] to y[j] for i < count, j < n; count ≥ 1.", func() { axpyRows(g) })
}

// dotRows takes four rows at a time, which share the loads of x, and then one.
// Each row has four vectors of sums whatever its group, so that its bits do not
// depend on it.
func dotRows(g *gen) {
	out, count, x0, n0 := g.arg("out"), g.arg("count"), g.arg("x"), g.arg("n")
	base, stride := g.arg("rows"), g.stride("stride")
	x, n, ptrs := g.reg(), g.reg(), []reg{g.reg(), g.reg(), g.reg(), g.reg()}
	for _, group := range []int{4, 1} {
		g.times(count, group, func() {
			p := ptrs[:group]
			var sums []vecs
			for i := range p {
				sums = append(sums, g.vecs(4))
				g.zero(sums[i])
				if i == 0 {
					g.ins("MOVD", base, p[0])
				} else {
					g.ins("ADD", stride, p[i-1], p[i])
				}
			}
			g.ins("ADD", stride, p[group-1], base)
			g.ins("MOVD", x0, x)
			g.ins("MOVD", n0, n)
			g.loop(n, 4, append([]reg{x}, p...), func(l lanes) {
				v := l.load(x)
				for i, s := range sums {
					g.scope(func() { g.fmla(s[:len(v)], v, l.load(p[i])) })
				}
			})
			// Lanes as in sum, for all rows at once.
			var r vecs
			for _, s := range sums {
				g.fold(fadd, s)
				g.op(faddp, s[:1], s[:1], s[1:2])
				r = append(r, s[0])
			}
			g.storeRowSums(r, out)
		})
	}
}

// storeRowSums adds up the four numbers of each of r, four vectors or one, writes the
// sums to out and moves it past them.
func (g *gen) storeRowSums(r vecs, out reg) {
	if len(r) == 4 {
		g.op(faddp, r[0:1], r[0:1], r[1:2])
		g.op(faddp, r[2:3], r[2:3], r[3:4])
		g.op(faddp, r[0:1], r[0:1], r[2:3])
		g.ins("FMOVQ", r[0].f(), mem(0, out))
	} else {
		g.op(faddp, r, r, r)
		g.op(faddp, r, r, r)
		g.ins("FMOVS", r[0].f(), mem(0, out))
	}
	g.ins("ADD", fmt.Sprintf("$%d", 4*len(r)), out, out)
}

// axpyRows keeps a piece of y in registers and goes down the rows.
func axpyRows(g *gen) {
	y, n, a0, count := g.arg("y"), g.arg("n"), g.arg("a"), g.arg("count")
	base, stride := g.arg("rows"), g.stride("stride")
	a, p, i := g.reg(), g.reg(), g.reg()
	down := func(l lanes) {
		sums := l.load(y)
		g.ins("MOVD", a0, a)
		g.ins("MOVD", base, p)
		g.ins("MOVD", count, i)
		row := g.label("row")
		v := g.vecs(1)
		g.place(row)
		g.ins("VLD1R.P", mem(4, a), fmt.Sprintf("[%s]", s4(v[0])))
		if l.rest != nil {
			g.scope(func() { g.fmla(sums, l.load(p), v) })
		} else {
			for j := 0; j < len(sums); j += 4 {
				g.scope(func() {
					s := sums[j:min(j+4, len(sums))]
					x := g.vecs(len(s))
					g.loadVecs(x, 16*j, p)
					g.fmla(s, x, v)
				})
			}
		}
		g.ins("ADD", stride, p, p)
		g.ins("SUBS", "$1", i, i)
		g.ins("BNE", row)
		l.store(sums, y)
	}
	for _, vectors := range []int{16, 8, 2} {
		g.times(n, 4*vectors, func() {
			down(lanes{g: g, count: vectors})
			g.ins("ADD", fmt.Sprintf("$%d", 16*vectors), y, y)
			g.ins("ADD", fmt.Sprintf("$%d", 16*vectors), base, base)
		})
	}
	done := g.label("done")
	g.ins("CBZ", n, done)
	g.scope(func() { down(lanes{g: g, count: 2, rest: &n}) })
	g.place(done)
}

package main

import "fmt"

// A block format is how 32 integers and their scale lie in memory.
type blockFormat struct {
	name  string // in those of functions
	bytes int
	// load reads the integers of a block, 16 bytes in each of two vectors, and moves p
	// past them.
	load func(g *gen, p reg) vecs
	// prepare loads what load needs.
	prepare func(g *gen)
}

var q8_0 = blockFormat{name: "Q8_0", bytes: 34,
	prepare: func(g *gen) {},
	load: func(g *gen, p reg) vecs {
		v := g.vecs(2)
		g.ins("FLDPQ.P", mem(32, p), fmt.Sprintf("(%s, %s)", v[0].f(), v[1].f()))
		return v
	}}

// q4_0 has element i in the low half of byte i, element i+16 in the high half, both plus 8.
// Constants are in V30 and V31.
var q4_0 = blockFormat{name: "Q4_0", bytes: 18,
	prepare: func(g *gen) {
		g.inUse.vecs[30], g.inUse.vecs[31] = true, true
		g.ins("VMOVI", "$15", "V30.B16")
		g.ins("VMOVI", "$8", "V31.B16")
	},
	load: func(g *gen, p reg) vecs {
		v := g.vecs(2)
		g.ins("FMOVQ.P", mem(16, p), v[1].f())
		g.ins("VAND", "V30.B16", b16(v[1]), b16(v[0]))
		g.ins("VUSHR", "$4", b16(v[1]), b16(v[1]))
		g.goOp("VSUB", "B16", v, v, vecs{31})
		return v
	}}

var formats = []blockFormat{q8_0, q4_0}

func packed(g *gen) {
	g.fn("unpackF16NEON", "func(dst *float32, src *byte, n int)", "sets dst to n numbers of binary16, n a multiple of 8.", func() {
		unpack16(g, fromF16)
	})
	g.fn("unpackBF16NEON", "func(dst *float32, src *byte, n int)", "sets dst to n numbers of bfloat16, n a multiple of 8.", func() {
		unpack16(g, fromBF16)
	})
	for _, f := range formats {
		g.fn("unpack"+f.name+"NEON", "func(dst *float32, src *byte, blocks int)", "unpacks blocks, at least one.", func() { unpackBlocks(g, f) })
	}
	g.fn("dotRowsF16NEON", "func(out *float32, count int, x *float32, n int, w *byte)",
		"sets out[i] = Σ_j w[i*n+j]·x[j] for i < count, j < n, w of binary16.", func() { dotRows16(g, fromF16) })
	g.fn("dotRowsBF16NEON", "func(out *float32, count int, x *float32, n int, w *byte)",
		"sets out[i] = Σ_j w[i*n+j]·x[j] for i < count, j < n, w of bfloat16.", func() { dotRows16(g, fromBF16) })
	g.fn("toInt8NEON", "func(q *int8, d *float32, s *int32, x *float32, blocks int)", "is ToInt8 for blocks of 32, at least one.", func() { toInt8(g) })
}

// fromF16 makes eight halves in h two vectors of float32, fromBF16 too.
func fromF16(g *gen, h vec) vecs {
	v := g.vecs(2)
	g.op(fcvtl, v[:1], vecs{h}, nil)
	g.op(fcvtl2, v[1:], vecs{h}, nil)
	return v
}

func fromBF16(g *gen, h vec) vecs {
	v, zero := g.vecs(2), g.vecs(1)
	g.zero(zero)
	g.goOp("VZIP1", "H8", v[:1], zero, vecs{h})
	g.goOp("VZIP2", "H8", v[1:], zero, vecs{h})
	g.free(zero)
	return v
}

func unpack16(g *gen, from func(*gen, vec) vecs) {
	dst, src, n := g.arg("dst"), g.arg("src"), g.arg("n")
	for _, halves := range []int{32, 8} {
		g.times(n, halves, func() {
			h := g.vecs(halves / 8)
			g.loadVecs(h, 0, src)
			for i, v := range h {
				g.scope(func() { g.storeVecs(from(g, v), 32*i, dst) })
			}
			g.ins("ADD", fmt.Sprintf("$%d", 2*halves), src, src)
			g.ins("ADD", fmt.Sprintf("$%d", 4*halves), dst, dst)
		})
	}
}

func unpackBlocks(g *gen, f blockFormat) {
	dst, src, n := g.arg("dst"), g.arg("src"), g.arg("blocks")
	f.prepare(g)
	top := g.label("block")
	g.place(top)
	g.scope(func() {
		d := g.vecs(1)
		g.ins("VLD1R.P", mem(2, src), fmt.Sprintf("[V%d.H8]", int(d[0])))
		g.op(fcvtl, d, d, nil)
		for _, q := range f.load(g, src) {
			g.scope(func() {
				h, v := g.vecs(2), g.vecs(4)
				g.op(sxtlB, h[:1], vecs{q}, nil)
				g.op(sxtl2B, h[1:], vecs{q}, nil)
				for i := range h {
					g.op(sxtlH, v[2*i:2*i+1], h[i:i+1], nil)
					g.op(sxtl2H, v[2*i+1:2*i+2], h[i:i+1], nil)
				}
				g.op(scvtf, v, v, nil)
				g.op(fmul, v, v, d)
				g.storeVecs(v, 0, dst)
				g.ins("ADD", "$64", dst, dst)
			})
		}
	})
	g.ins("SUBS", "$1", n, n)
	g.ins("BNE", top)
}

// dotRows16 is dotRows of numbers of 16 bits, and has its order of sums.
func dotRows16(g *gen, from func(*gen, vec) vecs) {
	out, count, x0, n0, base := g.arg("out"), g.arg("count"), g.arg("x"), g.arg("n"), g.arg("w")
	x, n, bytes, ptrs := g.reg(), g.reg(), g.reg(), []reg{g.reg(), g.reg(), g.reg(), g.reg()}
	g.ins("LSL", "$1", n0, bytes)
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
					g.ins("ADD", bytes, p[i-1], p[i])
				}
			}
			g.ins("ADD", bytes, p[group-1], base)
			g.ins("MOVD", x0, x)
			g.ins("MOVD", n0, n)
			for _, numbers := range []int{16, 8} {
				g.times(n, numbers, func() {
					v := g.vecs(numbers / 4)
					g.loadVecs(v, 0, x)
					for i, s := range sums {
						g.scope(func() {
							h := g.vecs(numbers / 8)
							g.loadVecs(h, 0, p[i])
							for j := range h {
								g.scope(func() { g.fmla(s[2*j:2*j+2], v[2*j:2*j+2], from(g, h[j])) })
							}
							g.ins("ADD", fmt.Sprintf("$%d", 2*numbers), p[i], p[i])
						})
					}
					g.ins("ADD", fmt.Sprintf("$%d", 4*numbers), x, x)
				})
			}
			done := g.label("done")
			g.ins("CBZ", n, done)
			g.scope(func() {
				l := lanes{g: g, count: 2, rest: &n}
				v := l.load(x)
				for i, s := range sums {
					g.scope(func() {
						h := g.vecs(1)
						g.zero(h)
						l.halves(p[i], h[0])
						g.fmla(s[:2], v, from(g, h[0]))
					})
				}
			})
			g.place(done)
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

// halves loads the rest, fewer than eight numbers of 16 bits, from p into v, which is 0.
func (l lanes) halves(p reg, v vec) {
	g := l.g
	// From the last on: what is there already moves up.
	two, four, done := g.label("two"), g.label("four"), g.label("done")
	g.scope(func() {
		q := g.reg()
		g.ins("ADD", fmt.Sprintf("%s<<1", *l.rest), p, q)
		g.ins("TBZ", "$0", *l.rest, two)
		g.ins("SUB", "$2", q, q)
		g.ins("VLD1", mem(0, q), fmt.Sprintf("V%d.H[0]", int(v)))
		g.place(two)
		g.ins("TBZ", "$1", *l.rest, four)
		g.ins("SUB", "$4", q, q)
		g.ins("VEXT", "$12", b16(v), b16(v), b16(v))
		g.ins("VLD1", mem(0, q), fmt.Sprintf("V%d.S[0]", int(v)))
		g.place(four)
		g.ins("TBZ", "$2", *l.rest, done)
		g.ins("VEXT", "$8", b16(v), b16(v), b16(v))
		g.ins("VLD1", mem(0, p), fmt.Sprintf("V%d.D[0]", int(v)))
		g.place(done)
	})
}

// toInt8 finds the largest magnitude as an integer, which orders NaN and infinities
// above all numbers.
func toInt8(g *gen) {
	q, d, s, x, n := g.arg("q"), g.arg("d"), g.arg("s"), g.arg("x"), g.arg("blocks")
	c127 := g.constant(127)
	least, inf := g.reg(), g.reg()
	g.ins("MOVD", "$0x0d800000", least) // 2⁻¹⁰⁰
	g.ins("MOVD", "$0x7f800000", inf)
	top, zero, none, store := g.label("block"), g.label("zero"), g.label("none"), g.label("store")
	g.place(top)
	g.scope(func() {
		v := g.vecs(8)
		g.loadVecs(v, 0, x)
		g.ins("ADD", "$128", x, x)
		m := g.vecs(4)
		g.op(fabs, m, v[:4], nil)
		g.scope(func() {
			t := g.vecs(4)
			g.op(fabs, t, v[4:], nil)
			g.op(umax, m, m, t)
		})
		g.op(umax, m[:2], m[:2], m[2:])
		g.op(umax, m[:1], m[:1], m[1:2])
		g.op(umaxv, m[:1], m[:1], nil)
		bits := g.reg()
		g.ins("FMOVS", m[0].f(), bits)
		scale, inv := g.vecs(1), g.vecs(1)
		g.ins("FDIVS", c127[0].f(), m[0].f(), scale[0].f())
		g.ins("FDIVS", m[0].f(), c127[0].f(), inv[0].f())
		g.ins("CMPW", least, bits)
		g.ins("BLO", zero)
		g.ins("CMPW", inf, bits)
		g.ins("BHS", none)
		for _, e := range v {
			g.element(fmulElement, e, e, inv[0], 0)
		}
		g.op(fcvtns, v, v, nil)
		sum := g.vecs(4)
		g.goOp("VADD", "S4", sum, v[:4], v[4:])
		g.goOp("VADD", "S4", sum[:2], sum[:2], sum[2:])
		g.goOp("VADD", "S4", sum[:1], sum[:1], sum[1:2])
		g.ins("VADDV", s4(sum[0]), sum[0])
		g.ins("FMOVS", sum[0].f(), mem(0, s))
		h, b := m, sum[1:3]
		for i := range h {
			g.op(xtnS, h[i:i+1], v[2*i:2*i+1], nil)
			g.op(xtn2S, h[i:i+1], v[2*i+1:2*i+2], nil)
		}
		for i := range b {
			g.op(xtnH, b[i:i+1], h[2*i:2*i+1], nil)
			g.op(xtn2H, b[i:i+1], h[2*i+1:2*i+2], nil)
		}
		g.storeVecs(b, 0, q)
		g.ins("JMP", store)
		g.place(zero)
		g.zero(scale)
		g.place(none)
		g.zero(b)
		g.storeVecs(b, 0, q)
		g.ins("MOVW", "ZR", mem(0, s))
		g.place(store)
		g.ins("FMOVS", scale[0].f(), mem(0, d))
	})
	g.ins("ADD", "$32", q, q)
	g.ins("ADD", "$4", d, d)
	g.ins("ADD", "$4", s, s)
	g.ins("SUBS", "$1", n, n)
	g.ins("BNE", top)
}

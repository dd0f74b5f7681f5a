package nn

import "math"

// Segment is one sequence of a packed batch: rows [Start,Start+N). With a cache,
// Past earlier rows of the same sequence lie in KV already.
type Segment struct {
	Start, N int
	Past     int
	KV       *KV // nil in training
}

// KV is the cache of one sequence in one block: the keys (after RoPE) and values
// of its rows, [capacity,K*E] each.
type KV struct{ K, V Mat }

// AttentionConfig says how rows attend to each other.
type AttentionConfig struct {
	NHeads   int     // H
	NKVHeads int     // K, divides H
	DHead    int     // E
	Scale    float32 // of the scores; 0: 1/√E
	Softcap  float32 // c > 0 turns a score s into c·tanh(s/c); 0: none
	Window   int     // a row sees that many rows of its sequence, itself the last; 0: all up to itself
}

// first returns the first row that row i of a sequence sees.
func (a *AttentionConfig) first(i int) int {
	if a.Window == 0 {
		return 0
	}
	return max(0, i-a.Window+1)
}

// scale is Scale or its default.
func (a *AttentionConfig) scale() float32 {
	if a.Scale != 0 {
		return a.Scale
	}
	return float32(1 / math.Sqrt(float64(a.DHead)))
}

// queryBlock is the number of query rows whose scores are held at a time: a worker's
// scratch is about queryBlock·(rows they see) floats, two or three times that backwards.
const queryBlock = 48

// Attention sets out to causal scaled dot-product attention inside every segment
// (Vaswani et al. 2017, arXiv:1706.03762v7, eq. 1), where H/K query heads share a
// key/value head (Ainslie et al. 2023, arXiv:2305.13245v3). For row i of a segment
// and head h, with g = ⌊h·K/H⌋ and j over the rows of the sequence with i−w < j ≤ i
// (w = Window; without one, all j ≤ i):
//
//	s[i,j]   = Scale·⟨q[i,h], k[j,g]⟩
//	s[i,j]   = c·tanh(s[i,j]/c)                        with c = Softcap > 0 only
//	p[i,j]   = exp(s[i,j])/Σ_j exp(s[i,j])
//	out[i,h] = Σ_j p[i,j]·v[j,g]
//
// The cap is that of Gemma 2 (Riviere et al. 2024, arXiv:2408.00118v3, section 2). Rows
// outside the window of a block of queries are neither read nor computed.
//
// out, q are [T,H*E]; k, v are [T,K*E]; q and k after RoPE. The rows k, v of a
// segment with a cache are first appended to it, at row Past. out must not
// overlap the inputs. Rows outside every segment are left alone. It panics if the
// shapes disagree or a cache is too small.
func Attention(c *Ctx, cfg *AttentionConfig, out, q, k, v Mat, segs []Segment) {
	checkAttention("Attention", cfg, q, k, v, segs)
	sameShape("Attention", "out", out, "q", q)
	type task struct{ seg, head, row int }
	var tasks []task
	for n, s := range segs {
		if s.KV != nil {
			for i := range s.N {
				copy(s.KV.K.Row(s.Past+i), k.Row(s.Start+i))
				copy(s.KV.V.Row(s.Past+i), v.Row(s.Start+i))
			}
		}
		for h := range cfg.NHeads {
			for i := 0; i < s.N; i += queryBlock {
				tasks = append(tasks, task{n, h, i})
			}
		}
	}
	group, dHead := cfg.NHeads/cfg.NKVHeads, cfg.DHead
	c.Par.For(len(tasks), func(n int) {
		s, h, i := &segs[tasks[n].seg], tasks[n].head, tasks[n].row
		rows := min(queryBlock, s.N-i)
		w := cfg.window(s.Past+i, rows)
		g := h / group
		var keys, vals Mat
		if s.KV != nil {
			keys, vals = s.KV.K.View(w.lo, w.n, g*dHead, dHead), s.KV.V.View(w.lo, w.n, g*dHead, dHead)
		} else {
			keys, vals = k.View(s.Start+w.lo, w.n, g*dHead, dHead), v.View(s.Start+w.lo, w.n, g*dHead, dHead)
		}
		o := out.View(s.Start+i, rows, h*dHead, dHead)

		buf := scratch(rows * (dHead + w.n + 1))
		defer scratchPool.Put(buf)
		rest := *buf
		qs, p, sums := take(&rest, rows, dHead), take(&rest, rows, w.n), rest
		scaleInto(c, qs, q.View(s.Start+i, rows, h*dHead, dHead), cfg.scale())
		w.expScores(c, p, Mat{}, sums, qs, keys)
		if rows <= fewRows {
			o.Zero()
			for r := range rows {
				c.K.AxpyRows(o.Row(r), p.Row(r), vals.Data, vals.Stride)
			}
		} else {
			c.K.Gemm(serial, o.Data, o.Stride, rows, dHead, w.n, operand(p), operand(vals), false)
		}
		for r, sum := range sums {
			c.K.Scale(o.Row(r), 1/sum)
		}
	})
}

// fewRows is how many query rows are not worth packing the values for a product.
const fewRows = 3

// AttentionBackward adds the gradients of the inputs of Attention (p is computed
// again from q and k, as in Dao et al. 2022, arXiv:2205.14135v2, appendix B.2):
//
//	dv[j,g] += Σ_h,i p[i,j]·dout[i,h]                      h over the heads that share g
//	dp[i,j]  = ⟨dout[i,h], v[j,g]⟩
//	ds[i,j]  = p[i,j]·(dp[i,j] − Σ_j' p[i,j']·dp[i,j'])
//	ds[i,j]  = ds[i,j]·(1 − tanh²(s[i,j]/c))               s before the cap, if there is one
//	dk[j,g] += Scale·Σ_h,i ds[i,j]·q[i,h]
//	dq[i,h] += Scale·Σ_j ds[i,j]·k[j,g]
//
// dq, dout, q are [T,H*E]; dk, dv, k, v are [T,K*E]. The gradients must not overlap
// each other or the inputs. The segments have no cache. It panics if the shapes disagree.
//
// A task is a segment and a key/value head, or where one of these would keep workers waiting,
// a block of queries and then a block of keys (see dividedBackward). No two share a sum, and
// either way every sum has the same order.
func AttentionBackward(c *Ctx, cfg *AttentionConfig, dq, dk, dv, dout, q, k, v Mat, segs []Segment) {
	checkAttention("AttentionBackward", cfg, q, k, v, segs)
	sameShape("AttentionBackward", "dq", dq, "q", q)
	sameShape("AttentionBackward", "dk", dk, "k", k)
	sameShape("AttentionBackward", "dv", dv, "v", v)
	sameShape("AttentionBackward", "dout", dout, "q", q)
	most, all := 0, 0 // pairs of a query and a key it sees, about: of a segment, of all
	for n, s := range segs {
		if s.KV != nil || s.Past != 0 {
			panicf("AttentionBackward: segment %d has a cache of %d rows", n, s.Past)
		}
		pairs := s.N * s.N
		if cfg.Window > 0 {
			pairs = s.N * min(s.N, cfg.Window)
		}
		most, all = max(most, pairs), all+pairs
	}
	g := attentionGrads{c, cfg, dq, dk, dv, dout, q, k, v}
	if w := c.Par.Workers(); w > 1 && 2*w*most > all*cfg.NKVHeads {
		g.dividedBackward(segs)
		return
	}
	group := cfg.NHeads / cfg.NKVHeads
	c.Par.For(len(segs)*cfg.NKVHeads, func(n int) {
		s, kv := &segs[n/cfg.NKVHeads], n%cfg.NKVHeads
		buf := scratch(0)
		defer scratchPool.Put(buf)
		for h := kv * group; h < (kv+1)*group; h++ {
			for i := 0; i < s.N; i += queryBlock {
				b := cfg.queryBlock(s, h, i)
				*buf = grow(*buf, b.size())
				b.take(*buf)
				g.queries(&b)
				g.keys(&b, b.w.lo, b.w.n)
			}
		}
	})
}

// dividedBackward is AttentionBackward by blocks of queries, some at a time.
func (g *attentionGrads) dividedBackward(segs []Segment) {
	some := make([]queryGrads, 0, 16*g.c.Par.Workers())
	for n := range segs {
		for h := range g.cfg.NHeads {
			for i := 0; i < segs[n].N; i += queryBlock {
				some = append(some, g.cfg.queryBlock(&segs[n], h, i))
				if len(some) == cap(some) {
					g.divided(some)
					some = some[:0]
				}
			}
		}
	}
	g.divided(some)
}

// divided computes some blocks of queries, each a task. Then it adds to dk and dv, a task for
// every block of keys, what they give it, in their order.
func (g *attentionGrads) divided(some []queryGrads) {
	size := 0
	for i := range some {
		size += some[i].size()
	}
	buf := scratchMat(1, size)
	defer matPool.Put(buf)
	rest := buf.Data
	for i := range some {
		rest = some[i].take(rest)
	}
	g.c.Par.For(len(some), func(i int) { g.queries(&some[i]) })

	const keyBlock = 128
	type task struct {
		from []queryGrads // those of a segment and a key/value head
		lo   int
	}
	var tasks []task
	for i := 0; i < len(some); {
		first := i
		lo, hi := some[i].w.lo, 0
		for ; i < len(some) && some[i].start == some[first].start && some[i].kv == some[first].kv; i++ {
			lo, hi = min(lo, some[i].w.lo), max(hi, some[i].w.lo+some[i].w.n)
		}
		for ; lo < hi; lo += keyBlock {
			tasks = append(tasks, task{some[first:i], lo})
		}
	}
	g.c.Par.For(len(tasks), func(n int) {
		for i := range tasks[n].from {
			b := &tasks[n].from[i]
			lo, hi := max(tasks[n].lo, b.w.lo), min(tasks[n].lo+keyBlock, b.w.lo+b.w.n)
			if lo < hi {
				g.keys(b, lo, hi-lo)
			}
		}
	})
}

// attentionGrads are the arguments of AttentionBackward.
type attentionGrads struct {
	c                         *Ctx
	cfg                       *AttentionConfig
	dq, dk, dv, dout, q, k, v Mat
}

// queryGrads is a block of query rows of a head, and what it gives to the keys and values it sees.
type queryGrads struct {
	start, rows int // the segment's first row; rows of the block
	head, kv    int
	cfg         *AttentionConfig
	w           window
	q           Mat // Scale·q [rows,E]
	p, ds       Mat // [rows,w.n]
}

// queryBlock returns the block of head h that begins at row i of a segment.
func (a *AttentionConfig) queryBlock(s *Segment, h, i int) queryGrads {
	rows := min(queryBlock, s.N-i)
	return queryGrads{start: s.Start, rows: rows, head: h, kv: h * a.NKVHeads / a.NHeads, cfg: a, w: a.window(i, rows)}
}

// size is how many numbers take takes.
func (b *queryGrads) size() int { return b.rows * (b.cfg.DHead + 2*b.w.n) }

// take lets the matrices of b be in buf and returns the rest of it.
func (b *queryGrads) take(buf []float32) []float32 {
	b.q, b.p, b.ds = take(&buf, b.rows, b.cfg.DHead), take(&buf, b.rows, b.w.n), take(&buf, b.rows, b.w.n)
	return buf
}

// ofQueries and ofKeys return the part of x that belongs to b's queries, and to n of its keys from
// row lo of the segment on.
func (b *queryGrads) ofQueries(x Mat) Mat {
	return x.View(b.start+b.w.at, b.rows, b.head*b.cfg.DHead, b.cfg.DHead)
}

func (b *queryGrads) ofKeys(x Mat, lo, n int) Mat {
	return x.View(b.start+lo, n, b.kv*b.cfg.DHead, b.cfg.DHead)
}

// queries sets the matrices of b and adds to its rows of dq.
func (g *attentionGrads) queries(b *queryGrads) {
	c, cfg, w, e := g.c, g.cfg, &b.w, g.cfg.DHead
	slopes := 0
	if cfg.Softcap > 0 {
		slopes = b.rows * w.n
	}
	buf := scratch(b.rows*(e+1) + slopes)
	defer scratchPool.Put(buf)
	rest := *buf
	dqs, sums, slope := take(&rest, b.rows, e), take(&rest, 1, b.rows).Data, Mat{}
	if cfg.Softcap > 0 {
		slope = take(&rest, b.rows, w.n)
	}
	do, keys, vals := b.ofQueries(g.dout), b.ofKeys(g.k, w.lo, w.n), b.ofKeys(g.v, w.lo, w.n)

	scaleInto(c, b.q, b.ofQueries(g.q), cfg.scale())
	w.expScores(c, b.p, slope, sums, b.q, keys)
	for r, sum := range sums {
		c.K.Scale(b.p.Row(r), 1/sum)
	}
	// out = p·v
	c.K.Gemm(serial, b.ds.Data, b.ds.Stride, b.rows, w.n, e, operand(do), transposed(vals), false)
	for r := range b.rows {
		// p = softmax(s); ds holds dp so far
		p, ds := w.of(b.p, r), w.of(b.ds, r)
		c.K.Mul(ds, p)
		c.K.Axpy(ds, -c.K.Sum(ds), p)
		// s = c·tanh(s/c)
		if cfg.Softcap > 0 {
			c.K.Mul(ds, w.of(slope, r))
		}
		w.clearOthers(b.ds, r)
	}
	// s = (Scale·q)·kᵀ
	c.K.Gemm(serial, dqs.Data, dqs.Stride, b.rows, e, w.n, operand(b.ds), operand(keys), false)
	dq := b.ofQueries(g.dq)
	for r := range b.rows {
		c.K.Axpy(dq.Row(r), cfg.scale(), dqs.Row(r))
	}
}

// keys adds to dk and dv, for n keys from row lo of the segment on, what b gives them.
func (g *attentionGrads) keys(b *queryGrads, lo, n int) {
	dk, dv, e := b.ofKeys(g.dk, lo, n), b.ofKeys(g.dv, lo, n), g.cfg.DHead
	p, ds := b.p.View(0, b.rows, lo-b.w.lo, n), b.ds.View(0, b.rows, lo-b.w.lo, n)
	// out = p·v
	g.c.K.Gemm(serial, dv.Data, dv.Stride, n, e, b.rows, transposed(p), operand(b.ofQueries(g.dout)), true)
	// s = (Scale·q)·kᵀ
	g.c.K.Gemm(serial, dk.Data, dk.Stride, n, e, b.rows, transposed(ds), operand(b.q), true)
}

// window is what a block of query rows sees, the first at row `at` of its sequence:
// n rows of the sequence from lo on, each of them a part.
type window struct {
	cfg       *AttentionConfig
	at, lo, n int
}

// window returns what rows rows from row at of a sequence see.
func (a *AttentionConfig) window(at, rows int) window {
	lo := a.first(at)
	return window{a, at, lo, at + rows - lo}
}

// part returns the columns [from,to) of the window that query row r sees.
func (w *window) part(r int) (from, to int) { return w.cfg.first(w.at+r) - w.lo, w.at + r + 1 - w.lo }

// of returns the part of row r of m that query row r sees.
func (w *window) of(m Mat, r int) []float32 {
	from, to := w.part(r)
	return m.Row(r)[from:to]
}

// clearOthers sets the rest of row r of m to 0.
func (w *window) clearOthers(m Mat, r int) {
	from, to := w.part(r)
	clear(m.Row(r)[:from])
	clear(m.Row(r)[to:])
}

// expScores sets p[r,j] = exp(s[r,j] − max_j s[r,j]) for the j that row r sees, s the
// scores, capped if they are to be, and 0 for the others; sums[r] to the row's sum; and
// slope, if it is a matrix, to the cap's derivative. q is scaled; p, slope are [rows,n].
func (w *window) expScores(c *Ctx, p, slope Mat, sums []float32, q, k Mat) {
	c.K.Gemm(serial, p.Data, p.Stride, p.Rows, p.Cols, q.Cols, operand(q), transposed(k), false)
	for r := range p.Rows {
		s := w.of(p, r)
		if w.cfg.Softcap > 0 {
			var d []float32
			if slope.Data != nil {
				d = w.of(slope, r)
			}
			softcap(s, d, w.cfg.Softcap)
		}
		sums[r] = c.K.ExpSub(s, s, c.K.Max(s))
		w.clearOthers(p, r)
	}
}

// Softcap sets x = c·tanh(x/c) and, unless slope has no Data, slope = 1 − tanh²(x/c), the
// factor of the gradient. Both are [T,N] without gaps.
func Softcap(c *Ctx, x, slope Mat, bound float32) {
	const piece = 4096
	c.Par.For((len(x.Data)+piece-1)/piece, func(i int) {
		lo, hi := i*piece, min(len(x.Data), (i+1)*piece)
		var d []float32
		if slope.Data != nil {
			d = slope.Data[lo:hi]
		}
		softcap(x.Data[lo:hi], d, bound)
	})
}

// softcap sets s = c·tanh(s/c) and, if d is not nil, d = 1 − tanh²(s/c).
func softcap(s, d []float32, c float32) {
	for j, v := range s {
		t := float32(math.Tanh(float64(v / c)))
		s[j] = c * t
		if d != nil {
			d[j] = 1 - t*t
		}
	}
}

// scaleInto sets dst = a·x.
func scaleInto(c *Ctx, dst, x Mat, a float32) {
	for r := range x.Rows {
		copy(dst.Row(r), x.Row(r))
		c.K.Scale(dst.Row(r), a)
	}
}

func checkAttention(op string, cfg *AttentionConfig, q, k, v Mat, segs []Segment) {
	h, kv, e := cfg.NHeads, cfg.NKVHeads, cfg.DHead
	if h < 1 || kv < 1 || h%kv != 0 || q.Cols != h*e || k.Cols != kv*e || q.Rows != k.Rows {
		panicf("%s: q is %v, k is %v, with %d heads on %d of %d", op, q, k, h, kv, e)
	}
	if cfg.Window < 0 || !(cfg.Softcap >= 0) {
		panicf("%s: window %d, softcap %g", op, cfg.Window, cfg.Softcap)
	}
	sameShape(op, "v", v, "k", k)
	for n, s := range segs {
		if s.Start < 0 || s.N < 0 || s.Start+s.N > q.Rows {
			panicf("%s: segment %d is rows %d+%d of %d", op, n, s.Start, s.N, q.Rows)
		}
		if s.Past < 0 || s.Past > 0 && s.KV == nil {
			panicf("%s: segment %d has %d earlier rows and no cache", op, n, s.Past)
		}
		if kv := s.KV; kv != nil && (kv.K.Cols != k.Cols || kv.V.Cols != k.Cols || min(kv.K.Rows, kv.V.Rows) < s.Past+s.N) {
			panicf("%s: segment %d has %d+%d rows of %d, its cache is %v and %v", op, n, s.Past, s.N, k.Cols, kv.K, kv.V)
		}
	}
}

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

// queryBlock is the number of query rows whose scores are held at a time: a worker's
// scratch is about queryBlock·(rows of the sequence) floats, twice that backwards.
const queryBlock = 48

// Attention sets out to causal scaled dot-product attention inside every segment
// (Vaswani et al. 2017, arXiv:1706.03762v7, eq. 1), where H/K query heads share a
// key/value head (Ainslie et al. 2023, arXiv:2305.13245v3). For row i of a segment
// and head h, with g = ⌊h·K/H⌋ and j over the rows of the sequence up to i itself:
//
//	s[i,j]   = ⟨q[i,h], k[j,g]⟩/√E
//	p[i,j]   = exp(s[i,j])/Σ_j exp(s[i,j])
//	out[i,h] = Σ_j p[i,j]·v[j,g]
//
// out, q are [T,H*E]; k, v are [T,K*E]; q and k after RoPE. The rows k, v of a
// segment with a cache are first appended to it, at row Past. out must not
// overlap the inputs. Rows outside every segment are left alone. It panics if the
// shapes disagree or a cache is too small.
func Attention(c *Ctx, out, q, k, v Mat, segs []Segment, nHeads, nKVHeads, dHead int) {
	checkAttention("Attention", q, k, v, segs, nHeads, nKVHeads, dHead)
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
		for h := range nHeads {
			for i := 0; i < s.N; i += queryBlock {
				tasks = append(tasks, task{n, h, i})
			}
		}
	}
	group := nHeads / nKVHeads
	c.Par.For(len(tasks), func(n int) {
		s, h, i := &segs[tasks[n].seg], tasks[n].head, tasks[n].row
		rows := min(queryBlock, s.N-i)
		g, seen := h/group, s.Past+i+rows
		var keys, vals Mat
		if s.KV != nil {
			keys, vals = s.KV.K.View(0, seen, g*dHead, dHead), s.KV.V.View(0, seen, g*dHead, dHead)
		} else {
			keys, vals = k.View(s.Start, seen, g*dHead, dHead), v.View(s.Start, seen, g*dHead, dHead)
		}
		o := out.View(s.Start+i, rows, h*dHead, dHead)

		buf := scratch(rows * (dHead + seen + 1))
		defer scratchPool.Put(buf)
		rest := *buf
		qs, p, sums := take(&rest, rows, dHead), take(&rest, rows, seen), rest
		scaleInto(c, qs, q.View(s.Start+i, rows, h*dHead, dHead), dHead)
		expScores(c, p, sums, qs, keys, s.Past+i)
		if rows <= fewRows {
			o.Zero()
			for r := range rows {
				c.K.AxpyRows(o.Row(r), p.Row(r), vals.Data, vals.Stride)
			}
		} else {
			c.K.Gemm(serial, o.Data, o.Stride, rows, dHead, seen, operand(p), operand(vals), false)
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
//	dk[j,g] += Σ_h,i ds[i,j]·q[i,h]/√E
//	dq[i,h] += Σ_j ds[i,j]·k[j,g]/√E
//
// dq, dout, q are [T,H*E]; dk, dv, k, v are [T,K*E]. The gradients must not overlap
// each other or the inputs. The segments have no cache. A task is a segment and a
// key/value head, so no two share a sum. It panics if the shapes disagree.
func AttentionBackward(c *Ctx, dq, dk, dv, dout, q, k, v Mat, segs []Segment, nHeads, nKVHeads, dHead int) {
	checkAttention("AttentionBackward", q, k, v, segs, nHeads, nKVHeads, dHead)
	sameShape("AttentionBackward", "dq", dq, "q", q)
	sameShape("AttentionBackward", "dk", dk, "k", k)
	sameShape("AttentionBackward", "dv", dv, "v", v)
	sameShape("AttentionBackward", "dout", dout, "q", q)
	for n, s := range segs {
		if s.KV != nil || s.Past != 0 {
			panicf("AttentionBackward: segment %d has a cache of %d rows", n, s.Past)
		}
	}
	group := nHeads / nKVHeads
	scale := invSqrt(dHead)
	c.Par.For(len(segs)*nKVHeads, func(n int) {
		s, g := &segs[n/nKVHeads], n%nKVHeads
		most := min(queryBlock, s.N)
		buf := scratch(most * (2*dHead + 2*s.N + 1))
		defer scratchPool.Put(buf)
		for h := g * group; h < (g+1)*group; h++ {
			for i := 0; i < s.N; i += queryBlock {
				rows := min(queryBlock, s.N-i)
				seen := i + rows
				rest := *buf
				qs, dqs := take(&rest, rows, dHead), take(&rest, rows, dHead)
				p, ds := take(&rest, rows, seen), take(&rest, rows, seen)
				sums := rest[:rows]
				keys, vals := k.View(s.Start, seen, g*dHead, dHead), v.View(s.Start, seen, g*dHead, dHead)
				dkeys, dvals := dk.View(s.Start, seen, g*dHead, dHead), dv.View(s.Start, seen, g*dHead, dHead)
				do := dout.View(s.Start+i, rows, h*dHead, dHead)
				dqi := dq.View(s.Start+i, rows, h*dHead, dHead)

				scaleInto(c, qs, q.View(s.Start+i, rows, h*dHead, dHead), dHead)
				expScores(c, p, sums, qs, keys, i)
				for r, sum := range sums {
					c.K.Scale(p.Row(r), 1/sum)
				}
				// out = p·v
				c.K.Gemm(serial, dvals.Data, dvals.Stride, seen, dHead, rows, transposed(p), operand(do), true)
				c.K.Gemm(serial, ds.Data, ds.Stride, rows, seen, dHead, operand(do), transposed(vals), false)
				// p = softmax(s); ds holds dp so far
				for r := range rows {
					pr, dsr := p.Row(r)[:i+r+1], ds.Row(r)[:i+r+1]
					c.K.Mul(dsr, pr)
					c.K.Axpy(dsr, -c.K.Sum(dsr), pr)
					clear(ds.Row(r)[i+r+1:])
				}
				// s = (q/√E)·kᵀ
				c.K.Gemm(serial, dkeys.Data, dkeys.Stride, seen, dHead, rows, transposed(ds), operand(qs), true)
				c.K.Gemm(serial, dqs.Data, dqs.Stride, rows, dHead, seen, operand(ds), operand(keys), false)
				for r := range rows {
					c.K.Axpy(dqi.Row(r), scale, dqs.Row(r))
				}
			}
		}
	})
}

// expScores sets p[r,j] = exp(⟨q[r],k[j]⟩ − max_j) for the j ≤ first+r that row r
// sees and 0 for the others, and sums[r] to the row's sum.
func expScores(c *Ctx, p Mat, sums []float32, q, k Mat, first int) {
	c.K.Gemm(serial, p.Data, p.Stride, p.Rows, p.Cols, q.Cols, operand(q), transposed(k), false)
	for r := range p.Rows {
		s := p.Row(r)[:first+r+1]
		sums[r] = c.K.ExpSub(s, s, c.K.Max(s))
		clear(p.Row(r)[first+r+1:])
	}
}

// scaleInto sets dst = x/√dHead.
func scaleInto(c *Ctx, dst, x Mat, dHead int) {
	for r := range x.Rows {
		copy(dst.Row(r), x.Row(r))
		c.K.Scale(dst.Row(r), invSqrt(dHead))
	}
}

func invSqrt(dHead int) float32 { return float32(1 / math.Sqrt(float64(dHead))) }

func checkAttention(op string, q, k, v Mat, segs []Segment, nHeads, nKVHeads, dHead int) {
	if nHeads < 1 || nKVHeads < 1 || nHeads%nKVHeads != 0 || q.Cols != nHeads*dHead || k.Cols != nKVHeads*dHead || q.Rows != k.Rows {
		panicf("%s: q is %v, k is %v, with %d heads on %d of %d", op, q, k, nHeads, nKVHeads, dHead)
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

package nn

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/guardcpu/guardcpu/engine/internal/par"
	"github.com/guardcpu/guardcpu/engine/internal/ref"
	"github.com/guardcpu/guardcpu/simd"
)

var nan = float32(math.NaN())

// segments returns the sequences whose first rows are in starts (and, last, the
// number of rows).
func segments(starts []int) []Segment {
	var segs []Segment
	for n := range len(starts) - 1 {
		segs = append(segs, Segment{Start: starts[n], N: starts[n+1] - starts[n]})
	}
	return segs
}

// refAttention returns cfg for the reference.
func refAttention(cfg AttentionConfig) ref.AttentionConfig {
	return ref.AttentionConfig{
		NHeads: cfg.NHeads, NKVHeads: cfg.NKVHeads,
		Scale: float64(cfg.Scale), Softcap: float64(cfg.Softcap), Window: cfg.Window,
	}
}

func TestAttention(t *testing.T) {
	for _, tt := range []struct {
		cfg    AttentionConfig
		starts []int
	}{
		{AttentionConfig{NHeads: 1, NKVHeads: 1, DHead: 4}, []int{0, 1}},
		{AttentionConfig{NHeads: 2, NKVHeads: 2, DHead: 5}, []int{0, 1, 4, 4, 9}},
		{AttentionConfig{NHeads: 4, NKVHeads: 2, DHead: 3}, []int{0, 3, 5}},
		{AttentionConfig{NHeads: 3, NKVHeads: 1, DHead: 4}, []int{0, 7}},
		// a block with a rest
		{AttentionConfig{NHeads: 2, NKVHeads: 1, DHead: 2}, []int{0, 3, queryBlock + 8}},
		// a whole block, few rows, a block and one row
		{AttentionConfig{NHeads: 1, NKVHeads: 1, DHead: 2}, []int{0, queryBlock, queryBlock + 2, 2*queryBlock + 3}},

		{AttentionConfig{NHeads: 2, NKVHeads: 1, DHead: 4, Scale: 0.3}, []int{0, 4, 9}},
		{AttentionConfig{NHeads: 2, NKVHeads: 1, DHead: 4, Softcap: 1.5}, []int{0, 4, 9}},
		{AttentionConfig{NHeads: 2, NKVHeads: 2, DHead: 4, Scale: 2, Softcap: 2.5, Window: 3}, []int{0, 1, 4, 4, 12}},
		{AttentionConfig{NHeads: 2, NKVHeads: 1, DHead: 3, Window: 1}, []int{0, 2, 7}},
		// windows shorter than a block, of one, longer, and longer than the sequence
		{AttentionConfig{NHeads: 1, NKVHeads: 1, DHead: 2, Window: 7}, []int{0, 5, 2*queryBlock + 6}},
		{AttentionConfig{NHeads: 1, NKVHeads: 1, DHead: 2, Window: queryBlock}, []int{0, 2*queryBlock + 1}},
		{AttentionConfig{NHeads: 1, NKVHeads: 1, DHead: 2, Softcap: 3, Window: queryBlock + 9}, []int{0, 2*queryBlock + 4, 2*queryBlock + 7}},
		{AttentionConfig{NHeads: 1, NKVHeads: 1, DHead: 2, Softcap: 3, Window: 1000}, []int{0, queryBlock + 4}},
	} {
		t.Run(fmt.Sprintf("%+v/starts=%v", tt.cfg, tt.starts), func(t *testing.T) {
			rng := newRand(8)
			cfg, rc := &tt.cfg, refAttention(tt.cfg)
			rows, nq, nk := tt.starts[len(tt.starts)-1], cfg.NHeads*cfg.DHead, cfg.NKVHeads*cfg.DHead
			q, k, v, dout := randMat(rng, rows, nq), randMat(rng, rows, nk), randMat(rng, rows, nk), randMat(rng, rows, nq)
			bq, bk, bv := randMat(rng, rows, nq), randMat(rng, rows, nk), randMat(rng, rows, nk)
			want := ref.Attention(rc, refMat(q), refMat(k), refMat(v), tt.starts).Flat()
			grads := ref.Gradient(func(xs [][]complex128) complex128 {
				return dot(ref.Attention(rc, ref.Reshape(xs[0], nq), ref.Reshape(xs[1], nk), ref.Reshape(xs[2], nk), tt.starts), f64Mat(dout))
			}, f64Mat(q), f64Mat(k), f64Mat(v))
			segs := segments(tt.starts)
			eachSet(t, func(t *testing.T, c *Ctx) [][]float32 {
				out := randMat(rng, rows, nq)
				Attention(c, cfg, out, q, k, v, segs)
				near(t, "out", want, flat(out))
				dq, dk, dv := clone(bq), clone(bk), clone(bv)
				AttentionBackward(c, cfg, dq, dk, dv, dout, q, k, v, segs)
				near(t, "dq", plus(f64Mat(bq), grads[0]), flat(dq))
				near(t, "dk", plus(f64Mat(bk), grads[1]), flat(dk))
				near(t, "dv", plus(f64Mat(bv), grads[2]), flat(dv))
				return [][]float32{flat(out), flat(dq), flat(dk), flat(dv)}
			})
		})
	}
}

// One worker takes whole heads, many divide them, several times over: the same bits.
func TestAttentionBackwardIsDividedExactly(t *testing.T) {
	for _, cfg := range []AttentionConfig{
		{NHeads: 9, NKVHeads: 1, DHead: 8},
		{NHeads: 6, NKVHeads: 2, DHead: 8, Softcap: 2, Window: 150},
	} {
		t.Run(fmt.Sprintf("%+v", cfg), func(t *testing.T) {
			rng := newRand(12)
			segs := segments([]int{0, 5, 420, 490})
			nq, nk := cfg.NHeads*cfg.DHead, cfg.NKVHeads*cfg.DHead
			q, k, v, dout := randMat(rng, 490, nq), randMat(rng, 490, nk), randMat(rng, 490, nk), randMat(rng, 490, nq)
			eachSet(t, func(t *testing.T, c *Ctx) [][]float32 {
				dq, dk, dv := zeroMat(490, nq), zeroMat(490, nk), zeroMat(490, nk)
				AttentionBackward(c, &cfg, dq, dk, dv, dout, q, k, v, segs)
				return [][]float32{flat(dq), flat(dk), flat(dv)}
			})
		})
	}
}

// Rows that come in pieces, with what came before in a cache, give what they give at
// once. What no row will see again is not read: it is NaN.
func TestAttentionCache(t *testing.T) {
	starts := []int{0, 61, 70}
	for _, cfg := range []AttentionConfig{
		{NHeads: 4, NKVHeads: 2, DHead: 6},
		{NHeads: 4, NKVHeads: 2, DHead: 6, Scale: 0.7, Softcap: 2, Window: 5},
		{NHeads: 4, NKVHeads: 2, DHead: 6, Window: 50},
	} {
		for _, piece := range []int{1, 2, 7, 60} {
			t.Run(fmt.Sprintf("%+v/piece=%d", cfg, piece), func(t *testing.T) {
				rng := newRand(9)
				nq, nk := cfg.NHeads*cfg.DHead, cfg.NKVHeads*cfg.DHead
				q, k, v := randMat(rng, 70, nq), randMat(rng, 70, nk), randMat(rng, 70, nk)
				want := ref.Attention(refAttention(cfg), refMat(q), refMat(k), refMat(v), starts)
				eachSet(t, func(t *testing.T, c *Ctx) [][]float32 {
					var all [][]float32
					kv := []*KV{
						{randMat(rng, 63, nk), randMat(rng, 63, nk)},
						{randMat(rng, 9, nk), randMat(rng, 9, nk)},
					}
					for done := 0; done < 61; done += piece {
						// The next rows of both sequences, one after the other, in a batch.
						var segs []Segment
						var from []int
						for n := range 2 {
							lo, hi := min(starts[n]+done, starts[n+1]), min(starts[n]+done+piece, starts[n+1])
							segs = append(segs, Segment{Start: len(from), N: hi - lo, Past: lo - starts[n], KV: kv[n]})
							for i := lo; i < hi; i++ {
								from = append(from, i)
							}
							if cfg.Window > 0 {
								for j := range lo - starts[n] - cfg.Window + 1 {
									kv[n].K.Row(j)[0], kv[n].V.Row(j)[0] = nan, nan
								}
							}
						}
						pick := func(m Mat) Mat {
							out := zeroMat(len(from), m.Cols)
							for r, i := range from {
								copy(out.Row(r), m.Row(i))
							}
							return out
						}
						out := randMat(rng, len(from), nq)
						Attention(c, &cfg, out, pick(q), pick(k), pick(v), segs)
						for r, i := range from {
							near(t, fmt.Sprintf("row %d", i), want[i], out.Row(r))
						}
						all = append(all, flat(out))
					}
					return all
				})
			})
		}
	}
}

func TestAttentionPanics(t *testing.T) {
	c, q, k := generic(), NewMat(4, 12), NewMat(4, 4)
	cfg := &AttentionConfig{NHeads: 3, NKVHeads: 1, DHead: 4}
	with := func(change func(*AttentionConfig)) func() {
		bad := *cfg
		change(&bad)
		return func() { Attention(c, &bad, q, q, k, k, nil) }
	}
	run := func(segs ...Segment) func() {
		return func() { Attention(c, cfg, NewMat(4, 12), q, k, k, segs) }
	}
	assert.PanicsWithValue(t, "nn: Attention: q is 4×12, k is 4×4, with 3 heads on 2 of 4", with(func(a *AttentionConfig) { a.NKVHeads = 2 }))
	assert.PanicsWithValue(t, "nn: Attention: window -1, softcap 0", with(func(a *AttentionConfig) { a.Window = -1 }))
	assert.PanicsWithValue(t, "nn: Attention: window 0, softcap NaN", with(func(a *AttentionConfig) { a.Softcap = nan }))
	assert.PanicsWithValue(t, "nn: Attention: v is 3×4, k is 4×4", func() { Attention(c, cfg, q, q, k, NewMat(3, 4), nil) })
	assert.PanicsWithValue(t, "nn: Attention: segment 1 is rows 3+2 of 4", run(Segment{N: 3}, Segment{Start: 3, N: 2}))
	assert.PanicsWithValue(t, "nn: Attention: segment 0 has 2 earlier rows and no cache", run(Segment{N: 3, Past: 2}))
	small := &KV{NewMat(4, 4), NewMat(4, 4)}
	assert.PanicsWithValue(t, "nn: Attention: segment 0 has 2+3 rows of 4, its cache is 4×4 and 4×4", run(Segment{N: 3, Past: 2, KV: small}))
	assert.PanicsWithValue(t, "nn: AttentionBackward: segment 0 has a cache of 1 rows", func() {
		AttentionBackward(c, cfg, q, k, k, q, q, k, k, []Segment{{N: 3, Past: 1, KV: small}})
	})
}

// BenchmarkAttention measures what is computed: 4 products forwards and 10 backwards
// of E multiplications for each pair of a query and a key it sees.
func BenchmarkAttention(b *testing.B) {
	const heads, dHead = 12, 64
	for _, tt := range []struct {
		name    string
		kvHeads int
		segs    []Segment
	}{
		{"8x64", heads, segments([]int{0, 64, 128, 192, 256, 320, 384, 448, 512})},
		{"1x512", heads, segments([]int{0, 512})},
		{"1x512/kv=1", 1, segments([]int{0, 512})},
	} {
		rng := newRand(10)
		cfg := &AttentionConfig{NHeads: heads, NKVHeads: tt.kvHeads, DHead: dHead}
		q, k, v := randMat(rng, 512, heads*dHead), randMat(rng, 512, tt.kvHeads*dHead), randMat(rng, 512, tt.kvHeads*dHead)
		dout, out := randMat(rng, 512, heads*dHead), zeroMat(512, heads*dHead)
		dq, dk, dv := clone(out), zeroMat(512, tt.kvHeads*dHead), zeroMat(512, tt.kvHeads*dHead)
		pairs := 0
		for _, s := range tt.segs {
			pairs += s.N * (s.N + 1) / 2
		}
		for _, workers := range []int{1, 2} {
			c := &Ctx{K: simd.Best(), Par: par.New(workers)}
			run := func(dir string, flops int, f func()) {
				b.Run(fmt.Sprintf("dir=%s/segments=%s/workers=%d", dir, tt.name, workers), func(b *testing.B) {
					for b.Loop() {
						f()
					}
					b.ReportMetric(float64(flops*pairs*heads*dHead)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				})
			}
			run("forward", 4, func() { Attention(c, cfg, out, q, k, v, tt.segs) })
			run("backward", 10, func() { AttentionBackward(c, cfg, dq, dk, dv, dout, q, k, v, tt.segs) })
		}
	}
	cfg := &AttentionConfig{NHeads: heads, NKVHeads: heads, DHead: dHead}
	for _, past := range []int{100, 1000} {
		b.Run(fmt.Sprintf("dir=decode/past=%d", past), func(b *testing.B) {
			c := &Ctx{K: simd.Best(), Par: par.New(1)}
			rng := newRand(11)
			kv := &KV{randMat(rng, past+1, heads*dHead), randMat(rng, past+1, heads*dHead)}
			q, out := randMat(rng, 1, heads*dHead), zeroMat(1, heads*dHead)
			k, v := clone(q), clone(q)
			segs := []Segment{{N: 1, Past: past, KV: kv}}
			for b.Loop() {
				Attention(c, cfg, out, q, k, v, segs)
			}
			b.ReportMetric(float64(4*(past+1)*heads*dHead)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

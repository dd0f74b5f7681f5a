package nn

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/internal/par"
	"github.com/guardcpu/guardcpu/engine/internal/ref"
	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/simd/simdtest"
)

// Two architectures, and one of everything that neither has.
var blockCases = []struct {
	name          string
	cfg           BlockConfig
	fused, biases bool
	normBias      bool
	local         bool
	rank          int
	noPreNorm     bool
}{
	{name: "llama", cfg: BlockConfig{
		AttentionConfig: AttentionConfig{NHeads: 4, NKVHeads: 2, DHead: 4}, DFF: 11, Eps: 1e-5,
		Rope: &Rope{Dim: 4, Base: 10000},
	}},
	{name: "llama with adapters", rank: 2, cfg: BlockConfig{
		AttentionConfig: AttentionConfig{NHeads: 2, NKVHeads: 1, DHead: 4}, DFF: 7, Eps: 1e-5,
		Rope: &Rope{Dim: 4, Base: 500000, Factors: []float32{1, 4}},
	}},
	{name: "phi2", fused: true, biases: true, normBias: true, cfg: BlockConfig{
		AttentionConfig: AttentionConfig{NHeads: 2, NKVHeads: 2, DHead: 6}, DFF: 13, Eps: 1e-5, Norm: NormLayer, FFN: FFNGELU, Parallel: true,
		Rope: &Rope{Dim: 4, Neox: true, Base: 10000},
	}},
	{name: "mixed", fused: true, biases: true, normBias: true, cfg: BlockConfig{
		AttentionConfig: AttentionConfig{NHeads: 3, NKVHeads: 1, DHead: 2}, DFF: 5, Eps: 1e-2, Norm: NormLayer, FFN: FFNSwiGLU,
	}},
	{name: "mixed parallel", biases: true, normBias: true, cfg: BlockConfig{
		AttentionConfig: AttentionConfig{NHeads: 2, NKVHeads: 1, DHead: 4}, DFF: 5, Eps: 1e-2, Norm: NormRMS, FFN: FFNSwiGLU, Parallel: true,
		Rope: &Rope{Dim: 4, Neox: true, Base: 10000, FreqScale: 0.5},
	}},
	{name: "gpt-neox", fused: true, biases: true, normBias: true, cfg: BlockConfig{
		AttentionConfig: AttentionConfig{NHeads: 2, NKVHeads: 2, DHead: 4}, DFF: 7, Eps: 1e-5, Norm: NormLayer, FFN: FFNGELU, Parallel: true, TwoNorms: true,
		Rope: &Rope{Dim: 2, Neox: true, Base: 10000},
	}},
	{name: "qwen3", cfg: BlockConfig{
		AttentionConfig: AttentionConfig{NHeads: 4, NKVHeads: 2, DHead: 6}, DFF: 7, Eps: 1e-5, QKNorm: QKNormHead,
		Rope: &Rope{Dim: 6, Neox: true, Base: 10000, Scale: 1.2},
	}},
	{name: "stablelm 2 12B", cfg: BlockConfig{
		AttentionConfig: AttentionConfig{NHeads: 4, NKVHeads: 2, DHead: 4}, DFF: 7, Eps: 1e-2, Norm: NormLayer, QKNorm: QKNormHeads, Parallel: true,
		Rope: &Rope{Dim: 2, Neox: true, Base: 10000},
	}},
	{name: "olmo2", noPreNorm: true, cfg: BlockConfig{
		AttentionConfig: AttentionConfig{NHeads: 4, NKVHeads: 2, DHead: 2}, DFF: 7, Eps: 1e-5, QKNorm: QKNormRow, PostNorms: true,
		Rope: &Rope{Dim: 2, Neox: true, Base: 10000},
	}},
	{name: "gemma", local: true, cfg: BlockConfig{
		AttentionConfig: AttentionConfig{NHeads: 2, NKVHeads: 1, DHead: 4, Softcap: 2, Window: 2}, DFF: 7, Eps: 1e-5, FFN: FFNGeGLU, QKNorm: QKNormHead, PostNorms: true,
		Rope: &Rope{Dim: 4, Neox: true, Base: 10000}, LocalRope: &Rope{Dim: 4, Neox: true, Base: 10},
	}},
	{name: "phi3 with adapters", fused: true, rank: 2, cfg: BlockConfig{
		AttentionConfig: AttentionConfig{NHeads: 2, NKVHeads: 1, DHead: 4}, DFF: 7, Eps: 1e-5,
		Rope: &Rope{Dim: 4, Neox: true, Base: 10000},
	}},
	{name: "experts", cfg: BlockConfig{
		AttentionConfig: AttentionConfig{NHeads: 2, NKVHeads: 1, DHead: 4}, FFN: FFNMoE, Eps: 1e-2,
		MoE: MoEConfig{NExperts: 4, NUsed: 2, DExpert: 5, Scale: 1},
	}},
	{name: "experts with adapters", rank: 2, cfg: BlockConfig{
		AttentionConfig: AttentionConfig{NHeads: 2, NKVHeads: 1, DHead: 4}, FFN: FFNMoE, Eps: 1e-2,
		MoE: MoEConfig{NExperts: 3, NUsed: 2, DExpert: 5, Scale: 2},
	}},
	{name: "local", local: true, cfg: BlockConfig{
		AttentionConfig: AttentionConfig{NHeads: 2, NKVHeads: 1, DHead: 4, Scale: 0.4, Softcap: 1.5, Window: 2}, DFF: 5, Eps: 1e-2,
		Rope: &Rope{Dim: 4, Neox: true, Base: 10000}, LocalRope: &Rope{Dim: 4, Neox: true, Base: 10},
	}},
	{name: "not local", cfg: BlockConfig{
		AttentionConfig: AttentionConfig{NHeads: 2, NKVHeads: 1, DHead: 4, Window: 2}, DFF: 5, Eps: 1e-2,
		Rope: &Rope{Dim: 4, Neox: true, Base: 10000}, LocalRope: &Rope{Dim: 4, Neox: true, Base: 10},
	}},
	{name: "local with the one RoPE", local: true, cfg: BlockConfig{
		AttentionConfig: AttentionConfig{NHeads: 2, NKVHeads: 1, DHead: 4, Window: 2}, DFF: 5, Eps: 1e-2,
		Rope: &Rope{Dim: 4, Neox: true, Base: 10000},
	}},
}

// newBlock returns a random block of width d.
func newBlock(d int, cfg BlockConfig, fused, biases, normBias bool, rank int) *Block {
	rng := newRand(14)
	matrix := func(name string, rows, cols int) *Param {
		p := newParam(rng, name, rows, cols)
		if rank > 0 {
			p.Adapter = newAdapter(rng, p, rank)
		}
		return p
	}
	bias := func(name string, n int, want bool) *Param {
		if !want {
			return nil
		}
		return newParam(rng, name, 1, n)
	}
	nq, nk := cfg.NHeads*cfg.DHead, cfg.NKVHeads*cfg.DHead
	b := &Block{
		AttnNorm: newParam(rng, "attn_norm", 1, d), AttnNormBias: bias("attn_norm.bias", d, normBias),
		O: matrix("o", d, nq), OBias: bias("o.bias", d, biases),
	}
	if cfg.FFN == FFNMoE {
		b.MoE = *newMoE(d, cfg.MoE, rank)
	} else {
		if fused && cfg.FFN.gated() {
			b.GateUp = matrix("gate_up", 2*cfg.DFF, d)
		} else {
			b.Up, b.UpBias = matrix("up", cfg.DFF, d), bias("up.bias", cfg.DFF, biases)
			if cfg.FFN.gated() {
				b.Gate, b.GateBias = matrix("gate", cfg.DFF, d), bias("gate.bias", cfg.DFF, biases)
			}
		}
		b.Down, b.DownBias = matrix("down", d, cfg.DFF), bias("down.bias", d, biases)
	}
	if fused {
		b.QKV, b.QKVBias = matrix("qkv", nq+2*nk, d), bias("qkv.bias", nq+2*nk, biases)
	} else {
		b.Q, b.QBias = matrix("q", nq, d), bias("q.bias", nq, biases)
		b.K, b.KBias = matrix("k", nk, d), bias("k.bias", nk, biases)
		b.V, b.VBias = matrix("v", nk, d), bias("v.bias", nk, biases)
	}
	switch cfg.QKNorm {
	case QKNormHead:
		b.QNorm, b.KNorm = newParam(rng, "q_norm", 1, cfg.DHead), newParam(rng, "k_norm", 1, cfg.DHead)
	case QKNormHeads, QKNormRow:
		b.QNorm, b.KNorm = newParam(rng, "q_norm", 1, nq), newParam(rng, "k_norm", 1, nk)
	}
	if cfg.PostNorms {
		b.AttnPostNorm, b.FFNPostNorm = newParam(rng, "attn_post_norm", 1, d), newParam(rng, "ffn_post_norm", 1, d)
	}
	if !cfg.Parallel || cfg.TwoNorms {
		b.FFNNorm, b.FFNNormBias = newParam(rng, "ffn_norm", 1, d), bias("ffn_norm.bias", d, normBias)
	}
	return b
}

// withAdapters returns the parameters of b and of its adapters.
func withAdapters(b *Block) []*Param {
	var all []*Param
	for _, p := range b.Params() {
		all = append(all, p)
		if p.Adapter != nil {
			all = append(all, p.Adapter.A, p.Adapter.B)
		}
	}
	return all
}

// refBlock returns b with the values of its parameters from vals.
func refBlock[N ref.Number](b *Block, cfg *BlockConfig, vals map[*Param][]N) *ref.Block[N] {
	affine := func(w, bias *Param) (a ref.Affine[N]) {
		if w != nil {
			a.W = ref.Reshape(vals[w], w.Cols)
			if ad := w.Adapter; ad != nil {
				a.W = ref.Adapted(a.W, ref.Reshape(vals[ad.A], ad.A.Cols), ref.Reshape(vals[ad.B], ad.B.Cols), float64(ad.Scale))
			}
		}
		if bias != nil {
			a.B = vals[bias]
		}
		return a
	}
	gain := func(w, bias *Param) (g ref.Gain[N]) {
		if w != nil {
			g.W = vals[w]
		}
		if bias != nil {
			g.B = vals[bias]
		}
		return g
	}
	var moe *ref.MoE[N]
	if b.MoE.Router != nil {
		moe = refMoE(&b.MoE, cfg.MoE, vals)
	}
	return &ref.Block[N]{
		Local:    b.Local,
		AttnNorm: gain(b.AttnNorm, b.AttnNormBias), FFNNorm: gain(b.FFNNorm, b.FFNNormBias),
		QKV: affine(b.QKV, b.QKVBias),
		Q:   affine(b.Q, b.QBias), K: affine(b.K, b.KBias), V: affine(b.V, b.VBias),
		QNorm: gain(b.QNorm, nil).W, KNorm: gain(b.KNorm, nil).W,
		O: affine(b.O, b.OBias), AttnPostNorm: gain(b.AttnPostNorm, nil), FFNPostNorm: gain(b.FFNPostNorm, nil),
		GateUp: affine(b.GateUp, nil), Gate: affine(b.Gate, b.GateBias), Up: affine(b.Up, b.UpBias), Down: affine(b.Down, b.DownBias), MoE: moe,
	}
}

func refConfig(cfg *BlockConfig) *ref.Config {
	return &ref.Config{
		AttentionConfig: refAttention(cfg.AttentionConfig), LayerNorm: cfg.Norm == NormLayer,
		Eps: float64(cfg.Eps), Parallel: cfg.Parallel, GELU: cfg.FFN == FFNGeGLU, QKWidth: qkWidth(cfg),
		Rope: refRope(cfg.Rope), LocalRope: refRope(cfg.LocalRope),
	}
}

func qkWidth(cfg *BlockConfig) int {
	if cfg.QKNorm == QKNormRow {
		return 0
	}
	return cfg.DHead
}

func refRope(r *Rope) *ref.Rope {
	if r == nil {
		return nil
	}
	out := &ref.Rope{Dim: r.Dim, Neox: r.Neox, Base: r.Base, FreqScale: r.FreqScale, Scale: r.Scale}
	if r.FreqScale == 0 {
		out.FreqScale = 1
	}
	if r.Factors != nil {
		out.Factors = f64(r.Factors)
	}
	return out
}

// positions returns each row's place in its sequence.
func positions(starts []int) []int32 {
	var pos []int32
	for n := range len(starts) - 1 {
		for i := range starts[n+1] - starts[n] {
			pos = append(pos, int32(i))
		}
	}
	return pos
}

func TestBlock(t *testing.T) {
	for _, tt := range blockCases {
		t.Run(tt.name, func(t *testing.T) {
			const d = 8
			cfg := tt.cfg
			cfg.DModel = d
			b := newBlock(d, cfg, tt.fused, tt.biases, tt.normBias, tt.rank)
			b.Local = tt.local
			if tt.noPreNorm {
				b.AttnNorm, b.FFNNorm = nil, nil
			}
			starts := []int{0, 3, 4, 8}
			rows, pos, segs := 8, positions(starts), segments(starts)
			rng := newRand(15)
			x, dy := randMat(rng, rows, d), randMat(rng, rows, d)

			params := withAdapters(b)
			vals := map[*Param][]float64{}
			inputs := [][]float64{f64Mat(x)}
			for _, p := range params {
				vals[p] = f64(p.F32)
				inputs = append(inputs, vals[p])
			}
			rc := refConfig(&cfg)
			want := refBlock(b, &cfg, vals).Of(rc, refMat(x), pos, starts).Flat()
			grads := ref.Gradient(func(xs [][]complex128) complex128 {
				vals := map[*Param][]complex128{}
				for i, p := range params {
					vals[p] = xs[i+1]
				}
				return dot(refBlock(b, &cfg, vals).Of(rc, ref.Reshape(xs[0], d), pos, starts), f64Mat(dy))
			}, inputs...)

			eachSet(t, func(t *testing.T, c *Ctx) [][]float32 {
				st := NewBlockState(cfg, 2) // grows
				y, dx := randMat(rng, rows, d), randMat(rng, rows, d)
				b.Forward(c, &cfg, st, y, x, pos, segs)
				near(t, "y", want, flat(y))

				form := newFormSink(t)
				b.Backward(c, &cfg, st, dx, dy, x, pos, segs, adapterSink{form, c})
				near(t, "dx", grads[0], flat(dx))
				out := [][]float32{flat(y), flat(dx)}
				for i, p := range params {
					near(t, "d"+p.Name, grads[i+1], form.of(p))
					out = append(out, form.of(p))
				}
				calls := map[*Param]int{}
				for _, p := range form.order {
					calls[p]++
				}
				for _, p := range params {
					assert.Equal(t, 1, calls[p], "calls of the sink for %s", p.Name)
				}
				assert.Len(t, calls, len(params))

				// Again, without a sink, and in the memory of dy.
				inPlace := clone(dy)
				b.Backward(c, &cfg, st, inPlace, inPlace, x, pos, segs, nil)
				assert.Equal(t, flat(dx), flat(inPlace), "dx may be dy")
				inPlace = clone(x)
				b.Forward(c, &cfg, st, inPlace, inPlace, pos, segs)
				assert.Equal(t, flat(y), flat(inPlace), "y may be x")

				// Some rows, in memory of their own and in that of x.
				for _, some := range [][]int{{0, 2, 3, 4, 7}, {5}} {
					var wantRows []float64
					for _, r := range some {
						wantRows = append(wantRows, want[r*d:(r+1)*d]...)
					}
					apart, inPlace := randMat(rng, len(some), d), clone(x)
					b.ForwardRows(c, &cfg, st, apart, x, pos, segs, some)
					near(t, "some rows", wantRows, flat(apart))
					b.ForwardRows(c, &cfg, st, inPlace.View(0, len(some), 0, d), inPlace, pos, segs, some)
					assert.Equal(t, flat(apart), flat(inPlace.View(0, len(some), 0, d)), "y may be the first rows of x")
					out = append(out, flat(apart))
				}
				return out
			})
		})
	}
}

// Sequences that come row by row, with caches, give what they give in one batch.
func TestBlockCache(t *testing.T) {
	for _, tt := range blockCases {
		t.Run(tt.name, func(t *testing.T) {
			const d = 8
			cfg := tt.cfg
			cfg.DModel = d
			b := newBlock(d, cfg, tt.fused, tt.biases, tt.normBias, tt.rank)
			b.Local = tt.local
			starts := []int{0, 3, 10}
			rng := newRand(16)
			x := randMat(rng, 10, d)
			simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
				c := &Ctx{K: k}
				whole := zeroMat(10, d)
				st := NewBlockState(cfg, 10)
				b.Forward(c, &cfg, st, whole, x, positions(starts), segments(starts))
				for n := range 2 {
					width := cfg.NKVHeads * cfg.DHead
					kv := &KV{NewMat(7, width), NewMat(7, width)}
					for i := starts[n]; i < starts[n+1]; i++ {
						past := i - starts[n]
						y := zeroMat(1, d)
						b.Forward(c, &cfg, st, y, x.View(i, 1, 0, d), []int32{int32(past)}, []Segment{{N: 1, Past: past, KV: kv}})
						near(t, fmt.Sprintf("row %d", i), f64(whole.Row(i)), y.Row(0))
					}
				}
			})
		})
	}
}

// Batches large enough to be divided in every layer: the workers change no bit.
func TestBlockWorkers(t *testing.T) {
	for _, tt := range blockCases {
		t.Run(tt.name, func(t *testing.T) {
			cfg := tt.cfg
			cfg.DModel, cfg.DHead, cfg.DFF = 64, 16, 96
			b := newBlock(64, cfg, tt.fused, tt.biases, tt.normBias, tt.rank)
			b.Local = tt.local
			starts := []int{0, 100, 107, 300}
			pos, segs := positions(starts), segments(starts)
			rng := newRand(17)
			x, dy := randMat(rng, 300, 64), randMat(rng, 300, 64)
			require.Greater(t, 300*64, grain, "the rows are divided")
			st := NewBlockState(cfg, 300)
			eachSet(t, func(t *testing.T, c *Ctx) [][]float32 {
				y, dx, form := zeroMat(300, 64), zeroMat(300, 64), newFormSink(t)
				b.Forward(c, &cfg, st, y, x, pos, segs)
				b.Backward(c, &cfg, st, dx, dy, x, pos, segs, firstRows{form})
				out := [][]float32{flat(y), flat(dx)}
				for _, p := range b.Params() {
					out = append(out, form.of(p))
				}
				return out
			})
		})
	}
}

// firstRows forms gradients from a few rows, for speed.
type firstRows struct{ *formSink }

func (s firstRows) Linear(p *Param, dy, x Mat) {
	s.formSink.Linear(p, dy.View(0, 5, 0, dy.Cols), x.View(0, 5, 0, x.Cols))
}

func TestBlockPanics(t *testing.T) {
	tt := blockCases[0]
	cfg := tt.cfg
	cfg.DModel = 8
	b := newBlock(8, cfg, false, false, false, 0)
	c, st := generic(), NewBlockState(cfg, 3)
	x, pos, segs := NewMat(2, 8), make([]int32, 2), []Segment{{N: 2}}
	assert.PanicsWithValue(t, "nn: Block.Forward: x is 2×7 with 2 positions, the model is 8 wide", func() {
		b.Forward(c, &cfg, st, x, NewMat(2, 7), pos, segs)
	})
	assert.PanicsWithValue(t, "nn: Block.Forward: y is 3×8, x is 2×8", func() { b.Forward(c, &cfg, st, NewMat(3, 8), x, pos, segs) })
	assert.PanicsWithValue(t, "nn: Block.ForwardRows: y is 2×8, want 1×8", func() { b.ForwardRows(c, &cfg, st, x, x, pos, segs, []int{1}) })
	assert.PanicsWithValue(t, "nn: Block.Backward: x is 2×8, the state has 3 rows", func() {
		b.Backward(c, &cfg, st, x, x, x, pos, segs, nil)
	})
	bad := cfg
	bad.FFN = 9
	assert.PanicsWithValue(t, "nn: Block.Forward: feed-forward kind 9 is not known", func() { b.Forward(c, &bad, st, x, x, pos, segs) })
}

// BenchmarkBlock measures one block on 512 rows of eight sequences. The sink takes the
// factors and drops them: the gradients of the weights are not in the figures.
func BenchmarkBlock(b *testing.B) {
	for _, d := range []int{192, 768} {
		for _, arch := range []string{"llama", "phi2"} {
			cfg := BlockConfig{AttentionConfig: AttentionConfig{NHeads: d / 64, NKVHeads: d / 64, DHead: 64}, DModel: d, DFF: 4 * d, Eps: 1e-5, Rope: &Rope{Dim: 64, Base: 10000}}
			blk := newBlock(d, cfg, false, false, false, 0)
			macs := 4*d*d + 3*d*cfg.DFF
			if arch == "phi2" {
				cfg.Norm, cfg.FFN, cfg.Parallel = NormLayer, FFNGELU, true
				cfg.Rope = &Rope{Dim: 32, Neox: true, Base: 10000}
				blk = newBlock(d, cfg, true, true, true, 0)
				macs = 4*d*d + 2*d*cfg.DFF
			}
			starts := []int{0, 64, 128, 192, 256, 320, 384, 448, 512}
			pos, segs := positions(starts), segments(starts)
			rng := newRand(18)
			x, dy := randMat(rng, 512, d), randMat(rng, 512, d)
			y, dx := zeroMat(512, d), zeroMat(512, d)
			for _, workers := range []int{1, 2} {
				c := &Ctx{K: simd.Best(), Par: par.New(workers)}
				st := NewBlockState(cfg, 512)
				run := func(dir string, f func()) {
					b.Run(fmt.Sprintf("dir=%s/arch=%s/d=%d/workers=%d", dir, arch, d, workers), func(b *testing.B) {
						blk.Forward(c, &cfg, st, y, x, pos, segs)
						b.ReportAllocs()
						for b.Loop() {
							f()
						}
						b.ReportMetric(float64(2*512*macs)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
					})
				}
				run("forward", func() { blk.Forward(c, &cfg, st, y, x, pos, segs) })
				run("backward", func() { blk.Backward(c, &cfg, st, dx, dy, x, pos, segs, nil) })
			}
		}
	}
}

package ref

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func random(rng *rand.Rand, n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = rng.NormFloat64()
	}
	return x
}

// The complex step gives the derivatives that are known in closed form to the last digits.
func TestGradient(t *testing.T) {
	x := []float64{0.3, -1.7, 4}
	for _, tt := range []struct {
		name string
		f    func(complex128) complex128
		df   func(float64) float64
	}{
		{"exp", exp[complex128], math.Exp},
		{"log(1+x²)", func(z complex128) complex128 { return log(1 + z*z) }, func(x float64) float64 { return 2 * x / (1 + x*x) }},
		{"sqrt(1+x²)", func(z complex128) complex128 { return sqrt(1 + z*z) }, func(x float64) float64 { return x / math.Sqrt(1+x*x) }},
		{"tanh", tanh[complex128], func(x float64) float64 { return 1 / math.Pow(math.Cosh(x), 2) }},
	} {
		grads := Gradient(func(xs [][]complex128) complex128 { return tt.f(xs[0][0]) + tt.f(xs[0][1]) + tt.f(xs[0][2]) }, x)
		for i, v := range x {
			assert.InEpsilon(t, tt.df(v), grads[0][i], 1e-13, "%s at %v", tt.name, v)
		}
	}
}

// Values that can be found by hand.
func TestLayersByHand(t *testing.T) {
	near := func(want, got []float64) {
		t.Helper()
		assert.InDeltaSlice(t, want, got, 1e-12)
	}
	x := Mat[float64]{{3, 4}}
	near([]float64{3, 4, 7, -1}, Linear(x, Mat[float64]{{1, 0}, {0, 1}, {1, 1}, {1, -1}})[0])
	near([]float64{3 + 2*4*5, 4}, Linear(x, Adapted(Mat[float64]{{1, 0}, {0, 1}}, Mat[float64]{{0, 1}}, Mat[float64]{{4}, {0}}, 2.5))[0])
	near([]float64{6, 12}, RMSNorm(Mat[float64]{{1, 1}}, []float64{6, 12}, 0)[0])
	near([]float64{3 / math.Sqrt(13.5), 4 / math.Sqrt(13.5)}, RMSNorm(x, []float64{1, 1}, 1)[0])
	near([]float64{-2 + 10, 3}, LayerNorm(x, []float64{2, 3}, []float64{10, 0}, 0)[0])
	near([]float64{-0.5 / math.Sqrt(1.25), 0.5 / math.Sqrt(1.25)}, LayerNorm(x, []float64{1, 1}, nil, 1)[0])
	near([]float64{1 / (1 + math.Exp(-1)) * 5, 0}, SwiGLU(Mat[float64]{{1, 0}}, Mat[float64]{{5, 9}})[0])
	// The published value of the tanh approximation at 1.
	assert.InDelta(t, 0.841192, GELU(Mat[float64]{{1}})[0][0], 1e-6)
	near([]float64{0.25, 0.75}, Softmax([]float64{1000, 1000 + math.Log(3)}))
	assert.Equal(t, []float64{3, 4, 5}, Mat[float64]{{3, 4}, {5}}.Flat())
	assert.InDelta(t, math.Log(4), NLL([]float64{1000, 1000 + math.Log(3)}, 0), 1e-12)
	assert.InDelta(t, 0.5*math.Log(2)+0.5*math.Log(2.0/3), KL([]float64{0, math.Log(3)}, []float64{7, 7}), 1e-12)
}

func TestRoPEByHand(t *testing.T) {
	x := Mat[float64]{{1, 0, 0, 1, 7}, {1, 0, 0, 1, 7}}
	c1, s1, c2, s2 := math.Cos(3), math.Sin(3), math.Cos(3*0.1), math.Sin(3*0.1)
	r := Rope{Dim: 4, Base: 100, FreqScale: 1}
	pos := []int32{0, 3}
	got := RoPE(x, 1, pos, r)
	assert.Equal(t, x[0], got[0], "position 0 turns nothing")
	assert.InDeltaSlice(t, []float64{c1, s1, -s2, c2, 7}, got[1], 1e-12)
	r.Neox = true
	assert.InDeltaSlice(t, []float64{c1, -s2, s1, c2, 7}, RoPE(x, 1, pos, r)[1], 1e-12)
	r.FreqScale, r.Factors = 2, []float64{2, 2}
	assert.InDeltaSlice(t, []float64{c1, -s2, s1, c2, 7}, RoPE(x, 1, pos, r)[1], 1e-12)
}

func TestAttentionByHand(t *testing.T) {
	// Two sequences of two rows, two query heads of width 1 on one key/value head.
	q := Mat[float64]{{5, 6}, {1, 0}, {0, 0}, {0, 0}}
	k := Mat[float64]{{0}, {math.Log(3)}, {9}, {9}}
	v := Mat[float64]{{4}, {8}, {1}, {3}}
	got := Attention(AttentionConfig{NHeads: 2, NKVHeads: 1}, q, k, v, []int{0, 2, 4})
	want := Mat[float64]{{4, 4}, {7, 6}, {1, 1}, {2, 2}}
	for i := range want {
		assert.InDeltaSlice(t, want[i], got[i], 1e-12, "row %d", i)
	}

	// One head: scores 2·3·atanh(½) capped at 3·tanh(2·atanh(½)) = 3·4/5, and 0.
	a := AttentionConfig{NHeads: 1, NKVHeads: 1, Scale: 2, Softcap: 3}
	q, k, v = Mat[float64]{{0}, {3}}, Mat[float64]{{0}, {math.Atanh(0.5)}}, Mat[float64]{{0}, {1}}
	assert.InDelta(t, 1/(1+math.Exp(-3*0.8)), Attention(a, q, k, v, []int{0, 2})[1][0], 1e-12)

	// Equal scores in a window of 2 rows, cut off at the sequence's first row.
	ones := Mat[float64]{{0}, {0}, {0}, {0}}
	got = Attention(AttentionConfig{NHeads: 1, NKVHeads: 1, Window: 2}, ones, ones, Mat[float64]{{1}, {3}, {7}, {9}}, []int{0, 3, 4})
	assert.Equal(t, Mat[float64]{{1}, {2}, {5}, {9}}, got)
}

func model[N Number](cfg Config, tied bool, xs []N) *Model[N] {
	const d, nHeads, nKV, dHead, ff, vocab = 4, 2, 1, 2, 3, 5
	rest := xs
	next := func(n int) []N {
		x := rest[:n:n]
		rest = rest[n:]
		return x
	}
	affine := func(rows, cols int) Affine[N] { return Affine[N]{W: Reshape(next(rows*cols), cols), B: next(rows)} }
	m := &Model[N]{Config: cfg, Embed: Reshape(next(vocab*d), d)}
	for range 2 {
		b := Block[N]{AttnNorm: Gain[N]{next(d), next(d)}, O: affine(d, nHeads*dHead), Up: affine(ff, d), Down: affine(d, ff)}
		if cfg.Parallel {
			b.QKV = affine((nHeads+2*nKV)*dHead, d)
		} else {
			b.Q, b.K, b.V = affine(nHeads*dHead, d), affine(nKV*dHead, d), affine(nKV*dHead, d)
			b.FFNNorm = Gain[N]{next(d), nil}
		}
		if !cfg.GELU {
			b.Gate = affine(ff, d)
		}
		m.Blocks = append(m.Blocks, b)
	}
	m.OutNorm = Gain[N]{next(d), nil}
	if !tied {
		m.Output = affine(vocab, d)
	}
	return m
}

// The complex and the real model agree, and the complex step agrees with central
// differences as far as these go.
func TestModel(t *testing.T) {
	for name, cfg := range map[string]Config{
		"llama": {AttentionConfig: AttentionConfig{NHeads: 2, NKVHeads: 1}, Eps: 1e-2, Rope: &Rope{Dim: 2, Base: 100, FreqScale: 1}},
		"phi2":  {AttentionConfig: AttentionConfig{NHeads: 2, NKVHeads: 1}, Eps: 1e-2, Rope: &Rope{Dim: 2, Base: 100, FreqScale: 1, Neox: true}, LayerNorm: true, Parallel: true, GELU: true},
	} {
		for _, tied := range []bool{false, true} {
			x := random(rand.New(rand.NewPCG(1, 1)), 400)
			ids, starts := []int32{0, 4, 2, 2, 1}, []int{0, 2, 5}
			targets := []Target{{0, 4, 0.5}, {2, 1, -2}, {3, 0, 1}}
			loss := func(x []float64) float64 { return model(cfg, tied, x).Loss(ids, starts, targets) }
			grad := Gradient(func(xs [][]complex128) complex128 {
				l := model(cfg, tied, xs[0]).Loss(ids, starts, targets)
				require.InDelta(t, loss(x), real(l), 1e-12)
				return l
			}, x)[0]
			moved := 0
			for i, g := range grad {
				const h = 1e-5
				old := x[i]
				x[i] = old + h
				up := loss(x)
				x[i] = old - h
				down := loss(x)
				x[i] = old
				require.InDelta(t, (up-down)/(2*h), g, 1e-6, "%s tied=%v: %d", name, tied, i)
				if g != 0 {
					moved++
				}
			}
			assert.Greater(t, moved, 150, "%s: most parameters matter", name)

			// A later row and another sequence do not matter to a row.
			logits := model(cfg, tied, x).Logits(ids, starts)
			alone := model(cfg, tied, x).Logits(ids[2:4], []int{0, 2})
			for i := range alone {
				assert.InDeltaSlice(t, logits[2+i], alone[i], 1e-12)
			}
		}
	}
}

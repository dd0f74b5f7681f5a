package guard

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
)

var archs = []string{"llama", "phi2"}

// open returns a tiny model that is trained in full.
func open(t testing.TB, arch string, threads int) *engine.Model {
	t.Helper()
	m := tiny.Open(t, tiny.Shape(arch), engine.Options{Threads: threads})
	m.TrainFull()
	return m
}

// openLoRA returns a tiny model with adapters, B moved off zero.
func openLoRA(t testing.TB, arch string) *engine.Model {
	t.Helper()
	m := tiny.Open(t, tiny.Shape(arch), engine.Options{Threads: 2})
	adapt(t, m)
	return m
}

// adapt gives m adapters, B moved off zero.
func adapt(t testing.TB, m *engine.Model) {
	t.Helper()
	require.NoError(t, m.TrainLoRA(engine.LoRAOptions{Rank: 3, Alpha: 6, Targets: []string{"blk.*.weight"}, Seed: 1}))
	rng := rand.New(rand.NewPCG(4, 4))
	for _, p := range m.Trainable() {
		for i := range p.F32 {
			p.F32[i] += float32(0.1 * rng.NormFloat64())
		}
	}
}

// theta returns all trainable weights, one after the other.
func theta(m *engine.Model) []float32 {
	var w []float32
	for _, p := range m.Trainable() {
		w = append(w, p.F32...)
	}
	return w
}

// move sets the trainable weights to float32(from + step·dir) and returns the step that was
// really taken, in float64.
func move(m *engine.Model, from []float32, step float64, dir []float64) []float64 {
	taken := make([]float64, len(from))
	k := 0
	for _, p := range m.Trainable() {
		for i := range p.F32 {
			p.F32[i] = float32(float64(from[k]) + step*dir[k])
			taken[k] = float64(p.F32[i]) - float64(from[k])
			k++
		}
	}
	return taken
}

// gradient returns Σ_terms ∂/∂θ as one explicit vector in float64.
func gradient(m *engine.Model, terms []Term) []float64 {
	g := engine.NewGrads(m)
	for _, term := range terms {
		t := m.NewTrace()
		t.Forward(term.Samples)
		rows, f := term.Loss(t)
		t.Backward(rows, f, engine.NewAccumulate(g))
	}
	var out []float64
	for _, p := range g.Params() {
		for _, v := range g.Of(p) {
			out = append(out, float64(v))
		}
	}
	return out
}

// objective returns Σ_terms Σ_rows coef·loss in float64.
func objective(m *engine.Model, terms []Term) float64 {
	total := 0.0
	for _, term := range terms {
		t := m.NewTrace()
		t.Forward(term.Samples)
		rows, f := term.Loss(t)
		for r, l := range t.Losses(rows, f) {
			total += float64(term.Coef[r]) * l
		}
	}
	return total
}

// sampleGradient returns the gradient of one sample's loss, formed explicitly.
func sampleGradient(m *engine.Model, s engine.Sample, l TokenLoss) []float64 {
	return gradient(m, []Term{nllTerm("", []engine.Sample{s}, nil, l.coef(s))})
}

func norm(x []float64) float64 { return math.Sqrt(dot(x, x)) }

// nlls returns the summed nll of each sample.
func nlls(t testing.TB, m *engine.Model, samples []engine.Sample) []float64 {
	t.Helper()
	res, err := m.NLL(context.Background(), samples, nil)
	require.NoError(t, err)
	out := make([]float64, len(res))
	for i, r := range res {
		out[i] = r.Sum
	}
	return out
}

// meanLoss returns the mean over samples of l.
func meanLoss(t testing.TB, m *engine.Model, samples []engine.Sample, l TokenLoss) float64 {
	t.Helper()
	total := 0.0
	for i, v := range nlls(t, m, samples) {
		total += v * l.coef(samples[i])
	}
	return total / float64(len(samples))
}

// distributions returns log p of every position of a sample, in float64.
func distributions(m *engine.Model, s engine.Sample) [][]float64 {
	t := m.NewTrace()
	t.Forward([]engine.Sample{s})
	rows := make([]int, len(s.IDs))
	for i := range rows {
		rows[i] = i
	}
	out := make([][]float64, len(rows))
	t.Losses(rows, func(c *engine.Chunk) {
		c.Each(func(i int, logits []float32) float64 {
			z := 0.0
			for _, v := range logits {
				z += math.Exp(float64(v))
			}
			out[i] = make([]float64, len(logits))
			for v := range logits {
				out[i][v] = float64(logits[v]) - math.Log(z)
			}
			return 0
		})
	})
	return out
}

// refusal is a made-up answer k to the question of sample s.
func refusal(s engine.Sample, k int) engine.Sample {
	var out engine.Sample
	for i, id := range s.IDs {
		if i > 0 && s.Mask[i] {
			break
		}
		out.IDs, out.Mask = append(out.IDs, id), append(out.Mask, false)
	}
	rng := rand.New(rand.NewPCG(uint64(k), 77))
	for range 2 + k%3 {
		out.IDs, out.Mask = append(out.IDs, int32(3+rng.IntN(tiny.NVocab-3))), append(out.Mask, true)
	}
	return out
}

// data is a small unlearning problem.
func data(nForget, nRetain int) Data {
	all := tiny.Samples(nForget+nRetain, 14, 21)
	d := Data{Forget: all[:nForget], Retain: all[nForget:], NIdk: 5}
	d.Idk = func(i, k int) (engine.Sample, error) { return refusal(d.Forget[i], k), nil }
	return d
}

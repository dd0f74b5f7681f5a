package engine_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/engine/nn"
)

// benchShapes are the smaller shapes of guardcpu bench, tied and with 32,000 tokens.
var benchShapes = []struct {
	name                     string
	width, layers, heads, ff int
}{
	{"15M", 288, 6, 6, 768},
	{"110M", 768, 12, 12, 2048},
}

// benchSamples returns n samples of length tokens that all count.
func benchSamples(n, length, nVocab int) []engine.Sample {
	out := make([]engine.Sample, n)
	for i := range out {
		s := engine.Sample{IDs: make([]int32, length), Mask: make([]bool, length)}
		for t := range s.IDs {
			s.IDs[t], s.Mask[t] = int32((i*7919+t*104729+1)%nVocab), true
		}
		out[i] = s
	}
	return out
}

// discard is a sink that takes the factors of the gradients and drops them.
type discard struct{}

func (discard) Linear(*nn.Param, nn.Mat, nn.Mat) {}
func (discard) Gain(*nn.Param, nn.Mat, nn.Mat)   {}
func (discard) Bias(*nn.Param, nn.Mat)           {}
func (discard) Rows(*nn.Param, []int32, nn.Mat)  {}

// BenchmarkStep measures the parts of training and attribution on packed batches, in
// tokens/s and in GFLOP/s counted as 2·P a token forwards and 6·P with the backward pass
// and a sink's products. P is the number of parameters without the norms; what Keep
// allows is not computed again.
//
//	nll       logits and losses without a gradient
//	backward  forward and backward, the sink dropping the factors: 4·P
//	grads     forward and backward into Accumulate
//	dot       forward and backward into Dot, as the second pass of attribution
//	adamw     a step of the trainer
func BenchmarkStep(b *testing.B) {
	for _, shape := range benchShapes {
		s := tiny.Shape("llama")
		s.NVocab, s.DModel, s.NLayers, s.NHeads, s.NKVHeads, s.DFF = 32000, shape.width, shape.layers, shape.heads, shape.heads, shape.ff
		s.NCtx, s.Std = 2048, 0.02
		p := s.NVocab*s.DModel + s.NLayers*(4*s.DModel*s.DModel+3*s.DModel*s.DFF)
		b.Run("model="+shape.name, func(b *testing.B) {
			if testing.Short() && shape.width > 288 {
				b.Skip("minutes")
			}
			path := tiny.Path(b, s)
			for _, batch := range [][2]int{{8, 64}, {4, 128}, {1, 512}} {
				samples := benchSamples(batch[0], batch[1], s.NVocab)
				for _, part := range benchParts {
					for _, workers := range []int{1, 2} {
						name := fmt.Sprintf("batch=%dx%d/part=%s/workers=%d", batch[0], batch[1], part.name, workers)
						b.Run(name, func(b *testing.B) {
							m, err := engine.Open(path, engine.Options{Threads: workers})
							require.NoError(b, err)
							defer m.Close()
							m.TrainFull()
							run := part.setup(b, m, samples)
							run() // its memory grows once
							b.ReportAllocs()
							for b.Loop() {
								run()
							}
							rate := float64(b.N*batch[0]*batch[1]) / b.Elapsed().Seconds()
							b.ReportMetric(rate, "tok/s")
							b.ReportMetric(rate*float64(part.perParam*p)/1e9, "GFLOP/s")
						})
					}
				}
			}
		})
	}
}

// benchParts are the parts of BenchmarkStep and their operations for each parameter and token.
var benchParts = []struct {
	name     string
	perParam int
	setup    func(b *testing.B, m *engine.Model, samples []engine.Sample) func()
}{
	{"nll", 2, func(b *testing.B, m *engine.Model, samples []engine.Sample) func() {
		return func() {
			_, err := m.NLL(context.Background(), samples, nil)
			require.NoError(b, err)
		}
	}},
	{"backward", 4, func(_ *testing.B, m *engine.Model, samples []engine.Sample) func() {
		return benchPass(m, samples, func() nn.Sink { return discard{} })
	}},
	{"grads", 6, func(_ *testing.B, m *engine.Model, samples []engine.Sample) func() {
		g := engine.NewGrads(m)
		return benchPass(m, samples, func() nn.Sink {
			g.Zero()
			return engine.NewAccumulate(g)
		})
	}},
	{"dot", 6, func(_ *testing.B, m *engine.Model, samples []engine.Sample) func() {
		g := engine.NewGrads(m)
		return benchPass(m, samples, func() nn.Sink { return engine.NewDot(g, len(samples)) })
	}},
	{"adamw", 6, benchSteps("adamw")},
	{"adafactor", 6, benchSteps("adafactor")},
	{"fused", 6, func(b *testing.B, m *engine.Model, samples []engine.Sample) func() {
		m.TrainFused(1)
		return benchSteps("adafactor")(b, m, samples)
	}},
}

// benchSteps returns the setup of optimizer steps.
func benchSteps(optimizer string) func(b *testing.B, m *engine.Model, samples []engine.Sample) func() {
	return func(b *testing.B, m *engine.Model, samples []engine.Sample) func() {
		o := engine.DefaultTrainOptions()
		o.Optimizer, o.Steps = optimizer, 1<<30
		tr, err := engine.NewTrainer(m, o)
		require.NoError(b, err)
		return func() {
			_, err := tr.Step([]engine.Term{engine.MeanNLL("bench", samples)})
			require.NoError(b, err)
		}
	}
}

// benchPass returns one forward and backward pass into the sink that begin gives.
func benchPass(m *engine.Model, samples []engine.Sample, begin func() nn.Sink) func() {
	t := m.NewTrace()
	return func() {
		s := begin()
		t.Forward(samples)
		rows, f := engine.MeanNLL("bench", samples).Loss(t)
		t.Backward(rows, f, s)
	}
}

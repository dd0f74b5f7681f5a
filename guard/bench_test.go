package guard

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
)

// benchModel has 1.2 million parameters, enough for the matrix products to count.
func benchModel(b *testing.B, workers int) *engine.Model {
	s := tiny.Shape("llama")
	s.DModel, s.NLayers, s.NHeads, s.NKVHeads, s.DFF, s.Std = 128, 6, 8, 4, 384, 0.05
	m := tiny.Open(b, s, engine.Options{Threads: workers})
	m.TrainFull()
	return m
}

// tokens per second over both passes of attribution.
func BenchmarkAttribute(b *testing.B) {
	samples := tiny.Samples(96, 100, 1)
	tokens := 0
	for _, s := range samples {
		tokens += len(s.IDs)
	}
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("model=1.2M/workers=%d", workers), func(b *testing.B) {
			m := benchModel(b, workers)
			n := 0
			for b.Loop() {
				_, err := Attribute(context.Background(), m, samples[32:], samples[:32], DefaultScoreOptions(), nil)
				require.NoError(b, err)
				n += tokens
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "tok/s")
		})
	}
}

// tokens per second of unlearning, forget and retain samples together.
func BenchmarkUnlearn(b *testing.B) {
	samples := tiny.Samples(96, 100, 1)
	d := Data{Forget: samples[:32], Retain: samples[32:], NIdk: 1}
	d.Idk = func(i, k int) (engine.Sample, error) { return refusal(d.Forget[i], k), nil }
	for _, l := range Losses {
		b.Run("model=1.2M/workers=2/loss="+l.Name, func(b *testing.B) {
			m := benchModel(b, 2)
			o := DefaultOptions()
			o.Loss, o.Epochs, o.Batch = l.Name, 1, 16
			n := 0
			for b.Loop() {
				h, err := Unlearn(context.Background(), m, d, o, Hooks{})
				require.NoError(b, err)
				for _, s := range h.Steps {
					n += s.Tokens
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "tok/s")
		})
	}
}

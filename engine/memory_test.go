package engine_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
)

// heap returns the bytes of the heap that are in use.
func heap() float64 {
	runtime.GC()
	runtime.GC() // of pools, what was used last survives one
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return float64(s.HeapAlloc)
}

// What is said of training in advance is what is on the heap after a step, in every mode, with
// few insides of blocks kept and with all, tied and untied.
func TestTrainingBuffersAreWhatIsHeld(t *testing.T) {
	lora := engine.LoRAOptions{Rank: 16, Alpha: 16, Targets: []string{"blk.*.weight"}}
	full := func(m *engine.Model) error { m.TrainFull(); return nil }
	fused := func(m *engine.Model) error { m.TrainFused(1); return nil }
	for _, c := range []struct {
		name, optimizer string
		tied            bool
		keep            int
		train           func(m *engine.Model) error
	}{
		{"full", "adamw", true, 1 << 30, full},
		{"full", "adafactor", false, 1, full},
		{"fused", "adafactor", true, 1, fused},
		{"fused", "sgd", false, 1 << 30, fused},
		{"lora", "adamw", true, 1 << 30, func(m *engine.Model) error { return m.TrainLoRA(lora) }},
	} {
		s := tiny.Shape("llama")
		s.NVocab, s.DModel, s.DFF, s.NLayers, s.NCtx, s.Tied = 3000, 192, 512, 5, 512, c.tied
		m := tiny.Open(t, s, engine.Options{Threads: 2})
		samples := tiny.Samples(8, 200, 1)
		o := engine.DefaultTrainOptions()
		o.Optimizer, o.Keep, o.Steps = c.optimizer, c.keep, 10
		var said []engine.Buffer
		var err error
		switch c.name {
		case "full":
			said = m.FullBuffers(o)
		case "fused":
			said = m.FusedBuffers(o)
		default:
			said, err = m.LoRABuffers(lora, o)
			require.NoError(t, err)
		}
		said = append(said, m.TraceBuffersWithin(c.keep, engine.Size(samples), 0)...)

		before := heap()
		require.NoError(t, c.train(m))
		tr, err := engine.NewTrainer(m, o)
		require.NoError(t, err)
		_, err = tr.Step([]engine.Term{engine.MeanNLL("a", samples)})
		require.NoError(t, err)
		runtime.GC() // once: pools have what they held
		var after runtime.MemStats
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(tr)
		is, want := float64(after.HeapAlloc)-before, float64(engine.Sum(said))
		assert.Greater(t, is, 0.9*want, "%+v", c)
		// Panels of products, at most a quarter of the last cache for each factor, and scratch of
		// workers are in no buffer.
		assert.Less(t, is, 1.05*want+16<<20, "%+v", c)
	}
}

// With what LimitWeights leaves at least and what is kept, the sums are those of a model's own functions.
func TestMemoryOfAModel(t *testing.T) {
	for _, arch := range tiny.Names() {
		m := tiny.Open(t, tiny.Shape(arch), engine.Options{Threads: 1})
		c := &m.Config
		assert.LessOrEqual(t, m.LeastWeights(), m.MappedWeights(), arch)
		assert.Equal(t, c.NLayers-1, m.Recomputed(0, 10), arch)
		assert.Equal(t, 0, m.Recomputed(c.NLayers*c.StateBytes(10), 10), arch)
		assert.LessOrEqual(t, m.LeastGradient(), 4*uint64(m.NParams()), arch)
		full := m.FullBuffers(engine.TrainOptions{Optimizer: "sgd"})
		assert.Equal(t, 4*uint64(m.NParams()), full[1].Bytes, arch)
	}
}

// The steps that a fine-tuning will have are known before it begins.
func TestStepSizes(t *testing.T) {
	m := tiny.Open(t, tiny.Shape("llama"), engine.Options{Threads: 1})
	m.TrainFull()
	samples := tiny.Samples(7, 20, 3)
	o := engine.DefaultFinetuneOptions()
	o.Epochs, o.Batch, o.Seed = 2, 3, 5
	said := o.StepSizes(samples)
	var tokens []int
	require.NoError(t, engine.Finetune(t.Context(), m, samples, o, engine.FinetuneHooks{Step: func(s engine.FinetuneStep) error {
		tokens = append(tokens, s.Tokens)
		return nil
	}}))
	require.Len(t, tokens, len(said))
	for i, n := range tokens {
		assert.Equal(t, n, said[i].Rows, i)
	}
}

// The first blocks of a model are a model: with all of them, the same.
func TestFirst(t *testing.T) {
	samples := tiny.Samples(3, 20, 2)
	for _, arch := range tiny.Names() {
		m, err := engine.Open(tiny.Path(t, tiny.Shape(arch)), engine.Options{Threads: 1})
		require.NoError(t, err)
		defer m.Close()
		want, err := m.NLL(t.Context(), samples, nil)
		require.NoError(t, err)
		all, err := m.First(m.Config.NLayers)
		require.NoError(t, err)
		got, err := all.NLL(t.Context(), samples, nil)
		require.NoError(t, err)
		assert.Equal(t, want, got, arch)
		one, err := m.First(1)
		require.NoError(t, err)
		got, err = one.NLL(t.Context(), samples, nil)
		require.NoError(t, err)
		assert.NotEqual(t, want, got, arch)
		assert.Less(t, one.NParams(), m.NParams(), arch)
		one.TrainFull() // changes nothing of m
		for _, p := range one.Params() {
			clear(p.F32)
		}
		again, err := m.NLL(t.Context(), samples, nil)
		require.NoError(t, err)
		assert.Equal(t, want, again, arch)
	}
}

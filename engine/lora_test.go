package engine_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/engine/quant"
)

// A change of the training mode keeps what was learnt in the one before.
func TestTrainingModesFollowEachOther(t *testing.T) {
	samples := tiny.Samples(8, 12, 1)
	full := func(m *engine.Model) { m.TrainFull() }
	lora := func(m *engine.Model) { require.NoError(t, m.TrainLoRA(engine.DefaultLoRAOptions())) }
	some := func(m *engine.Model) {
		require.NoError(t, m.TrainLoRA(engine.LoRAOptions{Rank: 2, Alpha: 2, Targets: []string{"blk.0.attn_*.weight"}}))
	}
	for _, modes := range [][]func(*engine.Model){{full, lora}, {lora, full}, {lora, lora}, {lora, some, full, some, lora}} {
		m := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
		for i, mode := range modes {
			before := meanNLL(t, m, samples)
			mode(m)
			require.InDelta(t, before, meanNLL(t, m, samples), 1e-5, "mode %d", i)
			for _, p := range m.Params() {
				require.False(t, p.Trainable && p.Adapter != nil, p.Name)
			}
			require.NoError(t, engine.Finetune(context.Background(), m, samples, finetuneOptions(0.01, 4), engine.FinetuneHooks{}))
			require.Less(t, meanNLL(t, m, samples), before, "mode %d", i)
		}
		want := meanNLL(t, m, samples)
		out := filepath.Join(t.TempDir(), "out.gguf")
		require.NoError(t, m.Export(out, engine.ExportOptions{}))
		back, err := engine.Open(out, engine.Options{})
		require.NoError(t, err)
		defer back.Close()
		assert.InDelta(t, want, meanNLL(t, back, samples), 1e-5)
	}
}

// A matrix whose adapter has learnt nothing keeps its bytes, and needs no float32 copy.
func TestUntrainedAdaptersChangeNothing(t *testing.T) {
	s := tiny.Shape("llama")
	s.DModel, s.DFF = 32, 64
	m := tiny.Open(t, s, engine.Options{})
	q4, err := quant.ByName("Q4_0")
	require.NoError(t, err)
	types := map[string]*quant.Type{}
	for _, p := range m.Params() {
		if p.Rows > 1 {
			types[p.Name] = q4
		}
	}
	path, out := filepath.Join(t.TempDir(), "q4.gguf"), filepath.Join(t.TempDir(), "out.gguf")
	require.NoError(t, m.Export(path, engine.ExportOptions{Types: types}))
	back, err := engine.Open(path, engine.Options{})
	require.NoError(t, err)
	defer back.Close()
	require.NoError(t, back.TrainLoRA(engine.DefaultLoRAOptions()))
	require.NoError(t, back.Export(out, engine.ExportOptions{}))
	requireSameFile(t, path, out)
	back.MergeLoRA()
	for _, p := range back.Params() {
		assert.True(t, p.Rows == 1 || p.F32 == nil, "%s needs no float32 copy", p.Name)
	}
}

func TestWeightDecayReachesAdaptersOfRankOne(t *testing.T) {
	m := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
	require.NoError(t, m.TrainLoRA(engine.LoRAOptions{Rank: 1, Alpha: 1, Targets: []string{"blk.0.ffn_up.weight"}}))
	o := engine.DefaultTrainOptions()
	o.Optimizer, o.LR, o.WeightDecay, o.Schedule, o.Steps = "sgd", 0.5, 0.5, "constant", 1
	tr, err := engine.NewTrainer(m, o)
	require.NoError(t, err)
	a := m.Trainable()[0]
	before := a.F32[0]
	none := func(*engine.Trace) ([]int, engine.LossFunc) { return nil, nil }
	_, err = tr.Step([]engine.Term{{Name: "none", Samples: tiny.Samples(1, 5, 1), Loss: none}})
	require.NoError(t, err)
	assert.Equal(t, 0.75*before, a.F32[0])
}

func TestRestoreOfAnotherModePanics(t *testing.T) {
	m := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
	o := engine.DefaultLoRAOptions()
	require.NoError(t, m.TrainLoRA(o))
	s := m.Snapshot()
	o.Rank++
	require.NoError(t, m.TrainLoRA(o))
	assert.PanicsWithValue(t, "engine: Restore: the snapshot has 128 elements for blk.0.attn_q.weight.lora_a, want 144", func() { m.Restore(s) })
	m.TrainFull()
	assert.Panics(t, func() { m.Restore(s) })
}

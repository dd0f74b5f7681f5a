package engine_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
)

func finetuneOptions(lr float64, epochs int) engine.FinetuneOptions {
	o := engine.DefaultFinetuneOptions()
	o.LR, o.Epochs, o.Batch, o.Seed, o.Warmup = lr, epochs, 4, 1, 2
	return o
}

func meanNLL(t *testing.T, m *engine.Model, samples []engine.Sample) float64 {
	t.Helper()
	nll, err := m.NLL(context.Background(), samples, nil)
	require.NoError(t, err)
	var sum float64
	n := 0
	for _, x := range nll {
		sum += x.Sum
		n += x.N
	}
	return sum / float64(n)
}

// A tiny model of each architecture learns eight random samples by heart, in every mode of training.
func TestFinetuneLearnsByHeart(t *testing.T) {
	for _, arch := range tinyArchs {
		for _, mode := range []string{"full", "lora", "fused"} {
			m := tiny.Open(t, tiny.Shape(arch), engine.Options{})
			o := finetuneOptions(0.02, 60)
			if prepare(t, m, mode == "lora"); mode == "fused" {
				m.TrainFused(1)
				o.Optimizer = "adafactor"
			}
			samples := tiny.Samples(8, 12, 11)
			before := meanNLL(t, m, samples)
			steps := 0
			err := engine.Finetune(context.Background(), m, samples, o, engine.FinetuneHooks{Step: func(s engine.FinetuneStep) error {
				steps++
				assert.Equal(t, 120, s.Steps)
				return nil
			}})
			require.NoError(t, err)
			assert.Equal(t, 120, steps)
			after := meanNLL(t, m, samples)
			assert.Greater(t, before, 2.5)
			limit := 0.1
			if mode == "lora" {
				limit = 1.2 // rank 3 on a frozen random model
			}
			assert.Less(t, after, limit, "%s %s", arch, mode)
		}
	}
}

func TestTrainingIsReproducible(t *testing.T) {
	run := func(threads int, seed uint64, compute nn.Compute) []float32 {
		m := tiny.Open(t, tiny.Shape("llama"), engine.Options{Threads: threads, Compute: compute})
		m.TrainFull()
		o := finetuneOptions(0.01, 3)
		o.Seed, o.Clip = seed, 0.5
		require.NoError(t, engine.Finetune(context.Background(), m, tiny.Samples(10, 12, 1), o, engine.FinetuneHooks{}))
		p, err := m.Param("blk.1.ffn_down.weight")
		require.NoError(t, err)
		return p.F32
	}
	want := run(1, 1, nn.ComputeF32)
	assert.Equal(t, want, run(5, 1, nn.ComputeF32))
	assert.NotEqual(t, want, run(1, 2, nn.ComputeF32))
	half := run(1, 1, nn.ComputeBF16)
	assert.Equal(t, half, run(5, 1, nn.ComputeBF16))
	assert.NotEqual(t, want, half)
}

func TestDivergenceStopsBeforeTheUpdate(t *testing.T) {
	m := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
	m.TrainFull()
	o := finetuneOptions(1e30, 50)
	o.Warmup = 0
	err := engine.Finetune(context.Background(), m, tiny.Samples(8, 12, 1), o, engine.FinetuneHooks{})
	var d *engine.DivergedError
	require.ErrorAs(t, err, &d)
	assert.Less(t, d.Step, 5)
	assert.True(t, math.IsNaN(d.Got) || math.IsInf(d.Got, 0))
}

func TestFinetuneStops(t *testing.T) {
	m := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
	m.TrainFull()
	ctx, cancel := context.WithCancel(context.Background())
	err := engine.Finetune(ctx, m, tiny.Samples(8, 12, 1), finetuneOptions(0.01, 5), engine.FinetuneHooks{Step: func(s engine.FinetuneStep) error {
		if s.Step == 3 {
			cancel()
		}
		return nil
	}})
	assert.ErrorIs(t, err, context.Canceled)
	stop := errors.New("enough")
	err = engine.Finetune(context.Background(), m, tiny.Samples(8, 12, 1), finetuneOptions(0.01, 5), engine.FinetuneHooks{Step: func(engine.FinetuneStep) error { return stop }})
	assert.ErrorIs(t, err, stop)
	assert.ErrorContains(t, engine.Finetune(context.Background(), m, nil, finetuneOptions(0.01, 5), engine.FinetuneHooks{}), "nothing to fine-tune on")
	_, err = engine.NewTrainer(tiny.Open(t, tiny.Shape("llama"), engine.Options{}), engine.DefaultTrainOptions())
	assert.ErrorContains(t, err, "nothing is trainable")
}

func TestSnapshotRestores(t *testing.T) {
	m := tiny.Open(t, tiny.Shape("phi2"), engine.Options{})
	m.TrainFull()
	samples := tiny.Samples(8, 12, 1)
	before := meanNLL(t, m, samples)
	s := m.Snapshot()
	require.NoError(t, engine.Finetune(context.Background(), m, samples, finetuneOptions(0.01, 2), engine.FinetuneHooks{}))
	assert.NotEqual(t, before, meanNLL(t, m, samples))
	m.Restore(s)
	assert.Equal(t, before, meanNLL(t, m, samples))
}

func TestExportWritesWhatChanged(t *testing.T) {
	dir := t.TempDir()
	for _, arch := range tinyArchs {
		for _, lora := range []bool{false, true} {
			path := tiny.Path(t, tiny.Shape(arch))
			m, err := engine.Open(path, engine.Options{})
			require.NoError(t, err)
			same := filepath.Join(dir, "same.gguf")
			require.NoError(t, m.Export(same, engine.ExportOptions{}))
			requireSameFile(t, path, same)

			prepare(t, m, lora)
			samples := tiny.Samples(8, 12, 1)
			require.NoError(t, engine.Finetune(context.Background(), m, samples, finetuneOptions(0.01, 5), engine.FinetuneHooks{}))
			want := meanNLL(t, m, samples)
			out := filepath.Join(dir, "out.gguf")
			require.NoError(t, m.Export(out, engine.ExportOptions{Set: []gguf.KV{{Key: "guardcpu.version", Value: "test"}}}))
			back, err := engine.Open(out, engine.Options{})
			require.NoError(t, err)
			assert.InDelta(t, want, meanNLL(t, back, samples), 1e-6, "%s lora=%v", arch, lora)
			v, ok, err := back.File.String("guardcpu.version")
			require.NoError(t, err)
			assert.True(t, ok && v == "test")
			if lora {
				e1, _ := m.File.Tensor("token_embd.weight")
				e2, _ := back.File.Tensor("token_embd.weight")
				assert.Equal(t, m.File.Data(e1), back.File.Data(e2), "a frozen tensor keeps its bytes")
				m.MergeLoRA()
				assert.Empty(t, m.Trainable())
				assert.InDelta(t, want, meanNLL(t, m, samples), 1e-6)
			}
			back.Close()
			m.Close()
		}
	}
}

func TestExportIntoOtherTypes(t *testing.T) {
	s := tiny.Shape("llama")
	s.DModel, s.DFF = 32, 64
	m := tiny.Open(t, s, engine.Options{})
	q8, err := quant.ByName("Q8_0")
	require.NoError(t, err)
	types := map[string]*quant.Type{}
	for _, p := range m.Params() {
		if p.Rows > 1 {
			types[p.Name] = q8
		}
	}
	out := filepath.Join(t.TempDir(), "q8.gguf")
	require.NoError(t, m.Export(out, engine.ExportOptions{Types: types}))
	back, err := engine.Open(out, engine.Options{})
	require.NoError(t, err)
	defer back.Close()
	p, err := back.Param("blk.0.attn_q.weight")
	require.NoError(t, err)
	assert.Equal(t, q8, p.Stored.Type)

	// what is changed in a quantised file is packed into its type again; the rest keeps its bytes
	back.TrainFull()
	p.F32[0] += 0.5
	again := filepath.Join(t.TempDir(), "again.gguf")
	require.NoError(t, back.Export(again, engine.ExportOptions{}))
	third, err := engine.Open(again, engine.Options{})
	require.NoError(t, err)
	defer third.Close()
	for i, q := range third.Params() {
		if old := back.Params()[i]; old != p {
			assert.Equal(t, old.Stored.Data, q.Stored.Data, q.Name)
		} else {
			assert.InDelta(t, p.F32[0], q.Stored.Dequantize(m.Ctx.K)[0], 0.02)
		}
	}

	// a tensor whose rows do not divide into blocks is refused by name
	odd := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
	err = odd.Export(out+"2", engine.ExportOptions{Types: map[string]*quant.Type{"blk.0.attn_q.weight": q8}})
	assert.ErrorContains(t, err, `tensor "blk.0.attn_q.weight" has 16 columns, want a multiple of 32 for Q8_0`)
	assert.NoFileExists(t, out+"2")
}

func requireSameFile(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	require.NoError(t, err)
	y, err := os.ReadFile(b)
	require.NoError(t, err)
	require.Equal(t, x, y)
}

func TestSampling(t *testing.T) {
	m := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
	prompts := [][]int32{{1, 5, 9}, {1, 7}, {1, 5, 9}, {1}, {1, 12, 4, 8}}
	gen := func(o engine.GenOptions) [][]int32 {
		out, err := m.Generate(context.Background(), prompts, o, nil)
		require.NoError(t, err)
		return out
	}
	greedy := gen(engine.GenOptions{MaxTokens: 12, IgnoreEOS: true})
	assert.Equal(t, greedy[0], greedy[2])
	told := make([][]int32, len(prompts))
	gen(engine.GenOptions{MaxTokens: 12, IgnoreEOS: true, Batch: 2, Stop: func(prompt int, ids []int32) bool {
		told[prompt] = append(told[prompt], ids[len(ids)-1])
		return false
	}})
	assert.Equal(t, greedy, told, "every token is told as it is chosen")
	assert.Equal(t, greedy, gen(engine.GenOptions{MaxTokens: 12, IgnoreEOS: true, Batch: 2}), "batches do not matter")
	assert.Equal(t, greedy, gen(engine.GenOptions{MaxTokens: 12, IgnoreEOS: true, Temp: 1, TopK: 1}), "the likeliest only")
	assert.Equal(t, greedy, gen(engine.GenOptions{MaxTokens: 12, IgnoreEOS: true, Temp: 1, TopP: 1e-9}), "the likeliest only")
	hot := engine.GenOptions{MaxTokens: 12, IgnoreEOS: true, Temp: 3, Seed: 4}
	a := gen(hot)
	assert.Equal(t, a, gen(hot), "a seed repeats")
	assert.NotEqual(t, a[0], a[2], "prompts draw their own numbers")
	hot.Seed = 5
	assert.NotEqual(t, a, gen(hot))
	_, err := m.Generate(context.Background(), [][]int32{{}}, engine.GenOptions{MaxTokens: 1}, nil)
	assert.ErrorContains(t, err, "prompt 0 is empty")
	_, err = m.Generate(context.Background(), [][]int32{{1}, {1, -1}}, engine.GenOptions{MaxTokens: 1}, nil)
	assert.EqualError(t, err, "engine: prompt 1: token 1 is -1, the vocabulary has 31")
	// a limit far off costs no memory
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err = m.Generate(ctx, prompts, engine.GenOptions{MaxTokens: math.MaxInt, IgnoreEOS: true}, nil)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	ctx, cancel = context.WithCancel(context.Background())
	cancel()
	_, err = m.Generate(ctx, prompts, hot, nil)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestGenerateStopsAtLogitsThatAreNotFinite(t *testing.T) {
	m := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
	m.TrainFull()
	p, err := m.Param("output_norm.weight")
	require.NoError(t, err)
	p.F32[0] = float32(math.NaN())
	for _, temp := range []float64{0, 1} {
		_, err = m.Generate(context.Background(), [][]int32{{1, 5}}, engine.GenOptions{MaxTokens: 2, Temp: temp}, nil)
		assert.EqualError(t, err, "engine: prompt 0: the logit of token 0 at position 2 is NaN: the weights are damaged, or have diverged")
	}
}

// Samples of another model's vocabulary, and malformed ones, are errors where an error can be
// returned, and nothing has happened then.
func TestSamplesThatAModelCannotTake(t *testing.T) {
	ctx := context.Background()
	for want, bad := range map[string]engine.Sample{
		"engine: sample 1 has 0 tokens and a mask of 0, want at least one token and a mask as long": {},
		"engine: sample 1 has 2 tokens and a mask of 1, want at least one token and a mask as long": {IDs: []int32{1, 2}, Mask: []bool{true}},
		"engine: sample 1: token 1 is 31, the vocabulary has 31":                                    {IDs: []int32{1, 31}, Mask: []bool{true, true}},
		"engine: sample 1: token 0 is -1, the vocabulary has 31":                                    {IDs: []int32{-1, 3}, Mask: []bool{true, true}},
	} {
		m := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
		m.TrainFull()
		before := m.Snapshot()
		samples := append(tiny.Samples(1, 9, 1), bad)
		_, err := m.NLL(ctx, samples, nil)
		assert.EqualError(t, err, want)
		dir := t.TempDir()
		_, err = m.NewReference(ctx, samples, engine.ReferenceOptions{})
		assert.EqualError(t, err, want)
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, left)
		assert.EqualError(t, engine.Finetune(ctx, m, samples, finetuneOptions(0.01, 1), engine.FinetuneHooks{}), want)
		tr, err := engine.NewTrainer(m, engine.DefaultTrainOptions())
		require.NoError(t, err)
		_, err = tr.Step([]engine.Term{engine.MeanNLL("x", samples[:1]), engine.MeanNLL("y", samples)})
		assert.EqualError(t, err, want)
		assert.Equal(t, before, m.Snapshot())
		assert.PanicsWithValue(t, want, func() { m.NewTrace().Forward(samples) })
	}
}

package engine_test

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/internal/mutate"
)

// adaptedShape is a tiny model of the architecture whose every matrix may have an adapter.
func adaptedShape(arch string) engine.Shape {
	s := tiny.Shape(arch)
	s.Tied = false
	return s
}

// everyMatrix are the targets of adapters that a file can hold: all but learnt positions.
func everyMatrix(alpha float64) engine.LoRAOptions {
	return engine.LoRAOptions{Rank: 3, Alpha: alpha, Targets: []string{"blk.*.weight", "output.weight", "token_embd.weight"}, Seed: 4}
}

// allLogits are those of every position.
func allLogits(m *engine.Model, samples []engine.Sample) (all []float32) {
	t := m.NewTrace()
	t.Forward(samples)
	rows := make([]int, t.NRows())
	for i := range rows {
		rows[i] = i
	}
	t.Losses(rows, func(c *engine.Chunk) {
		for i := range c.Rows {
			all = append(all, c.Logits.Row(i)...)
		}
	})
	return all
}

// What was trained, written and loaded again gives the same bits, of every architecture; merged it
// gives the same up to rounding, and the file holds nothing of the model.
func TestAdapterFileIsWhatWasTrained(t *testing.T) {
	samples := tiny.Samples(6, 12, 3)
	for _, arch := range tiny.Names() {
		t.Run(arch, func(t *testing.T) {
			m := open(t, tiny.Path(t, adaptedShape(arch)))
			base := m.File.Name
			before := allLogits(m, samples)
			require.NoError(t, m.TrainLoRA(everyMatrix(5.3)))
			require.NoError(t, m.CheckAdapter())
			require.NoError(t, engine.Finetune(context.Background(), m, samples, finetuneOptions(0.01, 3), engine.FinetuneHooks{}))
			want := allLogits(m, samples)
			require.NotEqual(t, before, want)

			dir := t.TempDir()
			path, merged := filepath.Join(dir, "lora.gguf"), filepath.Join(dir, "merged.gguf")
			require.NoError(t, m.WriteAdapter(path, []gguf.KV{{Key: "guardcpu.seed", Value: uint64(4)}}))
			back := open(t, base)
			loadAdapter(t, back, path)
			assert.True(t, slices.Equal(want, allLogits(back, samples)), "the same bits")
			require.Len(t, back.Trainable(), len(m.Trainable()))
			for i, p := range m.Trainable() {
				q := back.Trainable()[i]
				assert.Equal(t, p.Name, q.Name)
				assert.True(t, slices.Equal(p.F32, q.F32), p.Name)
			}

			require.NoError(t, back.Export(merged, engine.ExportOptions{}))
			got := allLogits(open(t, merged), samples)
			largest := 0.0
			for _, v := range want {
				largest = max(largest, math.Abs(float64(v)))
			}
			for i := range want { // 2 or 6 layers of products, each with relative errors of some 2⁻²⁴
				require.InDelta(t, want[i], got[i], 1e-5*largest)
			}
		})
	}
}

func loadAdapter(t *testing.T, m *engine.Model, path string) {
	t.Helper()
	f, err := gguf.Open(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, m.LoadAdapter(f))
}

// Names and dimensions are llama.cpp's (ggml's order: columns first).
func TestAdapterFileHasTheLayoutOfLlamaCpp(t *testing.T) {
	s := adaptedShape("mixtral")
	m := open(t, tiny.Path(t, s))
	require.NoError(t, m.TrainLoRA(everyMatrix(6)))
	path := filepath.Join(t.TempDir(), "lora.gguf")
	require.NoError(t, m.WriteAdapter(path, nil))
	f, err := gguf.Open(path)
	require.NoError(t, err)
	defer f.Close()
	assert.Equal(t, []gguf.KV{
		{Key: "general.type", Value: "adapter"}, {Key: "general.architecture", Value: "llama"},
		{Key: "adapter.type", Value: "lora"}, {Key: "adapter.lora.alpha", Value: float32(6)},
	}, f.KVs)
	d, v, kv := uint64(s.DModel), uint64(s.NVocab), uint64(s.DModel/s.NHeads*s.NKVHeads)
	for name, dims := range map[string][]uint64{
		"token_embd.weight.lora_a":         {3, v},
		"token_embd.weight.lora_b":         {3, d},
		"output.weight.lora_a":             {d, 3},
		"output.weight.lora_b":             {3, v},
		"blk.1.attn_k.weight.lora_a":       {d, 3},
		"blk.1.attn_k.weight.lora_b":       {3, kv},
		"blk.0.ffn_gate_inp.weight.lora_b": {3, 4},
		"blk.0.ffn_up_exps.weight.lora_a":  {d, 3, 4},
		"blk.0.ffn_up_exps.weight.lora_b":  {3, uint64(s.DFF), 4},
	} {
		x, ok := f.Tensor(name)
		require.True(t, ok, name)
		assert.Equal(t, dims, x.Dims, name)
		assert.Equal(t, gguf.F32, x.Type)
	}
	assert.Len(t, f.Tensors, 2*(2+2*8))
}

// The scale is that of the alpha in the file, to the bit, though alpha is a float32 there.
func TestAdapterScale(t *testing.T) {
	for _, alpha := range []float64{16, 0.1, 1.0 / 3, 7e-20} {
		for _, rank := range []int{1, 3, 7, 16} {
			m := open(t, tiny.Path(t, tiny.Shape("llama")))
			o := engine.LoRAOptions{Rank: rank, Alpha: alpha, Targets: []string{"blk.0.ffn_up.weight"}}
			require.NoError(t, m.TrainLoRA(o))
			path := filepath.Join(t.TempDir(), "lora.gguf")
			require.NoError(t, m.WriteAdapter(path, nil))
			back := open(t, m.File.Name)
			loadAdapter(t, back, path)
			p, err := m.Param("blk.0.ffn_up.weight")
			require.NoError(t, err)
			q, err := back.Param("blk.0.ffn_up.weight")
			require.NoError(t, err)
			assert.Equal(t, p.Adapter.Scale, q.Adapter.Scale)
			assert.InEpsilon(t, alpha/float64(rank), q.Adapter.Scale, 0x1p-22)
		}
	}
}

func TestAdaptersThatNoFileCanHold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lora.gguf")
	for _, c := range []struct {
		name, arch, want string
		prepare          func(m *engine.Model) error
	}{
		{"none", "llama", "engine: the model has no adapter", func(*engine.Model) error { return nil }},
		{"full", "llama", "engine: token_embd.weight is trained itself: an adapter file holds what LoRA trains", func(m *engine.Model) error {
			m.TrainFull()
			return nil
		}},
		{"tied", "llama", "engine: token_embd.weight is the output matrix too, and llama.cpp cannot apply an adapter to both: merge it into the model", func(m *engine.Model) error {
			return m.TrainLoRA(engine.LoRAOptions{Rank: 1, Alpha: 1, Targets: []string{"*"}})
		}},
		{"positions", "gpt2", "engine: an adapter of position_embd.weight would do nothing in llama.cpp: merge it into the model", func(m *engine.Model) error {
			return m.TrainLoRA(engine.LoRAOptions{Rank: 1, Alpha: 1, Targets: []string{"position_embd.weight"}})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := open(t, tiny.Path(t, tiny.Shape(c.arch)))
			require.NoError(t, c.prepare(m))
			assert.EqualError(t, m.CheckAdapter(), c.want)
			assert.EqualError(t, m.WriteAdapter(path, nil), c.want)
		})
	}
	t.Run("merged before", func(t *testing.T) {
		m := open(t, tiny.Path(t, tiny.Shape("llama")))
		for range 2 {
			require.NoError(t, m.TrainLoRA(engine.DefaultLoRAOptions()))
			m.Trainable()[1].F32[0] = 1
		}
		assert.EqualError(t, m.WriteAdapter(path, nil), "engine: blk.0.attn_q.weight differs from "+m.File.Name+" by more than its adapter")
	})
	assert.NoFileExists(t, path)
}

// adapterBytes is an adapter of blk.0.attn_q.weight, [16,16], as change leaves it.
func adapterBytes(t testing.TB, change func(kvs []gguf.KV, tensors []gguf.TensorData) ([]gguf.KV, []gguf.TensorData)) []byte {
	tensor := func(name string, typ *quant.Type, dims ...uint64) gguf.TensorData {
		n := 1
		for _, d := range dims {
			n *= int(d)
		}
		data := typ.Random(rand.New(rand.NewPCG(1, 2)), n/typ.BlockLen)
		return gguf.TensorData{Name: name, Type: typ.GGUF, Dims: dims, Bytes: func() ([]byte, error) { return data, nil }}
	}
	kvs := []gguf.KV{
		{Key: "general.type", Value: "adapter"}, {Key: "general.architecture", Value: "llama"},
		{Key: "adapter.type", Value: "lora"}, {Key: "adapter.lora.alpha", Value: float32(2)},
	}
	f16, err := quant.ByName("F16")
	require.NoError(t, err)
	tensors := []gguf.TensorData{tensor("blk.0.attn_q.weight.lora_a", f16, 16, 2), tensor("blk.0.attn_q.weight.lora_b", f16, 2, 16)}
	if change != nil {
		kvs, tensors = change(kvs, tensors)
	}
	var b bytes.Buffer
	require.NoError(t, gguf.Encode(&b, kvs, tensors))
	return b.Bytes()
}

func TestAdapterFilesThatDoNotFit(t *testing.T) {
	type kvs = []gguf.KV
	type tensors = []gguf.TensorData
	set := func(key string, value any) func(kvs, tensors) (kvs, tensors) {
		return func(k kvs, x tensors) (kvs, tensors) {
			k = slices.DeleteFunc(k, func(kv gguf.KV) bool { return kv.Key == key })
			if value != nil {
				k = append(k, gguf.KV{Key: key, Value: value})
			}
			return k, x
		}
	}
	dims := func(i int, dims ...uint64) func(kvs, tensors) (kvs, tensors) {
		return func(k kvs, x tensors) (kvs, tensors) {
			n := 1
			for _, d := range dims {
				n *= int(d)
			}
			x[i].Dims, x[i].Bytes = dims, func() ([]byte, error) { return make([]byte, 2*n), nil }
			return k, x
		}
	}
	rename := func(i int, name string) func(kvs, tensors) (kvs, tensors) {
		return func(k kvs, x tensors) (kvs, tensors) {
			x[i].Name = name
			return k, x
		}
	}
	for _, c := range []struct {
		name, want string
		change     func(kvs, tensors) (kvs, tensors)
	}{
		{"a model", `engine: x: general.type is "", want "adapter"`, set("general.type", nil)},
		{"another kind of adapter", `engine: x: adapter.type is "ia3", want "lora"`, set("adapter.type", "ia3")},
		{"another architecture", `engine: x: general.architecture is "qwen2", want "llama"`, set("general.architecture", "qwen2")},
		{"a type that is no text", "gguf: x: general.type is of type uint32, want string", set("general.type", uint32(1))},
		{"an alpha that is no number", `engine: x: adapter.lora.alpha is NaN, want a finite number`, set("adapter.lora.alpha", float32(math.NaN()))},
		{"an alpha that is too large", `engine: x: adapter.lora.alpha is 1e+300, want a finite number`, set("adapter.lora.alpha", 1e300)},
		{"an activated adapter", "engine: x: the adapter is for what follows adapter.alora.invocation_tokens, which is not supported", set("adapter.alora.invocation_tokens", []uint32{1})},
		{"nothing", "engine: x: the adapter has no tensors", func(k kvs, _ tensors) (kvs, tensors) { return k, nil }},
		{"half a pair", "engine: x: blk.0.attn_q.weight has only one of .lora_a and .lora_b", func(k kvs, x tensors) (kvs, tensors) { return k, x[:1] }},
		{"a matrix that is not there", `engine: x: the model has no matrix "blk.9.attn_q.weight": the adapter is another model's`, func(k kvs, x tensors) (kvs, tensors) {
			x[0].Name, x[1].Name = "blk.9.attn_q.weight.lora_a", "blk.9.attn_q.weight.lora_b"
			return k, x
		}},
		{"a norm", `engine: x: tensor "output_norm.weight" is no part of a LoRA adapter: its name ends neither in .lora_a nor in .lora_b`, rename(0, "output_norm.weight")},
		{"of a norm", "engine: output_norm.weight is no matrix, and has no adapter (x)", func(k kvs, x tensors) (kvs, tensors) {
			x[0].Name, x[1].Name = "output_norm.weight.lora_a", "output_norm.weight.lora_b"
			return k, x
		}},
		{"of a tied embedding", "engine: token_embd.weight is the output matrix too, and llama.cpp cannot apply an adapter to both: merge it into the model (x)", func(k kvs, x tensors) (kvs, tensors) {
			x[0].Name, x[1].Name = "token_embd.weight.lora_a", "token_embd.weight.lora_b"
			return k, x
		}},
		{"two ranks", "engine: x: blk.0.attn_q.weight.lora_a is 16×2, want 16×3", dims(1, 3, 16)},
		{"other columns", "engine: x: blk.0.attn_q.weight.lora_a is 8×2, want 16×2", dims(0, 8, 2)},
		{"other rows", "engine: x: blk.0.attn_q.weight.lora_b is 2×8, want 2×16", dims(1, 2, 8)},
		{"A transposed", "engine: x: blk.0.attn_q.weight.lora_a is 2×16, want 16×2", dims(0, 2, 16)},
		{"of experts", "engine: x: blk.0.attn_q.weight.lora_a is 16×2×3, want 16×2", dims(0, 16, 2, 3)},
		{"a type that is no weight's", "engine: x: blk.0.attn_q.weight.lora_b: quant: weight type I16 is not supported", func(k kvs, x tensors) (kvs, tensors) {
			x[1].Type = 25
			return k, x
		}},
		{"a number that is NaN", "engine: x: blk.0.attn_q.weight.lora_b: quant: element [0,1] is NaN", func(k kvs, x tensors) (kvs, tensors) {
			x[1].Bytes = func() ([]byte, error) { return slices.Concat([]byte{0, 0, 0xff, 0xff}, make([]byte, 60)), nil }
			return k, x
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := gguf.Parse("x", adapterBytes(t, c.change))
			require.NoError(t, err)
			m := open(t, tiny.Path(t, tiny.Shape("llama")))
			err = m.LoadAdapter(f)
			require.Error(t, err)
			assert.True(t, strings.HasPrefix(err.Error(), c.want), "%q, want %q", err.Error(), c.want)
			assert.Empty(t, m.Trainable(), "nothing has changed")
		})
	}
	t.Run("twice", func(t *testing.T) {
		f, err := gguf.Parse("x", adapterBytes(t, nil))
		require.NoError(t, err)
		m := open(t, tiny.Path(t, tiny.Shape("llama")))
		require.NoError(t, m.LoadAdapter(f))
		assert.EqualError(t, m.LoadAdapter(f), "engine: blk.0.attn_q.weight has an adapter already")
	})
	t.Run("without alpha it is not scaled, and of rank 1 it may lack a dimension", func(t *testing.T) {
		f, err := gguf.Parse("x", adapterBytes(t, func(k kvs, x tensors) (kvs, tensors) {
			_, x = dims(0, 16)(k, x)
			_, x = dims(1, 1, 16)(k, x)
			return k[:3], x
		}))
		require.NoError(t, err)
		m := open(t, tiny.Path(t, tiny.Shape("llama")))
		require.NoError(t, m.LoadAdapter(f))
		p, err := m.Param("blk.0.attn_q.weight")
		require.NoError(t, err)
		assert.Equal(t, float32(1), p.Adapter.Scale)
		assert.Equal(t, &nn.Param{Index: p.Index, Name: p.Name + ".lora_a", Rows: 1, Cols: 16, F32: make([]float32, 16), Trainable: true}, p.Adapter.A)
	})
}

// FuzzLoadAdapter: whatever a file that reads as GGUF holds, LoadAdapter loads it or returns an
// error and changes nothing; what it loads computes finite or infinite logits without a panic.
func FuzzLoadAdapter(f *testing.F) {
	f.Add(adapterBytes(f, nil))
	dir := f.TempDir()
	for _, arch := range []string{"llama", "mixtral"} {
		path := filepath.Join(dir, arch+".gguf")
		require.NoError(f, engine.Create(path, adaptedShape(arch)))
		m, err := engine.Open(path, engine.Options{Threads: 1})
		require.NoError(f, err)
		require.NoError(f, m.TrainLoRA(engine.LoRAOptions{Rank: 1, Alpha: 1, Targets: []string{"blk.0.*.weight", "token_embd.weight"}}))
		lora := filepath.Join(dir, "lora.gguf")
		require.NoError(f, m.WriteAdapter(lora, nil))
		file, err := gguf.Open(lora)
		require.NoError(f, err)
		f.Add(slices.Clone(file.Bytes()))
		require.NoError(f, file.Close())
		require.NoError(f, m.Close())
	}
	file, err := gguf.Open(filepath.Join(dir, "mixtral.gguf"))
	require.NoError(f, err)
	samples := tiny.Samples(1, 3, 1)
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		adapter, err := gguf.Parse("fuzz", data)
		if err != nil {
			return
		}
		m, err := engine.Load(file, engine.Options{Threads: 1})
		require.NoError(t, err)
		if err := m.LoadAdapter(adapter); err != nil {
			require.Empty(t, m.Trainable())
			return
		}
		require.NotEmpty(t, m.Trainable())
		require.Len(t, allLogits(m, samples), 3*tiny.NVocab)
	})
}

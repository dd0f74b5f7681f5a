package engine_test

import (
	"encoding/binary"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/gguf"
)

// rewrite returns the path of a tiny model with keys set, of which nil removes one.
func rewrite(t *testing.T, arch string, set map[string]any, drop func(name string) bool, extra ...gguf.TensorData) string {
	t.Helper()
	f, err := gguf.Open(tiny.Path(t, tiny.Shape(arch)))
	require.NoError(t, err)
	defer f.Close()
	var kvs []gguf.KV
	for _, kv := range f.KVs {
		v, hit := set[kv.Key]
		switch {
		case !hit:
			kvs = append(kvs, kv)
		case v != nil:
			kvs = append(kvs, gguf.KV{Key: kv.Key, Value: v})
		}
		delete(set, kv.Key)
	}
	for k, v := range set {
		kvs = append(kvs, gguf.KV{Key: k, Value: v})
	}
	var tensors []gguf.TensorData
	for i := range f.Tensors {
		tn := &f.Tensors[i]
		if drop != nil && drop(tn.Name) {
			continue
		}
		tensors = append(tensors, gguf.TensorData{Name: tn.Name, Type: tn.Type, Dims: tn.Dims, Bytes: func() ([]byte, error) { return f.Data(tn), nil }})
	}
	path := filepath.Join(t.TempDir(), "m.gguf")
	require.NoError(t, gguf.Write(path, kvs, append(tensors, extra...)))
	return path
}

// rewritten says whether such a model opens.
func rewritten(t *testing.T, arch string, set map[string]any, drop func(name string) bool, extra ...gguf.TensorData) error {
	t.Helper()
	m, err := engine.Open(rewrite(t, arch, set, drop, extra...), engine.Options{})
	if err == nil {
		m.Close()
		return nil
	}
	return err
}

func TestBadModels(t *testing.T) {
	type kv = map[string]any
	for name, c := range map[string]struct {
		set  kv
		drop string
		want string
	}{
		"as it is":           {kv{}, "", ""},
		"no architecture":    {kv{"general.architecture": nil}, "", "key general.architecture is missing: not a language model"},
		"architecture":       {kv{"general.architecture": "mamba"}, "", `architecture "mamba" is not known; there are llama, phi2`},
		"architecture type":  {kv{"general.architecture": uint32(3)}, "", "general.architecture"},
		"no width":           {kv{"llama.embedding_length": nil}, "", "key llama.embedding_length is missing"},
		"zero heads":         {kv{"llama.attention.head_count": uint32(0)}, "", "key llama.attention.head_count is 0, want 1 to"},
		"too many blocks":    {kv{"llama.block_count": uint32(1 << 30)}, "", "key llama.block_count is 1073741824, want 1 to 4096"},
		"more blocks":        {kv{"llama.block_count": uint32(3)}, "", "tensor blk.2.attn_norm.weight is missing"},
		"fewer blocks":       {kv{"llama.block_count": uint32(1)}, "", "tensor blk.1.attn_norm.weight is not part of architecture llama"},
		"block count type":   {kv{"llama.block_count": "two"}, "", "llama.block_count"},
		"heads do not share": {kv{"llama.attention.head_count_kv": uint32(3)}, "", "4 attention heads cannot share 3 KV heads"},
		"width and heads":    {kv{"llama.attention.head_count": uint32(3), "llama.attention.head_count_kv": uint32(3)}, "", "width 16 is not divisible by 3 heads"},
		"other KV heads":     {kv{"llama.attention.head_count_kv": uint32(1)}, "", "blk.0.attn_k.weight is 8×16, want 4×16"},
		"feed-forward":       {kv{"llama.feed_forward_length": uint32(32)}, "", "blk.0.ffn_gate.weight is 24×16, want 32×16"},
		"odd rotary":         {kv{"llama.rope.dimension_count": uint32(3)}, "", "rope.dimension_count is 3, want an even number up to the head width 4"},
		"wide rotary":        {kv{"llama.rope.dimension_count": uint32(6)}, "", "rope.dimension_count is 6"},
		"rope base":          {kv{"llama.rope.freq_base": float32(-1)}, "", "key llama.rope.freq_base is -1, want a positive number"},
		"rope scaling":       {kv{"llama.rope.scaling.type": "dynamic"}, "", `rope.scaling.type "dynamic" is not known; there are none, linear, yarn, longrope`},
		"yarn":               {kv{"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": float32(4)}, "", ""},
		"linear scaling":     {kv{"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": float32(2)}, "", ""},
		"value width":        {kv{"llama.attention.value_length": uint32(8)}, "", "value heads are 8 wide and key heads 4"},
		"no embedding":       {kv{}, "token_embd.weight", "token_embd.weight is missing"},
		"no final norm":      {kv{}, "output_norm.weight", "tensor output_norm.weight is missing"},
		"no tokenizer":       {kv{"tokenizer.ggml.model": nil}, "", "tokenizer.ggml.model"},
		"longer vocabulary":  {kv{"tokenizer.ggml.tokens": append(strings.Split("abcdefghijklmnopqrstuvwxyz012345", ""), "#", "+"), "tokenizer.ggml.scores": make([]float32, 34), "tokenizer.ggml.token_type": ones32(34)}, "", "the vocabulary has 34 tokens, token_embd.weight has rows for 31"},
	} {
		t.Run(name, func(t *testing.T) {
			err := rewritten(t, "llama", c.set, func(n string) bool { return n == c.drop })
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
			assert.Contains(t, err.Error(), "m.gguf", "the message names the file")
			assert.NotContains(t, err.Error(), "\n")
		})
	}
	// what llama may have and phi2 must have
	err := rewritten(t, "phi2", kvNone(), func(n string) bool { return n == "blk.1.ffn_up.bias" })
	assert.ErrorContains(t, err, "tensor blk.1.ffn_up.bias is missing (phi2)")
}

// The angles' divisors of Llama 3 come with the weights.
func TestRopeFactors(t *testing.T) {
	for want, factors := range map[string][]float32{
		"": {1, 2},
		"m.gguf: rope_freqs.weight[1] is 0, want a positive number":               {1, 0},
		"m.gguf: rope_freqs.weight[0] is NaN, want a positive number":             {float32(math.NaN()), 1},
		"m.gguf: rope_freqs.weight[1] is +Inf, want a positive number":            {1, float32(math.Inf(1))},
		"m.gguf: rope_freqs.weight is type F32 with dimensions [3], want F32 [2]": {1, 1, 1},
	} {
		err := rewritten(t, "llama", kvNone(), nil, vector("rope_freqs.weight", factors))
		if want == "" {
			assert.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, want)
		}
	}
}

// vector is a tensor of float32.
func vector(name string, x []float32) gguf.TensorData {
	var b []byte
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return gguf.TensorData{Name: name, Type: gguf.F32, Dims: []uint64{uint64(len(x))}, Bytes: func() ([]byte, error) { return b, nil }}
}

// How a file's keys turn queries and keys, as llama.cpp reads them. YaRN by hand: of the pairs of a head of 4
// the first turns 2048/2π = 326 times in the original context, more than 32, and keeps its
// frequency. The second, which turns a hundredth of that, is pair 1 on a scale where 32 turns are
// pair 0.50, rounded down, and one turn is pair 1.26, rounded up: half its frequency is divided by the factor.
func TestRopeScaling(t *testing.T) {
	const four, long = float32(4), 1 + 0.1*math.Ln2*2
	type kv = map[string]any
	yarn := func(set kv) kv {
		set["rope.scaling.type"], set["rope.scaling.original_context_length"] = "yarn", uint32(2048)
		return set
	}
	short := []gguf.TensorData{vector("rope_factors_short.weight", []float32{2, 3}), vector("rope_factors_long.weight", []float32{5, 7})}
	for name, c := range map[string]struct {
		arch    string
		set     kv
		tensors []gguf.TensorData
		want    *nn.Rope
		local   *nn.Rope // of local blocks
	}{
		"plain":               {"llama", kv{}, nil, &nn.Rope{FreqScale: 1, Scale: 1}, nil},
		"linear":              {"llama", kv{"rope.scaling.type": "linear", "rope.scaling.factor": four}, nil, &nn.Rope{FreqScale: 0.25, Scale: 1}, nil},
		"no type":             {"llama", kv{"rope.scaling.factor": four}, nil, &nn.Rope{FreqScale: 0.25, Scale: 1}, nil},
		"an old file":         {"llama", kv{"rope.scale_linear": four}, nil, &nn.Rope{FreqScale: 0.25, Scale: 1}, nil},
		"none":                {"llama", kv{"rope.scaling.type": "none", "rope.scaling.factor": four}, nil, &nn.Rope{FreqScale: 1, Scale: 1}, nil},
		"yarn":                {"llama", yarn(kv{"rope.scaling.factor": four}), nil, &nn.Rope{FreqScale: 1, Factors: []float32{1, 1.6}, Scale: long}, nil},
		"yarn and attention":  {"llama", yarn(kv{"rope.scaling.factor": four, "rope.scaling.attn_factor": float32(1.5)}), nil, &nn.Rope{FreqScale: 1, Factors: []float32{1, 1.6}, Scale: 1.5 * long}, nil},
		"yarn that shrinks":   {"llama", yarn(kv{"rope.scaling.factor": float32(0.25)}), nil, &nn.Rope{FreqScale: 1, Factors: []float32{1, 0.4}, Scale: 1}, nil},
		"yarn and divisors":   {"llama", yarn(kv{"rope.scaling.factor": four}), []gguf.TensorData{vector("rope_freqs.weight", []float32{2, 3})}, &nn.Rope{FreqScale: 1, Factors: []float32{2, 4.8}, Scale: long}, nil},
		"longrope":            {"phi3", kv{"rope.scaling.type": "longrope", "rope.scaling.original_context_length": uint32(32), "rope.scaling.attn_factor": float32(1.5)}, short, &nn.Rope{Neox: true, FreqScale: 1, Factors: []float32{2, 3}, Scale: 1.5}, nil},
		"local, never scaled": {"olmo2", yarn(kv{"rope.scaling.factor": four, "attention.sliding_window": uint32(3)}), nil, &nn.Rope{Neox: true, FreqScale: 1, Factors: []float32{1, 1.6}, Scale: long}, &nn.Rope{Neox: true, FreqScale: 1}},
		"local, scaled":       {"gemma2", kv{"rope.scaling.factor": four}, nil, &nn.Rope{Neox: true, FreqScale: 0.25, Scale: 1}, &nn.Rope{Neox: true, FreqScale: 0.25, Scale: 1}},
		"no window":           {"olmo2", kv{"attention.sliding_window": uint32(0)}, nil, &nn.Rope{Neox: true, FreqScale: 1, Scale: 1}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			set := kv{}
			for k, v := range c.set {
				set[c.arch+"."+k] = v
			}
			m, err := engine.Open(rewrite(t, c.arch, set, nil, c.tensors...), engine.Options{})
			require.NoError(t, err)
			defer m.Close()
			for got, want := range map[*nn.Rope]*nn.Rope{m.Config.Rope: c.want, m.Config.LocalRope: c.local} {
				if want == nil {
					assert.Nil(t, got)
					continue
				}
				want.Dim, want.Base = 4, 10000
				assert.InDelta(t, want.Scale, got.Scale, 1e-7) // keys are float32
				want.Scale = got.Scale
				assert.InDeltaSlice(t, want.Factors, got.Factors, 1e-6)
				want.Factors = got.Factors
				assert.Equal(t, want, got)
			}
			if c.tensors != nil && c.arch == "phi3" {
				assert.Equal(t, 32, m.Config.NCtx, "longer texts have other divisors, which are not used")
			}
		})
	}
}

func kvNone() map[string]any { return map[string]any{} }

func ones32(n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = 1
	}
	return out
}

func TestOpenNamesWhatIsNotThere(t *testing.T) {
	_, err := engine.Open(filepath.Join(t.TempDir(), "none.gguf"), engine.Options{})
	assert.ErrorContains(t, err, "none.gguf")
	m := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
	_, err = m.Param("blk.7.attn_q.weight")
	assert.ErrorContains(t, err, "has no tensor blk.7.attn_q.weight")
	assert.ErrorContains(t, m.TrainLoRA(engine.LoRAOptions{Rank: 0, Alpha: 1}), "rank is 0, want 1 to the model's width 16")
	assert.ErrorContains(t, m.TrainLoRA(engine.LoRAOptions{Rank: 1 << 30, Alpha: 1}), "rank is 1073741824")
	assert.ErrorContains(t, m.TrainLoRA(engine.LoRAOptions{Rank: 1, Alpha: math.Inf(1)}), "alpha is +Inf")
	m.TrainFull()
	assert.ErrorContains(t, m.TrainLoRA(engine.LoRAOptions{Rank: 1, Alpha: 1, Targets: []string{"none"}}), "no matrix matches")
	assert.ErrorContains(t, m.TrainLoRA(engine.LoRAOptions{Rank: 1, Alpha: 1, Targets: []string{"["}}), "syntax error in pattern")
	assert.Len(t, m.Trainable(), len(m.Params()), "what failed has changed nothing")
}

// Create is deterministic, and refuses shapes that make no model.
func TestCreate(t *testing.T) {
	requireSameFile(t, tiny.Path(t, tiny.Shape("phi2")), tiny.Path(t, tiny.Shape("phi2")))
	s := tiny.Shape("llama")
	s.NHeads = 5
	assert.ErrorContains(t, engine.Create(filepath.Join(t.TempDir(), "x"), s), "do not make a model")
	for _, bad := range []func(*engine.Shape){
		func(s *engine.Shape) { s.DModel = 0 },
		func(s *engine.Shape) { s.NHeads = 0 },
		func(s *engine.Shape) { s.NKVHeads = 0 },
		func(s *engine.Shape) { s.NCtx = 0 },
	} {
		s := tiny.Shape("llama")
		bad(&s)
		assert.ErrorContains(t, engine.Create(filepath.Join(t.TempDir(), "x"), s), "do not make a model")
	}
	for _, dim := range []int{-2, 3, 6} {
		s := tiny.Shape("llama")
		s.RopeDim = dim
		assert.ErrorContains(t, engine.Create(filepath.Join(t.TempDir(), "x"), s), "want an even number up to the head width 4")
	}
	s = tiny.Shape("llama")
	s.Arch = "rwkv"
	assert.ErrorContains(t, engine.Create(filepath.Join(t.TempDir(), "x"), s), `architecture "rwkv" is not known`)
}

package main

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/simd"
)

// smallRecipe is the small shape with 2 blocks.
func smallRecipe(typ string) recipe {
	r := recipe{shape: shapes["small"], typ: typ, learnt: 512, poolRows: 256}
	r.shape.NLayers, r.shape.Seed = 2, 1
	return r
}

func demoTexts(t *testing.T) []string {
	t.Helper()
	texts, err := readTexts([]string{filepath.Join("..", "..", demoFiles[1])})
	require.NoError(t, err)
	return texts
}

// The seven billion parameters are those of Llama 2 7B, and each type's file has the size that
// llama-quantize's has, less the vocabulary.
func TestSevenBillion(t *testing.T) {
	for typ, size := range map[string]float64{"BF16": 13.476e9, "Q8_0": 7.159e9, "Q4_K": 4.080e9} {
		r := recipe{shape: shapes["7b"], typ: typ, learnt: 512, poolRows: 4096}
		kvs, tensors, err := r.build(demoTexts(t))
		require.NoError(t, err)
		params, total := uint64(0), 0.0
		for _, x := range tensors {
			n := uint64(1)
			for _, d := range x.Dims {
				n *= d
			}
			length, bytes, ok := x.Type.Block()
			require.True(t, ok)
			params += n
			total += float64(n / length * bytes)
		}
		assert.Equal(t, uint64(6738415616), params, typ)
		assert.InDelta(t, size, total, 0.002e9, typ)
		assert.Len(t, keyOf(t, kvs, "tokenizer.ggml.tokens"), 32000)
	}
}

func keyOf(t *testing.T, kvs []gguf.KV, key string) any {
	t.Helper()
	for _, kv := range kvs {
		if kv.Key == key {
			return kv.Value
		}
	}
	require.Fail(t, "no such key", key)
	return nil
}

// A made model opens, has finite weights of the wanted scale in the wanted types, and its
// tokenizer gives learnt tokens only. The same recipe gives the same bytes, another seed others.
func TestMake(t *testing.T) {
	dir, texts := t.TempDir(), demoTexts(t)
	path := filepath.Join(dir, "a.gguf")
	for _, c := range []struct {
		typ        string
		pure       bool
		gate, head gguf.TensorType
		loss       float64 // a bound of the relative error of a weight's square, on average
	}{
		{"Q8_0", false, gguf.Q8_0, gguf.Q8_0, 0.001},
		{"Q4_K", false, gguf.Q4_K, gguf.Q6_K, 0.02},
		{"Q4_K", true, gguf.Q4_K, gguf.Q4_K, 0.02},
		{"BF16", false, gguf.BF16, gguf.BF16, 0.001},
	} {
		r := smallRecipe(c.typ)
		r.pure = c.pure
		require.NoError(t, r.write(path, texts))
		m, err := engine.Open(path, engine.Options{Threads: 1})
		require.NoError(t, err)
		k := simd.All()[0]
		for _, p := range m.Params() {
			require.NoError(t, p.Stored.CheckFinite(k), p.Name)
			want := map[string]gguf.TensorType{"blk.1.ffn_gate.weight": c.gate, "output.weight": c.head, "output_norm.weight": gguf.F32}
			if typ, ok := want[p.Name]; ok {
				assert.Equal(t, typ, p.Stored.Type.GGUF, "%s of %s", p.Name, c.typ)
			}
			if p.Rows == 1 {
				continue
			}
			sigma := std
			if strings.HasSuffix(p.Name, "attn_output.weight") || strings.HasSuffix(p.Name, "ffn_down.weight") {
				sigma /= 2 // √(2·2)
			}
			n, sum := float64(p.Rows*p.Cols), 0.0
			for _, v := range p.Stored.Dequantize(k) {
				sum += float64(v) * float64(v)
			}
			// The mean of n squares of normal numbers has the standard deviation √(2/n), of
			// the distinct rows of a pool more.
			distinct := math.Min(n, float64(r.poolRows*p.Cols))
			assert.InDelta(t, 1, sum/n/(sigma*sigma), c.loss+5*math.Sqrt(2/distinct), "%s of %s", p.Name, c.typ)
		}
		for _, id := range m.Tokenizer.Encode("[INST] Who wrote <unused600>? [/INST]", tokenizer.EncodeOptions{}) {
			assert.Less(t, id, int32(512))
		}
		require.NoError(t, m.Close())
	}

	first, err := os.ReadFile(path)
	require.NoError(t, err)
	r := smallRecipe("BF16")
	require.NoError(t, r.write(path, texts))
	again, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(first, again))
	r.shape.Seed = 2
	require.NoError(t, r.write(path, texts))
	other, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.False(t, bytes.Equal(first, other))
}

// A matrix of no more rows than its pool has each of them at most once.
func TestPoolRows(t *testing.T) {
	r := smallRecipe("F32")
	r.poolRows = 8
	p, err := r.newPool(poolKey{typ: gguf.F32, cols: 4})
	require.NoError(t, err)
	count := func(data []byte) map[string]int {
		n := map[string]int{}
		for i := 0; i < len(data); i += p.rowBytes {
			n[string(data[i:i+p.rowBytes])]++
		}
		return n
	}
	for seed := range uint64(10) {
		assert.Len(t, count(p.rows(nil, 8, newRand(seed))), 8)
		all := count(p.rows(nil, 20, newRand(seed)))
		assert.Len(t, all, 8)
		for _, n := range all {
			assert.Contains(t, []int{2, 3}, n)
		}
	}
	assert.NotEqual(t, p.rows(nil, 8, newRand(1)), p.rows(nil, 8, newRand(2)))
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

package hf

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/enginetest"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/simd"
)

func testCtx() *nn.Ctx { return nn.NewCtx(simd.Best(), 2) }

// shaken is a tiny model whose vectors are not all ones and zeros, so that a bias that is not
// moved with its matrix shows.
func shaken(t *testing.T, name string) *gguf.File {
	t.Helper()
	return shake(t, tiny.Path(t, tiny.Shape(name)))
}

func shake(t *testing.T, path string) *gguf.File {
	f := openGGUF(t, path)
	rng := rand.New(rand.NewPCG(1, 2))
	var replace []gguf.TensorData
	for _, x := range f.Tensors {
		if len(x.Dims) == 1 || strings.Contains(x.Name, "_norm") {
			v := make([]float32, x.Size/4)
			for i := range v {
				v[i] = 0.5 + rng.Float32()
			}
			replace = append(replace, gguf.TensorData{Name: x.Name, Type: x.Type, Bytes: func() ([]byte, error) { return bytesOf(v), nil }})
		}
	}
	out := filepath.Join(t.TempDir(), "shaken.gguf")
	require.NoError(t, gguf.Rewrite(out, f, nil, replace))
	return openGGUF(t, out)
}

func openGGUF(t *testing.T, path string) *gguf.File {
	t.Helper()
	f, err := gguf.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func export(t *testing.T, f *gguf.File, o ExportOptions) string {
	t.Helper()
	dir := t.TempDir()
	_, err := Export(testCtx(), f, dir, o)
	require.NoError(t, err)
	return dir
}

func importTo(t *testing.T, dir string, o ImportOptions) *gguf.File {
	t.Helper()
	c, err := Open(dir)
	require.NoError(t, err)
	defer c.Close()
	kvs, tensors, err := c.Import(testCtx(), o)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "back.gguf")
	require.NoError(t, gguf.Write(path, kvs, tensors))
	return openGGUF(t, path)
}

// sameTensors compares bytes. The fused q, k and v of phi2 come back as three.
func sameTensors(t *testing.T, a, b *gguf.File) {
	t.Helper()
	got := map[string][]byte{}
	for i := range b.Tensors {
		x := &b.Tensors[i]
		got[x.Name] = append([]byte(gguf.FormatDims(x.Dims)+x.Type.String()), b.Data(x)...)
	}
	for i := range a.Tensors {
		x := &a.Tensors[i]
		want := append([]byte(gguf.FormatDims(x.Dims)+x.Type.String()), a.Data(x)...)
		if _, ok := got[x.Name]; !ok && strings.Contains(x.Name, "attn_qkv") {
			var all []byte
			for _, p := range []string{"attn_q.", "attn_k.", "attn_v."} {
				part, ok := b.Tensor(strings.Replace(x.Name, "attn_qkv.", p, 1))
				require.True(t, ok, x.Name)
				all = append(all, b.Data(part)...)
				delete(got, part.Name)
			}
			assert.Equal(t, a.Data(x), all, x.Name)
			continue
		}
		assert.Equal(t, want, got[x.Name], "%s", x.Name)
		delete(got, x.Name)
	}
	assert.Empty(t, got)
}

// sameKeys says that b has the architecture's and the tokenizer's keys of a, which may leave what is usual unsaid.
func sameKeys(t *testing.T, a, b *gguf.File) {
	t.Helper()
	arch, _, _ := a.String("general.architecture")
	for _, kv := range a.KVs {
		if !strings.HasPrefix(kv.Key, arch+".") && !strings.HasPrefix(kv.Key, "tokenizer.") {
			continue
		}
		v, ok := b.Value(kv.Key)
		if !ok {
			if n, isNumber := kv.Value.(uint32); isNumber && n == math.MaxUint32 {
				continue // no such token
			}
			switch strings.TrimPrefix(kv.Key, arch+".") {
			case keyDims, "vocab_size", keyBase, "expert_feed_forward_length": // where the architecture has no such choice
				continue
			}
		}
		assert.Equal(t, kv.Value, v, kv.Key)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, name := range tiny.Names() {
		t.Run(name, func(t *testing.T) {
			f := shaken(t, name)
			back := importTo(t, export(t, f, ExportOptions{}), ImportOptions{})
			sameTensors(t, f, back)
			sameKeys(t, f, back)
		})
	}
}

func TestRoundTripOfReferenceModels(t *testing.T) {
	for _, name := range []string{"stories260K-f32.gguf", "cappgpt236K-f32.gguf"} {
		t.Run(name, func(t *testing.T) {
			f := openGGUF(t, enginetest.Shared(t, "models/"+name))
			back := importTo(t, export(t, f, ExportOptions{MaxBytes: 200_000}), ImportOptions{})
			sameTensors(t, f, back)
			sameKeys(t, f, back)
		})
	}
}

func TestLike(t *testing.T) {
	f := shaken(t, "llama")
	dir := export(t, f, ExportOptions{Type: "BF16"})
	bf16 := importTo(t, dir, ImportOptions{})
	again := export(t, bf16, ExportOptions{Like: dir})
	for _, name := range []string{"config.json", "tokenizer.json", "tokenizer.model", "model.safetensors"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(again, name))
		require.NoError(t, err)
		if name == "model.safetensors" { // the header's order follows the GGUF file, which follows the header
			assert.Equal(t, len(want), len(got))
			continue
		}
		assert.Equal(t, want, got, name)
	}
	_, err := Export(testCtx(), shaken(t, "qwen2"), t.TempDir(), ExportOptions{Like: dir})
	assert.ErrorContains(t, err, "is of a model of llama")
}

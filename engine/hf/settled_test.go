package hf

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/gguf"
)

// checkpointOf is a checkpoint of testdata to spoil.
func checkpointOf(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))))
	return dir
}

// TestSettled changes what a GGUF file cannot say; an error of "" means that config.json still says the same.
func TestSettled(t *testing.T) {
	local := func(base float64) map[string]any {
		return map[string]any{
			"full_attention":    map[string]any{"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
			"sliding_attention": map[string]any{"rope_type": "default", "rope_theta": base},
		}
	}
	layers := func(full int) []string {
		out := strings.Split(strings.Repeat("sliding_attention ", 7), " ")[:7]
		out[full] = "full_attention"
		return out
	}
	type m = map[string]any
	for name, c := range map[string]struct {
		model string
		set   m
		want  string
	}{
		"gemma2 scale":          {"gemma2", m{"query_pre_attn_scalar": 8}, "query_pre_attn_scalar is 8, want 6: a GGUF file of gemma2 cannot say so"},
		"gemma2 no scale":       {"gemma2", m{"query_pre_attn_scalar": nil}, "query_pre_attn_scalar is 256, want 6"},
		"gemma2 no cap":         {"gemma2", m{"attn_logit_softcapping": nil}, "attn_logit_softcapping is <nil>"},
		"gemma2 layers":         {"gemma2", m{"layer_types": []string{"sliding_attention", "full_attention"}}, ""},
		"gemma2 all local":      {"gemma2", m{"layer_types": []string{"sliding_attention", "sliding_attention"}}, "layer_types[1] is sliding_attention, want full_attention"},
		"gemma3 new names":      {"gemma3_text", m{"rope_theta": nil, "rope_local_base_freq": nil, "rope_scaling": nil, "rope_parameters": local(1e4), "layer_types": layers(5)}, ""},
		"gemma3 other base":     {"gemma3_text", m{"rope_local_base_freq": nil, "rope_parameters": local(2e4)}, "rope_local_base_freq is 20000, want 10000"},
		"gemma3 base":           {"gemma3_text", m{"rope_local_base_freq": 1e5}, "rope_local_base_freq is 100000"},
		"gemma3 pattern":        {"gemma3_text", m{"sliding_window_pattern": 4}, "sliding_window_pattern is 4, want 6"},
		"gemma3 hidden pattern": {"gemma3_text", m{"sliding_window_pattern": nil, "_sliding_window_pattern": 4}, "sliding_window_pattern is 4, want 6"},
		"gemma3 layers":         {"gemma3_text", m{"layer_types": layers(4)}, "layer_types[4] is full_attention, want sliding_attention"},
		"gemma3 cap":            {"gemma3_text", m{"final_logit_softcapping": 30}, "final_logit_softcapping is 30"},
		"shares of experts":     {"qwen3_moe", m{"norm_topk_prob": false}, "norm_topk_prob is false, want true: a GGUF file of qwen3moe cannot say so"},
		"no shares of experts":  {"qwen3_moe", m{"norm_topk_prob": nil}, "norm_topk_prob is false"},
		"text for a truth":      {"qwen3_moe", m{"norm_topk_prob": "yes"}, "norm_topk_prob is yes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := checkpointOf(t, c.model)
			f := importTo(t, dir, ImportOptions{})
			edit(t, dir, "config.json", func(m map[string]any) { maps.Copy(m, c.set) })
			checkpoint, err := Open(dir)
			require.NoError(t, err)
			defer checkpoint.Close()
			kvs, _, err := checkpoint.Import(testCtx(), ImportOptions{})
			_, likeErr := Export(testCtx(), f, t.TempDir(), ExportOptions{Like: dir})
			if c.want != "" {
				assert.ErrorContains(t, err, c.want)
				assert.ErrorContains(t, likeErr, c.want)
				return
			}
			require.NoError(t, err)
			require.NoError(t, likeErr)
			for _, kv := range f.KVs { // general.name is the directory's
				if !strings.HasPrefix(kv.Key, "general.") {
					assert.Contains(t, kvs, kv)
				}
			}
		})
	}
}

// TestSettledOfExports says that config.json of an export has what the library would take otherwise.
func TestSettledOfExports(t *testing.T) {
	for model, want := range map[string]map[string]any{
		"gemma":       {"head_dim": 6.0},
		"gemma2":      {"query_pre_attn_scalar": 6.0, "head_dim": 6.0, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0, "sliding_window": 4.0},
		"gemma3_text": {"query_pre_attn_scalar": 6.0, "head_dim": 6.0, "rope_local_base_freq": 10000.0, "sliding_window_pattern": 6.0, "rope_theta": 1e6},
		"qwen3_moe":   {"norm_topk_prob": true, "head_dim": 6.0, "moe_intermediate_size": 8.0},
	} {
		t.Run(model, func(t *testing.T) {
			c := exported(t, importTo(t, filepath.Join("testdata", model), ImportOptions{}))
			for k, v := range want {
				assert.Equal(t, v, c[k], k)
			}
		})
	}
}

// TestAbsentKeys takes a config.json without keys, which the library reads as values of its own, and a GGUF
// file without them, which the engine reads as others.
func TestAbsentKeys(t *testing.T) {
	dir := checkpointOf(t, "llama")
	edit(t, dir, "config.json", func(m map[string]any) { delete(m, "rms_norm_eps") })
	f := importTo(t, dir, ImportOptions{})
	eps, _, err := f.Float("llama." + keyRMS)
	require.NoError(t, err)
	assert.Equal(t, float32(1e-6), float32(eps))

	dir = checkpointOf(t, "mixtral")
	edit(t, dir, "config.json", func(m map[string]any) { delete(m, "rope_theta") })
	f = importTo(t, dir, ImportOptions{})
	base, _, err := f.Float("llama." + keyBase)
	require.NoError(t, err)
	assert.Equal(t, 1e6, base)

	c := exported(t, without(t, importTo(t, filepath.Join("testdata", "qwen2"), ImportOptions{}), "qwen2."+keyBase, "qwen2."+keyRMS))
	assert.Equal(t, 10000.0, c["rope_theta"])
	assert.Equal(t, 1e-5, c["rms_norm_eps"])

	c = exported(t, without(t, shaken(t, "qwen3"), "qwen3."+keyKey, "qwen3."+keyValue))
	assert.Equal(t, c["hidden_size"], c["head_dim"].(float64)*c["num_attention_heads"].(float64))

	c = exported(t, without(t, importTo(t, filepath.Join("testdata", "phi"), ImportOptions{}), "phi2.attention.head_count_kv"))
	assert.Equal(t, 2.0, c["num_key_value_heads"])
}

// without is a file that lacks keys.
func without(t *testing.T, f *gguf.File, keys ...string) *gguf.File {
	t.Helper()
	kvs := slices.DeleteFunc(slices.Clone(f.KVs), func(kv gguf.KV) bool { return slices.Contains(keys, kv.Key) })
	var tensors []gguf.TensorData
	for i := range f.Tensors {
		x := &f.Tensors[i]
		tensors = append(tensors, gguf.TensorData{Name: x.Name, Type: x.Type, Dims: x.Dims, Bytes: func() ([]byte, error) { return f.Data(x), nil }})
	}
	path := filepath.Join(t.TempDir(), "without.gguf")
	require.NoError(t, gguf.Write(path, kvs, tensors))
	return openGGUF(t, path)
}

// exported returns config.json of an export.
func exported(t *testing.T, f *gguf.File) map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(export(t, f, ExportOptions{}), "config.json"))
	require.NoError(t, err)
	var c map[string]any
	require.NoError(t, json.Unmarshal(data, &c))
	return c
}

// TestModelWithImages takes the text of a model that has images, too, under the names of two versions of the library.
func TestModelWithImages(t *testing.T) {
	for name, rename := range map[string]func(string) string{
		"4.49": func(name string) string { return "language_model." + name },
		"4.52": func(name string) string {
			return "model.language_model." + strings.TrimPrefix(name, "model.")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := checkpointOf(t, "gemma3_text")
			want := importTo(t, dir, ImportOptions{})
			plain, err := Open(dir)
			require.NoError(t, err)
			defer plain.Close()
			out := []output{{name: "vision_tower.x.weight", typ: gguf.F32, shape: []uint64{1}, bytes: func() ([]byte, error) { return bytesOf([]float32{1}), nil }}}
			for _, a := range plain.arrays {
				out = append(out, output{rename(a.name), floats[a.dtype], a.shape, func() ([]byte, error) { return slices.Clone(a.data), nil }})
			}
			var b bytes.Buffer
			require.NoError(t, writeSafetensors(&b, out))
			images := checkpointOf(t, "gemma3_text")
			require.NoError(t, os.WriteFile(filepath.Join(images, "model.safetensors"), b.Bytes(), 0o600))
			edit(t, images, "config.json", func(m map[string]any) {
				text := maps.Clone(m)
				clear(m)
				m["architectures"], m["model_type"] = []string{"Gemma3ForConditionalGeneration"}, "gemma3"
				m["text_config"], m["vision_config"] = text, map[string]any{"hidden_size": 8}
				delete(text, "architectures")
			})
			got := importTo(t, images, ImportOptions{})
			sameTensors(t, want, got)
			sameKeys(t, want, got)
			_, err = Export(testCtx(), got, t.TempDir(), ExportOptions{Like: images})
			assert.ErrorContains(t, err, "of which "+got.Name+" has only the text; without --like, that goes out as Gemma3ForCausalLM")
		})
	}
}

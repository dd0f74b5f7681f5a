package hf

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/internal/mutate"
)

// edit changes a JSON file of a checkpoint.
func edit(t *testing.T, dir, name string, change func(m map[string]any)) {
	t.Helper()
	path := filepath.Join(dir, name)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(data, &m))
	change(m)
	data, err = json.Marshal(m)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, data, 0o600))
}

func TestBadCheckpoints(t *testing.T) {
	f := shaken(t, "llama")
	config := func(key string, v any) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			edit(t, dir, "config.json", func(m map[string]any) { m[key] = v })
		}
	}
	tokenizer := func(change func(m map[string]any)) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "tokenizer.model")))
			edit(t, dir, "tokenizer.json", change)
		}
	}
	model := func(m map[string]any) map[string]any { return m["model"].(map[string]any) }
	weightMap := func(v map[string]any) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			data, err := json.Marshal(map[string]any{"weight_map": v})
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), data, 0o600))
		}
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  string
	}{
		"no config": {func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "config.json"))) }, "has no config.json"},
		"no weights": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "model.safetensors")))
		}, "has neither model.safetensors nor"},
		"pickle": {func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "pytorch_model.bin")))
		}, "the weights are a pickle (pytorch_model.bin)"},
		"unknown class":      {config("architectures", []string{"MambaForCausalLM"}), "[MambaForCausalLM], which is not known; there are MixtralForCausalLM, LlamaForCausalLM"},
		"activation":         {config("hidden_act", "relu"), "hidden_act is relu, want silu"},
		"heads":              {config("num_attention_heads", 3), "q_proj.weight: it is 16×16, want 15×16"},
		"no heads":           {config("num_attention_heads", 0), "num_attention_heads is 0"},
		"half a head":        {config("num_attention_heads", 2.5), "want a whole number"},
		"text for a number":  {config("hidden_size", "16"), "hidden_size is 16, want a number"},
		"more blocks":        {config("num_hidden_layers", 3), "lacks model.layers.2.input_layernorm.weight, "},
		"fewer blocks":       {config("num_hidden_layers", 1), "llama has no use for model.layers.1.input_layernorm.weight, "},
		"vocabulary":         {config("vocab_size", 40), "want 40 rows"},
		"untied":             {config("tie_word_embeddings", false), "lacks lm_head.weight"},
		"feed-forward":       {config("intermediate_size", 25), "want 25×16"},
		"rope":               {config("rope_scaling", map[string]any{"rope_type": "dynamic"}), `rope type "dynamic" is not known`},
		"rope of no numbers": {config("rope_scaling", map[string]any{"rope_type": "llama3", "factor": 0}), "factor is 0, want a positive number"},
		"rope of no base":    {config("rope_theta", 0), "rope_theta or rotary_emb_base is 0, want a positive number"},
		"rope of no size":    {config("rope_scaling", map[string]any{"rope_type": "linear", "factor": -1}), "factor is -1, want a positive number"},
		"norm":               {config("rms_norm_eps", 1e39), "is 1e+39, want a positive number"},
		"index elsewhere":    {weightMap(map[string]any{"a": "../other.safetensors"}), "want a file of the directory"},
		"index of nothing":   {weightMap(map[string]any{"a": "none.safetensors"}), "none.safetensors: no such file"},
		"index lies":         {weightMap(map[string]any{"a": "model.safetensors"}), "which model.safetensors.index.json does not say"},
		"truncated": {func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, "model.safetensors"), 2000))
		}, "model.safetensors: "},
		"token out of range": {tokenizer(func(m map[string]any) { model(m)["vocab"].(map[string]any)["zz"] = 1000 }), "number 1000, but the embedding has 31 rows"},
		"token twice":        {tokenizer(func(m map[string]any) { model(m)["vocab"].(map[string]any)["zz"] = 5 }), "token 5 is both"},
		"unigram":            {tokenizer(func(m map[string]any) { model(m)["type"] = "Unigram" }), `the model is "Unigram", want BPE`},
		"merge of no token": {tokenizer(func(m map[string]any) {
			model(m)["byte_fallback"], model(m)["merges"] = true, []string{"a b"}
		}), `makes "ab", which is no token`},
		"no merge": {tokenizer(func(m map[string]any) {
			model(m)["byte_fallback"], model(m)["merges"] = true, []any{[]string{"a"}}
		}), "is no merge of two tokens"},
		"unknown words": {tokenizer(func(m map[string]any) {
			m["pre_tokenizer"] = map[string]any{"type": "Sequence", "pretokenizers": []any{map[string]any{"type": "Whitespace"}, map[string]any{"type": "ByteLevel"}}}
		}), `words are cut by ["Whitespace" "bytes"], which is not known`},
		"protocol buffer": {func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "tokenizer.model"), []byte("\x0a\xff\xff\xff\xff\x0f"), 0o600))
		}, "tokenizer.model: the protocol buffer is cut off"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := export(t, f, ExportOptions{})
			c.spoil(t, dir)
			checkpoint, err := Open(dir)
			if err == nil {
				defer checkpoint.Close()
				_, _, err = checkpoint.Import(testCtx(), ImportOptions{})
			}
			assert.ErrorContains(t, err, c.want)
		})
	}
}

func FuzzTokenizerJSON(f *testing.F) {
	f.Add([]byte(`{"added_tokens":[{"id":1,"content":"<s>","special":true}],"model":{"type":"BPE","vocab":{"a":0,"<s>":1,"b":2,"ab":3},"merges":["a b"],"byte_fallback":true}}`))
	f.Add([]byte(`{"pre_tokenizer":{"type":"ByteLevel"},"model":{"vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}}`))
	dir := f.TempDir()
	c := &Checkpoint{Dir: dir, family: &families[1]}
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "tokenizer.json"), data, 0o600))
		v, err := c.readVocab(8)
		if err != nil {
			return
		}
		assert.Len(t, v.tokens, 8)
		for id, text := range v.tokens {
			assert.Equal(t, id, v.ids[text])
		}
	})
}

func FuzzSentencePiece(f *testing.F) {
	m := &sentencePiece{pieces: []piece{{"<unk>", 0, typeUnknown}, {"▁a", -1.5, typeNormal}}, prefix: true}
	f.Add(m.encode(0, -1, -1, -1))
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		if m, err := parseSentencePiece(data); err == nil {
			again, err := parseSentencePiece(m.encode(0, 1, 2, -1))
			require.NoError(t, err)
			assert.Len(t, again.pieces, len(m.pieces))
		}
	})
}

package hf

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/internal/mutate"
)

// TestRopeScaling takes each scaling of the rotary embedding into a GGUF file and back.
func TestRopeScaling(t *testing.T) {
	ones := func(x float64) []any { return []any{x, x + 0.5} } // heads of 4 numbers
	for name, c := range map[string]struct {
		arch    string
		config  map[string]any // beside what the model has
		scaling map[string]any
		keys    map[string]any // of the GGUF file, behind rope.scaling.
		tensors map[string][]float32
	}{
		"linear": {"llama", nil, map[string]any{"rope_type": "linear", "factor": 4.0},
			map[string]any{"type": "linear", "factor": float32(4)}, nil},
		"yarn": {"qwen2", nil, map[string]any{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32.0, "beta_fast": 16.0, "beta_slow": 2.0},
			map[string]any{"type": "yarn", "factor": float32(4), "original_context_length": uint32(32), "yarn_beta_fast": float32(16), "yarn_beta_slow": float32(2)}, nil},
		"llama3": {"llama", map[string]any{"rope_theta": 500000.0}, map[string]any{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192.0},
			nil, map[string][]float32{"rope_freqs.weight": {1, 2.6945297}}}, // a wave of 4443 positions: smooth is 0.28
		"longrope": {"phi3", map[string]any{"original_max_position_embeddings": 16.0}, map[string]any{"type": "longrope", "long_factor": ones(2), "short_factor": ones(1)},
			map[string]any{"type": "longrope", "original_context_length": uint32(16), "attn_factor": float32(math.Sqrt(1.5))},
			map[string][]float32{"rope_factors_long.weight": {2, 2.5}, "rope_factors_short.weight": {1, 1.5}}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := export(t, shaken(t, c.arch), ExportOptions{})
			edit(t, dir, "config.json", func(m map[string]any) {
				for k, v := range c.config {
					m[k] = v
				}
				m["rope_scaling"] = c.scaling
			})
			f := importTo(t, dir, ImportOptions{})
			for k, v := range c.keys {
				got, _ := f.Value(c.arch + ".rope.scaling." + k)
				assert.Equal(t, v, got, k)
			}
			for k, v := range c.tensors {
				x, ok := f.Tensor(k)
				require.True(t, ok, k)
				require.Equal(t, gguf.F32, x.Type)
				got, err := matrixOf(x.Type, x.Dims, f.Data(x))
				require.NoError(t, err)
				assert.InDeltaSlice(t, v, got.Dequantize(testCtx().K), 1e-5, k)
			}
			data, err := os.ReadFile(filepath.Join(export(t, f, ExportOptions{}), "config.json"))
			require.NoError(t, err)
			var m map[string]any
			require.NoError(t, json.Unmarshal(data, &m))
			assert.Equal(t, c.scaling, m["rope_scaling"])
			for k, v := range c.config {
				assert.Equal(t, v, m[k], k)
			}
		})
	}
}

// TestLlama3 compares with a value worked by hand: with base 500000 and heads of 128 numbers, pair 35 turns once in
// 2π·500000^(70/128) = 8219 positions, more than 8192: it is divided by the factor; pair 20 in 379: it is kept.
func TestLlama3(t *testing.T) {
	got := llama3(500000, 128, 8, 1, 4, 8192)
	assert.Equal(t, float32(8), got[35])
	assert.Equal(t, float32(1), got[20])
	// Pair 30 turns once in 2948 positions: 8192/2948 is 2.779, which is 0.5929 of the way from 1 to 4.
	assert.InDelta(t, 1/((1-0.5929)/8+0.5929), got[30], 1e-3)
}

// TestRotaryParts reads the part of a head that is rotated in its old place and its new one.
func TestRotaryParts(t *testing.T) {
	for model, key := range map[string]string{"phi": "partial_rotary_factor", "gpt_neox": "rotary_pct", "stablelm": "partial_rotary_factor", "phi3_longrope": "partial_rotary_factor"} {
		t.Run(model, func(t *testing.T) {
			dir := checkpointOf(t, model)
			want := importTo(t, dir, ImportOptions{})
			edit(t, dir, "config.json", func(m map[string]any) {
				r, _ := m["rope_scaling"].(map[string]any)
				if r == nil {
					r = map[string]any{"rope_type": "default"}
				}
				r["partial_rotary_factor"], r["rope_theta"] = m[key], 10000.0
				m["rope_parameters"] = r
				delete(m, key)
				delete(m, "rope_scaling")
				delete(m, "rope_theta")
			})
			sameKeys(t, want, importTo(t, dir, ImportOptions{}))
		})
	}
}

// FuzzConfig: whatever a config.json says, it becomes keys and a shape, or an error.
func FuzzConfig(f *testing.F) {
	for i := range families {
		fam := &families[i]
		f.Add([]byte(`{"architectures":["` + fam.classes[0] + `"],"hidden_size":16,"intermediate_size":24,"n_embd":16,"n_layer":2,"n_head":4,"n_inner":24,"n_positions":64,` +
			`"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"max_position_embeddings":64,"rms_norm_eps":1e-5,"layer_norm_eps":1e-5,"layer_norm_epsilon":1e-5,` +
			`"vocab_size":31,"rope_theta":10000,"rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":32},` +
			`"num_local_experts":4,"num_experts_per_tok":2,"head_dim":4,"tie_word_embeddings":true,"hidden_act":"silu"}`))
	}
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		var c config
		if json.Unmarshal(data, &c) != nil {
			return
		}
		c = c.flat()
		fam, err := familyOf(c)
		if err != nil {
			return
		}
		kvs, err := fam.keys(c)
		if err != nil {
			return
		}
		if _, err := fam.ropeTensors(c); err != nil {
			return
		}
		if s, err := shapeOf(fam.arch, kvs); err == nil {
			_ = fam.checkSettled(c, s)
		}
	})
}

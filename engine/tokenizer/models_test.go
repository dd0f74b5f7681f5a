package tokenizer

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/enginetest"
	"github.com/guardcpu/guardcpu/gguf"
)

// TestModels compares ids and text with what llama.cpp b4748 recorded for trained
// models (NAME.ref.json, see the README beside them).
func TestModels(t *testing.T) {
	dir := enginetest.Shared(t, "models")
	refs, err := filepath.Glob(filepath.Join(dir, "*.ref.json"))
	require.NoError(t, err)
	require.NotEmpty(t, refs)
	for _, path := range refs {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".ref.json"), func(t *testing.T) {
			var ref struct {
				Model   string
				Results []struct {
					Kind, Prompt, Text string
					PromptIDs          []int32 `json:"prompt_token_ids"`
					IDs                []int32 `json:"token_ids"`
					GeneratedIDs       []int32 `json:"generated_token_ids"`
					Generated          string  `json:"generated_text"`
				}
			}
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(data, &ref))
			f, err := gguf.Open(filepath.Join(dir, ref.Model))
			require.NoError(t, err)
			defer f.Close()
			tok, err := FromGGUF(f)
			if strings.HasPrefix(ref.Model, "gptnanosort") {
				require.ErrorIs(t, err, ErrNoVocab)
				return
			}
			require.NoError(t, err)
			for _, r := range ref.Results {
				if r.Kind == "generate" {
					ids := tok.Encode(r.Prompt, EncodeOptions{Special: true, ParseSpecial: true})
					assert.Equal(t, r.PromptIDs, ids, "%q", r.Prompt)
					pieces := ""
					for _, id := range r.GeneratedIDs {
						pieces += tok.Piece(id)
					}
					assert.Equal(t, r.Generated, pieces)
					if tok.Kind() == kindSPM {
						// Without BOS, as a model's answer is decoded.
						assert.Equal(t, r.Prompt+r.Generated, tok.Decode(append(ids[1:], r.GeneratedIDs...)))
						assert.Equal(t, strings.TrimPrefix(r.Generated, " "), tok.Decode(r.GeneratedIDs))
					}
				} else if r.Text != "" {
					assert.Equal(t, r.IDs, tok.Encode(r.Text, EncodeOptions{Special: true, ParseSpecial: true}))
				}
			}
		})
	}
}

func TestNoVocab(t *testing.T) {
	_, err := fromKVs([]gguf.KV{{Key: keyModel, Value: "no_vocab"}})
	require.True(t, errors.Is(err, ErrNoVocab), "%v", err)
}

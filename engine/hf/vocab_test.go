package hf

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/gguf"
)

// blanks is a vocabulary with user-defined tokens of several blanks and lines, as Gemma has it, for an
// embedding of 24 rows.
var blanks = []piece{
	{"<pad>", 0, typeControl}, {"<eos>", 0, typeControl}, {"<bos>", 0, typeControl}, {"<unk>", 0, typeUnknown},
	{"<h1>", -1, typeUserDefined}, {"\n\n", -2, typeUserDefined}, {"▁▁", -3, typeUserDefined}, {"▁▁▁", -4, typeUserDefined},
	{"a▁b", -5, typeUserDefined}, {"▁a", -6, typeNormal}, {"\n", -7, typeNormal}, {"▁", -8, typeNormal}, {"a", -9, typeNormal}, {"b", -10, typeNormal},
}

// withBlanks returns a checkpoint of gemma with that vocabulary in files of two kinds, or one.
func withBlanks(t *testing.T, proto, text bool) string {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/gemma")))
	if proto {
		m := sentencePiece{pieces: blanks}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "tokenizer.model"), m.encode(3, 2, 1, 0), 0o600))
	}
	path := filepath.Join(dir, "tokenizer.json")
	require.NoError(t, os.Remove(path))
	if !text {
		return dir
	}
	vocab := map[string]int{}
	var added []map[string]any
	for id, p := range blanks {
		vocab[p.text] = id
		if p.typ != typeNormal {
			added = append(added, map[string]any{"id": id, "content": p.text, "normalized": false, "special": p.typ != typeUserDefined})
		}
	}
	data, err := json.Marshal(map[string]any{"added_tokens": added,
		"normalizer": map[string]any{"type": "Replace", "pattern": map[string]any{"String": " "}, "content": "▁"},
		"model": map[string]any{"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "vocab": vocab,
			"merges": [][2]string{{"\n", "\n"}, {"▁", "▁"}, {"▁▁", "▁"}, {"▁", "a"}}}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return dir
}

// TestBlanksOfUserTokens takes user-defined tokens of blanks through: a GGUF file has them as they are
// written, for they are looked for before blanks become ▁; a tokenizer.model has ▁, for they are looked for behind.
func TestBlanksOfUserTokens(t *testing.T) {
	check := func(t *testing.T, f *gguf.File) {
		texts, _, err := f.Strings("tokenizer.ggml.tokens")
		require.NoError(t, err)
		types, _, err := f.Ints("tokenizer.ggml.token_type")
		require.NoError(t, err)
		assert.Equal(t, []string{"<h1>", "\n\n", "  ", "   ", "a b", "▁a", "\n", "▁"}, texts[4:12])
		assert.Equal(t, []int32{3, 3, 3, 2, 4, 4, 4, 4, 4, 1, 1, 1, 1, 1, 5}, types[:15])
		m, err := engine.Load(f, engine.Options{Threads: 1})
		require.NoError(t, err)
		const text = "a  b   a a<h1>\n\n ba b"
		ids := m.Tokenizer.Encode(text, tokenizer.EncodeOptions{})
		assert.Equal(t, []int32{12, 6, 13, 7, 12, 9, 4, 5, 11, 13, 8}, ids)
		assert.Equal(t, text, m.Tokenizer.Decode(ids))
	}
	for name, from := range map[string]struct{ proto, text bool }{"tokenizer.json": {false, true}, "tokenizer.model": {true, false}, "both": {true, true}} {
		t.Run(name, func(t *testing.T) {
			f := importTo(t, withBlanks(t, from.proto, from.text), ImportOptions{})
			check(t, f)
			out := export(t, f, ExportOptions{})
			data, err := os.ReadFile(filepath.Join(out, "tokenizer.model"))
			require.NoError(t, err)
			m, err := parseSentencePiece(data)
			require.NoError(t, err)
			for id, p := range blanks {
				assert.Equal(t, p.text, m.pieces[id].text)
				assert.Equal(t, p.typ, m.pieces[id].typ)
			}
			back := importTo(t, out, ImportOptions{})
			check(t, back)
			sameKeys(t, f, back)
			for _, file := range []string{"tokenizer.model", "tokenizer.json"} { // without either
				require.NoError(t, os.Rename(filepath.Join(out, file), filepath.Join(out, "away")))
				check(t, importTo(t, out, ImportOptions{}))
				require.NoError(t, os.Rename(filepath.Join(out, "away"), filepath.Join(out, file)))
			}
		})
	}
}

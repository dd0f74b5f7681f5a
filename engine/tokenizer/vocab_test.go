package tokenizer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/enginetest"
	"github.com/guardcpu/guardcpu/gguf"
)

// TestLlamaCppVocabularies compares with llama.cpp's own vocabulary tests.
// GUARDCPU_VOCABS is a folder of ggml-vocab-NAME.gguf with .gguf.inp and .gguf.out
// beside it, as in llama.cpp's models/. A kind that is not known here is skipped.
func TestLlamaCppVocabularies(t *testing.T) {
	dir := os.Getenv("GUARDCPU_VOCABS")
	if dir == "" {
		t.Skip("GUARDCPU_VOCABS is not set: a folder with llama.cpp's models/ggml-vocab-*.gguf, .inp and .out")
	}
	paths, err := filepath.Glob(filepath.Join(dir, "ggml-vocab-*.gguf.out"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		path = strings.TrimSuffix(path, ".out")
		t.Run(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "ggml-vocab-"), ".gguf"), func(t *testing.T) {
			f, err := gguf.Open(path)
			if errors.Is(err, fs.ErrNotExist) {
				t.Skipf("there is no %s", path)
			}
			require.NoError(t, err)
			defer f.Close()
			known := func(k Kind) bool { kind, _, _ := f.String(keyModel); return k.Model == kind }
			if !slices.ContainsFunc(Kinds(), known) {
				t.Skip("the vocabulary is of a kind that is not known")
			}
			tok, err := FromGGUF(f)
			require.NoError(t, err)
			inp, err := os.ReadFile(path + ".inp")
			require.NoError(t, err)
			out, err := os.ReadFile(path + ".out")
			require.NoError(t, err)
			const end = "\n__ggml_vocab_test__\n"
			texts := strings.Split(strings.TrimSuffix(string(inp), end), end)
			lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
			require.Equal(t, len(texts), len(lines))
			good := 0
			for i, text := range texts {
				want := []int32{}
				for _, f := range strings.Fields(lines[i]) {
					id, err := strconv.Atoi(f)
					require.NoError(t, err)
					want = append(want, int32(id))
				}
				if assert.Equal(t, want, tok.Encode(text, EncodeOptions{}), "%q", text) && assert.Equal(t, text, tok.Decode(want)) {
					good++
				}
			}
			t.Logf("%d of %d texts, %d tokens in the vocabulary", good, len(texts), tok.Size())
		})
	}
}

// tofuRow is a row of qa_tokens.jsonl: how many labels the reference runs counted.
type tofuRow struct {
	Set        string
	I          int
	Question   string
	Answer     string
	Paraphrase string   `json:"paraphrased_answer"`
	Perturbed  []string `json:"perturbed_answer"`
	Llama2     tofuCounts
	Phi        tofuCounts
}

type tofuCounts struct {
	GT   int
	Para int
	Pert []int
}

// tofuFormats are TOFU's two prompt formats (UNLEARNING §2.2).
var tofuFormats = map[string]struct {
	env            string
	prompt, answer func(string) string
	counts         func(tofuRow) tofuCounts
}{
	"phi": {
		"GUARDCPU_GPT2_VOCAB",
		func(q string) string { return "Question: " + q + "\n" },
		func(a string) string { return "Answer: " + a },
		func(r tofuRow) tofuCounts { return r.Phi },
	},
	"llama2": {
		"GUARDCPU_LLAMA_VOCAB",
		func(q string) string { return "[INST] " + q + " [/INST]" },
		func(a string) string { return a },
		func(r tofuRow) tofuCounts { return r.Llama2 },
	},
}

// TestTOFUTokenCounts compares with the token counts and ids of the TOFU runs:
// qa_tokens.jsonl, token_ids_examples.jsonl, full/token_lengths.json.
//
// It needs two vocabularies, each as a GGUF file with or without weights: in
// GUARDCPU_GPT2_VOCAB one with GPT-2's tokens (a GGUF of any model of the GPT-2
// family, Phi-1.5 or Phi-2; llama.cpp's models/ggml-vocab-gpt-2.gguf; or what
// llama.cpp's convert_hf_to_gguf.py --vocab-only makes of one), and in
// GUARDCPU_LLAMA_VOCAB one of Llama 1 or 2 (a GGUF of such a model, or
// models/ggml-vocab-llama-spm.gguf).
func TestTOFUTokenCounts(t *testing.T) {
	dir := enginetest.Shared(t, "tofu")
	for name, format := range tofuFormats {
		t.Run(name, func(t *testing.T) {
			path := os.Getenv(format.env)
			if path == "" {
				t.Skipf("%s is not set: a GGUF file with the vocabulary", format.env)
			}
			tok := open(t, path)
			// As Hugging Face's tokenizers, which made the counts: BOS for Llama only.
			encode := func(text string) []int32 {
				return tok.Encode(text, EncodeOptions{Special: true})
			}
			count := func(question, answer string) (prompt, total int) {
				p := format.prompt(question)
				return len(encode(p)), len(encode(p+format.answer(answer))) + 1
			}
			labels := func(question, answer string) int {
				prompt, total := count(question, answer)
				return total - prompt
			}

			rows := readLines[tofuRow](t, filepath.Join(dir, "qa_tokens.jsonl"))
			require.Len(t, rows, 917)
			n, wrong := 0, 0
			check := func(r tofuRow, what string, want int, answer string) {
				n++
				if got := labels(r.Question, answer); !assert.Equal(t, want, got, "%s %d %s", r.Set, r.I, what) {
					wrong++
				}
			}
			for _, r := range rows {
				counts := format.counts(r)
				check(r, "answer", counts.GT, r.Answer)
				if r.Paraphrase != "" {
					check(r, "paraphrase", counts.Para, r.Paraphrase)
				}
				require.Len(t, counts.Pert, len(r.Perturbed))
				for i, a := range r.Perturbed {
					check(r, "perturbed", counts.Pert[i], a)
				}
			}
			t.Logf("%d rows, %d counts, %d wrong", len(rows), n, wrong)

			type qa struct {
				I                int
				Question, Answer string
			}
			full := readLines[qa](t, filepath.Join(dir, "full", "full.jsonl"))
			require.Len(t, full, 4000)
			var lengths map[string]json.RawMessage
			data, err := os.ReadFile(filepath.Join(dir, "full", "token_lengths.json"))
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(data, &lengths))
			var want struct{ Prompt, Total []int }
			require.NoError(t, json.Unmarshal(lengths[name], &want))
			require.Len(t, want.Prompt, len(full))
			require.Len(t, want.Total, len(full))
			for i, r := range full {
				prompt, total := count(r.Question, r.Answer)
				assert.Equal(t, want.Prompt[i], prompt, "row %d", i)
				assert.Equal(t, want.Total[i], total, "row %d", i)
			}

			examples := readLines[map[string]json.RawMessage](t, filepath.Join(dir, "token_ids_examples.jsonl"))
			require.Len(t, examples, 25)
			for _, e := range examples {
				var row, promptLen int
				var ids []int32
				require.NoError(t, json.Unmarshal(e["i"], &row))
				require.NoError(t, json.Unmarshal(e[name+"_ids"], &ids))
				require.NoError(t, json.Unmarshal(e[name+"_prompt_len"], &promptLen))
				p := format.prompt(full[row].Question)
				eos, ok := tok.EOS()
				require.True(t, ok)
				assert.Equal(t, ids, append(encode(p+format.answer(full[row].Answer)), eos), "row %d", row)
				assert.Len(t, encode(p), promptLen, "row %d", row)
			}
		})
	}
}

// readLines reads a file of one JSON value a line.
func readLines[T any](t *testing.T, path string) (rows []T) {
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	s := bufio.NewScanner(bytes.NewReader(data))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var row T
		require.NoError(t, json.Unmarshal(s.Bytes(), &row), "%s: %.80s", path, s.Text())
		rows = append(rows, row)
	}
	require.NoError(t, s.Err())
	return rows
}

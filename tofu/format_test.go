package tofu

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/gguf"
)

// byteTokenizer makes a token of every byte: its value + 3, after BOS 1; EOS is 2.
type byteTokenizer struct{ noBOS, noEOS, addEOS bool }

func (t byteTokenizer) Encode(text string, o tokenizer.EncodeOptions) []int32 {
	var ids []int32
	if o.Special && !t.noBOS {
		ids = append(ids, 1)
	}
	for _, b := range []byte(text) {
		ids = append(ids, int32(b)+3)
	}
	if o.Special && t.addEOS {
		ids = append(ids, 2)
	}
	return ids
}

func (t byteTokenizer) Decode(ids []int32) string {
	var text []byte
	for _, id := range ids {
		if id >= 3 {
			text = append(text, byte(id-3))
		}
	}
	return string(text)
}

func (t byteTokenizer) EOS() (int32, bool) { return 2, !t.noEOS }
func (t byteTokenizer) AddEOS() bool       { return t.addEOS }

// show writes a sample as text, with ^ and $ for BOS and EOS, and | in front of what counts.
func show(t *testing.T, s engine.Sample) string {
	require.Len(t, s.Mask, len(s.IDs))
	var b []byte
	counts := false
	for i, id := range s.IDs {
		if i > 0 && s.Mask[i] && !counts {
			b, counts = append(b, '|'), true
		}
		require.True(t, i == 0 || s.Mask[i] == counts, "what counts is one stretch at the end")
		switch id {
		case 1:
			b = append(b, '^')
		case 2:
			b = append(b, '$')
		default:
			b = append(b, byte(id-3))
		}
	}
	return string(b)
}

func TestFormats(t *testing.T) {
	tok := byteTokenizer{}
	for _, c := range []struct{ format, prompt, sample string }{
		{"llama2", "^[INST] Who? [/INST]", "^[INST] Who? [/INST]|Me</s>$"},
		{"phi", "^Question: Who?\n", "^Question: Who?\n|Answer: Me</s>$"},
		{"qa", "^Question: Who?\nAnswer:", "^Question: Who?\nAnswer:| Me</s>$"},
		{"text", "^Who?\n", "^|Who?\nMe</s>$"},
		{`Q {question}\nA:  {answer}.`, "^Q Who?\nA:", "^Q Who?\nA:|  Me</s>.$"},
	} {
		f, err := ParseFormat(c.format)
		require.NoError(t, err)
		s, err := f.Sample(tok, "Who?", "Me</s>", 0)
		require.NoError(t, err)
		assert.Equal(t, c.sample, show(t, s))
		assert.Equal(t, c.prompt, show(t, engine.Sample{IDs: f.Prompt(tok, "Who?"), Mask: make([]bool, len(f.Prompt(tok, "Who?")))}))
	}
	for _, bad := range []string{"", "alpaca", "{question}", "{answer} {question}", "{question}{question}{answer}", "{question} {answer} {answer}"} {
		_, err := ParseFormat(bad)
		assert.Error(t, err, bad)
	}
	_, err := ParseFormat("alpaca")
	assert.ErrorContains(t, err, "there are llama2, phi, qa, text, and templates")
}

func TestFormatTokenizers(t *testing.T) {
	f, err := ParseFormat("qa")
	require.NoError(t, err)
	for _, c := range []struct {
		tok  byteTokenizer
		want string
	}{
		{byteTokenizer{noBOS: true}, "Question: q\nAnswer:| a$"},
		{byteTokenizer{addEOS: true}, "^Question: q\nAnswer:| a$"},
		{byteTokenizer{noEOS: true}, "^Question: q\nAnswer:| a"},
	} {
		s, err := f.Sample(c.tok, "q", "a", 0)
		require.NoError(t, err)
		assert.Equal(t, c.want, show(t, s))
	}
}

// TestFormatShapes: rows that are no question and answer have their own form.
func TestFormatShapes(t *testing.T) {
	for _, c := range []struct{ row, want string }{
		{`{"prompt":"p: ","completion":"c"}`, "^p: |c$"},
		{`{"text":"t u"}`, "^|t u$"},
		{`{"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"},{"role":"assistant","content":"a"},{"role":"user","content":"v"},{"role":"assistant","content":"b"}]}`,
			"^System: s\nUser: u\nAssistant: a\nUser: v\nAssistant:| b$"},
	} {
		items, _, err := parseString(c.row)
		require.NoError(t, err)
		for _, f := range Formats {
			s, err := f.SampleOf(byteTokenizer{}, &items[0], items[0].Target(), 0)
			require.NoError(t, err)
			assert.Equal(t, c.want, show(t, s), f.Name)
		}
	}
	text := &Item{Shape: ShapeText, Text: "t", Line: 9}
	_, err := Formats[0].SampleOf(byteTokenizer{}, text, "I don't know", 0)
	assert.EqualError(t, err, "tofu: line 9: a row of {text} has no question, so it cannot have another answer")
}

// TestFormatLength: an EOS only where it still fits, then a cut, then an error.
func TestFormatLength(t *testing.T) {
	f := &Format{Between: ":"}
	for _, c := range []struct {
		maxLen int
		want   string
	}{{0, "^q:|abc$"}, {7, "^q:|abc$"}, {6, "^q:|abc"}, {5, "^q:|ab"}, {4, "^q:|a"}} {
		s, err := f.Sample(byteTokenizer{}, "q", "abc", c.maxLen)
		require.NoError(t, err)
		assert.Equal(t, c.want, show(t, s))
	}
	for maxLen := 1; maxLen <= 3; maxLen++ {
		_, err := f.SampleOf(byteTokenizer{}, &Item{Question: "q", Line: 5}, "abc", maxLen)
		assert.ErrorContains(t, err, "tofu: line 5: no token of the answer counts: the prompt takes 3 tokens")
	}
	items := []Item{{Question: "q", Answer: "abc"}, {Question: "q", Answer: "a"}}
	samples, n, err := f.Samples(byteTokenizer{}, items, 6)
	require.NoError(t, err)
	assert.Len(t, samples, 2)
	assert.Equal(t, &Encoded{Samples: 2, Truncated: 1, Tokens: 6 + 5, Targets: 3 + 2}, n)
}

// TestFormatsOfTOFU compares ids and masks with token_ids_examples.jsonl, for the
// vocabularies at hand: GUARDCPU_GPT2_VOCAB and GUARDCPU_LLAMA_VOCAB are GGUF
// files with the tokens of GPT-2 and of Llama 2.
func TestFormatsOfTOFU(t *testing.T) {
	examples := enginetest.Shared(t, "tofu", "token_ids_examples.jsonl")
	full, _, err := Load(enginetest.Shared(t, "tofu", "full", "full.jsonl"))
	require.NoError(t, err)
	for name, env := range map[string]string{"phi": "GUARDCPU_GPT2_VOCAB", "llama2": "GUARDCPU_LLAMA_VOCAB"} {
		t.Run(name, func(t *testing.T) {
			path := os.Getenv(env)
			if path == "" {
				t.Skipf("%s is not set: a GGUF file with the vocabulary", env)
			}
			file, err := gguf.Open(path)
			require.NoError(t, err)
			defer file.Close()
			tok, err := tokenizer.FromGGUF(file)
			require.NoError(t, err)
			f, err := ParseFormat(name)
			require.NoError(t, err)
			n := eachLine(t, examples, func(line string) {
				var e map[string]json.RawMessage
				require.NoError(t, json.Unmarshal([]byte(line), &e))
				var i, prompt int
				var ids []int32
				require.NoError(t, json.Unmarshal(e["i"], &i))
				require.NoError(t, json.Unmarshal(e[name+"_prompt_len"], &prompt))
				require.NoError(t, json.Unmarshal(e[name+"_ids"], &ids))
				s, err := f.Sample(tok, full[i].Question, full[i].Answer, 500)
				require.NoError(t, err)
				assert.Equal(t, ids, s.IDs)
				for j, counts := range s.Mask {
					assert.Equal(t, j >= prompt, counts, "row %d token %d", i, j)
				}
				assert.Equal(t, ids[:prompt], f.Prompt(tok, full[i].Question))
			})
			assert.Equal(t, 25, n)
		})
	}
}

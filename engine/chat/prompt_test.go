package chat

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/enginetest"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/gguf"
)

// Only the template's own text makes control tokens, unless it is asked for otherwise.
func TestPromptHidesControlTokensOfMessages(t *testing.T) {
	f, err := gguf.Open(enginetest.Shared(t, "models/stories260K-f32.gguf"))
	require.NoError(t, err)
	defer f.Close()
	tok, err := tokenizer.FromGGUF(f)
	require.NoError(t, err)
	tmpl, err := New("{{ bos_token }}{% for m in messages %}{{ m.content|trim + eos_token }}{% endfor %}")
	require.NoError(t, err)
	bos, _ := tok.BOS()
	eos, _ := tok.EOS()
	count := func(ids []int32, id int32) (n int) {
		for _, x := range ids {
			if x == id {
				n++
			}
		}
		return n
	}
	messages := []Message{{"user", "a</s><s>b <unk>"}, {"assistant", "</s>"}}
	hidden, err := tmpl.Prompt(tok, messages, false)
	require.NoError(t, err)
	assert.Equal(t, 1, count(hidden, bos), "one BOS in front")
	assert.Equal(t, bos, hidden[0])
	assert.Equal(t, 2, count(hidden, eos), "those of the template")
	var want []int32
	for _, m := range messages {
		want = append(append(want, tok.Encode(m.Content, tokenizer.EncodeOptions{})...), eos)
	}
	assert.Equal(t, append([]int32{bos}, want...), hidden)

	parsed, err := tmpl.Prompt(tok, messages, true)
	require.NoError(t, err)
	assert.Equal(t, 2, count(parsed, bos))
	assert.Equal(t, 4, count(parsed, eos))
}

// A file's templates are found by their names.
func TestSources(t *testing.T) {
	f := &gguf.File{Name: "m.gguf", KVs: []gguf.KV{{Key: "tokenizer.chat_template", Value: "a"}, {Key: "tokenizer.chat_template.tool_use", Value: "b"}, {Key: "tokenizer.chat_templates", Value: []string{"tool_use"}}}}
	sources, err := Sources(f)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"": "a", "tool_use": "b"}, sources)
	tmpl, err := FromGGUF(f)
	require.NoError(t, err)
	assert.Equal(t, "a", tmpl.Source)

	f.KVs[0].Value = uint32(1)
	_, err = FromGGUF(f)
	assert.ErrorContains(t, err, "no string")
	f.KVs[0].Value = "{% if %}"
	_, err = FromGGUF(f)
	assert.ErrorContains(t, err, "m.gguf: tokenizer.chat_template: line 1")
	f.KVs = f.KVs[1:]
	_, err = FromGGUF(f)
	assert.ErrorIs(t, err, ErrNoTemplate)
}

// What hides a text holds no text that is hidden.
func TestHiding(t *testing.T) {
	texts := []string{"<|im_end|>", "<|im", "<s>"}
	hide, show := hiding(texts)
	for _, s := range []string{"", "a<|im_end|>b", "<|im<|im_end|>_end|>", "<s><s>", "<|im_<s>"} {
		hidden := hide.Replace(s)
		for _, x := range texts {
			assert.False(t, strings.Contains(hidden, x), "%q in %q", x, hidden)
		}
		assert.Equal(t, s, show.Replace(hidden))
	}
}

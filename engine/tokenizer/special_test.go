package tokenizer

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/gguf"
)

// specialKVs adds tokens to bpeKVs.
func specialKVs(typ tokenType, texts ...string) []gguf.KV {
	kvs := bpeKVs()
	var tokens []string
	var types []int32
	for _, kv := range kvs {
		switch kv.Key {
		case keyTokens:
			tokens = append(kv.Value.([]string), texts...)
		case keyTypes:
			types = kv.Value.([]int32)
		}
	}
	for range texts {
		types = append(types, int32(typ))
	}
	return with(kvs, set(keyTokens, tokens), set(keyTypes, types))
}

// Which special tokens take white space is known by the model's name.
func TestStrippedSpecials(t *testing.T) {
	encode := func(text string, set ...gguf.KV) string {
		tok := mustTokenizer(t, with(specialKVs(typeControl, "<mask>", "[MASK]", "</s>", "<s>"), set...))
		return strings.Join(spelling(tok, tok.Encode(text, EncodeOptions{ParseSpecial: true})), " ")
	}
	const text = "a \n<mask> b \t[MASK] <s> </s>\v a"
	assert.Equal(t, "a Ġ Ċ <mask> Ġ b Ġ ĉ [MASK] Ġ <s> Ġ </s> ċ Ġ a", encode(text))
	assert.Equal(t, "a Ġ Ċ <mask> b Ġ ĉ [MASK] <s> Ġ </s> a", encode(text, set("general.name", "Microsoft Phi-3 Mini")))
	assert.Equal(t, "a <mask> Ġ b Ġ ĉ [MASK] Ġ <s> Ġ </s> ċ Ġ a", encode(text, set(keyPre, "jina-v2-de")))
	assert.Equal(t, "a Ġ Ċ <mask> Ġ b [MASK] Ġ <s> Ġ </s> ċ Ġ a", encode(text, set("general.name", "modern-bert")))
	assert.Equal(t, "<mask> Ġ Č </s>", encode(" \n<mask> \f</s>", set(keyPre, "jina-v2-code")))
}

func TestRoles(t *testing.T) {
	eog := func(typ tokenType, texts ...string) (out []string) {
		tok := mustTokenizer(t, specialKVs(typ, texts...))
		for i, text := range tok.texts {
			if tok.IsEOG(int32(i)) {
				out = append(out, text)
				assert.Equal(t, typeControl, tok.types[i], text)
			}
		}
		return out
	}
	assert.Equal(t, []string{"<|endoftext|>", "<|fim_pad|>", "<|repo_name|>"}, eog(typeNormal, "<|fim_pad|>", "<|repo_name|>", "<|fim_prefix|>"))
	assert.Equal(t, []string{"<|endoftext|>", "<|fim_pad|>"}, eog(typeNormal, "<PAD>", "<|fim_pad|>"), "one token for a role")
	assert.Equal(t, []string{"<|endoftext|>", "<|end|>"}, eog(typeControl, "<|end|>"))
	assert.Equal(t, []string{"<|endoftext|>", "<|return|>", "<|call|>"}, eog(typeControl, "<|end|>", "<|return|>", "<|call|>"))
	assert.Equal(t, []string{"<|endoftext|>", "<|tool_response>"}, eog(typeControl, "</s>", "<|tool_response>"))

	tok := mustTokenizer(t, with(specialKVs(typeNormal, "<PAD>", "<|fim_prefix|>", "<|channel|>"), set("tokenizer.ggml.fim_pad_token_id", uint32(65))))
	assert.True(t, tok.IsEOG(65))
	assert.False(t, tok.IsEOG(int32(tok.Size()-3)), "the key names another")
	assert.Equal(t, []tokenType{typeNormal, typeControl, typeUserDefined}, tok.types[tok.Size()-3:])
}

// The automaton finds the tokens that strings.Contains finds.
func TestSpecialsIn(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	word := func(n int) string {
		b := make([]byte, 1+rng.IntN(n))
		for i := range b {
			b[i] = "abc"[rng.IntN(3)]
		}
		return string(b)
	}
	for range 300 {
		var texts []string
		known := map[string]bool{"a": true, "b": true, "c": true} // tokens of bpeKVs
		for range 1 + rng.IntN(30) {
			if w := word(7); !known[w] {
				known[w] = true
				texts = append(texts, w)
			}
		}
		var tokens []string
		for _, w := range texts {
			if w != "aa" && w != "aaaa" && w != "bc" && w != "ab" {
				tokens = append(tokens, w)
			}
		}
		tok := mustTokenizer(t, specialKVs(typeControl, tokens...))
		for range 20 {
			text := word(40)
			var want, got []string
			for _, s := range tok.specials.tokens {
				if strings.Contains(text, s.text) {
					want = append(want, s.text)
				}
			}
			for _, s := range tok.specials.in(text) {
				got = append(got, s.text)
			}
			require.Equal(t, want, got, "%q in %q", tokens, text)
		}
	}
}

// Thousands of special tokens that are beginnings or ends of each other, and a long text.
func TestSpecialsBounded(t *testing.T) {
	var texts []string
	for n := 5; n < 500; n++ {
		texts = append(texts, strings.Repeat("q", n))
	}
	for n := range 5000 {
		texts = append(texts, "<|reserved_"+strings.Repeat("x", n%40)+string(rune('A'+n/40))+"|>")
	}
	tok := mustTokenizer(t, specialKVs(typeControl, texts...))
	start := time.Now()
	ids := tok.Encode(strings.Repeat("q", 300_000)+strings.Repeat("<|reserved_", 30_000), EncodeOptions{ParseSpecial: true})
	assert.Greater(t, len(ids), 600)
	assert.Less(t, time.Since(start), 30*time.Second)

	_, err := fromKVs(specialKVs(typeControl, strings.Repeat("a", 60_000), strings.Repeat("b", 60_000), strings.Repeat("c", 60_000)))
	require.NoError(t, err)
	texts = texts[:0]
	for n := range 80 {
		texts = append(texts, strings.Repeat(string(rune('A'+n)), 1<<16/len(string(rune('A'+n)))))
	}
	_, err = fromKVs(specialKVs(typeControl, texts...))
	assert.EqualError(t, err, "tokenizer: test.gguf: the control, user-defined and unknown tokens of tokenizer.ggml.tokens have more than 4194304 bytes together")
}

package tokenizer

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPreByPattern(t *testing.T) {
	const llama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	for _, c := range []struct {
		want         string
		ignoreMerges bool
		patterns     []string
	}{
		{"llama-bpe", true, []string{llama3}},
		{"dbrx", false, []string{llama3}},
		{"qwen2", false, []string{`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`}},
		{"qwen2", true, []string{`(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`}},
		{"gpt-2", false, []string{ByteLevelPattern}},
		{"starcoder", false, []string{DigitsPattern, ByteLevelPattern}},
		{"deepseek-coder", false, []string{"[\r\n]", `\s?\p{L}+`, `\s?\p{P}+`, `[一-龥ࠀ-一가-퟿]+`, DigitsPattern}},
		{"tekken", true, []string{`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`}},
		{"", false, []string{`\p{N}`}},
		{"", false, nil},
	} {
		got, ok := PreByPattern(c.patterns, c.ignoreMerges)
		assert.Equal(t, c.want, got, "%q", c.patterns)
		assert.Equal(t, c.want != "", ok, "%q", c.patterns)
	}
	for _, row := range prePatterns {
		_, err := preTokenizerOf(row.pre)
		assert.NoError(t, err)
		got, _ := PreByPattern(row.patterns, row.ignoreMerges)
		assert.Equal(t, row.pre, got)
	}
}

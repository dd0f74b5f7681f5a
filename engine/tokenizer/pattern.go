package tokenizer

import "strings"

// What a Hugging Face tokenizer.json means by pre-tokenizers that have no expression.
const (
	ByteLevelPattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` // ByteLevel with use_regex
	DigitsPattern    = `\p{N}`                                                                      // Digits with individual_digits
)

// PreByPattern returns the name for tokenizer.ggml.pre of a tokenizer.json whose
// pre-tokenizers, one after the other, are these expressions, and whose model has
// ignore_merges so. Where several names cut alike it is that of llama.cpp's first.
func PreByPattern(patterns []string, ignoreMerges bool) (pre string, ok bool) {
	key := make([]string, len(patterns))
	for i, p := range patterns {
		key[i] = plainPattern.Replace(p)
	}
	for _, row := range prePatterns {
		if strings.Join(row.patterns, "\x00") != strings.Join(key, "\x00") {
			continue
		}
		if row.ignoreMerges == ignoreMerges {
			return row.pre, true
		}
		if !ok {
			pre, ok = row.pre, true
		}
	}
	return pre, ok
}

// plainPattern gives expressions that mean the same the same spelling.
var plainPattern = strings.NewReplacer("\r", `\r`, "\n", `\n`, "?+", "?", "++", "+", `\p{N}{1}`, `\p{N}`,
	"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])", anyCase)

const (
	anyCase    = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	wordAndOn  = `[^\r\n\p{L}\p{N}]?\p{L}+|`
	lowerWords = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`
	upperWords = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*`
	theRest    = `| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	slashRest  = `| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// prePatterns are the expressions as the models' tokenizer.json has them.
var prePatterns = []struct {
	pre          string
	ignoreMerges bool
	patterns     []string
}{
	{"gpt-2", false, []string{ByteLevelPattern}},
	{"starcoder", false, []string{DigitsPattern, ByteLevelPattern}}, // smollm and others, too
	{"llama-bpe", true, []string{anyCase + "|" + wordAndOn + `\p{N}{1,3}` + theRest}},
	{"dbrx", false, []string{anyCase + "|" + wordAndOn + `\p{N}{1,3}` + theRest}}, // olmo2, too
	{"qwen2", false, []string{anyCase + "|" + wordAndOn + `\p{N}` + theRest}},     // stablelm2, too
	{"qwen35", false, []string{anyCase + `|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`}},
	{"tekken", true, []string{lowerWords + "|" + upperWords + `|\p{N}` + slashRest}},
	{"gpt-4o", false, []string{lowerWords + anyCase + "?|" + upperWords + anyCase + `?|\p{N}{1,3}` + slashRest}},
	{"seed-coder", false, []string{anyCase + "|" + wordAndOn + `\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+`}},
	{"bailingmoe", false, []string{`'(?i:[sdmt]|ll|ve|re)|` + wordAndOn + `\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`}},
	{"deepseek-v3", false, []string{`\p{N}{1,3}`, "[一-龥぀-ゟ゠-ヿ]+",
		"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+" + `|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`}},
	{"deepseek-llm", false, []string{`[\r\n]`, `\s?[` + deepseekLetters + `]+`, `\s?[!-/:-~！-／：-～‘-‟　-。]+`, `\s+$`, `[一-龥ࠀ-一가-퟿]+`, DigitsPattern}},
	{"deepseek-coder", false, []string{`[\r\n]`, `\s?\p{L}+`, `\s?\p{P}+`, `[一-龥ࠀ-一가-퟿]+`, DigitsPattern}},
	{"bloom", false, []string{` ?[^(\s|[.,!?…。，、।۔،])]+`}},
}

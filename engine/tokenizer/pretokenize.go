package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// splitter appends the words of a text to words. Their concatenation is the text.
type splitter func(words []string, text string) []string

// preTokenizers lists what a byte-level vocabulary may ask for in
// tokenizer.ggml.pre: each splitter cuts the words of the one before. Names and
// expressions are llama.cpp's (llm_tokenizer_bpe); expressions cut a text into
// their matches and what lies between.
var preTokenizers = []struct {
	names     []string
	splitters []splitter
}{
	{ // a file without the key: as llama.cpp
		[]string{"default", ""},
		[]splitter{splitAt(punctuationRun), splitGPT2, splitAt(numberRun), splitAt(threeDigits)},
	},
	{ // not jina-v2-de, -es, -code: their <mask> takes the blanks in front of it
		[]string{"gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "roberta-bpe", "jina-es", "jina-de", "jina-v1-en"},
		[]splitter{splitGPT2},
	},
	{
		[]string{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"},
		[]splitter{splitAt(oneNumber), splitGPT2},
	},
	{
		[]string{"falcon"},
		[]splitter{splitAt(punctuationOrBacktickRun), splitGPT2, splitAt(threeDigits)},
	},
}

// charClass is what the expressions tell apart.
type charClass uint8

const (
	other  charClass = iota // [^\s\p{L}\p{N}]
	letter                  // \p{L}
	number                  // \p{N}
	blank                   // \s
)

// classify returns the class and the length of the first character of s; a byte
// that is not UTF-8 is a character. s must not be empty.
func classify(s string) (charClass, int) {
	if b := s[0]; b < utf8.RuneSelf {
		switch {
		case 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z':
			return letter, 1
		case '0' <= b && b <= '9':
			return number, 1
		case b == ' ' || '\t' <= b && b <= '\r':
			return blank, 1
		}
		return other, 1
	}
	r, n := utf8.DecodeRuneInString(s)
	switch {
	case unicode.IsLetter(r), cjkExtensionI(r):
		return letter, n
	case unicode.IsNumber(r):
		return number, n
	case unicode.IsSpace(r):
		return blank, n
	}
	return other, n
}

// cjkExtensionI says whether r is one of the letters of Unicode 15.1, of which
// llama.cpp's tables are and Go 1.26's (15.0) are not. There is no other difference.
func cjkExtensionI(r rune) bool { return 0x2EBF0 <= r && r <= 0x2EE5D }

// splitGPT2 cuts text as GPT-2 does, by the expression
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func splitGPT2(words []string, text string) []string {
	for text != "" {
		n := gpt2Word(text)
		words = append(words, text[:n])
		text = text[n:]
	}
	return words
}

// gpt2Word returns the length of the first word of s, which must not be empty.
func gpt2Word(s string) int {
	if n := contraction(s); n > 0 {
		return n
	}
	end := 0
	if s[0] == ' ' && len(s) > 1 {
		end = 1
	}
	class, n := classify(s[end:])
	if class != blank {
		return end + n + runLen(s[end+n:], class)
	}
	// Blanks: all of them at the end of the text; before something else the last
	// is left for the next word, unless it is the only one.
	last := 0 // where the last blank starts
	for end = 0; end < len(s); end += n {
		if class, n = classify(s[end:]); class != blank {
			if last > 0 {
				return last
			}
			return end
		}
		last = end
	}
	return end
}

// contraction returns the length of 's, 't, 're, 've, 'm, 'll or 'd at the start
// of s, or 0.
func contraction(s string) int {
	if len(s) < 2 || s[0] != '\'' {
		return 0
	}
	switch s[1] {
	case 's', 't', 'm', 'd':
		return 2
	}
	if len(s) > 2 {
		switch s[1:3] {
		case "re", "ve", "ll":
			return 3
		}
	}
	return 0
}

// runLen returns how many bytes at the start of s are characters of class.
func runLen(s string, class charClass) int {
	end := 0
	for end < len(s) {
		c, n := classify(s[end:])
		if c != class {
			break
		}
		end += n
	}
	return end
}

// splitAt cuts text around every match; match returns the length of the match at
// the start of s, which is not empty, or 0.
func splitAt(match func(s string) int) splitter {
	return func(words []string, text string) []string {
		start := 0
		for i := 0; i < len(text); {
			n := match(text[i:])
			if n == 0 {
				_, n = classify(text[i:])
				i += n
				continue
			}
			if i > start {
				words = append(words, text[start:i])
			}
			words = append(words, text[i:i+n])
			i += n
			start = i
		}
		if start < len(text) {
			words = append(words, text[start:])
		}
		return words
	}
}

// oneNumber is \p{N}.
func oneNumber(s string) int {
	if class, n := classify(s); class == number {
		return n
	}
	return 0
}

// numberRun is \p{N}+.
func numberRun(s string) int { return runLen(s, number) }

// threeDigits is [0-9][0-9][0-9].
func threeDigits(s string) int {
	if len(s) < 3 {
		return 0
	}
	for i := range 3 {
		if s[i] < '0' || s[i] > '9' {
			return 0
		}
	}
	return 3
}

// punctuationRun is [\p{P}\$\+<=>\^~\|]+.
func punctuationRun(s string) int {
	return punctuation(s, func(r rune) bool {
		return unicode.IsPunct(r) || r < utf8.RuneSelf && unicode.IsSymbol(r) && r != '`'
	})
}

// punctuationOrBacktickRun is [\p{P}\$\+<=>\^~\|`]+.
func punctuationOrBacktickRun(s string) int {
	return punctuation(s, func(r rune) bool {
		return unicode.IsPunct(r) || r < utf8.RuneSelf && unicode.IsSymbol(r)
	})
}

func punctuation(s string, in func(rune) bool) int {
	for i, r := range s {
		if !in(r) {
			return i
		}
	}
	return len(s)
}

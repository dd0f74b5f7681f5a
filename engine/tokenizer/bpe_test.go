package tokenizer

import (
	"hash/fnv"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/gguf"
)

// bpeKVs is a byte-level vocabulary written by hand: the 256 bytes, what the
// merges make, and added tokens as Phi has them.
func bpeKVs() []gguf.KV {
	merges := []string{
		"b c", "a b", // bc before ab, though ab is further left
		"a a", "aa aa",
		"h e", "l l", "he ll", "hell o", "Ġ hello",
		"' s", "1 9", "19 8", "Ġ Ġ", "Ċ Ċ",
		"Ã ©", "ð Ł", "ðŁ ¦", "ðŁ¦ Ļ",
		"x y", // xy is no token
	}
	var tokens []string
	var types []int32
	add := func(text string, typ tokenType) {
		tokens = append(tokens, text)
		types = append(types, int32(typ))
	}
	for _, r := range byteRunes {
		add(string(r), typeNormal)
	}
	for _, m := range merges[:len(merges)-1] {
		add(strings.ReplaceAll(m, " ", ""), typeNormal)
	}
	add("<|endoftext|>", typeControl)
	add("   ", typeUserDefined)
	add("     ", typeUserDefined)
	return []gguf.KV{
		{Key: keyModel, Value: kindBPE}, {Key: keyPre, Value: "gpt-2"}, {Key: keyTokens, Value: tokens},
		{Key: keyTypes, Value: types}, {Key: keyMerges, Value: merges},
	}
}

func TestBPEEncode(t *testing.T) {
	tok := mustTokenizer(t, bpeKVs())
	parse := EncodeOptions{ParseSpecial: true}
	for _, c := range []struct {
		name, text string
		o          EncodeOptions
		want       string
	}{
		{"nothing", "", EncodeOptions{Special: true}, ""},
		{"lower rank first", "abc", EncodeOptions{}, "a bc"},
		{"leftmost of one rank", "aaa", EncodeOptions{}, "aa a"},
		{"merges of merges", "aaaaaa", EncodeOptions{}, "aaaa aa"},
		{"word", "hello hello", EncodeOptions{}, "hello Ġhello"},
		{"no merging across words", "hell o", EncodeOptions{}, "hell Ġ o"},
		{"contraction", "a's", EncodeOptions{}, "a 's"},
		{"digits", "1988", EncodeOptions{}, "198 8"},
		{"blanks before a word", "   hello", parse, "··· hello"},
		{"blanks of a user-defined token", "a     b", EncodeOptions{}, "a ····· b"},
		{"two blanks", "a  b", EncodeOptions{}, "a Ġ Ġ b"},
		{"blanks at the end", "a  ", EncodeOptions{}, "a ĠĠ"},
		{"newlines", "a\n\nb", EncodeOptions{}, "a Ċ Ċ b"},
		{"newlines at the end", "a\n\n", EncodeOptions{}, "a ĊĊ"},
		{"two bytes", "é", EncodeOptions{}, "Ã©"},
		{"emoji", "🦙", EncodeOptions{}, "ðŁ¦Ļ"},
		{"not UTF-8", "\xffa", EncodeOptions{}, "ÿ a"},
		{"merge without token", "xyxy", EncodeOptions{}, "x y x y"},
		{"control as text", "<|endoftext|>", EncodeOptions{}, "< | e n d o f t e x t | >"},
		{"control as token", "a<|endoftext|>", parse, "a <|endoftext|>"},
	} {
		ids := tok.Encode(c.text, c.o)
		got := strings.Join(spelling(tok, ids), " ")
		assert.Equal(t, c.want, got, c.name)
		if !c.o.ParseSpecial {
			assert.Equal(t, c.text, tok.Decode(ids), c.name)
		}
	}
}

func TestBPEKeys(t *testing.T) {
	tok := mustTokenizer(t, bpeKVs())
	eot := int32(tok.Size() - 3)
	eos, ok := tok.EOS()
	assert.True(t, ok)
	assert.Equal(t, eot, eos)
	assert.True(t, tok.IsEOG(eot))
	assert.False(t, tok.AddBOS())
	assert.False(t, tok.AddEOS())
	assert.Equal(t, "gpt2", tok.Kind())
	assert.Equal(t, "", tok.Decode([]int32{eot}))
	assert.Equal(t, "<|endoftext|>", tok.Piece(eot))

	tok = mustTokenizer(t, with(bpeKVs(), set(keyAddBOS, true), set(keyAddEOS, true), set(keyBOS, uint32(0))))
	assert.Equal(t, []int32{0, 'a', eot}, tok.Encode("a", EncodeOptions{Special: true}))
	assert.Len(t, tok.Encode("a", EncodeOptions{}), 1)

	tok = mustTokenizer(t, with(bpeKVs(), set(keyTypes, nil))) // no types: all normal, but for the texts that end a generation
	assert.Equal(t, "a", tok.Decode(append(tok.Encode("a", EncodeOptions{}), eot)))
}

// A vocabulary that lacks bytes: what a merge without token was made of, <unk>
// where there is one, else nothing.
func TestBPEWithoutBytes(t *testing.T) {
	kvs := []gguf.KV{
		{Key: keyModel, Value: kindBPE}, {Key: keyPre, Value: "gpt-2"}, {Key: keyTokens, Value: []string{"a", "b", "Ġ", "?"}},
		{Key: keyTypes, Value: []int32{1, 1, 1, 2}}, {Key: keyMerges, Value: []string{"a b", "ab c", "Ġ a"}},
	}
	tok := mustTokenizer(t, kvs)
	assert.Equal(t, []int32{0, 1, 2, 0}, tok.Encode("abc a", EncodeOptions{}))
	tok = mustTokenizer(t, with(kvs, set(keyUnknown, uint32(3))))
	assert.Equal(t, []int32{0, 1, 3, 2, 0, 3}, tok.Encode("abc a?", EncodeOptions{}))
}

// Gemma 4's kind: characters, ▁ for blanks, bytes for what has no token.
func TestBPEOfCharacters(t *testing.T) {
	v := &Vocab{}
	v.add("<unk>", typeUnknown)
	v.add("<bos>", typeControl)
	for b := range 256 {
		v.add(byteText(byte(b)), typeByte)
	}
	for _, text := range []string{"▁", "a", "b", "ab", "▁a", "▁▁", "\n", "\n\n", "日", "日本", "é"} {
		v.add(text, typeNormal)
	}
	v.add("<x>", typeUserDefined)
	kvs := with(v.KVs(), set(keyModel, kindGemma4), set(keyScores, nil), set(keyPre, "whatever"), set(keyBOS, uint32(1)), set(keyAddBOS, false),
		set(keyMerges, []string{"a b", "▁ a", "▁ ▁", "日 本", "é é", "éé a", "< 0"}))
	encode := func(text string, kvs []gguf.KV) string {
		tok := mustTokenizer(t, kvs)
		ids := tok.Encode(text, EncodeOptions{Special: true})
		assert.Equal(t, text, tok.Decode(ids), "%q", text)
		return strings.Join(spelling(tok, ids), " ")
	}
	assert.Equal(t, "<bos> ▁ ab ▁ ab", encode(" ab ab", kvs))
	assert.Equal(t, "<bos> a ▁▁ ▁a", encode("a   a", kvs))
	assert.Equal(t, "<bos> \n\n a \n \n \n", encode("\n\na\n\n\n", kvs))
	assert.Equal(t, "<bos> 日本 <0xE6> <0x9C> <0xAC> 日", encode("日本本日", kvs))
	assert.Equal(t, "<bos> é <0xFF> <0x3C> <0x30>", encode("é\xff<0", kvs))
	assert.Equal(t, "<bos> <0xC3> <0xA9> <0xC3> <0xA9> <0x61>", encode("ééa", kvs), "merged to what is no token")
	assert.Equal(t, "<bos> a <x> ▁a", encode("a<x> a", kvs))
	assert.Equal(t, "a \n \n b", encode("a\n\nb", with(kvs, set(keyModel, kindBPE), set(keyPre, "sarvam-moe"))))
}

func TestGPT2Words(t *testing.T) {
	for text, want := range map[string]string{
		"Hello world":         "Hello| world",
		"I'm, you're, we'll":  "I|'m|,| you|'re|,| we|'ll",
		"it's 'twas y'all've": "it|'s| '|twas| y|'|all|'ve",
		"'S 'LL '":            "'|S| '|LL| '",
		"x'":                  "x|'",
		"'l 'r":               "'|l| '|r",
		"abc123 45x":          "abc|123| 45|x",
		"Ω≈ç √2 ½ ²":          "Ω|≈|ç| √|2| ½| ²",
		"नमस्ते":              "नमस|्|त|े",
		"日本語 中文。":             "日本語| 中文|。",
		"a  b":                "a| | b",
		"a   ":                "a|   ",
		" ":                   " ",
		"\n":                  "\n",
		"a\n\nb":              "a|\n|\n|b",
		"a\n b":               "a|\n| b",
		"a \nb":               "a| |\n|b",
		"\t\tx":               "\t|\t|x",
		"a\u00a0b":            "a|\u00a0|b",
		"a\u3000\u3000 b":     "a|\u3000\u3000| b",
		"🚀 (😶‍🌫️)":            "🚀| (😶‍🌫️)",
		"\xff\xfea":           "\xff\xfe|a",
		"...!? a":             "...!?| a",
		"a\x00b":              "a|\x00|b",
	} {
		assert.Equal(t, want, strings.Join(gpt2(nil, text), "|"), "%q", text)
	}
}

// Against the expression itself, but for the lookahead, which Go has not: a run
// of blanks that something follows gives back its last.
func TestGPT2WordsMatchExpression(t *testing.T) {
	const s = `\t-\r \x{85}\p{Z}`
	expr := regexp.MustCompile(`^(?:'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^` + s + `\p{L}\p{N}]+|[` + s + `]+)`)
	blanks := regexp.MustCompile(`^[` + s + `]+$`)
	reference := func(text string) (words []string) {
		for text != "" {
			word := expr.FindString(text)
			if blanks.MatchString(word) && len(word) < len(text) {
				if _, last := utf8.DecodeLastRuneInString(word); last < len(word) {
					word = word[:len(word)-last]
				}
			}
			words = append(words, word)
			text = text[len(word):]
		}
		return words
	}
	alphabet := []string{" ", " ", "\n", "\t", "\u00a0", "\u2028", "\x85", "\u0085", "'", "s", "re", "ve", "l", "d", "é", "語", "7", "½", ".", "-", "🦙", "\u0301", "\xff", "\x00", "_"}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		var b strings.Builder
		for range rng.IntN(12) {
			b.WriteString(alphabet[rng.IntN(len(alphabet))])
		}
		require.Equal(t, reference(b.String()), gpt2(nil, b.String()), "%q", b.String())
	}
}

func TestPreTokenizers(t *testing.T) {
	words := func(name, text string) string {
		p, err := preTokenizerOf(name)
		require.NoError(t, err)
		words := []string{text}
		for _, split := range p.splitters {
			var next []string
			for _, w := range words {
				next = split(next, w)
			}
			words = next
		}
		return strings.Join(words, "|")
	}
	const text = "It's $12345.6, `x` don't"
	assert.Equal(t, "It|'s| $|12345|.|6|,| `|x|`| don|'t", words("gpt-2", text))
	assert.Equal(t, words("gpt-2", text), words("phi-2", text))
	assert.Equal(t, "It|'s| $|1|2|3|4|5|.|6|,| `|x|`| don|'t", words("smollm", text))
	assert.Equal(t, "It|'|s| |$|123|45|.|6|,| |`|x|`| don|'|t", words("falcon", text))
	assert.Equal(t, "It|'|s| |$|123|45|.|6|,| `|x|`| don|'|t", words("default", text))
	assert.Equal(t, words("default", text), words("", text))
	assert.Equal(t, "It|'s| $|123|45|.|6|,| `|x|`| don|'t", words("llama-bpe", text))
	assert.Equal(t, "It|'s| $|1|2|3|4|5|.|6|,| `|x|`| don|'t", words("qwen2", text))
	assert.Equal(t, "It|'s| $|1|2|3|4|5|.|6|,| `|x|`| don|'t", words("tekken", text))
	assert.Equal(t, "It's| $|123|45|.|6|,| `|x|`| don't", words("gpt-4o", text))
	assert.Equal(t, "It|'s| $|123|45|.|6|,| `|x|`| don|'t", words("deepseek-v3", text))
	assert.Equal(t, "It|'|s| $|12345|.|6|,| `|x|`| don|'|t", words("deepseek-llm", text))
	_, err := preTokenizerOf("mine")
	assert.ErrorContains(t, err, `tokenizer.ggml.pre "mine" is not known; there are default, gpt-2, phi-2, mpt, olmo, `)
}

// The classes of all code points are those of llama.cpp v0.5.0: the hash was made of
// what its unicode_cpt_flags_from_cpt returns.
func TestUnicodeIsLlamaCpps(t *testing.T) {
	var classes []byte
	for r := range rune(utf8.MaxRune + 1) {
		if r >= 0xD800 && r < 0xE000 {
			continue
		}
		c, _ := classify(string(r))
		for i, set := range []class{other, letter, number, blank, mark, punct, symbol} {
			if c&set != 0 {
				classes = append(classes, byte(i))
			}
		}
	}
	h := fnv.New64a()
	_, err := h.Write(classes)
	require.NoError(t, err)
	assert.Equal(t, uint64(0x164838d1a3f89df6), h.Sum64(), "Go's tables are of Unicode %s", unicode.Version)
}

func TestByteRunes(t *testing.T) {
	assert.Equal(t, 'a', byteRunes['a'])
	assert.Equal(t, 'Ġ', byteRunes[' '])
	assert.Equal(t, 'Ċ', byteRunes['\n'])
	assert.Equal(t, 'Ń', byteRunes[0xAD])
	assert.Equal(t, 'ł', byteRunes[0xA0])
	assert.Len(t, runeBytes, 256)
}

func TestBPEBounded(t *testing.T) {
	tok := mustTokenizer(t, bpeKVs())
	const n = 200_000
	for name, s := range map[string]string{
		"one letter": strings.Repeat("a", n),
		"blanks":     strings.Repeat("\n", n),
		"digits":     strings.Repeat("198", n/3),
		"not UTF-8":  strings.Repeat("\xff", n),
	} {
		w := new(bpeScratch)
		ids := tok.encoder.(*bpe).encodeWord(nil, w, s)
		assert.LessOrEqual(t, w.offers, 3*n, name)
		assert.True(t, s == tok.Decode(ids), name)
	}
}

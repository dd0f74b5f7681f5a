package tokenizer

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/gguf"
)

// spmKVs is a SentencePiece vocabulary written by hand: the 259 reserved tokens
// (if bytes is set; else <unk>, <s>, </s>), single characters, and tokens whose
// scores decide in the cases below.
func spmKVs(bytes bool) []gguf.KV {
	v := &Vocab{}
	v.add("<unk>", typeUnknown)
	v.add("<s>", typeControl)
	v.add("</s>", typeControl)
	if bytes {
		for b := range 256 {
			v.add(byteText(byte(b)), typeByte)
		}
	}
	for _, c := range []struct {
		text  string
		score float32
	}{
		{"▁", -100}, {"a", -100}, {"b", -100}, {"c", -100}, {"h", -100}, {"i", -100}, {"é", -100}, {"/", -100}, {"s", -100}, {">", -100}, {"<", -100},
		{"ab", -5}, {"bc", -2}, {"aa", -3}, {"ca", -5}, {"▁a", -4}, {"▁ab", -6}, {"▁▁", -1}, {"hi", -7}, {"▁hi", -8}, {"s>", -1}, {"/s>", -1},
	} {
		v.add(c.text, typeNormal)
		v.scores[len(v.scores)-1] = c.score
	}
	v.add("<|user|>", typeUserDefined)
	v.add("<|user|>x", typeUserDefined)
	v.add("<|system|>", typeControl)
	v.add("gone", typeUnused)
	return v.KVs()
}

func TestSPMEncode(t *testing.T) {
	tok := mustTokenizer(t, spmKVs(true))
	special, parse := EncodeOptions{Special: true}, EncodeOptions{ParseSpecial: true}
	for _, c := range []struct {
		name, text string
		o          EncodeOptions
		want       string
	}{
		{"nothing", "", EncodeOptions{}, ""},
		{"nothing with BOS", "", special, "<s>"},
		{"prefix", "a", EncodeOptions{}, "▁a"},
		{"BOS and prefix", "a", special, "<s> ▁a"},
		{"higher score first", "habc", EncodeOptions{}, "▁ h a bc"},
		{"leftmost of equal pairs", "haaa", EncodeOptions{}, "▁ h aa a"},
		{"leftmost of equal scores", "hcab", EncodeOptions{}, "▁ h ca b"},
		{"merge through merges", "hi ab", EncodeOptions{}, "▁hi ▁ab"}, // ▁a (-4) before ab (-5)
		{"blanks", "  a", EncodeOptions{}, "▁▁ ▁a"},
		{"blanks at the end", "a  ", EncodeOptions{}, "▁a ▁▁"},
		{"letter of two bytes", "é", EncodeOptions{}, "▁ é"},
		{"byte fallback", "aß\n", EncodeOptions{}, "▁a <0xC3> <0x9F> <0x0A>"},
		{"emoji", "🦙", EncodeOptions{}, "▁ <0xF0> <0x9F> <0xA6> <0x99>"},
		{"not UTF-8", "\xffa\xe2 b", EncodeOptions{}, "▁ <0xFF> a <0xE2> ▁ b"},
		{"control as text", "</s>", EncodeOptions{}, "▁ < /s>"},
		{"control as text with BOS", "<s>a", special, "<s> ▁ < s> a"},
		{"control as token", "</s>a<s>", parse, "</s> ▁a <s>"},
		{"unknown as text", "<unk>", EncodeOptions{}, "▁ < <0x75> <0x6E> <0x6B> >"},
		{"unknown as token", "<unk>", parse, "<unk>"},
		{"byte token as text", "<0x0A>", EncodeOptions{}, "▁ < <0x30> <0x78> <0x30> <0x41> >"},
		{"user-defined as text", "a<|user|>a", EncodeOptions{}, "▁a <|user|> ▁a"},
		{"longest user-defined", "<|user|>xa<|user|>", EncodeOptions{}, "<|user|>x ▁a <|user|>"},
		{"control beside user-defined", "<|system|><|user|>", EncodeOptions{}, "▁ < <0x7C> s <0x79> s <0x74> <0x65> <0x6D> <0x7C> > <|user|>"},
		{"both", "<|system|><|user|>hi", parse, "<|system|> <|user|> ▁hi"},
	} {
		assert.Equal(t, c.want, strings.Join(spelling(tok, tok.Encode(c.text, c.o)), " "), c.name)
	}
}

func TestSPMKeys(t *testing.T) {
	encode := func(text string, o EncodeOptions, set ...gguf.KV) string {
		tok := mustTokenizer(t, with(spmKVs(true), set...))
		return strings.Join(spelling(tok, tok.Encode(text, o)), " ")
	}
	special := EncodeOptions{Special: true}
	assert.Equal(t, "<s> hi", encode("hi", special, set(keyAddPrefix, false)))
	assert.Equal(t, "▁hi", encode("hi", special, set(keyAddBOS, false)))
	assert.Equal(t, "<s> ▁hi </s>", encode("hi", special, set(keyAddEOS, true)))
	assert.Equal(t, "<s> ▁hi", encode("hi", special, set(keyAddBOS, nil), set(keyAddEOS, nil), set(keyAddPrefix, nil),
		set(keyBOS, nil), set(keyEOS, nil), set(keyUnknown, nil)), "defaults")
	assert.Equal(t, "▁hi", encode("hi", special, set(keyAddBOS, nil), set(keyBOS, uint32(noID))))

	tok := mustTokenizer(t, with(spmKVs(true), set(keyEOS, uint32(noID))))
	_, ok := tok.EOS()
	assert.False(t, ok)
	assert.False(t, tok.IsEOG(-1))
	assert.True(t, tok.IsEOG(2), "</s> ends a generation by its text")
	bos, ok := tok.BOS()
	assert.True(t, ok)
	assert.EqualValues(t, 1, bos)
	assert.Equal(t, "llama", tok.Kind())
}

// Without byte tokens a character that has no token is one <unk>.
func TestSPMUnknown(t *testing.T) {
	tok := mustTokenizer(t, spmKVs(false))
	for text, want := range map[string]string{
		"a🦙🦙b":   "▁a <unk> <unk> b",
		"\n":     "▁ <unk>",
		"\xffab": "▁ <unk> ab",
	} {
		assert.Equal(t, want, strings.Join(spelling(tok, tok.Encode(text, EncodeOptions{})), " "), "%q", text)
	}
	assert.Equal(t, "ab", tok.Decode(tok.Encode("a🦙b", EncodeOptions{})))

	// One byte of the character has no token: the character is unknown as a whole.
	texts, types := slices.Clone(mustTokenizer(t, spmKVs(true)).texts), make([]int32, 0)
	for _, typ := range mustTokenizer(t, spmKVs(true)).types {
		types = append(types, int32(typ))
	}
	texts[3+0x9F], types[3+0x9F] = "gone too", int32(typeUnused)
	tok = mustTokenizer(t, with(spmKVs(true), set(keyTokens, texts), set(keyTypes, types)))
	assert.Equal(t, "▁ <unk> <0xC3> <0xA0>", strings.Join(spelling(tok, tok.Encode("ßà", EncodeOptions{})), " "))
}

func TestSPMDecode(t *testing.T) {
	tok := mustTokenizer(t, spmKVs(true))
	id := func(text string) int32 {
		for i, s := range tok.texts {
			if s == text {
				return int32(i)
			}
		}
		t.Fatalf("no token %q", text)
		return 0
	}
	ids := func(texts ...string) (out []int32) {
		for _, s := range texts {
			out = append(out, id(s))
		}
		return out
	}
	for _, c := range []struct {
		name string
		ids  []int32
		want string
	}{
		{"nothing", nil, ""},
		{"leading blank", ids("▁hi", "▁ab"), "hi ab"},
		{"one leading blank", ids("▁▁", "a"), " a"},
		{"BOS keeps the blank", ids("<s>", "▁hi", "</s>"), " hi"},
		{"control and unknown in between", ids("hi", "</s>", "<unk>", "▁ab"), "hi ab"},
		{"user-defined", ids("<|user|>", "▁hi"), "<|user|> hi"},
		{"bytes assembled", ids("a", "<0xF0>", "<0x9F>", "<0xA6>", "<0x99>"), "a🦙"},
		{"bytes cut off", ids("a", "<0xF0>", "<0x9F>"), "a\xf0\x9f"},
		{"byte of a blank", ids("<0x20>", "a"), "a"},
		{"unused", ids("a", "gone", "b"), "ab"},
		{"not in the vocabulary", []int32{-1, int32(tok.Size()), id("a")}, "a"},
	} {
		assert.Equal(t, c.want, tok.Decode(c.ids), c.name)
	}
	assert.Equal(t, "</s>", tok.Piece(2))
	assert.Equal(t, " hi", tok.Piece(id("▁hi")))
	assert.Equal(t, "\x9f", tok.Piece(id("<0x9F>")))
	assert.Empty(t, tok.Piece(id("gone")))
	assert.Empty(t, tok.Piece(-1))
	assert.Empty(t, tok.Piece(int32(tok.Size())))

	tok = mustTokenizer(t, with(spmKVs(true), set(keyAddPrefix, false)))
	assert.Equal(t, " hi", tok.Decode(ids("▁hi")))
}

func TestIsEOG(t *testing.T) {
	tokens := []string{"<unk>", "<s>", "</s>", "<|im_end|>", "<|eot_id|>", "<PAD>", "x", "<|file_sep|>", "turn"}
	types := []int32{2, 3, 3, 3, 1, 1, 1, 4, 3}
	tok := mustTokenizer(t, with(spmKVs(true), set(keyTokens, tokens), set(keyTypes, types),
		set(keyScores, make([]float32, len(tokens))), set("tokenizer.ggml.eot_token_id", uint32(8))))
	var eog []int32
	for i := range tokens {
		if tok.IsEOG(int32(i)) {
			eog = append(eog, int32(i))
			assert.Equal(t, typeControl, tok.types[i])
		}
	}
	assert.Equal(t, []int32{2, 3, 4, 5, 7, 8}, eog)
}

// One letter 200,000 times is the worst case for merging: every pair can merge,
// and so can the results.
func TestSPMBounded(t *testing.T) {
	var text []string
	for n := 1; n <= 64; n *= 2 {
		text = append(text, strings.Repeat("a", n), strings.Repeat("a", n))
	}
	v, err := TrainSPM(text, 280)
	require.NoError(t, err)
	tok := mustTokenizer(t, v.KVs())
	const n = 200_000
	for name, s := range map[string]string{
		"one letter":    strings.Repeat("a", n),
		"blanks":        strings.Repeat(" ", n),
		"not in it":     strings.Repeat("🦙", n/4),
		"not UTF-8":     strings.Repeat("\xf0", n),
		"letter, blank": strings.Repeat("a ", n/2),
	} {
		w := new(spmScratch)
		ids := tok.encoder.(*spm).merge(nil, w, escape(s, true))
		assert.LessOrEqual(t, w.offers, 3*(n+1), name)
		assert.True(t, s == tok.Decode(ids), name)
	}
}

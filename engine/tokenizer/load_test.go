package tokenizer

import (
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/internal/mutate"
)

func TestFromGGUFErrors(t *testing.T) {
	spmN := mustTokenizer(t, spmKVs(true)).Size() // 285
	long := make([]float32, spmN)
	nan := slices.Clone(long)
	nan[7] = float32(math.NaN())
	for _, c := range []struct {
		name string
		kvs  []gguf.KV
		want string // after "tokenizer: test.gguf: "
	}{
		{"no model", with(spmKVs(true), set(keyModel, nil)), "tokenizer.ggml.model is missing, want llama, gpt2 or gemma4"},
		{"model not known", with(spmKVs(true), set(keyModel, "bert")), `tokenizer.ggml.model "bert" is not known; there are llama, gpt2 and gemma4`},
		{"model of the wrong type", with(spmKVs(true), set(keyModel, uint32(1))), "gguf: test.gguf: tokenizer.ggml.model is of type uint32, want string"},
		{"no tokens", with(spmKVs(true), set(keyTokens, nil)), "tokenizer.ggml.tokens is missing"},
		{"empty", with(spmKVs(true), set(keyTokens, []string{})), "tokenizer.ggml.tokens is empty"},
		{"tokens of the wrong type", with(spmKVs(true), set(keyTokens, []int32{1})), "gguf: test.gguf: tokenizer.ggml.tokens is of type array of int32, want array of string"},
		{"duplicate", with(spmKVs(true), set(keyTokens, []string{"<unk>", "a", "b", "a"})), `tokenizer.ggml.tokens[3] is "a", as is tokenizer.ggml.tokens[1]`},
		{"long token", with(spmKVs(true), set(keyTokens, []string{strings.Repeat("a", maxTokenBytes+1)})), "tokenizer.ggml.tokens[0] has 65537 bytes, want at most 65536"},
		{"no types", with(spmKVs(true), set(keyTypes, nil)), "tokenizer.ggml.token_type is missing"},
		{"few types", with(spmKVs(true), set(keyTypes, []int32{1, 1})), "tokenizer.ggml.token_type has 2 values, want 285, one a token"},
		{"types of the wrong type", with(spmKVs(true), set(keyTypes, "x")), "gguf: test.gguf: tokenizer.ggml.token_type is of type string, want array of int32"},
		{"type not known", with(bpeKVs(), set(keyTokens, []string{"a", "b"}), set(keyTypes, []int32{1, 7})), "tokenizer.ggml.token_type[1] is 7, want 0 to 6"},
		{"negative type", with(bpeKVs(), set(keyTokens, []string{"a", "b"}), set(keyTypes, []int32{-1, 1})), "tokenizer.ggml.token_type[0] is -1, want 0 to 6"},
		{"no scores", with(spmKVs(true), set(keyScores, nil)), "tokenizer.ggml.scores is missing"},
		{"few scores", with(spmKVs(true), set(keyScores, long[:3])), "tokenizer.ggml.scores has 3 values, want 285, one a token"},
		{"scores of the wrong type", with(spmKVs(true), set(keyScores, []int32{1})), "gguf: test.gguf: tokenizer.ggml.scores is of type array of int32, want array of float32"},
		{"NaN", with(spmKVs(true), set(keyScores, nan)), "tokenizer.ggml.scores[7] is not a number"},
		{"BOS out of range", with(spmKVs(true), set(keyBOS, uint32(spmN))), "tokenizer.ggml.bos_token_id is 285, want less than 285, the number of tokens"},
		{"EOS out of range", with(spmKVs(true), set(keyEOS, uint32(noID-1))), "tokenizer.ggml.eos_token_id is 4294967294, want less than 285, the number of tokens"},
		{"EOT out of range", with(bpeKVs(), set("tokenizer.ggml.eot_token_id", uint32(1<<20))), "tokenizer.ggml.eot_token_id is 1048576, want less than 277, the number of tokens"},
		{"BOS of the wrong type", with(spmKVs(true), set(keyBOS, "1")), "gguf: test.gguf: tokenizer.ggml.bos_token_id is of type string, want a whole number"},
		{"flag of the wrong type", with(spmKVs(true), set(keyAddBOS, uint32(1))), "gguf: test.gguf: tokenizer.ggml.add_bos_token is of type uint32, want bool"},
		{"BOS wanted, none there", with(spmKVs(true), set(keyBOS, uint32(noID))), "tokenizer.ggml.add_bos_token is true, but there is no BOS token"},
		{"EOS wanted, none there", with(spmKVs(true), set(keyEOS, uint32(noID)), set(keyAddEOS, true)), "tokenizer.ggml.add_eos_token is true, but there is no EOS token"},
		{"neither byte nor unknown", with(spmKVs(false), set(keyUnknown, uint32(noID))), "there is neither a token <0x00> nor an unknown token (tokenizer.ggml.unknown_token_id)"},
		{"byte token that is none", with(spmKVs(false), set(keyTokens, []string{"<unk>", "a", "<0xG1>"}), set(keyTypes, []int32{2, 1, 6}), set(keyScores, long[:3])), `tokenizer.ggml.tokens[2] is "<0xG1>" and of type byte, want <0x00> to <0xFF>`},
		{"byte token too short", with(spmKVs(false), set(keyTokens, []string{"<unk>", "<0x>"}), set(keyTypes, []int32{2, 6}), set(keyScores, long[:2]), set(keyBOS, nil), set(keyEOS, nil)), `tokenizer.ggml.tokens[1] is "<0x>" and of type byte, want <0x00> to <0xFF>`},
		{"unknown out of range", with(spmKVs(true), set(keyUnknown, uint32(300))), "tokenizer.ggml.unknown_token_id is 300, want less than 285, the number of tokens"},
		{"EOS of the wrong type", with(bpeKVs(), set(keyEOS, true)), "gguf: test.gguf: tokenizer.ggml.eos_token_id is of type bool, want a whole number"},
		{"long name", with(spmKVs(true), set(keyModel, strings.Repeat("x", 99))), `tokenizer.ggml.model "` + strings.Repeat("x", 60) + `…" is not known; there are llama, gpt2 and gemma4`},
		{"pre-tokenizer", with(bpeKVs(), set(keyPre, "rwkv")), `tokenizer.ggml.pre "rwkv" is not known; there are default, gpt-2, `},
		{"pre-tokenizer of the wrong type", with(bpeKVs(), set(keyPre, true)), "gguf: test.gguf: tokenizer.ggml.pre is of type bool, want string"},
		{"no merges", with(bpeKVs(), set(keyMerges, nil)), "tokenizer.ggml.merges is missing"},
		{"merges of the wrong type", with(bpeKVs(), set(keyMerges, "a b")), "gguf: test.gguf: tokenizer.ggml.merges is of type string, want array of string"},
		{"merge of one part", with(bpeKVs(), set(keyMerges, []string{"a b", "ab"})), `tokenizer.ggml.merges[1] is "ab", want two parts with a blank between`},
		{"empty merge", with(bpeKVs(), set(keyMerges, []string{""})), `tokenizer.ggml.merges[0] is "", want two parts with a blank between`},
		{"merge without left", with(bpeKVs(), set(keyMerges, []string{" a"})), `tokenizer.ggml.merges[0] is " a", want two parts with a blank between`},
		{"merge without right", with(bpeKVs(), set(keyMerges, []string{"a "})), `tokenizer.ggml.merges[0] is "a ", want two parts with a blank between`},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok, err := fromKVs(c.kvs)
			require.Error(t, err)
			assert.Nil(t, tok)
			assert.True(t, strings.HasPrefix(err.Error(), "tokenizer: test.gguf: "+c.want), "got  %v\nwant %s", err, c.want)
		})
	}
}

// The defaults of BOS and EOS are none where a vocabulary is too small for them.
func TestSmallVocabulary(t *testing.T) {
	kvs := with(spmKVs(false), set(keyTokens, []string{"<unk>", "a"}), set(keyTypes, []int32{2, 1}), set(keyScores, []float32{0, 0}),
		set(keyBOS, nil), set(keyEOS, nil), set(keyAddBOS, nil))
	tok := mustTokenizer(t, kvs)
	_, ok := tok.EOS()
	assert.False(t, ok)
	bos, ok := tok.BOS()
	assert.True(t, ok)
	assert.EqualValues(t, 1, bos)
}

// Of a merge that is listed twice the first rank counts.
func TestDuplicateMerge(t *testing.T) {
	tok := mustTokenizer(t, with(bpeKVs(), set(keyMerges, []string{"a b", "b c", "a b"})))
	assert.Equal(t, []string{"ab", "c"}, spelling(tok, tok.Encode("abc", EncodeOptions{})))
}

// An empty text can be a token, and several can: they are ids without text.
func TestEmptyTokens(t *testing.T) {
	tok := mustTokenizer(t, with(bpeKVs(), set(keyTokens, []string{"a", "", ""}), set(keyTypes, []int32{1, 1, 4})))
	assert.Equal(t, []int32{0}, tok.Encode("a", EncodeOptions{ParseSpecial: true}))
	assert.Equal(t, "a", tok.Decode([]int32{1, 0, 2}))
}

func TestEncodeConcurrently(t *testing.T) {
	for _, kvs := range [][]gguf.KV{spmKVs(true), bpeKVs()} {
		tok := mustTokenizer(t, kvs)
		text := "hi abc  hello 198 🦙 a<|user|>a"
		want := tok.Encode(text, EncodeOptions{})
		done := make(chan bool)
		for range 8 {
			go func() {
				ok := true
				for range 100 {
					ok = ok && slices.Equal(want, tok.Encode(text, EncodeOptions{})) && tok.Decode(want) != ""
				}
				done <- ok
			}()
		}
		for range 8 {
			assert.True(t, <-done)
		}
	}
}

// What is encoded comes back: all bytes in byte-level BPE; in SentencePiece all but
// ▁, which stands for a blank. Both vocabularies have a token for every byte; the
// user-defined tokens, after which SentencePiece puts another blank, are left out.
func FuzzRoundTrip(f *testing.F) {
	for _, s := range []string{"", " ", "a", "abc  hello's 1988\n\n\tx", "naïve 🦙", "\xff\xe2 \x96", "</s><|endoftext|><0x0A>", "   a     ", "▁"} {
		f.Add([]byte(s))
	}
	sp := mustTokenizer(f, spmKVs(true))
	bl := mustTokenizer(f, bpeKVs())
	df := mustTokenizer(f, with(bpeKVs(), set(keyPre, nil)))
	l3 := mustTokenizer(f, with(bpeKVs(), set(keyPre, "llama-bpe")))
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		s := string(data)
		for _, tok := range []*Tokenizer{bl, df, l3} {
			require.Equal(t, s, tok.Decode(tok.Encode(s, EncodeOptions{Special: true})))
		}
		if strings.Contains(s, "<|user|>") {
			return
		}
		ids := sp.Encode(s, EncodeOptions{})
		require.Equal(t, strings.ReplaceAll(s, space, " "), sp.Decode(ids))
		for _, id := range ids {
			require.Contains(t, []tokenType{typeNormal, typeByte, typeUnused}, sp.types[id])
		}
		for _, o := range []EncodeOptions{{Special: true}, {ParseSpecial: true}} {
			for _, tok := range []*Tokenizer{sp, bl} {
				for _, id := range tok.Encode(s, o) {
					require.True(t, 0 <= id && int(id) < tok.Size())
				}
			}
		}
		require.Equal(t, utf8.ValidString(s), utf8.ValidString(sp.Decode(ids)))
	})
}

// FuzzFromGGUF changes the bytes of a file's keys. What loads must work.
func FuzzFromGGUF(f *testing.F) {
	small := with(spmKVs(false), set(keyTokens, []string{"<unk>", "<s>", "</s>", "▁", "a", "▁a", "<0x0A>"}),
		set(keyTypes, []int32{2, 3, 3, 1, 1, 1, 6}), set(keyScores, []float32{0, 0, 0, -1, -2, -3, 0}))
	tiny := with(bpeKVs(), set(keyTokens, []string{"a", "b", "ab", "Ġ", "<|endoftext|>", "  "}),
		set(keyTypes, []int32{1, 1, 1, 1, 3, 4}), set(keyMerges, []string{"a b", "Ġ ab"}))
	f.Add(header(small))
	f.Add(header(tiny))
	f.Add(header(with(tiny, set(keyUnknown, uint32(0)), set(keyAddBOS, true))))
	f.Add(header(with(tiny, set(keyPre, "llama-bpe"))))
	f.Add(header(with(tiny, set(keyPre, "jina-v2-de"), set("general.name", "phi-3"))))
	f.Add(header(with(small, set(keyModel, kindGemma4), set(keyMerges, []string{"▁ a", "a a", "aa a"}))))
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		file, err := gguf.Parse("fuzz.gguf", data)
		if err != nil {
			return
		}
		tok, err := FromGGUF(file)
		if err != nil {
			require.True(t, strings.HasPrefix(err.Error(), "tokenizer: fuzz.gguf: "), "%v", err)
			return
		}
		for _, o := range []EncodeOptions{{}, {Special: true}, {ParseSpecial: true}} {
			ids := tok.Encode("ab a\n\xff</s>  ▁é<|endoftext|>", o)
			for _, id := range ids {
				require.True(t, 0 <= id && int(id) < tok.Size(), "id %d of %d", id, tok.Size())
				_ = tok.Piece(id)
			}
			_ = tok.Decode(ids)
		}
		if bos, ok := tok.BOS(); ok {
			require.Less(t, int(bos), tok.Size())
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	text := strings.Join(tofuText(b)[:20], "\n")
	v, err := TrainSPM(tofuText(b), 2048)
	require.NoError(b, err)
	for name, kvs := range map[string][]gguf.KV{"spm": v.KVs(), "bpe": bpeKVs()} {
		tok := mustTokenizer(b, kvs)
		b.Run("kind="+name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				tok.Encode(text, EncodeOptions{Special: true})
			}
		})
	}
}

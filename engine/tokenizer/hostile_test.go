package tokenizer

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/internal/mutate"
)

// FuzzPreTokenizers cuts a text under every name: no word is empty, none is lost.
func FuzzPreTokenizers(f *testing.F) {
	for _, s := range llamaCppTexts(20) {
		f.Add([]byte(s))
	}
	f.Add([]byte("\xff\xe3\x80\x80\xe2\x81 \xf0\x9f1234567\xc2"))
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		text := string(data)
		for _, p := range preTokenizers {
			words := []string{text}
			if text == "" {
				continue
			}
			for i, split := range p.splitters {
				var next []string
				for _, w := range words {
					next = split(next, w)
				}
				words = next
				require.Equal(t, text, strings.Join(words, ""), "%s, expression %d", p.names[0], i)
				require.NotContains(t, words, "", "%s, expression %d", p.names[0], i)
			}
		}
	})
}

// What could make an expression look at characters again and again. Twice a character
// takes milliseconds, once a character before it more than a second.
func TestPreTokenizersBounded(t *testing.T) {
	const n = 1 << 14
	texts := map[string]string{}
	for _, part := range []string{" ", "\n", "\u3000", "\t ", "a", "A", "aA", "é", "e\u0301", "\u0301", "a ", "1", "½", "12 ", "'", "'s", "~", "。", "日", "/", "IMGIMGA", "<sentinel:1", "\xff", "\ue000"} {
		texts[part] = strings.Repeat(part, n/len(part))
		texts[part+", then another"] = texts[part] + "x"
		texts["x, then "+part] = "x" + texts[part] + "\n"
	}
	for _, p := range preTokenizers {
		for name, text := range texts {
			took := time.Hour
			for try := 0; try < 5 && took > 300*time.Millisecond; try++ { // other work may hold it up
				words, start := []string{text}, time.Now()
				for _, split := range p.splitters {
					var next []string
					for _, w := range words {
						next = split(next, w)
					}
					words = next
				}
				took = min(took, time.Since(start))
			}
			require.Less(t, took, 300*time.Millisecond, "%s: %s", p.names[0], name)
		}
	}
}

// Texts of half a megabyte without a blank, and merges that go as deep as they can.
func TestLongWords(t *testing.T) {
	var tokens, merges []string
	for n := 1; n < 500; n++ {
		tokens = append(tokens, strings.Repeat("q", n))
		merges = append(merges, strings.Repeat("q", n)+" q", "q "+strings.Repeat("q", n))
	}
	tok := mustTokenizer(t, with(specialKVs(typeNormal, tokens[1:]...), set(keyMerges, merges)))
	for _, text := range []string{strings.Repeat("q", 1<<19), strings.Repeat("qz", 1<<18), strings.Repeat("日本", 1<<16)} {
		start := time.Now()
		ids := tok.Encode(text, EncodeOptions{})
		require.True(t, text == tok.Decode(ids))
		assert.Less(t, time.Since(start), 30*time.Second)
	}
}

// Merges whose parts are no tokens, make none, or lead nowhere: every text comes back.
func TestMergesOfNoTokens(t *testing.T) {
	tok := mustTokenizer(t, with(bpeKVs(), set(keyMerges, []string{
		"a b", "ab a", "b a", "aba b", "abab abab", // ab is a token, the others are not
		"nothere atall", "z z", "zz zz", "zzzz zz", strings.Repeat("x", 100_000) + " y", "é é",
	})))
	for _, text := range []string{"abab", "abababab", "zzzzzz", "zzzzz", "aba", "bab", "nothereatall", "éé"} {
		assert.Equal(t, text, tok.Decode(tok.Encode(text, EncodeOptions{})), "%q", text)
	}
}

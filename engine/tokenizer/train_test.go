package tokenizer

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/enginetest"
)

// The example of Sennrich et al. 2016 with its counts, worked by hand:
// es (9), est (9), lo (7), low (7), ▁low (7), ew (6) and more of newest.
func TestTrainSPMByHand(t *testing.T) {
	var text []string
	for word, n := range map[string]int{"low": 5, "lower": 2, "newest": 6, "widest": 3} {
		for range n {
			text = append(text, word)
		}
	}
	v, err := TrainSPM(text, 259+11+11)
	require.NoError(t, err)
	// ▁low is three sevens in a row; of the sixes ew comes first.
	want := []string{"es", "est", "lo", "low", "▁low", "ew"}
	assert.Equal(t, want, v.tokens[259:265])
	assert.Equal(t, []string{"▁", "e", "w", "s", "t", "l", "o", "n", "d", "i", "r"}, v.tokens[270:])
	assert.Equal(t, []float32{0, -1, -2}, v.scores[258:261])
	tok := mustTokenizer(t, v.KVs())
	assert.Equal(t, []string{"<s>", "▁low", "est"}, spelling(tok, tok.Encode("lowest", EncodeOptions{Special: true})))
}

func TestTrainSPMWords(t *testing.T) {
	words := func(s string) (out []string) {
		for s = escape(s, true); s != ""; {
			n := wordLen(s)
			out = append(out, s[:n])
			s = s[n:]
		}
		return out
	}
	for text, want := range map[string]string{
		"a bc":         "▁a|▁bc",
		"don't  stop.": "▁don|'|t|▁|▁stop|.",
		"in 1987, (x)": "▁in|▁|1|9|8|7|,|▁|(|x|)",
		"naïve\nçe":    "▁naïve|\n|çe",
		"é́ü":          "▁é́ü",
		"日本 5":         "▁日本|▁|5",
		"a\xe2 b":      "▁a|\xe2|▁b",
		" ":            "▁|▁",
	} {
		assert.Equal(t, want, strings.Join(words(text), "|"), "%q", text)
	}
}

// tofuText returns the questions and answers of the TOFU data, half a megabyte.
func tofuText(t testing.TB) []string {
	data, err := os.ReadFile(enginetest.Shared(t, "tofu", "full", "full.jsonl"))
	require.NoError(t, err)
	return strings.Split(string(data), "\n")
}

// The encoder gives the words of the text the symbols that training left them.
func TestTrainSPMReproducesSegmentation(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(letters string, n int) []string {
		var words []string
		for range n {
			b := make([]byte, 1+rng.IntN(14))
			for i := range b {
				b[i] = letters[rng.IntN(len(letters))]
			}
			words = append(words, string(b))
		}
		return []string{strings.Join(words, " ")}
	}
	for name, c := range map[string]struct {
		text []string
		size int
	}{
		"two letters":   {random("ab", 500), 400},
		"three letters": {random("abc", 2000), 700},
		"one letter":    {random("a", 200), 300},
		"mixed":         {append(random("abé 1.", 500), "日本 語 \xff\xfe don't"), 330},
		"TOFU":          {tofuText(t)[:800], 1500},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := TrainSPM(c.text, c.size)
			require.NoError(t, err)
			tok := mustTokenizer(t, v.KVs())
			for _, text := range c.text {
				require.True(t, text == tok.Decode(tok.Encode(text, EncodeOptions{})), "%.100q", text)
			}

			counts := map[string]int{}
			for _, s := range c.text {
				for s := escape(s, true); s != ""; {
					n := wordLen(s)
					counts[s[:n]]++
					s = s[n:]
				}
			}
			chars := v.tokens[len(v.tokens)-min(len(characters(counts)), max(1, (c.size-nReserved)/2)):]
			tr := newTrainer(counts, chars)
			for {
				if _, ok := tr.next(); !ok || tr.ranks == len(v.tokens)-nReserved-len(chars) {
					break
				}
			}
			require.Equal(t, len(v.tokens)-nReserved-len(chars), tr.ranks)
			n := 0
			for _, w := range tr.words {
				var trained []string
				start := 0
				for _, end := range w.ends {
					trained = append(trained, w.text[start:end])
					start = end
				}
				ids := tok.encoder.encode(nil, w.text)
				require.Equal(t, trained, spelling(tok, ids), "%q", w.text)
				n += len(w.ends)
			}
			// Words do not run into each other: the text has the words' tokens.
			for _, s := range c.text {
				var apart []int32
				for e := escape(s, true); e != ""; {
					k := wordLen(e)
					apart = tok.encoder.encode(apart, e[:k])
					e = e[k:]
				}
				require.Equal(t, apart, append([]int32{}, tok.Encode(s, EncodeOptions{})...))
			}
		})
	}
}

func TestTrainSPMDeterministic(t *testing.T) {
	text := tofuText(t)[:300]
	a, err := TrainSPM(text, 800)
	require.NoError(t, err)
	require.Equal(t, 800, a.Size())
	for range 3 {
		b, err := TrainSPM(text, 800)
		require.NoError(t, err)
		require.Equal(t, a, b)
	}
}

// The pair counts that training keeps up to date are those of the words.
func TestTrainSPMCounts(t *testing.T) {
	tr := newTrainer(map[string]int{"▁aaaa": 3, "▁abab": 2, "▁banana": 5, "▁aab": 1}, []string{space, "a", "b", "n"})
	for {
		if _, ok := tr.next(); !ok {
			break
		}
		want := map[string]int{}
		for _, w := range tr.words {
			start := 0
			for i := 1; i < len(w.ends); i++ {
				want[w.text[start:w.ends[i]]] += w.count
				start = w.ends[i-1]
			}
		}
		for text, p := range tr.pairs {
			require.Equal(t, want[text], p.count, "%q", text)
		}
	}
	require.Positive(t, tr.ranks)
}

func TestTrainSPMErrors(t *testing.T) {
	_, err := TrainSPM([]string{"a"}, 259)
	assert.EqualError(t, err, "tokenizer: training a vocabulary of 259 tokens, want 260 to 1048576")
	_, err = TrainSPM([]string{"", ""}, 300)
	assert.EqualError(t, err, "tokenizer: there is no text to train a vocabulary on")
	v, err := TrainSPM([]string{"abc"}, 300) // nothing occurs twice
	require.NoError(t, err)
	assert.Equal(t, []string{"▁", "a", "b", "c"}, v.tokens[259:])
}

func TestTrainSPMLarge(t *testing.T) {
	text := tofuText(t)
	n := 0
	for _, s := range text {
		n += len(s)
	}
	start := time.Now()
	v, err := TrainSPM(text, 4096)
	require.NoError(t, err)
	assert.Equal(t, 4096, v.Size())
	t.Logf("%d bytes in %v", n, time.Since(start))
}

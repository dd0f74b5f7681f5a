package tofu

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/enginetest"
)

// eachLine calls f with every line of a reference file and returns their number.
func eachLine(t *testing.T, path string, f func(line string)) int {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	s := bufio.NewScanner(file)
	s.Buffer(nil, 1<<24)
	n := 0
	for s.Scan() {
		f(s.Text())
		n++
	}
	require.NoError(t, s.Err())
	return n
}

func TestStemsOfNLTK(t *testing.T) {
	n := eachLine(t, enginetest.Shared(t, "tofu", "porter_stems.tsv"), func(line string) {
		word, stem, ok := strings.Cut(line, "\t")
		require.True(t, ok, line)
		assert.Equal(t, stem, Stem(word), word)
	})
	assert.Equal(t, 6282, n)
}

func TestStem(t *testing.T) {
	for word, stem := range map[string]string{
		"caresses": "caress", "ponies": "poni", "dies": "die", "caress": "caress", "cats": "cat",
		"agreed": "agre", "feed": "feed", "died": "die", "spied": "spi", "plastered": "plaster", "hopping": "hop",
		"filing": "file", "falling": "fall", "sing": "sing", "enjoy": "enjoy", "spy": "spi", "by": "by",
		"relational": "relat", "hopefully": "hope", "geology": "geolog", "rationally": "ration",
		"adoption": "adopt", "controlling": "control", "dying": "die", "proceed": "proceed", "1984s": "1984",
		"": "", "s": "s", "oed": "o", "ing": "ing",
	} {
		assert.Equal(t, stem, Stem(word), word)
	}
}

func TestRougeOfReference(t *testing.T) {
	n := eachLine(t, enginetest.Shared(t, "tofu", "rouge_cases.jsonl"), func(line string) {
		var c struct {
			Reference, Prediction string
			R1                    float64 `json:"rouge1_recall"`
			RL                    float64 `json:"rougeL_recall"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &c))
		r1, rL := Rouge(c.Reference, c.Prediction)
		assert.InDelta(t, c.R1, r1, 1e-9, line)
		assert.InDelta(t, c.RL, rL, 1e-9, line)
	})
	assert.Equal(t, 800, n)
}

func TestRougeByHand(t *testing.T) {
	for _, c := range []struct {
		name, reference, prediction string
		r1, rL                      float64
	}{
		{"same", "the cat sat", "the cat sat", 1, 1},
		{"order counts in rougeL only", "the cat sat", "sat cat the", 1, 1. / 3},
		{"recall is of the reference", "a b c d", "a x c y z", 0.5, 0.5},
		{"a word counts as often as it is there", "a a b", "a b b", 2. / 3, 2. / 3},
		{"case and punctuation", "Hello, World!", "hello world", 1, 1},
		{"stems", "she was writing novels", "she writes a novel", 0.75, 0.75},
		{"three letters are not stemmed", "was", "wa", 0, 0},
		{"letters outside a-z split", "Bolaño", "Bola o", 1, 1},
		{"Kelvin and dotted I", "K İx", "k i x", 1, 1},
		{"empty reference", "¡¿!", "a", 0, 0},
		{"empty prediction", "a", "", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r1, rL := Rouge(c.reference, c.prediction)
			assert.InDelta(t, c.r1, r1, 1e-15)
			assert.InDelta(t, c.rL, rL, 1e-15)
		})
	}
}

func TestStemRunsOfY(t *testing.T) {
	// y is a consonant at the start and after a vowel: yy is consonant, vowel.
	for word, consonants := range map[string]string{"yyyy": "1010", "ayyb": "0101", "byay": "1001", "sky": "110"} {
		for i := range word {
			assert.Equal(t, consonants[i] == '1', isConsonant(word, i), "%s letter %d", word, i)
		}
	}
	assert.Equal(t, "yyyi", Stem("yyyy"), "y after a vowel is a consonant")
	assert.Len(t, Stem(strings.Repeat("y", 1<<20)), 1<<20) // and time is linear
}

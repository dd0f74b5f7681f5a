package demo

import (
	"context"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/cmd/internal/demo/world"
	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/tofu"
)

func TestDataFilesAreWhatTheGeneratorMakes(t *testing.T) {
	for _, f := range world.New().Files() {
		have, err := fs.ReadFile(Files(), f.Name)
		require.NoError(t, err)
		require.Equal(t, string(f.Data), string(have), "%s: run go run ./cmd/makedemo -text", f.Name)
	}
}

func TestDataReadsBackAsItWasMade(t *testing.T) {
	s, err := Data()
	require.NoError(t, err)
	w := world.New()
	for _, c := range []struct {
		items []tofu.Item
		rows  []world.Row
	}{{s.Retain, w.Retain}, {s.Forget, w.Forget}, {s.RealAuthors, w.RealAuthors}, {s.WorldFacts, w.WorldFacts}} {
		require.Len(t, c.items, len(c.rows))
		for i, r := range c.rows {
			it := c.items[i]
			require.Equal(t, r.Question, it.Question)
			require.Equal(t, r.Answer, it.Answer)
			require.Equal(t, r.ParaphrasedQuestion, it.ParaphrasedQuestion)
			require.Equal(t, r.ParaphrasedAnswer, it.ParaphrasedAnswer)
			require.Equal(t, r.PerturbedAnswers, it.PerturbedAnswers)
		}
	}
	assert.Equal(t, world.IDK, s.IDK)
	assert.NoError(t, tofu.CheckOverlap(s.Forget, s.Retain))
}

// The prompt's tokens begin the sample's, so that exactly the answer counts; and
// nothing is cut off.
func TestNoTokenCrossesFromPromptToAnswer(t *testing.T) {
	f, err := Model()
	require.NoError(t, err)
	m, err := engine.Load(f, engine.Options{})
	require.NoError(t, err)
	format, err := tofu.ParseFormat(Defaults.Format)
	require.NoError(t, err)
	s, err := Data()
	require.NoError(t, err)
	eos, ok := m.Tokenizer.EOS()
	require.True(t, ok)
	for _, items := range [][]tofu.Item{s.Retain, s.Forget, s.RealAuthors, s.WorldFacts} {
		for _, it := range items {
			for _, answer := range append([]string{it.Answer, s.IDK[0]}, it.PerturbedAnswers...) {
				prompt := format.Prompt(m.Tokenizer, it.Question)
				smp, err := format.Sample(m.Tokenizer, it.Question, answer, Defaults.MaxLength)
				require.NoError(t, err)
				require.Equal(t, prompt, smp.IDs[:len(prompt)], "%s", it.Question)
				require.Equal(t, eos, smp.IDs[len(smp.IDs)-1], "%s: %s does not fit", it.Question, answer)
				require.Equal(t, answer, m.Tokenizer.Decode(smp.IDs[len(prompt):len(smp.IDs)-1]))
			}
		}
	}
}

// The base model knows the world it was trained on, and nothing of the authors of
// the task beyond what can be guessed.
func TestWhatTheBaseModelKnows(t *testing.T) {
	f, err := Model()
	require.NoError(t, err)
	m, err := engine.Load(f, engine.Options{})
	require.NoError(t, err)
	require.LessOrEqual(t, len(f.Bytes()), 2<<20)
	format, err := tofu.ParseFormat(Defaults.Format)
	require.NoError(t, err)
	s, err := Data()
	require.NoError(t, err)

	// truths returns how many items have a lower mean NLL for the true answer than for every perturbed one.
	truths := func(items []tofu.Item) int {
		var samples []engine.Sample
		var starts []int
		for _, it := range items {
			truth := it.ParaphrasedAnswer
			if truth == "" {
				truth = it.Answer
			}
			starts = append(starts, len(samples))
			for _, a := range append([]string{truth}, it.PerturbedAnswers...) {
				smp, err := format.Sample(m.Tokenizer, it.Question, a, Defaults.MaxLength)
				require.NoError(t, err)
				samples = append(samples, smp)
			}
		}
		nll, err := m.NLL(context.Background(), samples, nil)
		require.NoError(t, err)
		n := 0
		for i, lo := range starts {
			hi := len(samples)
			if i+1 < len(starts) {
				hi = starts[i+1]
			}
			best := true
			for _, wrong := range nll[lo+1 : hi] {
				best = best && nll[lo].Mean() < wrong.Mean()
			}
			if best {
				n++
			}
		}
		return n
	}
	assert.GreaterOrEqual(t, truths(s.WorldFacts), len(s.WorldFacts)*9/10, "world facts known")
	assert.GreaterOrEqual(t, truths(s.RealAuthors), len(s.RealAuthors)*7/10, "classics known")
	// One of six by chance: 6.7 of 40, and more than 16 with a probability of 10⁻⁴.
	assert.LessOrEqual(t, truths(s.Forget), len(s.Forget)*2/5, "authors to forget known")
}

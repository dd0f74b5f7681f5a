package tofu

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The sizes are those of the samples that are then scored and of the prompts that are then continued.
func TestEvalSizes(t *testing.T) {
	format, err := ParseFormat("Q {question} A {answer}")
	require.NoError(t, err)
	sets := Sets{
		Forget: items(t, `{"question":"who","answer":"me","paraphrased_answer":"I","perturbed_answer":["you","he"]}
{"question":"what is it","answer":"that","paraphrased_answer":"this","perturbed_answer":["these"]}
{"question":"when","answer":"now and then","paraphrased_answer":"x","perturbed_answer":["y"]}`),
		WorldFacts: items(t, `{"question":"a","answer":"b","perturbed_answer":["c"]}`),
		Retain:     items(t, `{"text":"only a text"}`),
	}
	o := EvalOptions{Format: format, MaxLength: 50, Batch: 2}
	sizes, err := EvalSizes(byteTokenizer{}, sets, o)
	require.NoError(t, err)
	m := &examinee{answers: map[string]string{}}
	_, err = evaluate(context.Background(), m, byteTokenizer{}, sets, o, nil)
	require.NoError(t, err)
	require.Len(t, m.scored, len(sizes))
	batch := 0
	for i, s := range sizes {
		assert.Len(t, s.Samples, len(m.scored[i]), s.Set)
		for _, b := range s.Batches {
			require.Len(t, b.Prompts, len(m.prompts[batch]), s.Set)
			assert.Equal(t, 50-m.generated[batch].MaxTokens, max(b.Prompts[0], b.Prompts[len(b.Prompts)-1]), s.Set)
			assert.Equal(t, 50, b.Most)
			batch++
		}
		if s.Set == Forget {
			// The answers with the space before and EOS, not the others, of which rows have different numbers.
			assert.Equal(t, [][]int{{4, 6}, {14}}, [][]int{s.Batches[0].Answers, s.Batches[1].Answers})
		}
	}
	assert.Len(t, m.prompts, batch)

	// How many of a batch are in memory at once changes how they are generated and nothing else.
	o.Together = 1
	few := &examinee{answers: map[string]string{}}
	_, err = evaluate(context.Background(), few, byteTokenizer{}, sets, o, nil)
	require.NoError(t, err)
	assert.Equal(t, m.prompts, few.prompts)
	for i, g := range few.generated {
		assert.Equal(t, 1, g.Batch)
		assert.Equal(t, m.generated[i].MaxTokens, g.MaxTokens)
	}
}

package main

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/enginetest"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/gguf"
)

// Of four losses 1, 2, 3, 4 the mean is 2.5, the variance 1.25, the mean's standard error √(1.25/3).
func TestPerplexityByHand(t *testing.T) {
	var s meanError
	for _, x := range []float64{1, 2, 3, 4} {
		s.add(x)
	}
	ppl, stderr := s.perplexity()
	assert.InDelta(t, math.Exp(2.5), ppl, 1e-12)
	assert.InDelta(t, math.Exp(2.5)*math.Sqrt(1.25/3), stderr, 1e-12)
}

// A chunk begins with BOS in place of its first token; predictions from its middle on count.
func TestPerplexityChunks(t *testing.T) {
	f, err := gguf.Open(enginetest.Shared(t, "models/stories260K-f32.gguf"))
	require.NoError(t, err)
	defer f.Close()
	tok, err := tokenizer.FromGGUF(f)
	require.NoError(t, err)
	const text = "Once upon a time, there was a little girl named Lily."
	ids := promptTokens(tok, text, true, false)
	bos, _ := tok.BOS()
	for _, n := range []int{4, 5, 7} {
		chunks, err := perplexityChunks(tok, text, n)
		require.NoError(t, err)
		require.Len(t, chunks, len(ids)/n)
		for i, c := range chunks {
			require.Equal(t, append([]int32{bos}, ids[i*n+1:(i+1)*n]...), c.IDs)
			assert.Equal(t, n-n/2-1, c.NTargets())
			for j, counts := range c.Mask {
				assert.Equal(t, j > n/2, counts)
			}
		}
	}
	_, err = perplexityChunks(tok, text, len(ids)/2+1)
	assert.ErrorContains(t, err, "want at least")
}

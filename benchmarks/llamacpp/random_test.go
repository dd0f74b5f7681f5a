package main

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
)

// The random models load, and packed they give what they give as float32.
func TestRandomModels(t *testing.T) {
	vocab, err := tokenizer.TrainSPM([]string{"a vocabulary of few words, a few words, few words"}, 280)
	require.NoError(t, err)
	ids := []int32{1, 260, 261, 30, 262, 263}
	for i, s := range shapes(vocab) {
		typ := quant.Types[(3+5*i)%len(quant.Types)] // not all of each, for the sake of time
		dir := t.TempDir()
		packed, plain := filepath.Join(dir, "packed.gguf"), filepath.Join(dir, "plain.gguf")
		require.NoError(t, makeModel(packed, plain, s, typ))
		var rows [2][][]float32
		for i, path := range []string{packed, plain} {
			m, err := engine.Open(path, engine.Options{Compute: nn.ComputeF32})
			require.NoError(t, err)
			rows[i], err = logits(m, ids)
			require.NoError(t, err)
			require.NoError(t, m.Close())
		}
		assert.LessOrEqual(t, largestDifference(rows[0], rows[1], 0), 0x1p-16*largest(rows[1]), "%s, %s", s.Name, typ.Name)
		assert.Positive(t, largest(rows[1]))
	}
}

func TestDifferences(t *testing.T) {
	nan := float32(math.NaN())
	a := [][]float32{{3, 4}, {0, -5}, {1, 0}}
	assert.Equal(t, 5.0, largest(a))
	assert.Equal(t, 2.0, largestDifference(a, [][]float32{{3, 4}, {0, -3}, {1, 1}}, 0))
	assert.Equal(t, 1.0, largestDifference(a, [][]float32{{3, 4}, {0, -3}, {1, 1}}, 1))
	assert.True(t, math.IsNaN(largestDifference(a, [][]float32{{3, 4}, {0, nan}, {1, 0}}, 2)))
	b := [][]float32{{3, 4}, {0, -3}, {9, 0}, {1, 1}}
	assert.Equal(t, 0.4, rmsDifference(append(a, []float32{1, 0}), b), "of 0, 0.4, 1 and 8 the second")
	assert.True(t, math.IsNaN(rmsDifference(a, [][]float32{{3, 4}, {0, -5}, {nan, 0}})))
	assert.True(t, isLikeliest([]float32{1, 1.5, 0}, 0, 0.5))
	assert.False(t, isLikeliest([]float32{1, 1.5, 0}, 0, 0.4))
	assert.False(t, isLikeliest([]float32{1, nan, 0}, 0, 1))
}

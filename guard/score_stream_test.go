package guard

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
)

// differentiate opens a tiny model of some layers whose weights stay in the file.
func differentiate(t testing.TB, arch string, layers, threads int) *engine.Model {
	t.Helper()
	s := tiny.Shape(arch)
	s.NLayers = layers
	m := tiny.Open(t, s, engine.Options{Threads: threads})
	m.DifferentiateAll()
	return m
}

// numbers leaves out of an attribution how it was found.
func numbers(a *Attribution) Attribution {
	b := *a
	b.Plan = nil
	return b
}

// A stream with float32 boundaries runs the same batches through the same functions: its numbers are
// those of the whole gradient, bit for bit, but for the order of sums in a tied embedding.
func TestStreamedScoresAreThoseOfTheWholeGradient(t *testing.T) {
	d := data(7, 9)
	for _, arch := range tiny.Names() {
		for _, lora := range []bool{false, true} {
			m := differentiate(t, arch, 5, 2)
			if lora {
				adapt(t, m)
			}
			for _, subset := range []int{0, 7} {
				o := DefaultScoreOptions()
				o.BatchTokens, o.Spill, o.RetainSamples, o.Groups = 40, engine.SpillF32, subset, 3
				want := attribute(t, m, d.Retain, d.Forget, o)
				require.False(t, want.Plan.Streamed())
				for blocks := 1; blocks <= 5; blocks++ {
					name := fmt.Sprintf("%s, lora %v, %d retain samples, chunks of %d blocks", arch, lora, subset, blocks)
					o.ChunkBlocks = blocks
					got := attribute(t, m, d.Retain, d.Forget, o)
					require.True(t, got.Plan.Streamed())
					if !m.Config.Tied {
						require.Equal(t, numbers(want), numbers(got), name)
						continue
					}
					// The sums of G have about 200 terms in another order.
					near(t, want.GradNorm, got.GradNorm, 1e-6*want.GradNorm, name+": ‖g_r‖")
					assert.Equal(t, want.ForgetLoss, got.ForgetLoss, name)
					assert.Equal(t, want.RetainLoss, got.RetainLoss, name)
					for i := range want.Scores {
						near(t, want.Scores[i], got.Scores[i], 1e-6*want.GradNorm*10, fmt.Sprint(name, ": score ", i))
					}
				}
			}
		}
	}
}

// Without float32 masters the numbers are the same: the weights of the file are what masters are unpacked from.
func TestDifferentiateAllIsTrainFull(t *testing.T) {
	d := data(5, 6)
	for _, arch := range archs {
		o := DefaultScoreOptions()
		a := attribute(t, open(t, arch, 2), d.Retain, d.Forget, o)
		b := attribute(t, differentiate(t, arch, 2, 2), d.Retain, d.Forget, o)
		assert.Equal(t, numbers(a), numbers(b), arch)
	}
}

// The bits depend neither on the workers nor on where boundaries are kept.
func TestStreamIsTheSameHoweverItIsRun(t *testing.T) {
	d := data(7, 9)
	for _, arch := range []string{"llama", "phi2", "mixtral"} {
		for _, spill := range []engine.SpillType{engine.SpillBF16, engine.SpillF32} {
			o := DefaultScoreOptions()
			o.BatchTokens, o.ChunkBlocks, o.Spill = 40, 2, spill
			o.RetainSamples, o.Groups = 7, 2
			want := numbers(attribute(t, differentiate(t, arch, 5, 1), d.Retain, d.Forget, o))
			for _, workers := range []int{1, 2, 3, 7, 64} {
				o.SpillDir = t.TempDir() + "/spill"
				got := numbers(attribute(t, differentiate(t, arch, 5, workers), d.Retain, d.Forget, o))
				require.Equal(t, want, got, "%s, %s in files, %d workers", arch, spill, workers)
				assert.NoDirExists(t, o.SpillDir, "a stream leaves nothing")
			}
		}
	}
}

// Boundaries of bfloat16 move every activation and gradient that passes one by at most 2⁻⁹ of itself, here at 4 boundaries
// forwards and 5 backwards: scores by a few 2⁻⁸ of ‖g_r‖·‖g_i‖ at most.
func TestScoresWithBoundariesOfBF16(t *testing.T) {
	d := data(7, 9)
	for _, arch := range tiny.Names() {
		m := differentiate(t, arch, 5, 2)
		o := DefaultScoreOptions()
		want := attribute(t, m, d.Retain, d.Forget, o)
		_, gi := explicit(m, d.Retain, d.Forget, o.TokenLoss)
		o.ChunkBlocks = 1
		got := attribute(t, m, d.Retain, d.Forget, o)
		assert.NotEqual(t, want.Scores, got.Scores)
		near(t, want.GradNorm, got.GradNorm, want.GradNorm/64, arch+": ‖g_r‖")
		for i := range want.Scores {
			near(t, want.Scores[i], got.Scores[i], want.GradNorm*norm(gi[i])/64, fmt.Sprint(arch, ": score ", i))
			near(t, want.ForgetLoss[i], got.ForgetLoss[i], want.ForgetLoss[i]/64, fmt.Sprint(arch, ": loss ", i))
		}
	}
}

func TestStreamStopsBetweenBatches(t *testing.T) {
	d := data(7, 9)
	m := differentiate(t, "llama", 3, 1)
	o := DefaultScoreOptions()
	o.ChunkBlocks, o.BatchTokens, o.SpillDir = 1, 20, t.TempDir()+"/spill"
	ctx, cancel := context.WithCancel(context.Background())
	last := 0
	_, err := Attribute(ctx, m, d.Retain, d.Forget, o, func(n, total int) {
		assert.Equal(t, 1000, total)
		assert.GreaterOrEqual(t, n, last)
		if last = n; n > 500 {
			cancel()
		}
	})
	assert.ErrorIs(t, err, context.Canceled)
	assert.Less(t, last, 1000)
	_, err = os.Stat(o.SpillDir)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

package engine_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/engine/optim"
)

// trainingMode makes the parameters of a model trainable.
type trainingMode struct {
	name      string
	optimizer string // one that it takes
	set       func(t *testing.T, m *engine.Model)
}

var trainingModes = []trainingMode{
	{"full", "adamw", func(_ *testing.T, m *engine.Model) { m.TrainFull() }},
	{"fused", "adafactor", func(_ *testing.T, m *engine.Model) { m.TrainFused(1) }},
	{"lora", "adamw", func(t *testing.T, m *engine.Model) { require.NoError(t, m.TrainLoRA(engine.DefaultLoRAOptions())) }},
}

// Three steps, and three more by a fresh trainer of a fresh model that has been given the state, are
// six steps, to the bit.
func TestATrainerGoesOnFromItsState(t *testing.T) {
	for _, mode := range trainingModes {
		for _, kind := range optim.Optimizers {
			t.Run(mode.name+" "+kind.Name, func(t *testing.T) {
				o := engine.DefaultTrainOptions()
				o.Optimizer, o.LR, o.Steps, o.Warmup, o.Momentum = kind.Name, 0.01, 6, 2, 0.5
				if mode.name == "fused" {
					if o.Momentum = 0; kind.Name == "adamw" {
						t.Skip("has moments of single weights")
					}
				}
				trainer := func() (*engine.Model, *engine.Trainer) {
					m := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
					mode.set(t, m)
					tr, err := engine.NewTrainer(m, o)
					require.NoError(t, err)
					return m, tr
				}
				steps := func(tr *engine.Trainer, n int) {
					for range n {
						_, err := tr.Step([]engine.Term{engine.MeanNLL("x", tiny.Samples(5, 12, uint64(tr.Done())))})
						require.NoError(t, err)
					}
				}
				_, whole := trainer()
				views := whole.State()
				steps(whole, 6)
				require.Equal(t, 6, whole.Done())
				require.Equal(t, whole.State(), views, "views do not move")

				first, tr := trainer()
				steps(tr, 3)
				_, next := trainer()
				next.SetDone(tr.Done())
				to, names := next.State(), map[string]bool{}
				for i, from := range tr.State() {
					require.Equal(t, from.Name, to[i].Name)
					require.LessOrEqual(t, len(from.Name), 63)
					require.False(t, names[from.Name], from.Name)
					names[from.Name] = true
					require.Equal(t, len(from.F32), copy(to[i].F32, from.F32))
					require.Equal(t, len(from.BF16), copy(to[i].BF16, from.BF16))
				}
				steps(next, 3)
				require.Equal(t, whole.State(), next.State())
				assert.NotEqual(t, first.TrainedState(), next.State()[:len(first.TrainedState())], "the last three steps did something")
			})
		}
	}
}

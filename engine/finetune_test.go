package engine_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
)

// Stopped after any step, also in the middle of an epoch, and gone on with by a fresh model that
// has been given the state, fine-tuning comes to the same bits.
func TestFinetuneGoesOn(t *testing.T) {
	for _, mode := range trainingModes {
		t.Run(mode.name, func(t *testing.T) {
			samples, o := tiny.Samples(10, 12, 1), finetuneOptions(0.01, 3)
			o.Batch, o.Optimizer = 4, mode.optimizer
			model := func() *engine.Model {
				m := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
				mode.set(t, m)
				return m
			}
			whole := model()
			steps := 0
			require.NoError(t, engine.Finetune(context.Background(), whole, samples, o, engine.FinetuneHooks{Save: func(tr *engine.Trainer) error {
				steps++
				assert.Equal(t, steps, tr.Done())
				return nil
			}}))
			require.Equal(t, 9, steps)
			stop := errors.New("stop")
			for at := 1; at <= steps; at++ {
				var state []engine.StateTensor
				err := engine.Finetune(context.Background(), model(), samples, o, engine.FinetuneHooks{Save: func(tr *engine.Trainer) error {
					if tr.Done() < at {
						return nil
					}
					state = clone(tr.State())
					return stop
				}})
				require.ErrorIs(t, err, stop)
				next := model()
				first := 0
				require.NoError(t, engine.Finetune(context.Background(), next, samples, o, engine.FinetuneHooks{
					Start: func(tr *engine.Trainer) error {
						for i, s := range tr.State() {
							copy(s.F32, state[i].F32)
							copy(s.BF16, state[i].BF16)
						}
						tr.SetDone(at)
						return nil
					},
					Step: func(s engine.FinetuneStep) error {
						if first == 0 {
							first = s.Step
						}
						return nil
					},
				}))
				assert.Equal(t, (at+1)%(steps+1), first, "the steps that were done are not done again")
				require.Equal(t, whole.TrainedState(), next.TrainedState(), "stopped after step %d", at)
			}
		})
	}
}

func clone(state []engine.StateTensor) []engine.StateTensor {
	state = slices.Clone(state)
	for i, s := range state {
		state[i].F32, state[i].BF16 = slices.Clone(s.F32), slices.Clone(s.BF16)
	}
	return state
}

package guard

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
)

// Stopped after any step and gone on with by a model as it was at the start, unlearning by
// every objective comes to the same bits, and every epoch is measured.
func TestUnlearnGoesOn(t *testing.T) {
	for _, l := range Losses {
		t.Run(l.Name, func(t *testing.T) {
			d := data(5, 6)
			whole := open(t, "llama", 2)
			var epochs []int
			note := func(epoch int) error {
				epochs = append(epochs, epoch)
				return nil
			}
			hist, err := Unlearn(context.Background(), whole, d, options(l.Name), Hooks{Epoch: note})
			require.NoError(t, err)
			steps := len(hist.Steps)
			require.Equal(t, []int{1, 2, 3}, epochs)
			stop := errors.New("stop")
			for at := 1; at <= steps; at++ {
				epochs = nil
				var state []engine.StateTensor
				_, err := Unlearn(context.Background(), open(t, "llama", 2), d, options(l.Name), Hooks{Epoch: note, Save: func(tr *engine.Trainer) error {
					if tr.Done() < at {
						return nil
					}
					state = slices.Clone(tr.State())
					for i := range state {
						state[i].F32 = slices.Clone(state[i].F32)
					}
					return stop
				}})
				require.ErrorIs(t, err, stop)
				next := open(t, "llama", 2)
				rest, err := Unlearn(context.Background(), next, d, options(l.Name), Hooks{Epoch: note, Start: func(tr *engine.Trainer) error {
					for i, s := range tr.State() {
						copy(s.F32, state[i].F32)
					}
					tr.SetDone(at)
					return nil
				}})
				require.NoError(t, err)
				require.Len(t, rest.Steps, steps-at)
				require.Equal(t, theta(whole), theta(next), "stopped after step %d", at)
				assert.Equal(t, []int{1, 2, 3}, epochs, "stopped after step %d", at)
			}
		})
	}
}

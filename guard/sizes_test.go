package guard

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is known of the steps before them is what they then are, for every objective, and the reference
// is of the samples that the schedule has.
func TestUnlearnSizes(t *testing.T) {
	for _, l := range Losses {
		for _, micro := range []int{0, 1} {
			m, d, o := open(t, "llama", 2), data(5, 4), options(l.Name)
			o.MicroBatch = micro
			said, err := UnlearnSizes(m, d, o)
			require.NoError(t, err)
			assert.Equal(t, l.NeedsReference, len(said.Reference) > 0, l.Name)
			steps := 0
			_, err = Unlearn(context.Background(), m, d, o, Hooks{Step: func(s StepInfo) error {
				tokens := 0
				for _, b := range said.Steps[s.Step-1] {
					tokens += b.Rows
				}
				assert.Equal(t, s.Tokens, tokens, "%s, step %d", l.Name, s.Step)
				steps++
				return nil
			}})
			require.NoError(t, err)
			assert.Len(t, said.Steps, steps, l.Name)
		}
	}
	_, err := UnlearnSizes(open(t, "llama", 1), data(5, 4), Options{Loss: "nop"})
	assert.ErrorContains(t, err, `loss "nop" is not known`)
}

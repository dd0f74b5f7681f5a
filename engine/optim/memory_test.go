package optim

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/guardcpu/guardcpu/simd"
)

// What is said in advance is what an optimizer has.
func TestBytes(t *testing.T) {
	shapes := []Shape{{1, 7}, {30, 20}, {1, 1}, {5, 300}}
	for _, kind := range Optimizers {
		for _, o := range []Options{{}, {Momentum: 0.9}} {
			opt := kind.New(simd.Best(), o, shapes)
			has := 0
			for i := range shapes {
				for _, m := range opt.Moments(i) {
					has += 4 * len(m.Values)
				}
			}
			assert.Equal(t, uint64(has), Bytes(kind.Name, o, shapes), "%s %+v", kind.Name, o)
		}
	}
	assert.Zero(t, Bytes("nop", Options{}, shapes))
}

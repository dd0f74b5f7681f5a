package nn

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/simd"
)

func TestComputeNames(t *testing.T) {
	for _, name := range Computes() {
		c, err := ParseCompute(name)
		require.NoError(t, err)
		assert.Equal(t, name, c.String())
	}
	_, err := ParseCompute("f16")
	assert.EqualError(t, err, `nn: compute "f16" is not known; there are f32, bf16, auto`)
}

// Auto is bfloat16 for a set whose tile stores pairs of it, and only for such a set.
func TestComputeOn(t *testing.T) {
	k := *simd.All()[0]
	for _, half := range []bool{false, true} {
		k.TileBF16.Half = half
		assert.Equal(t, ComputeF32, ComputeF32.On(&k))
		assert.Equal(t, ComputeBF16, ComputeBF16.On(&k))
		assert.Equal(t, map[bool]Compute{false: ComputeF32, true: ComputeBF16}[half], ComputeAuto.On(&k))
	}
}

// With bfloat16 a linear layer is that of rounded factors, forwards and backwards.
func TestLinearBF16(t *testing.T) {
	eachSet(t, func(t *testing.T, c *Ctx) [][]float32 {
		rng := newRand(1)
		w, x, dy := newParam(rng, "w", 9, 40), randMat(rng, 6, 40), randMat(rng, 6, 9)
		half := *c
		half.Compute = ComputeBF16
		y, dx := NewMat(6, 9), NewMat(6, 40)
		Linear(&half, y, x, w)
		LinearBackward(&half, dx, dy, x, w, nil)

		exact := NewMat(6, 9)
		Linear(c, exact, x, w)
		assert.NotEqual(t, exact.Data, y.Data)

		for _, v := range [][]float32{w.F32, x.Data, dy.Data} {
			c.K.RoundBF16(v, v)
		}
		wantY, wantDX := NewMat(6, 9), NewMat(6, 40)
		Linear(c, wantY, x, w)
		LinearBackward(c, wantDX, dy, x, w, nil)
		near(t, "y", f64Mat(wantY), flat(y))
		near(t, "dx", f64Mat(wantDX), flat(dx))
		return [][]float32{flat(y), flat(dx)}
	})
}

package nn

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/guardcpu/guardcpu/engine/internal/ref"
)

func TestSwiGLU(t *testing.T) {
	const rows, cols = 3, 37
	rng := newRand(5)
	gate, up, dy := randMat(rng, rows, cols), randMat(rng, rows, cols), randMat(rng, rows, cols)
	for i := range gate.Row(1) {
		gate.Row(1)[i] *= 8
	}
	want := ref.SwiGLU(refMat(gate), refMat(up)).Flat()
	grads := ref.Gradient(func(xs [][]complex128) complex128 {
		return dot(ref.SwiGLU(ref.Reshape(xs[0], cols), ref.Reshape(xs[1], cols)), f64Mat(dy))
	}, f64Mat(gate), f64Mat(up))
	eachSet(t, func(t *testing.T, c *Ctx) [][]float32 {
		y, dgate, dup := randMat(rng, rows, cols), randMat(rng, rows, cols), randMat(rng, rows, cols)
		SwiGLU(c, y, gate, up)
		near(t, "y", want, flat(y))
		SwiGLUBackward(c, dgate, dup, dy, gate, up)
		near(t, "dgate", grads[0], flat(dgate))
		near(t, "dup", grads[1], flat(dup))
		inGate, inUp := clone(gate), clone(up)
		SwiGLUBackward(c, inGate, inUp, dy, inGate, inUp)
		assert.Equal(t, flat(dgate), flat(inGate), "dgate may be gate")
		assert.Equal(t, flat(dup), flat(inUp), "dup may be up")
		return [][]float32{flat(y), flat(dgate), flat(dup)}
	})
	assert.PanicsWithValue(t, "nn: SwiGLU: up is 2×2, gate is 2×3", func() { SwiGLU(generic(), NewMat(2, 3), NewMat(2, 3), NewMat(2, 2)) })
}

func TestGELU(t *testing.T) {
	const rows, cols = 3, 37
	rng := newRand(6)
	x, dy := randMat(rng, rows, cols), randMat(rng, rows, cols)
	for i := range x.Row(1) {
		x.Row(1)[i] *= 6
	}
	want := ref.GELU(refMat(x)).Flat()
	grads := ref.Gradient(func(xs [][]complex128) complex128 {
		return dot(ref.GELU(ref.Reshape(xs[0], cols)), f64Mat(dy))
	}, f64Mat(x))
	eachSet(t, func(t *testing.T, c *Ctx) [][]float32 {
		y, dx := clone(x), randMat(rng, rows, cols)
		GELU(c, y, y)
		near(t, "y", want, flat(y))
		GELUBackward(c, dx, dy, x)
		near(t, "dx", grads[0], flat(dx))
		in := clone(dy)
		GELUBackward(c, in, in, x)
		assert.Equal(t, flat(dx), flat(in), "dx may be dy")
		return [][]float32{flat(y), flat(dx)}
	})
	assert.PanicsWithValue(t, "nn: GELUBackward: dy is 2×2, x is 2×3", func() { GELUBackward(generic(), NewMat(2, 3), NewMat(2, 2), NewMat(2, 3)) })
}

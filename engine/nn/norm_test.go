package nn

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/guardcpu/guardcpu/engine/internal/ref"
)

func TestNorm(t *testing.T) {
	const rows, eps = 4, 1e-3
	for _, kind := range []NormKind{NormRMS, NormLayer} {
		for _, bias := range []bool{false, true} {
			for _, cols := range []int{1, 5, 24} {
				t.Run(fmt.Sprintf("kind=%d/bias=%v/cols=%d", kind, bias, cols), func(t *testing.T) {
					rng := newRand(4)
					w := newParam(rng, "w", 1, cols)
					var b *Param
					var b64 []float64
					if bias {
						b = newParam(rng, "b", 1, cols)
						b64 = f64(b.F32)
					}
					x, dy, before := randMat(rng, rows, cols), randMat(rng, rows, cols), randMat(rng, rows, cols)
					for i := range x.Row(1) {
						x.Row(1)[i] *= 1e-2 // small beside √ε
						x.Row(2)[i] += 3    // far from 0
					}
					norm := ref.RMSNorm[complex128]
					want := ref.AddBias(ref.RMSNorm(refMat(x), f64(w.F32), eps), b64).Flat()
					if kind == NormLayer {
						norm = func(x ref.Mat[complex128], w []complex128, eps float64) ref.Mat[complex128] {
							return ref.LayerNorm(x, w, nil, eps)
						}
						want = ref.LayerNorm(refMat(x), f64(w.F32), b64, eps).Flat()
					}
					grads := ref.Gradient(func(xs [][]complex128) complex128 {
						y := norm(ref.Reshape(xs[0], cols), xs[1], eps)
						if bias {
							y = ref.AddBias(y, xs[2])
						}
						return dot(y, f64Mat(dy))
					}, f64Mat(x), f64(w.F32), b64)

					eachSet(t, func(t *testing.T, c *Ctx) [][]float32 {
						var st NormState
						y, dx, form := randMat(rng, rows, cols), clone(before), newFormSink(t)
						Norm(c, kind, y, x, w, b, eps, &st)
						near(t, "y", want, flat(y))
						NormBackward(c, kind, dx, dy, x, w, b, &st, form)
						near(t, "dx", plus(f64Mat(before), grads[0]), flat(dx))
						near(t, "dw", grads[1], form.of(w))
						if bias {
							near(t, "db", grads[2], form.of(b))
						}
						NormBackward(c, kind, dx, dy, x, w, b, &st, nil)

						inPlace := clone(x)
						Norm(c, kind, inPlace, inPlace, w, b, eps, &st)
						assert.Equal(t, flat(y), flat(inPlace), "y may be x")
						return [][]float32{flat(y), flat(dx)}
					})
				})
			}
		}
	}
}

func TestNormPanics(t *testing.T) {
	c, x, w := generic(), NewMat(4, 896), newParam(newRand(1), "w", 1, 512)
	assert.PanicsWithValue(t, "nn: RMSNorm: x is 4×896, w has 512", func() { RMSNorm(c, x, x, w, 0, make([]float32, 4)) })
	w = newParam(newRand(1), "w", 1, 896)
	assert.PanicsWithValue(t, "nn: LayerNorm: x is 4×896, rstd has 3", func() {
		LayerNorm(c, x, x, w, nil, 0, make([]float32, 4), make([]float32, 3))
	})
	assert.PanicsWithValue(t, "nn: RMSNormBackward: dy is 3×896, x is 4×896", func() {
		RMSNormBackward(c, x, NewMat(3, 896), x, w, make([]float32, 4), x, nil)
	})
	assert.PanicsWithValue(t, "nn: Norm: kind 7 is not known", func() { Norm(c, 7, x, x, w, nil, 0, new(NormState)) })
	assert.PanicsWithValue(t, "nn: NormBackward: kind 7 is not known", func() { NormBackward(c, 7, x, x, x, w, nil, new(NormState), nil) })
}

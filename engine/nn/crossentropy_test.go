package nn

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/guardcpu/guardcpu/engine/internal/ref"
	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/simd/simdtest"
)

func TestCrossEntropy(t *testing.T) {
	for _, n := range []int{1, 2, 33, 3*vocabChunk + 5} {
		for _, scale := range []float32{0.1, 20} {
			t.Run(fmt.Sprintf("vocab=%d/scale=%v", n, scale), func(t *testing.T) {
				const coef = -0.7
				rng := newRand(12)
				logits := make([]float32, n)
				for i := range logits {
					logits[i] = scale*float32(rng.NormFloat64()) + 30
				}
				target := int32(n / 2)
				want := ref.NLL(f64(logits), target)
				// The derivative of the definition; one complex step of a long row for each
				// of its elements would take seconds, so only some are compared with it.
				grad := ref.Softmax(f64(logits))
				grad[target]--
				for i := range grad {
					grad[i] *= coef
				}
				for _, i := range []int{0, n / 2, n - 1} {
					f := func(xs [][]complex128) complex128 {
						z := make([]complex128, n)
						for j, v := range logits {
							z[j] = complex(float64(v), 0)
						}
						z[i] = xs[0][0]
						return coef * ref.NLL(z, target)
					}
					assert.InDelta(t, ref.Gradient(f, f64(logits[i:i+1]))[0][0], grad[i], 1e-14)
				}
				simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
					got := append([]float32(nil), logits...)
					nll := NLL(k, got, target)
					assert.InDelta(t, want, nll, 1e-6*(1+math.Abs(want)))
					assert.Equal(t, logits, got, "NLL leaves the logits")
					assert.InDelta(t, nll, CrossEntropy(k, got, target, coef), 0)
					near(t, "dlogits", grad, got)
				})
			})
		}
	}
}

func TestKLDivergence(t *testing.T) {
	for _, n := range []int{1, 2, 40, vocabChunk + 3} {
		t.Run(fmt.Sprintf("vocab=%d", n), func(t *testing.T) {
			const coef = 0.3
			rng := newRand(13)
			logits, other := make([]float32, n), make([]float32, n)
			for i := range logits {
				logits[i] = float32(2*rng.NormFloat64()) - 10
				other[i] = logits[i] + float32(rng.NormFloat64())
			}
			want := ref.KL(f64(logits), f64(other))
			var grad []float64
			if n <= 40 {
				grad = ref.Gradient(func(xs [][]complex128) complex128 {
					q := make([]complex128, n)
					for i, v := range other {
						q[i] = complex(float64(v), 0)
					}
					return coef * ref.KL(xs[0], q)
				}, f64(logits))[0]
			} else {
				p, q := ref.Softmax(f64(logits)), ref.Softmax(f64(other))
				for i := range p {
					grad = append(grad, coef*(p[i]-q[i]))
				}
			}
			if n == 1 {
				grad[0] = 0 // up to rounding
			}
			simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
				got := append([]float32(nil), logits...)
				kl := KLDivergence(k, got, append([]float32(nil), other...), coef)
				assert.InDelta(t, want, kl, 2e-6)
				near(t, "dlogits", grad, got)

				got = append([]float32(nil), logits...)
				kl = KLDivergence(k, got, append([]float32(nil), logits...), coef)
				assert.Zero(t, kl, "equal rows")
				assert.Equal(t, make([]float32, n), got, "equal rows")
			})
		})
	}
	assert.Zero(t, KLDivergence(simd.All()[0], nil, nil, 1))
}

func TestCrossEntropyPanics(t *testing.T) {
	k := simd.All()[0]
	assert.PanicsWithValue(t, "nn: CrossEntropy: target 3 of 3 logits", func() { CrossEntropy(k, make([]float32, 3), 3, 1) })
	assert.PanicsWithValue(t, "nn: NLL: target -1 of 3 logits", func() { NLL(k, make([]float32, 3), -1) })
	assert.PanicsWithValue(t, "nn: KLDivergence: 3 logits, 2 of the reference", func() { KLDivergence(k, make([]float32, 3), make([]float32, 2), 1) })
}

func TestCrossEntropyNaN(t *testing.T) {
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		x := []float32{1, float32(math.NaN()), 2}
		assert.True(t, math.IsNaN(NLL(k, x, 0)), "a NaN logit must not give a number")
		assert.True(t, math.IsNaN(CrossEntropy(k, x, 0, 1)))
	})
}

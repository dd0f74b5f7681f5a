package nn

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/guardcpu/guardcpu/engine/internal/ref"
	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/simd/simdtest"
)

func TestTopK(t *testing.T) {
	rng := newRand(3)
	for _, n := range []int{1, 2, 7, 100} {
		logits := make([]float32, n)
		for i := range logits {
			logits[i] = float32(rng.IntN(9)) // with many ties
		}
		order := make([]int32, n)
		for i := range order {
			order[i] = int32(i)
		}
		slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(logits[b], logits[a]) })
		for k := range n + 1 {
			want := slices.Sorted(slices.Values(order[:k]))
			got := make([]int32, k)
			TopK(got, logits)
			assert.Equal(t, want, slices.Sorted(slices.Values(got)), "%d of %d", k, n)
			assert.True(t, slices.IsSorted(got))
		}
	}
	assert.PanicsWithValue(t, "nn: TopK: 3 ids, 2 logits", func() { TopK(make([]int32, 3), make([]float32, 2)) })
}

// The divergence and its gradient are those of the definition by complex steps; with all tokens named
// or one lumped alone they are KLDivergence's.
func TestLumpedKL(t *testing.T) {
	for _, n := range []int{2, 40, vocabChunk + 3} {
		for _, k := range []int{0, 1, 5, n - 1, n} {
			for _, spread := range []float64{2, 15} { // 15: the rest has a probability of 1e-10 and less
				if k > n {
					continue
				}
				t.Run(fmt.Sprintf("vocab=%d/k=%d/spread=%g", n, k, spread), func(t *testing.T) {
					const coef = 0.3
					rng := newRand(13)
					logits, other := make([]float32, n), make([]float32, n)
					for i := range logits {
						logits[i] = float32(spread*rng.NormFloat64()) - 10
						other[i] = logits[i] + float32(rng.NormFloat64())
					}
					ids := make([]int32, k)
					TopK(ids, other)
					want := ref.LumpedKL(f64(logits), f64(other), ids)
					whole := ref.KL(f64(logits), f64(other))
					assert.LessOrEqual(t, want, whole+1e-12, "lumping loses information")
					if k >= n-1 {
						assert.InDelta(t, whole, want, 1e-12)
					}
					var grad []float64
					if n <= 40 {
						grad = ref.Gradient(func(xs [][]complex128) complex128 {
							q := make([]complex128, n)
							for i, v := range other {
								q[i] = complex(float64(v), 0)
							}
							return coef * ref.LumpedKL(xs[0], q, ids)
						}, f64(logits))[0]
					}
					if k == 0 {
						clear(grad) // up to rounding
					}
					simdtest.EachSet(t, func(t *testing.T, set *simd.Kernels) {
						logq, buf := make([]float32, k), make([]float32, k)
						rest, _ := LumpedLogProbs(set, logq, slices.Clone(other), ids)
						q := ref.Softmax(f64(other))
						left := 1.0
						for i, id := range ids {
							assert.InDelta(t, math.Log(q[id]), float64(logq[i]), 2e-6*(1+math.Abs(math.Log(q[id]))))
							left -= q[id]
						}
						if k < n && left > 1e-6 {
							assert.InDelta(t, math.Log(left), float64(rest), 1e-5)
						}
						if k == n {
							assert.True(t, math.IsInf(float64(rest), -1))
						}

						got := slices.Clone(logits)
						kl := LumpedKL(set, got, ids, logq, rest, buf, coef)
						assert.InDelta(t, want, kl, 4e-6)
						if grad != nil {
							near(t, "dlogits", grad, got)
						}

						got = slices.Clone(other)
						kl = LumpedKL(set, got, ids, logq, rest, buf, coef)
						assert.Zero(t, kl, "equal rows")
						assert.Equal(t, make([]float32, n), got, "equal rows")
					})
				})
			}
		}
	}
	k := simd.All()[0]
	assert.PanicsWithValue(t, "nn: LumpedLogProbs: 1 ids, 2 probabilities", func() { LumpedLogProbs(k, make([]float32, 2), make([]float32, 3), make([]int32, 1)) })
	assert.PanicsWithValue(t, "nn: LumpedKL: 1 ids, 2 probabilities of the reference", func() {
		LumpedKL(k, make([]float32, 3), make([]int32, 1), make([]float32, 2), 0, make([]float32, 1), 1)
	})
	assert.True(t, math.IsNaN(LumpedKL(k, []float32{1, float32(math.NaN()), 2}, []int32{0}, []float32{-1}, -0.5, make([]float32, 1), 1)), "a NaN logit must not give a number")
}

package simd_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/simd/simdtest"
)

// TestTurnPairs compares with float64, and every set with generic bit for bit.
func TestTurnPairs(t *testing.T) {
	generic, err := simd.ByName("generic")
	require.NoError(t, err)
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		for _, n := range lengths() {
			n &^= 1
			rng := rand.New(rand.NewPCG(31, uint64(n)))
			x, cos, sin := simdtest.Guarded(rng, n), simdtest.Guarded(rng, n), simdtest.Guarded(rng, n)
			wide(rng, x.X)
			for _, sign := range []float32{1, -1} {
				before := slices.Clone(x.X)
				want, tol := make([]float64, n), make([]float64, n)
				for i := range want {
					s := float64(sign)
					if i%2 == 0 {
						s = -s
					}
					p, q := float64(before[i])*float64(cos.X[i]), s*float64(before[i^1])*float64(sin.X[i])
					want[i], tol[i] = p+q, 2*eps*(math.Abs(p)+math.Abs(q))
				}
				k.TurnPairs(x.X, cos.X, sin.X, sign)
				simdtest.NearAll(t, want, x.X, func(i int) float64 { return tol[i] }, n)
				for _, b := range []*simdtest.Buffer{x, cos, sin} {
					b.Check(t)
				}
				generic.TurnPairs(before, cos.X, sin.X, sign)
				simdtest.SameBits(t, before, x.X, n)
			}
		}
		x := make([]float32, 20)
		require.Panics(t, func() { k.TurnPairs(x, x[:19:19], x, 1) })
		require.Panics(t, func() { k.TurnPairs(x, x, x[:19:19], 1) })
		require.Panics(t, func() { k.TurnPairs(x[:19:19], x[:19:19], x[:19:19], 1) })
	})
}

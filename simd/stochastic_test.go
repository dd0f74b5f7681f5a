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

// TestStochasticBF16Bits: every set gives the bits of generic, at every length, wherever the slices
// lie and are cut, in place too, and for numbers of every kind.
func TestStochasticBF16Bits(t *testing.T) {
	generic, err := simd.ByName("generic")
	require.NoError(t, err)
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		for _, n := range lengths() {
			rng := rand.New(rand.NewPCG(21, uint64(n)))
			x, y := simdtest.Guarded(rng, n), simdtest.Guarded(rng, n)
			for i := range x.X {
				if v := math.Float32frombits(rng.Uint32()); v == v { // any bits but those of a NaN
					x.X[i] = v
				}
			}
			key, first := rng.Uint64(), rng.Uint32()
			want := make([]float32, n)
			generic.StochasticBF16(want, x.X, key, first)
			k.StochasticBF16(y.X, x.X, key, first)
			simdtest.SameBits(t, want, y.X, n)
			x.Check(t)
			y.Check(t)

			cut := rng.IntN(n + 1)
			k.StochasticBF16(x.X[:cut], x.X[:cut], key, first)
			k.StochasticBF16(x.X[cut:], x.X[cut:], key, first+uint32(cut))
			simdtest.SameBits(t, want, x.X, "in place, cut at ", cut, " of ", n)
		}
		require.Panics(t, func() { k.StochasticBF16(make([]float32, 20), make([]float32, 19), 1, 2) })
	})
}

func TestStochasticBF16Special(t *testing.T) {
	inf, zero := float32(math.Inf(1)), float32(0)
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		for key := range uint64(200) {
			// Numbers of bfloat16 stay what they are.
			x := []float32{0, -zero, 1, -1.5, 0x1p-126, 0x1p-133, inf, -inf, 0x1.fep127}
			y := slices.Clone(x)
			k.StochasticBF16(y, y, simd.RandomKey(key), 7)
			simdtest.SameBits(t, x, y)
			// NaN stays NaN, also one whose upper half alone would be an infinity.
			y = []float32{math.Float32frombits(0x7f800001), math.Float32frombits(0xff800001), math.Float32frombits(0x7fffffff), math.Float32frombits(0xffffffff)}
			k.StochasticBF16(y, y, simd.RandomKey(key), 7)
			for i, v := range y {
				require.True(t, v != v, "%d", i)
			}
		}
	})
}

// TestStochasticBF16Mean: a number between two of bfloat16 becomes one of them, and the
// mean is the number. The mean of n such trials with probability p deviates by more
// than five of its standard deviations √(p(1-p)/n) for one in two million keys.
func TestStochasticBF16Mean(t *testing.T) {
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		const n = 1 << 16
		x, y := make([]float32, n), make([]float32, n)
		for c := range 30 {
			part := uint32(c * 2185) // of 65536
			lo, hi := math.Float32frombits(0xc0490000), math.Float32frombits(0xc04a0000)
			for i := range x {
				x[i] = math.Float32frombits(0xc0490000 + part)
			}
			k.StochasticBF16(y, x, simd.RandomKey(42, uint64(c)), uint32(c)*99991)
			up := 0
			for _, v := range y {
				require.True(t, v == lo || v == hi)
				if v == hi {
					up++
				}
			}
			p := float64(part) / 65536
			require.InDelta(t, p, float64(up)/n, 5*math.Sqrt(p*(1-p)/n), "%d/65536", part)
		}
	})
}

// TestRandomBitsAreIndependent: neighbours, other steps and other tensors round up independently.
func TestRandomBitsAreIndependent(t *testing.T) {
	const n = 1 << 16
	half := make([]float32, n)
	for i := range half {
		half[i] = math.Float32frombits(0x3f808000) // half way
	}
	rounded := func(words ...uint64) []float32 {
		y := make([]float32, n)
		simd.Best().StochasticBF16(y, half, simd.RandomKey(words...), 0)
		return y
	}
	same := func(x, y []float32) float64 {
		equal := 0
		for i := range x {
			if x[i] == y[i] {
				equal++
			}
		}
		return float64(equal) / float64(len(x))
	}
	a := rounded(1, 2, 3)
	const tol = 5 * 0.5 / 256 // five standard deviations of the share of n
	for _, other := range [][]float32{rounded(1, 2, 4), rounded(1, 3, 3), rounded(2, 2, 3), rounded(1, 2), rounded(3, 2, 1)} {
		require.InDelta(t, 0.5, same(a, other), tol)
	}
	for _, lag := range []int{1, 2, 7, 8, 64, 768, 4096} {
		require.InDelta(t, 0.5, same(a[lag:], a[:n-lag]), tol*math.Sqrt(float64(n)/float64(n-lag)), "lag %d", lag)
	}
}

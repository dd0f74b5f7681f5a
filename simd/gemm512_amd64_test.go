//go:build !purego

package simd_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/simd/simdtest"
)

// TestAVX512SameBits: what is computed element by element in avx512 has the bits of
// avx2, and so have blocked matrix products: both sum 256 products at a time, fused and in
// order, and then these sums.
func TestAVX512SameBits(t *testing.T) {
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		if !strings.HasPrefix(k.Name, "avx512") {
			t.Skip("of the sets with AVX-512")
		}
		narrow, err := simd.ByName("avx2")
		require.NoError(t, err)
		rng := rand.New(rand.NewPCG(8, 8))
		for _, o := range ops {
			_, s := newSlices(rng, o, 200)
			want := cloneAll(s)
			o.run(narrow, want)
			o.run(k, s)
			for i := range s {
				simdtest.SameBits(t, want[i], s[i], o.name)
			}
		}
		for o := range 16 {
			n := 70 + o
			if o >= 8 {
				n = 25 - o // fewer columns than a tile has
			}
			g := gemmCase{m: 33 + o, n: n, k: 520, transA: o&1 != 0, transB: o&2 != 0, accumulate: o&4 != 0}
			a, b := newOperand(rng, g.m, g.k, 0, g.transA), newOperand(rng, g.k, g.n, 0, g.transB)
			c := make([]float32, g.m*g.n)
			simdtest.Fill(rng, c)
			simdtest.SameBits(t, g.run(t, narrow, nil, a, b, c), g.run(t, k, nil, a, b, c), fmt.Sprintf("%+v", g))
		}
	})
}

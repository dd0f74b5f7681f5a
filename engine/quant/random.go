package quant

import (
	"math"
	"math/rand/v2"

	"github.com/guardcpu/guardcpu/simd"
)

// Random returns blocks of random bits whose elements are like weights: the largest
// magnitude in a block lies between 2⁻⁷ and 1. It is for tests and measurements, and
// needs no Pack.
func (t *Type) Random(rng *rand.Rand, blocks int) []byte {
	data := make([]byte, blocks*t.BlockBytes)
	x, k := make([]float32, t.BlockLen), simd.All()[0]
	for b := range blocks {
		block := data[b*t.BlockBytes:][:t.BlockBytes]
		for ok := false; !ok; {
			for i := range block {
				block[i] = byte(rng.Uint32())
			}
			t.Unpack(k, x, block)
			most := 0.0
			for _, v := range x {
				most = max(most, math.Abs(float64(v))) // NaN if one is
			}
			ok = most > 0x1p-7 && most < 1
		}
	}
	return data
}

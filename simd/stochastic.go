package simd

import "math"

// Stochastic rounding to bfloat16 (Gupta et al. 2015, arXiv:1502.02551v1, section 3):
// of the two neighbours of x the one further from 0 is taken with the probability that
// makes the expected value x. The random bits are a function of a key and of the number
// of the element, so that neither workers nor cuts change a result:
//
//	h = (first + i) xor lower half of the key
//	h = (h xor h>>16)·0x7feb352d
//	h = ((h xor h>>15) + upper half of the key)·0x846ca68b
//	y[i] = the upper half of (bits of x[i] + h>>16)
//
// the steps of Wellons' lowbias32 (nullprogram.com/blog/2018/07/31) with a key added in
// between. h is a bijection of the element's number for any key.
const (
	stochasticMul1 = 0x7feb352d
	stochasticMul2 = 0x846ca68b
)

// RandomKey returns a key for StochasticBF16 made of numbers such as a seed, a step and the
// index of a tensor, by the finalizer of splitmix64 (Steele et al. 2014,
// doi:10.1145/2660193.2660195) after each.
func RandomKey(words ...uint64) uint64 {
	var h uint64
	for _, w := range words {
		h += w + 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

func stochasticBF16Generic(y, x []float32, key uint64, first uint32) {
	x = x[:len(y)]
	k0, k1 := uint32(key), uint32(key>>32)
	for i, v := range x {
		u := math.Float32bits(v)
		if v != v {
			u |= 1 << 22
		} else {
			h := (first + uint32(i)) ^ k0
			h = (h ^ h>>16) * stochasticMul1
			h = ((h ^ h>>15) + k1) * stochasticMul2
			u += h >> 16
		}
		y[i] = math.Float32frombits(u &^ 0xffff)
	}
}

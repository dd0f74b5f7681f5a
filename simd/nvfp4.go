package simd

import "math"

// nvfp4Generic has the weights of NVFP4: a block is four scales d of the format UE4M3 and four
// times 8 bytes as in Q4_0, of numbers q of E2M1, for 16 weights each; w = d·q.
var nvfp4Generic = blocksOf("NVFP4", 64, 36, func(y []float32, b []byte) {
	for k := range 4 {
		unpackFours(y[16*k:16*k+16], halfUE4M3(b[k]), b[4+8*k:12+8*k], &e2M1)
	}
})

// halfUE4M3 returns half of the number with these bits: 4 of exponent, bias 7, and 3 of
// mantissa. The upper bit is not looked at, and NaN without it is 0, as in ggml.
func halfUE4M3(v byte) float32 {
	switch e, m := int(v>>3&15), float64(v&7); {
	case v == 127:
		return 0
	case e == 0:
		return float32(math.Ldexp(m, -10))
	default:
		return float32(math.Ldexp(8+m, e-11))
	}
}

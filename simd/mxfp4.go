package simd

import "math"

// e2M1 are twice the numbers of the format E2M1 (kvalues_mxfp4 of ggml-common.h): 0, ½, 1,
// 1½, 2, 3, 4, 6, and their negatives.
var e2M1 = [16]int8{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}

// mxfp4Generic has the weights of MXFP4 (OCP Microscaling Formats 1.0): a block is an exponent
// e, a byte, and 16 bytes as in Q4_0, of numbers of E2M1; w = 2^(e-127)·q. (e = 255, which is
// NaN there, is 2¹²⁸ in ggml.)
var mxfp4Generic = blocksOf("MXFP4", 32, 17, func(y []float32, b []byte) {
	unpackFours(y, halfE8M0(b[0]), b[1:17], &e2M1)
})

// halfE8M0 returns 2^(e-128).
func halfE8M0(e byte) float32 {
	if e < 2 { // subnormal
		return math.Float32frombits(0x200000 << e)
	}
	return math.Float32frombits(uint32(e-1) << 23)
}

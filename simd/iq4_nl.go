package simd

// iq4NL are the numbers that four bits stand for in IQ4_NL and IQ4_XS (kvalues_iq4nl of
// ggml-common.h).
var iq4NL = [16]int8{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

// iq4_nlGeneric has the weights of IQ4_NL: a block is a binary16 scale d and 16 bytes; the
// lower half of byte i holds q[i], the upper half q[i+16]; w = d·iq4NL[q].
var iq4_nlGeneric = blocksOf("IQ4_NL", 32, 18, func(y []float32, b []byte) {
	unpackFours(y, f16At(b), b[2:18], &iq4NL)
})

// unpackFours sets y to d·values[q] for the lower halves of the bytes, and then the upper.
func unpackFours(y []float32, d float32, b []byte, values *[16]int8) {
	lo, hi := y[:len(b)], y[len(b):]
	for i, q := range b {
		lo[i] = float32(values[q&15]) * d
		hi[i] = float32(values[q>>4]) * d
	}
}

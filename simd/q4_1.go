package simd

// q4_1Generic has the weights of Q4_1: a block is a binary16 scale d and minimum m, and 16 bytes;
// the lower half of byte i holds q[i], the upper half q[i+16]; w = d·q + m.
var q4_1Generic = blocksOf("Q4_1", 32, 20, func(y []float32, b []byte) {
	d, m := f16At(b), f16At(b[2:])
	for i, q := range b[4:20] {
		y[i] = float32(float32(q&15)*d) + m
		y[i+16] = float32(float32(q>>4)*d) + m
	}
})

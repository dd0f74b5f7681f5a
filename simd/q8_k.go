package simd

// q8_kGeneric has the weights of Q8_K: a block is a float32 scale d, 256 signed bytes q, and 16 sums of
// 16 of them, of 16 bits; w = d·q.
var q8_kGeneric = blocksOf("Q8_K", 256, 292, func(y []float32, b []byte) {
	d := getFloat32(b)
	for i, q := range b[4:260] {
		y[i] = d * float32(int8(q))
	}
})

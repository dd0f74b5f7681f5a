package simd

// tq2_0Generic has the weights of TQ2_0: a block is twice 32 bytes, for 128 weights each, and a
// binary16 scale d; bits 2n and 2n+1 of byte i hold q[32n+i]; w = d·(q-1).
var tq2_0Generic = blocksOf("TQ2_0", 256, 66, func(y []float32, b []byte) {
	d := f16At(b[64:])
	for i := range y {
		q := b[i/128*32+i%32] >> (i / 32 % 4 * 2) & 3
		y[i] = float32(int32(q)-1) * d
	}
})

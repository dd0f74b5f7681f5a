package simd

// q6_kGeneric has the weights of Q6_K: a block is 128 bytes with the lower four bits of the integers, 64
// with the upper two, 16 signed scales s, for 16 weights each, and a binary16 scale d;
// w = d·s·(q-32). In a half block the lower halves of 64 bytes belong to 64 weights, the upper halves to
// the next 64; the upper bits lie as those of Q2_K.
var q6_kGeneric = blocksOf("Q6_K", 256, 210, func(y []float32, b []byte) {
	d := f16At(b[208:])
	for k := range 16 {
		s := d * float32(int8(b[192+k]))
		low, shift := b[k/8*64+k%4*16:][:16], k%8/4*4
		high, shift2 := b[128+k/8*32+k%2*16:][:16], k%8/2*2
		for i, q := range low {
			y[16*k+i] = s * float32(int32(q>>shift&15|high[i]>>shift2&3<<4)-32)
		}
	}
})

package simd

// iq3_sGeneric has the weights of IQ3_S: a block is a binary16 scale d; for 4 weights each, 64
// bytes with the lower eight bits of the index of a point of a grid, and 8 bytes with
// the ninth; 32 bytes of signs; and 4 bytes with scales s of four bits, for 32 weights
// each; w = d·(2s+1)·(±g).
var iq3_sGeneric = blocksOf("IQ3_S", 256, 110, func(y []float32, b []byte) {
	d := f16At(b)
	for k := range 64 {
		index := int(b[2+k]) | int(b[66+k/8]>>(k%8)&1)<<8
		scale := float32(2*fourBits(b[106:], k/8) + 1)
		putSigned(y[4*k:], d*scale, iq3_sGrid.point(index), b[74+k/2]>>(k%2*4))
	}
})

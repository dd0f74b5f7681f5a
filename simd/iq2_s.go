package simd

// iq2_sGeneric has the weights of IQ2_S: a block is a binary16 scale d and, for 8 weights each, 32
// bytes with the lower eight bits of the index of a point of a grid, 32 bytes of signs and
// 8 bytes with the upper two bits of the indices; then 8 bytes with scales s of four bits,
// for 16 weights each; w = ¼·d·(s+½)·(±g).
var iq2_sGeneric = blocksOf("IQ2_S", 256, 82, func(y []float32, b []byte) {
	d := f16At(b)
	for k := range 32 {
		index := int(b[2+k]) | int(b[66+k/4]>>(k%4*2)&3)<<8
		putSigned(y[8*k:], d*(float32(fourBits(b[74:], k/2))+0.5)*0.25, iq2_sGrid.point(index), b[34+k])
	}
})

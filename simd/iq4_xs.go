package simd

import "encoding/binary"

// iq4_xsGeneric has the weights of IQ4_XS: a block is a binary16 scale d, 16 bits and 4 bytes
// with the upper two and lower four bits of eight scales s, and eight times 16 bytes as
// in IQ4_NL, for 32 weights each; w = d·(s-32)·iq4NL[q].
var iq4_xsGeneric = blocksOf("IQ4_XS", 256, 136, func(y []float32, b []byte) {
	d, high := f16At(b), binary.LittleEndian.Uint16(b[2:])
	for k := range 8 {
		s := int32(b[4+k/2]>>(k%2*4)&15) | int32(high>>(2*k)&3)<<4
		unpackFours(y[32*k:32*k+32], d*float32(s-32), b[8+16*k:24+16*k], &iq4NL)
	}
})

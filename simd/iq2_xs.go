package simd

import "encoding/binary"

// iq2_xsGeneric has the weights of IQ2_XS: a block is a binary16 scale d, 32 words of 16 bits, for
// 8 weights each, and 8 bytes with scales s of four bits, for 16 weights each; the lower
// nine bits of a word are the index of a point of a grid, the others signs; w = ¼·d·(s+½)·(±g).
var iq2_xsGeneric = blocksOf("IQ2_XS", 256, 74, func(y []float32, b []byte) {
	d := f16At(b)
	for k := range 32 {
		word := binary.LittleEndian.Uint16(b[2+2*k:])
		putSigned(y[8*k:], d*(float32(fourBits(b[66:], k/2))+0.5)*0.25, iq2_xsGrid.point(int(word&511)), evenSigns(uint32(word>>9)))
	}
})

// fourBits returns the four bits at i: byte i/2 has those of an even i in its lower half.
func fourBits(b []byte, i int) byte { return b[i/2] >> (i % 2 * 4) & 15 }

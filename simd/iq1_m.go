package simd

import "encoding/binary"

// iq1_mGeneric has the weights of IQ1_M: a block is 32 bytes with the lower eight bits of the index
// of a point of IQ1_S's grid, for 8 weights each; 16 bytes with four bits each of these,
// three of an index and the sign of δ = ⅛; and four words of 16 bits with four scales
// s of three bits each, for 16 weights each, whose upper four bits are a binary16 scale
// d, the lowest first; w = d·(2s+1)·(g±δ).
var iq1_mGeneric = blocksOf("IQ1_M", 256, 56, func(y []float32, b []byte) {
	var words [4]uint16
	var scale uint16
	for i := range words {
		words[i] = binary.LittleEndian.Uint16(b[48+2*i:])
		scale |= words[i] >> 12 << (4 * i)
	}
	d := f16Table[scale]
	for k := range 32 {
		s := words[k/8] >> (k / 2 % 4 * 3) & 7
		high, delta := int(fourBits(b[32:], k)), float32(iq1Delta)
		if high&8 != 0 {
			delta = -delta
		}
		putShifted(y[8*k:], d*float32(2*s+1), iq1_sGrid.point(int(b[k])|high&7<<8), delta)
	}
})

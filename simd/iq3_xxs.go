package simd

import "encoding/binary"

// iq3_xxsGeneric has the weights of IQ3_XXS: a block is a binary16 scale d, 64 bytes with the index
// of a point of a grid, for 4 weights each, and eight times 32 bits, for 32 weights
// each, of which four times seven are signs and the upper four a scale s; w = ½·d·(s+½)·(±g).
var iq3_xxsGeneric = blocksOf("IQ3_XXS", 256, 98, func(y []float32, b []byte) {
	d := f16At(b)
	for k := range 8 {
		rest := binary.LittleEndian.Uint32(b[66+4*k:])
		dk := d * (float32(rest>>28) + 0.5) * 0.5
		for l := range 4 {
			signs, at := evenSigns(rest>>(7*l)), 8*k+2*l
			putSigned(y[4*at:], dk, iq3_xxsGrid.point(int(b[2+at])), signs)
			putSigned(y[4*at+4:], dk, iq3_xxsGrid.point(int(b[3+at])), signs>>4)
		}
	}
})

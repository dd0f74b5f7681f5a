package simd

import "encoding/binary"

// iq2_xxsGeneric has the weights of IQ2_XXS: a block is a binary16 scale d and eight times 8 bytes,
// for 32 weights each: four indices of points of a grid, and 32 bits, of which four times
// seven are signs and the upper four a scale s; w = ¼·d·(s+½)·(±g).
var iq2_xxsGeneric = blocksOf("IQ2_XXS", 256, 66, func(y []float32, b []byte) {
	d := f16At(b)
	for k := range 8 {
		index, rest := b[2+8*k:6+8*k], binary.LittleEndian.Uint32(b[6+8*k:])
		dk := d * (float32(rest>>28) + 0.5) * 0.25
		for l, i := range index {
			putSigned(y[32*k+8*l:], dk, iq2_xxsGrid.point(int(i)), evenSigns(rest>>(7*l)))
		}
	}
})

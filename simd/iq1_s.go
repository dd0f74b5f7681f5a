package simd

import "encoding/binary"

// iq1Delta is what is added to or taken from the points of the grid in IQ1_S and IQ1_M
// (IQ1S_DELTA of ggml-common.h).
const iq1Delta = 0.125

// iq1_sGeneric has the weights of IQ1_S: a block is a binary16 scale d, 32 bytes with the lower
// eight bits of the index of a point of a grid, for 8 weights each, and eight words of 16
// bits, for 32 weights each: four times the upper three bits of an index, a scale s of
// three bits, and the sign of δ = ⅛; w = d·(2s+1)·(g±δ).
var iq1_sGeneric = blocksOf("IQ1_S", 256, 50, func(y []float32, b []byte) {
	d := f16At(b)
	for k := range 8 {
		word := int(binary.LittleEndian.Uint16(b[34+2*k:]))
		dk, delta := d*float32(word>>12&7*2+1), float32(iq1Delta)
		if word&0x8000 != 0 {
			delta = -delta
		}
		for l := range 4 {
			index := int(b[2+4*k+l]) | word>>(3*l)&7<<8
			putShifted(y[32*k+8*l:], dk, iq1_sGrid.point(index), delta)
		}
	}
})

// putShifted sets y[i] to d·(g[i]+delta).
func putShifted(y []float32, d float32, g []int8, delta float32) {
	y = y[:len(g)]
	for i, v := range g {
		y[i] = d * (float32(v) + delta)
	}
}

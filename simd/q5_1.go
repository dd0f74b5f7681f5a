package simd

import "encoding/binary"

// q5_1Generic has the weights of Q5_1: a block is a binary16 scale d and minimum m, and the 32
// bits and 16 bytes of Q5_0; w = d·q + m.
var q5_1Generic = blocksOf("Q5_1", 32, 24, func(y []float32, b []byte) {
	d, m, high := f16At(b), f16At(b[2:]), binary.LittleEndian.Uint32(b[4:])
	for i, q := range b[8:24] {
		y[i] = float32(float32(q&15|fifth(high, i))*d) + m
		y[i+16] = float32(float32(q>>4|fifth(high, i+16))*d) + m
	}
})

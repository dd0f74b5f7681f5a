package simd

import "encoding/binary"

// q5_0Generic has the weights of Q5_0: a block is a binary16 scale d, 32 bits, and 16 bytes as
// in Q4_0; bit i is the highest of the five of q[i]; w = d·(q-16).
var q5_0Generic = blocksOf("Q5_0", 32, 22, func(y []float32, b []byte) {
	d, high := f16At(b), binary.LittleEndian.Uint32(b[2:])
	for i, q := range b[6:22] {
		y[i] = float32(int32(q&15|fifth(high, i))-16) * d
		y[i+16] = float32(int32(q>>4|fifth(high, i+16))-16) * d
	}
})

// fifth returns bit i of high as the fifth bit of a number.
func fifth(high uint32, i int) byte { return byte(high>>i&1) << 4 }

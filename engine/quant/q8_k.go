package quant

import (
	"encoding/binary"
	"math"
)

// Q8_K: a block is a float32 scale d, 256 signed bytes q, and 16 sums of 16 of them; x = d·q. It is the type
// of ggml's activations, not of files.

// packQ8_K takes d = x*/-127, where x* is the first x of largest magnitude, and q = round(x/d), at
// most 127 (quantize_row_q8_K_ref).
func packQ8_K(dst []byte, src []float32) error {
	checkLengths("Q8_K", len(src), superblock, len(dst), 292)
	for k := 0; k < len(src); k += superblock {
		x, b := src[k:k+superblock], dst[k/superblock*292:][:292]
		at, err := checkSuperblock("Q8_K", x, k)
		if err != nil {
			return err
		}
		clear(b)
		inv := -127 / x[at]
		if !finite(inv) { // zeros, and what has no inverse
			continue
		}
		if !finite(127 / inv) {
			return &ValueError{"Q8_K", k + at, x[at]}
		}
		binary.LittleEndian.PutUint32(b, math.Float32bits(1/inv))
		for i, v := range x {
			q := min(127, nearest(inv*v))
			b[4+i] = byte(q)
			sum := b[260+i/16*2:]
			binary.LittleEndian.PutUint16(sum, binary.LittleEndian.Uint16(sum)+uint16(q))
		}
	}
	return nil
}

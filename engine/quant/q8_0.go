package quant

import (
	"encoding/binary"
	"math"
)

// Q8_0: a block is a binary16 scale d and 32 signed bytes q; x = d·q.

// packQ8_0 takes d = max|x|/127 and q = round(x/d), halves away from zero, with
// the d before it was rounded to binary16 (quantize_row_q8_0_ref).
func packQ8_0(dst []byte, src []float32) error {
	checkLengths("Q8_0", len(src), 32, len(dst), 34)
	for k := 0; k < len(src); k += 32 {
		x, b := (*[32]float32)(src[k:]), (*[34]byte)(dst[k/32*34:])
		largest, at, err := largestAbs("Q8_0", x, k)
		if err != nil {
			return err
		}
		d := float32(math.Abs(float64(largest))) / 127
		h := f32ToF16(d)
		if h == 0x7c00 {
			return &ValueError{"Q8_0", k + at, largest}
		}
		binary.LittleEndian.PutUint16(b[:2], h)
		id := inverse(d)
		for i, v := range x {
			b[i+2] = byte(int8(math.Round(float64(v * id))))
		}
	}
	return nil
}

// largestAbs returns the first x of largest magnitude and its index, where zeros
// of either sign give +0, and an error for the first x that is not finite; first
// is the index of x[0] for the message.
func largestAbs(name string, x *[32]float32, first int) (v float32, at int, err error) {
	var most float32
	for i, e := range x {
		if !finite(e) {
			return 0, 0, &ValueError{name, first + i, e}
		}
		if a := float32(math.Abs(float64(e))); a > most {
			most, v, at = a, e, i
		}
	}
	return v, at, nil
}

// inverse returns 1/d, and 0 where that is no number: for d = 0, as ggml does,
// and for a subnormal d, where ggml converts an infinity to an integer, which C
// does not define. Such a d becomes 0 in binary16, so that q does not matter.
func inverse(d float32) float32 {
	if id := 1 / d; finite(id) {
		return id
	}
	return 0
}

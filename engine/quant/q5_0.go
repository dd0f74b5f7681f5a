package quant

import "encoding/binary"

// Q5_0: a block is a binary16 scale d, 32 bits, and 16 bytes as in Q4_0; bit i is the
// highest of the five of q[i]; x = d·(q-16).

// packQ5_0 takes d = x*/-16, where x* is the first x of largest magnitude, and
// q = ⌊x/d + 16½⌋, at most 31, with the d before it was rounded to binary16
// (quantize_row_q5_0_ref).
func packQ5_0(dst []byte, src []float32) error {
	checkLengths("Q5_0", len(src), 32, len(dst), 22)
	for k := 0; k < len(src); k += 32 {
		x, b := (*[32]float32)(src[k:]), (*[22]byte)(dst[k/32*22:])
		largest, at, err := largestAbs("Q5_0", x, k)
		if err != nil {
			return err
		}
		d := largest / -16
		h := f32ToF16(d)
		if h&0x7c00 == 0x7c00 {
			return &ValueError{"Q5_0", k + at, largest}
		}
		binary.LittleEndian.PutUint16(b[:2], h)
		id := inverse(d)
		var q [32]byte
		for i, v := range x {
			q[i] = min(31, byte(float32(v*id)+16.5))
		}
		pack5(b[2:], &q)
	}
	return nil
}

// pack5 writes the highest of the five bits of every q, and then the other four.
func pack5(b []byte, q *[32]byte) {
	var high uint32
	for i, v := range q {
		high |= uint32(v>>4) << i
	}
	binary.LittleEndian.PutUint32(b, high)
	for i := range 16 {
		b[4+i] = q[i]&15 | q[i+16]<<4
	}
}

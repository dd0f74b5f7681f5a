package quant

import "encoding/binary"

// Q4_0: a block is a binary16 scale d and 16 bytes; the lower half of byte i
// holds q[i], the upper half q[i+16]; x = d·(q-8).

// packQ4_0 takes d = x*/-8, where x* is the first x of largest magnitude, so that
// x* itself has q = 0; and q = ⌊x/d + 8½⌋, at most 15, with the d before it was
// rounded to binary16 (quantize_row_q4_0_ref).
func packQ4_0(dst []byte, src []float32) error {
	checkLengths("Q4_0", len(src), 32, len(dst), 18)
	for k := 0; k < len(src); k += 32 {
		x, b := (*[32]float32)(src[k:]), (*[18]byte)(dst[k/32*18:])
		largest, at, err := largestAbs("Q4_0", x, k)
		if err != nil {
			return err
		}
		d := largest / -8
		h := f32ToF16(d)
		if h&0x7c00 == 0x7c00 {
			return &ValueError{"Q4_0", k + at, largest}
		}
		binary.LittleEndian.PutUint16(b[:2], h)
		id := inverse(d)
		for i := range 16 {
			lo, hi := float32(x[i]*id)+8.5, float32(x[i+16]*id)+8.5
			b[i+2] = min(15, byte(lo)) | min(15, byte(hi))<<4
		}
	}
	return nil
}

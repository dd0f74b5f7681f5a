package quant

import (
	"encoding/binary"
	"math"
)

// Q4_1: a block is a binary16 scale d and minimum m, and 16 bytes; the lower half of
// byte i holds q[i], the upper half q[i+16]; x = d·q + m.

// packQ4_1 takes m = min x, d = (max x - m)/15 and q = ⌊(x-m)/d + ½⌋, with the d and m
// before they were rounded to binary16 (quantize_row_q4_1_ref).
func packQ4_1(dst []byte, src []float32) error {
	checkLengths("Q4_1", len(src), 32, len(dst), 20)
	for k := 0; k < len(src); k += 32 {
		x, b := (*[32]float32)(src[k:]), (*[20]byte)(dst[k/32*20:])
		m, id, err := packRange("Q4_1", b[:4], x, k, 15)
		if err != nil {
			return err
		}
		for i := range 16 {
			lo, hi := float32((x[i]-m)*id)+0.5, float32((x[i+16]-m)*id)+0.5
			b[i+4] = min(15, byte(lo)) | min(15, byte(hi))<<4
		}
	}
	return nil
}

// packRange writes d = (max x - m)/levels and m = min x to b as binary16 and returns m
// and 1/d before rounding. first is the index of x[0] for the message of an error.
func packRange(name string, b []byte, x *[32]float32, first int, levels float32) (m, id float32, err error) {
	var least, most int
	for i, v := range x {
		if !finite(v) {
			return 0, 0, &ValueError{name, first + i, v}
		}
		if v < x[least] {
			least = i
		}
		if v > x[most] {
			most = i
		}
	}
	m = x[least]
	d := (x[most] - m) / levels
	dh, mh := f32ToF16(d), f32ToF16(m)
	if dh == 0x7c00 && math.Abs(float64(x[most])) > math.Abs(float64(m)) {
		return 0, 0, &ValueError{name, first + most, x[most]}
	}
	if dh == 0x7c00 || mh&0x7c00 == 0x7c00 {
		return 0, 0, &ValueError{name, first + least, m}
	}
	binary.LittleEndian.PutUint16(b, dh)
	binary.LittleEndian.PutUint16(b[2:], mh)
	return m, inverse(d), nil
}

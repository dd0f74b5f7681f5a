package quant

// Q5_1: a block is a binary16 scale d and minimum m, and the 32 bits and 16 bytes of
// Q5_0; x = d·q + m.

// packQ5_1 takes m = min x, d = (max x - m)/31 and q = ⌊(x-m)/d + ½⌋, with the d and m
// before they were rounded to binary16 (quantize_row_q5_1_ref).
func packQ5_1(dst []byte, src []float32) error {
	checkLengths("Q5_1", len(src), 32, len(dst), 24)
	for k := 0; k < len(src); k += 32 {
		x, b := (*[32]float32)(src[k:]), (*[24]byte)(dst[k/32*24:])
		m, id, err := packRange("Q5_1", b[:4], x, k, 31)
		if err != nil {
			return err
		}
		var q [32]byte
		for i, v := range x {
			q[i] = byte(float32((v-m)*id) + 0.5)
		}
		pack5(b[4:], &q)
	}
	return nil
}

package quant

// Q5_K: a block is that of Q4_K with the fifth bits of q in 32 bytes before the last 128.

// packQ5_K packs scales as packScales does; bit i/32 of byte i%32 is the highest of the five of q[i]
// (quantize_row_q5_K_ref).
func packQ5_K(dst []byte, src []float32) error {
	return packSuperblocks("Q5_K", dst, src, 176, func(b []byte, x []float32) bool {
		var q [superblock]int32
		ok := packScales(b[:16], &q, x, 31, -0.5, 15)
		for i, v := range q {
			b[16+i%32] |= byte(v>>4) << (i / 32)
			b[48+i/64*32+i%32] |= byte(v&15) << (i / 32 % 2 * 4)
		}
		return ok
	})
}

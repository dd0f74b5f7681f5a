package quant

// Q2_K: a block is 16 bytes of four-bit scales s and minima m, for 16 elements each, 64 bytes of two-bit q, and
// binary16 numbers d and n; x = d·s·q - n·m.

// packQ2_K searches scale and minimum for each part, by absolute errors weighted by |x|, takes d and n of the
// largest ones, 1/15 of them, and q = round((x+n·m)/(d·s)) with all as they are written
// (quantize_row_q2_K_ref).
func packQ2_K(dst []byte, src []float32) error {
	return packSuperblocks("Q2_K", dst, src, 84, func(b []byte, x []float32) bool {
		var q [superblock]int32
		var aux [16]int32
		var scales, minima, w [16]float32
		var largestScale, largestMin float32
		for k := range scales {
			part := x[16*k : 16*k+16]
			for i, v := range part {
				w[i] = abs(v)
			}
			scales[k], minima[k] = searchMinimum(q[16*k:16*k+16], aux[:], part, w[:], 3, -0.5, 0.1, 15, true)
			largestScale, largestMin = max(largestScale, scales[k]), max(largestMin, minima[k])
		}
		d, okD := putScale(b[80:], largestScale/15)
		n, okN := putScale(b[82:], largestMin/15)
		invScale, invMin := ratio(15, largestScale), ratio(15, largestMin)
		for k := range scales {
			b[k] = byte(nearest(invScale*scales[k])) | byte(nearest(invMin*minima[k]))<<4
			roundPart(q[16*k:16*k+16], x[16*k:], d*float32(b[k]&15), n*float32(b[k]>>4), 0, 3, 0)
		}
		for i, v := range q {
			b[16+i/128*32+i%32] |= byte(v) << (i / 32 % 4 * 2)
		}
		return okD && okN
	})
}

// ratio returns n/x, and 0 for 0.
func ratio(n, x float32) float32 {
	if x > 0 {
		return n / x
	}
	return 0
}

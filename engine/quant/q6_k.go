package quant

// Q6_K: a block is 128 bytes with the lower four bits of q, 64 with the upper two, 16 signed scales s, for 16
// elements each, and a binary16 scale d; x = d·s·(q-32).

// packQ6_K searches a scale for each part, takes d = s*/-128, where s* is the first scale of
// largest magnitude, and q = round(x/(d·s)) + 32 with d and s as they are written
// (quantize_row_q6_K_ref).
func packQ6_K(dst []byte, src []float32) error {
	return packSuperblocks("Q6_K", dst, src, 210, func(b []byte, x []float32) bool {
		var q [superblock]int32
		var scales [16]float32
		largest := searchScales(&scales, &q, x, func(q []int32, x []float32) float32 { return searchSymmetric(q, x, 32) })
		if abs(largest) < tiny {
			return true
		}
		inv := -128 / largest
		d, ok := putScale(b[208:], 1/inv)
		for k, s := range scales {
			s := int8(min(127, nearest(inv*s)))
			b[192+k] = byte(s)
			roundPart(q[16*k:16*k+16], x[16*k:], d*float32(s), 0, -32, 31, 32)
		}
		for i := range 64 { // the quarters of two half blocks
			h, l := i/32, i%32
			v := q[128*h+l:]
			b[64*h+l] = byte(v[0]&15 | v[64]&15<<4)
			b[64*h+l+32] = byte(v[32]&15 | v[96]&15<<4)
			b[128+i] = byte(v[0]>>4 | v[32]>>4<<2 | v[64]>>4<<4 | v[96]>>4<<6)
		}
		return ok
	})
}

// searchScales searches the scales of 16 parts and returns the first of largest magnitude.
func searchScales(scales *[16]float32, q *[superblock]int32, x []float32, search func(q []int32, x []float32) float32) (largest float32) {
	for k := range scales {
		scales[k] = search(q[16*k:16*k+16], x[16*k:16*k+16])
		if abs(scales[k]) > abs(largest) {
			largest = scales[k]
		}
	}
	return largest
}

// roundPart sets q to round((x+m)/d) between lo and hi, plus offset. With d = 0 they stay what the search has
// found, as in ggml.
func roundPart(q []int32, x []float32, d, m float32, lo, hi, offset int32) {
	if d == 0 {
		return
	}
	for i := range q {
		q[i] = clamp(nearest((x[i]+m)/d), lo, hi) + offset
	}
}

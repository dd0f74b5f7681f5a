package quant

// Q3_K: a block is 32 bytes with the highest bits of q, 64 with the lower two, 12 with six-bit scales s, for 16
// elements each, and a binary16 scale d; x = d·(s-32)·(q-4).

// packQ3_K searches a scale for each part, takes d = s*/-32, where s* is the first scale of
// largest magnitude, and q = round(x/(d·(s-32))) + 4 with d and s as they are written
// (quantize_row_q3_K_ref).
func packQ3_K(dst []byte, src []float32) error {
	return packSuperblocks("Q3_K", dst, src, 110, func(b []byte, x []float32) bool {
		var q [superblock]int32
		var scales [16]float32
		largest := searchScales(&scales, &q, x, searchEights)
		inv, d, ok := float32(0), float32(0), true
		if largest != 0 {
			inv = -32 / largest
			d, ok = putScale(b[108:], 1/inv)
		}
		for k, s := range scales {
			if largest == 0 {
				break
			}
			s := clamp(int32(int8(nearest(inv*s))), -32, 31)
			b[96+k%8] |= byte((s+32)&15) << (k / 8 * 4)
			b[96+8+k%4] |= byte((s+32)>>4) << (k / 4 * 2)
			roundPart(q[16*k:16*k+16], x[16*k:], d*float32(s), 0, -4, 3, 4)
		}
		for i, v := range q {
			b[i%32] |= byte(v>>2) << (i / 32)
			b[32+i/128*32+i%32] |= byte(v&3) << (i / 32 % 4 * 2)
		}
		return ok
	})
}

// searchEights sets q to integers 0…7 and returns s so that x ≈ s·(q-4): from those nearest for a scale of x*/-4,
// with x* the x of largest magnitude, up to five times each one changes that betters the least squares,
// weighted by x² (make_q3_quants).
func searchEights(q []int32, x []float32) float32 {
	clear(q)
	at := largestAt(x)
	if abs(x[at]) < tiny {
		return 0
	}
	inv := -4 / x[at]
	var xl, l2 float32
	for i, v := range x {
		q[i] = clamp(nearest(inv*v), -4, 3)
		l, w := float32(q[i]), v*v
		xl += float32(float32(w*v) * l)
		l2 += float32(float32(w*l) * l)
	}
	for range 5 {
		changed := false
		for i, v := range x {
			l, w := float32(q[i]), v*v
			xlTry := xl - float32(float32(w*v)*l)
			if !(xlTry > 0) {
				continue
			}
			l2Try := l2 - float32(float32(w*l)*l)
			to := clamp(nearest(v*l2Try/xlTry), -4, 3)
			if to == q[i] {
				continue
			}
			l = float32(to)
			xlTry += float32(float32(w*v) * l)
			l2Try += float32(float32(w*l) * l)
			if l2Try > 0 && float32(float32(xlTry*xlTry)*l2) > float32(float32(xl*xl)*l2Try) {
				q[i], xl, l2, changed = to, xlTry, l2Try, true
			}
		}
		if !changed {
			break
		}
	}
	for i := range q {
		q[i] += 4
	}
	if l2 > 0 {
		return xl / l2
	}
	return 0
}

package quant

import "math"

// Q4_K: a block is binary16 numbers d and n, 12 bytes with six-bit scales s and minima m, for 32 elements
// each, and 128 bytes with q; x = d·s·q - n·m.

// packQ4_K packs scales as packScales does and writes the q of 32 elements to the lower halves of
// 32 bytes, those of the next 32 to the upper halves (quantize_row_q4_K_ref).
func packQ4_K(dst []byte, src []float32) error {
	return packSuperblocks("Q4_K", dst, src, 144, func(b []byte, x []float32) bool {
		var q [superblock]int32
		ok := packScales(b[:16], &q, x, 15, -1, 20)
		for i, v := range q {
			b[16+i/64*32+i%32] |= byte(v) << (i / 32 % 2 * 4)
		}
		return ok
	})
}

// packScales searches scale and minimum for each part, by squares weighted by |x| + √mean x²,
// from the given first candidate on, and writes d and n, 1/63 of the largest ones, and the scales and minima to b as Q4_K
// has them. It sets q = round((x+n·m)/(d·s)), at most most, with all as they are written.
func packScales(b []byte, q *[superblock]int32, x []float32, most int32, first float32, steps int) bool {
	var aux [32]int32
	var w [32]float32
	var scales, minima [8]float32
	var largestScale, largestMin float32
	for k := range scales {
		part := x[32*k : 32*k+32]
		var sum float32
		for _, v := range part {
			sum += float32(v * v)
		}
		mean := float32(math.Sqrt(float64(sum / 32)))
		for i, v := range part {
			w[i] = mean + abs(v)
		}
		scales[k], minima[k] = searchMinimum(q[32*k:32*k+32], aux[:], part, w[:], most, first, 0.1, steps, false)
		largestScale, largestMin = max(largestScale, scales[k]), max(largestMin, minima[k])
	}
	d, okD := putScale(b, largestScale/63)
	n, okN := putScale(b[2:], largestMin/63)
	invScale, invMin := ratio(63, largestScale), ratio(63, largestMin)
	for k := range scales {
		s, m := min(63, byte(nearest(invScale*scales[k]))), min(63, byte(nearest(invMin*minima[k])))
		if k < 4 {
			b[4+k] |= s
			b[8+k] |= m
		} else {
			b[8+k] = s&15 | m<<4
			b[k] |= s >> 4 << 6
			b[4+k] |= m >> 4 << 6
		}
		roundPart(q[32*k:32*k+32], x[32*k:], d*float32(s), n*float32(m), 0, most, 0)
	}
	return okD && okN
}

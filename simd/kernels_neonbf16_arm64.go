//go:build !purego

package simd

// neonbf16 is neondot with what CPUs with BF16 and I8MM add: matrix products of
// bfloat16 numbers and of bytes by products of 2×2. BFMMLA adds to its sums the products
// of two steps at a time, which it rounds to odd; subnormal numbers are 0 for it.
var neonbf16 = func() Kernels {
	k := neondot
	k.Name = "neonbf16"
	run := tileOf(16, tile1NEONBF16, tile2NEONBF16, tile3NEONBF16, tile4NEONBF16, tile5NEONBF16, tile6NEONBF16)
	k.TileBF16 = Tile{
		MR: 6, NR: 16, Half: true,
		Run: func(rows, k int, a []float32, lda int, b, c []float32, ldc int, accumulate bool) {
			groups := (k + 3) / 4 // of steps
			_, _ = a[(rows-1)*lda+2*groups-1], b[32*groups-1]
			run(rows, groups, a, lda, b, c, ldc, accumulate)
		},
		PackRows: packRowsOf(16, packRows16NEON),
		Seal:     sealBF16Vector,
		SealRow:  sealRowBF16Vector,
	}
	k.Q8_0.Tile = int8TileVector(8, 320, 34, packQ8_0NEONBF16, tileInt8NEONBF16)
	k.Q4_0.Tile = int8TileVector(8, 320, 18, packQ4_0NEONBF16, tileInt8NEONBF16)
	return k
}()

// sealBF16Vector and sealRowBF16Vector fill up the last four steps with zeros.
func sealBF16Vector(dst, src []float32, k int) {
	groups, rest := k/4, k%4
	_, _ = dst[32*((k+3)/4)-1], src[16*k-1]
	if groups > 0 {
		sealNEONBF16(ptr(dst), ptr(src), groups)
	}
	if rest > 0 {
		var last [4 * 16]float32
		copy(last[:], src[4*groups*16:k*16])
		sealNEONBF16(at(dst, 32*groups), &last[0], 1)
	}
}

func sealRowBF16Vector(dst, src []float32) {
	groups, rest := len(src)/4, len(src)%4
	dst = dst[:(len(src)+3)/4*2]
	for i := 0; i < groups; i += chunk / 4 {
		sealRowNEONBF16(at(dst, 2*i), at(src, 4*i), min(chunk/4, groups-i))
	}
	if rest > 0 {
		var last [4]float32
		copy(last[:], src[4*groups:])
		sealRowNEONBF16(at(dst, 2*groups), &last[0], 1)
	}
}

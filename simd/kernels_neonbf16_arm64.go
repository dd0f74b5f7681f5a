//go:build !purego

package simd

// neonbf16 is neondot with what CPUs with BF16 and I8MM add: matrix products of bfloat16
// numbers and of bytes by products of 2×2. BFMMLA adds to its sums the products of two steps at a time, which
// it rounds to odd; subnormal numbers are 0 for it.
var neonbf16 = func() Kernels {
	k := neondot
	k.Name = "neonbf16"
	k.TileBF16 = Tile{
		MR: 6, NR: 16, Half: true,
		Run:      tileBF16Vector,
		PackRows: packRowsVector,
		PackCols: packColsVector,
		Seal:     sealBF16Vector,
	}
	k.Q8_0.Tile = int8TileVector(8, 320, 34, packQ8_0NEONBF16, tileInt8NEONBF16)
	k.Q4_0.Tile = int8TileVector(8, 320, 18, packQ4_0NEONBF16, tileInt8NEONBF16)
	return k
}()

func tileBF16Vector(k int, a, b, c []float32, ldc int, accumulate bool) {
	groups := (k + 3) / 4
	_, _, _ = a[12*groups-1], b[32*groups-1], c[5*ldc+15]
	tileNEONBF16(groups, ptr(a), ptr(b), ptr(c), ldc, accumulate)
}

func sealBF16Vector(dst, src []float32, width, k int) {
	groups, rest := k/4, k%4
	_, _ = dst[2*width*((k+3)/4)-1], src[width*k-1]
	seal := seal6NEONBF16
	if width == 16 {
		seal = seal16NEONBF16
	}
	if groups > 0 {
		seal(ptr(dst), ptr(src), groups)
	}
	if rest > 0 { // steps of zeros fill up the group
		var last [4 * 16]float32
		copy(last[:], src[4*groups*width:k*width])
		seal(at(dst, 2*width*groups), &last[0], 1)
	}
}

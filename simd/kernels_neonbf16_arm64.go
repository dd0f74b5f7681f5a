//go:build !purego

package simd

import "math"

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
		Seal:     sealBF16Vector,
		SealRow:  sealRowBF16,
	}
	k.Q8_0.Tile = int8TileVector(8, 320, 34, packQ8_0NEONBF16, tileInt8NEONBF16)
	k.Q4_0.Tile = int8TileVector(8, 320, 18, packQ4_0NEONBF16, tileInt8NEONBF16)
	return k
}()

// tileBF16Vector interleaves the rows of A, four steps at a time, for the assembly.
func tileBF16Vector(rows, k int, a []float32, lda int, b, c []float32, ldc int, accumulate bool) {
	groups := (k + 3) / 4
	_, _, _ = a[(rows-1)*lda+2*groups-1], b[32*groups-1], c[(rows-1)*ldc+15]
	var panel [6 * gemmKC]float32
	_ = panel[12*groups-1]
	for i := range rows {
		for g, row := 0, a[i*lda:i*lda+2*groups]; g < groups; g++ {
			panel[12*g+2*i], panel[12*g+2*i+1] = row[2*g], row[2*g+1]
		}
	}
	edge(rows, c, ldc, accumulate, func(c []float32, ldc int) {
		tileNEONBF16(groups, &panel[0], ptr(b), ptr(c), ldc, accumulate)
	})
}

func sealBF16Vector(dst, src []float32, k int) {
	groups, rest := k/4, k%4
	_, _ = dst[32*((k+3)/4)-1], src[16*k-1]
	if groups > 0 {
		seal16NEONBF16(ptr(dst), ptr(src), groups)
	}
	if rest > 0 { // steps of zeros fill up the group
		var last [4 * 16]float32
		copy(last[:], src[4*groups*16:k*16])
		seal16NEONBF16(at(dst, 32*groups), &last[0], 1)
	}
}

func sealRowBF16(dst, src []float32) {
	n := len(src)
	dst = dst[:(n+3)/4*2]
	var some [64]float32
	for i := range dst {
		if i%32 == 0 {
			clear(some[copy(some[:], src[min(n, 2*i):]):])
			roundBF16Vector(some[:], some[:])
		}
		lo, hi := math.Float32bits(some[2*i%64]), math.Float32bits(some[2*i%64+1])
		dst[i] = math.Float32frombits(lo>>16 | hi)
	}
}

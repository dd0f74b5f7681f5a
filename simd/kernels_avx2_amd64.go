//go:build !purego

package simd

//go:generate go run -C _gen . -dir ..

// avx2 needs AVX2, FMA and F16C. Its assembly (written by _gen) takes pointers; the functions
// in assembly.go check the lengths and cut long slices.
var avx2 = Kernels{
	Name:           "avx2",
	Dot:            dotOf(dotAVX2),
	Sum:            sumOf(sumAVX2),
	Max:            maxOf(maxAVX2),
	Axpy:           axpyOf(axpyAVX2),
	Add:            each2(addAVX2),
	Mul:            each2(mulAVX2),
	Scale:          scaleOf(scaleAVX2),
	DotRows:        dotRowsOf(dotRowsAVX2),
	AxpyRows:       axpyRowsOf(axpyRowsAVX2),
	ExpSub:         expSubOf(expSubAVX2),
	SwiGLU:         each3(swiGLUAVX2),
	SwiGLUBackward: each5(swiGLUBackwardAVX2),
	GELU:           each2(geluAVX2),
	GELUBackward:   each3(geluBackwardAVX2),
	TurnPairs:      turnPairsVector,
	AdamW:          adamWVector,
	RoundBF16:      roundBF16Vector,
	StochasticBF16: stochasticBF16Vector,
	ToInt8:         toInt8Vector,
	Weights:        weightsAVX2,
	Transpose:      transposeVector,
	Tile: Tile{
		MR: 6, NR: 16,
		Run:      tileAVX2,
		PackRows: packRowsOf(16, packRows16AVX2),
	},
	TileBF16: Tile{
		MR: 6, NR: 16,
		Run:      tileAVX2,
		PackRows: packRowsOf(16, packRows16AVX2),
		Seal:     sealVector,
		SealRow:  sealRowVector,
	},
}

var tileAVX2 = tileOf(16, tile1AVX2, tile2AVX2, tile3AVX2, tile4AVX2, tile5AVX2, tile6AVX2)

func turnPairsVector(x, cos, sin []float32, sign float32) {
	if len(x)%2 != 0 {
		panic("simd: TurnPairs: the length is odd")
	}
	cos, sin = cos[:len(x)], sin[:len(x)]
	each(len(x), func(i, n int) { turnPairsAVX2(at(x, i), at(cos, i), at(sin, i), sign, n) })
}

func adamWVector(w, m, v, g []float32, s *AdamWStep) {
	m, v, g = m[:len(w)], v[:len(w)], g[:len(w)]
	c := s.constants()
	each(len(w), func(i, n int) { adamWAVX2(at(w, i), at(m, i), at(v, i), at(g, i), n, &c[0]) })
}

func roundBF16Vector(y, x []float32) {
	x = x[:len(y)]
	each(len(y), func(i, n int) { roundBF16AVX2(at(y, i), at(x, i), n) })
}

func stochasticBF16Vector(y, x []float32, key uint64, first uint32) {
	x = x[:len(y)]
	each(len(y), func(i, n int) {
		stochasticBF16AVX2(at(y, i), at(x, i), n, uint32(key), uint32(key>>32), first+uint32(i))
	})
}

// sealVector is Seal where Run multiplies float32 numbers.
func sealVector(dst, src []float32, k int) { roundBF16Vector(dst[:16*k], src) }

func sealRowVector(dst, src []float32) { roundBF16Vector(dst[:len(src)], src) }

func transposeVector(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	if rows == 0 || cols == 0 {
		return
	}
	_, _ = dst[(cols-1)*ldd+rows-1], src[(rows-1)*lds+cols-1]
	r8, c8 := rows&^7, cols&^7
	if c8 > 0 {
		for i := 0; i < r8; i += 8 {
			transpose8AVX2(at(dst, i), ldd, at(src, i*lds), lds, c8)
		}
	}
	if c8 < cols && r8 > 0 {
		transposeGeneric(dst[c8*ldd:], ldd, src[c8:], lds, r8, cols-c8)
	}
	if r8 < rows {
		transposeGeneric(dst[r8:], ldd, src[r8*lds:], lds, rows-r8, cols)
	}
}

//go:build !purego

package simd

// neon runs on every arm64 CPU. Its assembly (written by _gen/arm64) takes pointers;
// the functions in assembly.go check the lengths and cut long slices. It does what avx2
// does, in the same order, and so gives the same bits, but for those of a NaN.
var neon = Kernels{
	Name:           "neon",
	Dot:            dotOf(dotNEON),
	Sum:            sumOf(sumNEON),
	Max:            maxOf(maxNEON),
	Axpy:           axpyOf(axpyNEON),
	Add:            each2(addNEON),
	Mul:            each2(mulNEON),
	Scale:          scaleOf(scaleNEON),
	DotRows:        dotRowsOf(dotRowsNEON),
	AxpyRows:       axpyRowsOf(axpyRowsNEON),
	ExpSub:         expSubOf(expSubNEON),
	SwiGLU:         each3(swiGLUNEON),
	SwiGLUBackward: each5(swiGLUBackwardNEON),
	GELU:           each2(geluNEON),
	GELUBackward:   each3(geluBackwardNEON),
	TurnPairs:      turnPairsVector,
	AdamW:          adamWVector,
	RoundBF16:      roundBF16Vector,
	StochasticBF16: stochasticBF16Vector,
	ToInt8:         toInt8Vector,
	Weights:        weightsNEON,
	Transpose:      transposeVector,
	Tile: Tile{
		MR: 6, NR: 16,
		Run:      tileNEON,
		PackRows: packRowsOf(16, packRows16NEON),
	},
	TileBF16: Tile{
		MR: 6, NR: 16,
		Run:      tileNEON,
		PackRows: packRowsOf(16, packRows16NEON),
		Seal:     sealVector,
		SealRow:  sealRowVector,
	},
}

func turnPairsVector(x, cos, sin []float32, sign float32) {
	if len(x)%2 != 0 {
		panic("simd: TurnPairs: the length is odd")
	}
	cos, sin = cos[:len(x)], sin[:len(x)]
	each(len(x), func(i, n int) { turnPairsNEON(at(x, i), at(cos, i), at(sin, i), sign, n) })
}

func adamWVector(w, m, v, g []float32, s *AdamWStep) {
	m, v, g = m[:len(w)], v[:len(w)], g[:len(w)]
	c := s.constants()
	each(len(w), func(i, n int) { adamWNEON(at(w, i), at(m, i), at(v, i), at(g, i), n, &c[0]) })
}

func roundBF16Vector(y, x []float32) {
	x = x[:len(y)]
	each(len(y), func(i, n int) { roundBF16NEON(at(y, i), at(x, i), n) })
}

// sealVector is Seal where Run multiplies float32 numbers.
func sealVector(dst, src []float32, k int) { roundBF16Vector(dst[:16*k], src) }

func sealRowVector(dst, src []float32) { roundBF16Vector(dst[:len(src)], src) }

func stochasticBF16Vector(y, x []float32, key uint64, first uint32) {
	x = x[:len(y)]
	each(len(y), func(i, n int) {
		stochasticBF16NEON(at(y, i), at(x, i), n, uint32(key), uint32(key>>32), first+uint32(i))
	})
}

var tileNEON = tileOf(16, tile1NEON, tile2NEON, tile3NEON, tile4NEON, tile5NEON, tile6NEON)

func transposeVector(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	if rows == 0 || cols == 0 {
		return
	}
	_, _ = dst[(cols-1)*ldd+rows-1], src[(rows-1)*lds+cols-1]
	i, c4 := 0, cols&^3
	if c4 > 0 {
		for ; i+8 <= rows; i += 8 {
			transpose8NEON(at(dst, i), ldd, at(src, i*lds), lds, c4)
		}
		if i+4 <= rows {
			transpose4NEON(at(dst, i), ldd, at(src, i*lds), lds, c4)
			i += 4
		}
	}
	if c4 < cols && i > 0 {
		transposeGeneric(dst[c4*ldd:], ldd, src[c4:], lds, i, cols-c4)
	}
	if i < rows {
		transposeGeneric(dst[i:], ldd, src[i*lds:], lds, rows-i, cols)
	}
}

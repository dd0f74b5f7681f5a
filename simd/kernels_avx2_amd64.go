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
	AdamW:          adamWVector,
	RoundBF16:      roundBF16Vector,
	ToInt8:         toInt8Vector,
	F16:            f16AVX2,
	BF16:           bf16AVX2,
	Q8_0:           q8_0AVX2,
	Q4_0:           q4_0AVX2,
	Tile: Tile{
		MR: 6, NR: 16,
		Run:      tileVector,
		PackRows: packRowsVector,
		PackCols: packColsVector,
	},
	TileBF16: Tile{
		MR: 6, NR: 16,
		Run:      tileVector,
		PackRows: packRowsVector,
		PackCols: packColsVector,
		Seal:     sealVector,
	},
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

// sealVector is Seal where Run multiplies float32 numbers.
func sealVector(dst, src []float32, width, k int) { roundBF16Vector(dst[:width*k], src) }

func tileVector(k int, a, b, c []float32, ldc int, accumulate bool) {
	_, _, _ = a[6*k-1], b[16*k-1], c[5*ldc+15]
	tileAVX2(k, ptr(a), ptr(b), ptr(c), ldc, accumulate)
}

func packRowsVector(dst []float32, panel int, src []float32, stride, width, k, panels int) {
	_, _ = dst[(panels-1)*panel+k*width-1], src[(k-1)*stride+panels*width-1]
	if width == 16 {
		packRows16AVX2(ptr(dst), panel, ptr(src), stride, k, panels)
	} else {
		packRows6AVX2(ptr(dst), panel, ptr(src), stride, k, panels)
	}
}

func packColsVector(dst, src []float32, stride, width, k int) {
	_, _ = dst[k*width+PackSlack-1], src[(width-1)*stride+k-1]
	k8 := k &^ 7
	if k8 > 0 {
		if width == 16 {
			packCols8AVX2(ptr(dst), ptr(src), stride, width, k8)
			packCols8AVX2(at(dst, 8), at(src, 8*stride), stride, width, k8)
		} else {
			packCols6AVX2(ptr(dst), ptr(src), stride, width, k8)
		}
	}
	for p := k8; p < k; p++ {
		for i := range width {
			dst[p*width+i] = src[i*stride+p]
		}
	}
}

//go:build !purego

package simd

// avx512 needs AVX-512 F, BW, DQ and VL, and what avx2 needs.
var avx512 = func() Kernels {
	k := avx2
	k.Name = "avx512"
	k.Dot = dotOf(dotAVX512)
	k.Sum = sumOf(sumAVX512)
	k.Max = maxOf(maxAVX512)
	k.Axpy = axpyOf(axpyAVX512)
	k.Add = each2(addAVX512)
	k.Mul = each2(mulAVX512)
	k.Scale = scaleOf(scaleAVX512)
	k.DotRows = dotRowsOf(dotRowsAVX512)
	k.AxpyRows = axpyRowsOf(axpyRowsAVX512)
	k.ExpSub = expSubOf(expSubAVX512)
	k.SwiGLU = each3(swiGLUAVX512)
	k.SwiGLUBackward = each5(swiGLUBackwardAVX512)
	k.GELU = each2(geluAVX512)
	k.GELUBackward = each3(geluBackwardAVX512)
	k.AdamW = adamW512
	k.RoundBF16 = each2(roundBF16AVX512)
	k.Transpose = transpose512
	k.Tile = Tile{
		MR: 14, NR: 32,
		Run: tileOf(32, tile1AVX512, tile2AVX512, tile3AVX512, tile4AVX512, tile5AVX512, tile6AVX512, tile7AVX512,
			tile8AVX512, tile9AVX512, tile10AVX512, tile11AVX512, tile12AVX512, tile13AVX512, tile14AVX512),
		PackRows: packRowsOf(32, packRows32AVX512),
		Narrow:   &avx2.Tile,
	}
	round := k.RoundBF16
	k.TileBF16 = k.Tile
	k.TileBF16.Narrow = &avx2.TileBF16
	k.TileBF16.Seal = func(dst, src []float32, k int) { round(dst[:32*k], src) }
	k.TileBF16.SealRow = func(dst, src []float32) { round(dst[:len(src)], src) }
	return k
}()

// avx512vnni needs VNNI too.
var avx512vnni = func() Kernels {
	k := avx512
	k.Name = "avx512vnni"
	k.Q8_0.DotInt8 = dotInt8Vector("Q8_0", 34, dotQ8_0VNNI, q8_0Generic.DotInt8)
	k.Q8_0.Tile = int8TileVector(34, 8, packQ8_0AVX2, tileQ8_0VNNI)
	k.Q4_0.DotInt8 = dotInt8Vector("Q4_0", 18, dotQ4_0VNNI, q4_0Generic.DotInt8)
	k.Q4_0.Tile = int8TileVector(18, 8, packQ4_0AVX2, tileQ4_0VNNI)
	return k
}()

// avx512bf16 needs BF16 too.
var avx512bf16 = func() Kernels {
	k := avx512vnni
	k.Name = "avx512bf16"
	run := tileOf(32, tile1BF16, tile2BF16, tile3BF16, tile4BF16, tile5BF16, tile6BF16, tile7BF16,
		tile8BF16, tile9BF16, tile10BF16, tile11BF16, tile12BF16, tile13BF16, tile14BF16)
	k.TileBF16.Half, k.TileBF16.Narrow = true, nil
	k.TileBF16.Run = func(rows, k int, a []float32, lda int, b, c []float32, ldc int, accumulate bool) {
		run(rows, (k+1)/2, a, lda, b, c, ldc, accumulate)
	}
	k.TileBF16.Seal, k.TileBF16.SealRow = sealPairs, sealRowPairs
	return k
}()

func adamW512(w, m, v, g []float32, s *AdamWStep) {
	m, v, g = m[:len(w)], v[:len(w)], g[:len(w)]
	c := s.constants()
	each(len(w), func(i, n int) { adamWAVX512(at(w, i), at(m, i), at(v, i), at(g, i), n, &c[0]) })
}

// transpose512 transposes 16×16 at a time, and what is left as avx2 does.
func transpose512(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	if rows == 0 || cols == 0 {
		return
	}
	_, _ = dst[(cols-1)*ldd+rows-1], src[(rows-1)*lds+cols-1]
	r, c := rows&^15, cols&^15
	if c > 0 {
		for i := 0; i < r; i += 16 {
			transpose16AVX512(at(dst, i), ldd, at(src, i*lds), lds, c)
		}
	}
	if c < cols {
		transposeVector(dst[c*ldd:], ldd, src[c:], lds, r, cols-c)
	}
	if r < rows {
		transposeVector(dst[r:], ldd, src[r*lds:], lds, rows-r, cols)
	}
}

// sealPairs is Seal where a word has two steps of a column.
func sealPairs(dst, src []float32, k int) {
	_, _ = dst[(k+1)/2*32-1], src[k*32-1]
	if k > 1 {
		sealBF16(ptr(dst), ptr(src), k/2)
	}
	if k%2 == 1 {
		var last [64]float32
		copy(last[:], src[(k-1)*32:k*32])
		sealBF16(at(dst, (k-1)*16), &last[0], 1)
	}
}

func sealRowPairs(dst, src []float32) {
	n := len(src) &^ 31
	if n > 0 {
		_ = dst[n/2-1]
		sealRowBF16(ptr(dst), ptr(src), n)
	}
	if rest := src[n:]; len(rest) > 0 {
		var in [32]float32
		var out [16]float32
		copy(in[:], rest)
		sealRowBF16(&out[0], &in[0], len(in))
		copy(dst[n/2:n/2+(len(rest)+1)/2], out[:])
	}
}

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
	return k
}()

func adamW512(w, m, v, g []float32, s *AdamWStep) {
	m, v, g = m[:len(w)], v[:len(w)], g[:len(w)]
	c := s.constants()
	each(len(w), func(i, n int) { adamWAVX512(at(w, i), at(m, i), at(v, i), at(g, i), n, &c[0]) })
}

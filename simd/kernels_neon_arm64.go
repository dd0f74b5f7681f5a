//go:build !purego

package simd

import "math"

// neon runs on every arm64 CPU. Its assembly (written by _gen/arm64) takes pointers;
// the functions here check the lengths and cut long slices, because a call into
// assembly cannot be preempted. It does what avx2 does, in the same order, and so
// gives the same bits, but for those of a NaN.
var neon = Kernels{
	Name:           "neon",
	Dot:            dotVector,
	Sum:            sumVector,
	Max:            maxVector,
	Axpy:           axpyVector,
	Add:            addVector,
	Mul:            mulVector,
	Scale:          scaleVector,
	DotRows:        dotRowsVector,
	AxpyRows:       axpyRowsVector,
	ExpSub:         expSubVector,
	SwiGLU:         swiGLUVector,
	SwiGLUBackward: swiGLUBackwardVector,
	GELU:           geluVector,
	GELUBackward:   geluBackwardVector,
	TurnPairs:      turnPairsGeneric,
	AdamW:          adamWVector,
	RoundBF16:      roundBF16Vector,
	StochasticBF16: stochasticBF16Vector,
	ToInt8:         toInt8Vector,
	F16:            f16NEON,
	BF16:           bf16NEON,
	Q8_0:           q8_0NEON,
	Q4_0:           q4_0NEON,
	Transpose:      transposeVector,
	Tile: Tile{
		MR: 6, NR: 16,
		Run:      tileVector,
		PackRows: packRowsVector,
	},
	TileBF16: Tile{
		MR: 6, NR: 16,
		Run:      tileVector,
		PackRows: packRowsVector,
		Seal:     sealVector,
		SealRow:  sealRowVector,
	},
}

func dotVector(x, y []float32) float32 {
	y = y[:len(x)]
	var s float32
	for len(x) > chunk {
		s += dotNEON(ptr(x), ptr(y), chunk)
		x, y = x[chunk:], y[chunk:]
	}
	return s + dotNEON(ptr(x), ptr(y), len(x))
}

func sumVector(x []float32) float32 {
	var s float32
	for len(x) > chunk {
		s += sumNEON(ptr(x), chunk)
		x = x[chunk:]
	}
	return s + sumNEON(ptr(x), len(x))
}

func maxVector(x []float32) float32 {
	m := float32(math.Inf(-1))
	for len(x) > chunk {
		m = max(m, maxNEON(ptr(x), chunk))
		x = x[chunk:]
	}
	return max(m, maxNEON(ptr(x), len(x)))
}

func axpyVector(y []float32, a float32, x []float32) {
	x = x[:len(y)]
	each(len(y), func(i, n int) { axpyNEON(at(y, i), a, at(x, i), n) })
}

func addVector(y, x []float32) {
	x = x[:len(y)]
	each(len(y), func(i, n int) { addNEON(at(y, i), at(x, i), n) })
}

func mulVector(y, x []float32) {
	x = x[:len(y)]
	each(len(y), func(i, n int) { mulNEON(at(y, i), at(x, i), n) })
}

func scaleVector(y []float32, a float32) {
	each(len(y), func(i, n int) { scaleNEON(at(y, i), a, n) })
}

func dotRowsVector(out, x, rows []float32, stride int) {
	if len(out) == 0 {
		return
	}
	checkRows(len(out), len(x), rows, stride)
	step := max(4, chunk/max(1, len(x))&^3)
	for i := 0; i < len(out); i += step {
		dotRowsNEON(at(out, i), min(step, len(out)-i), ptr(x), len(x), at(rows, i*stride), stride)
	}
}

func axpyRowsVector(y, a, rows []float32, stride int) {
	if len(a) == 0 || len(y) == 0 {
		return
	}
	checkRows(len(a), len(y), rows, stride)
	step := max(1, chunk/len(y))
	for i := 0; i < len(a); i += step {
		axpyRowsNEON(ptr(y), len(y), at(a, i), min(step, len(a)-i), at(rows, i*stride), stride)
	}
}

func expSubVector(y, x []float32, sub float32) float32 {
	x = x[:len(y)]
	var s float32
	i := 0
	for ; len(y)-i > chunk; i += chunk {
		s += expSubNEON(at(y, i), at(x, i), sub, chunk)
	}
	return s + expSubNEON(at(y, i), at(x, i), sub, len(y)-i)
}

func swiGLUVector(y, gate, up []float32) {
	gate, up = gate[:len(y)], up[:len(y)]
	each(len(y), func(i, n int) { swiGLUNEON(at(y, i), at(gate, i), at(up, i), n) })
}

func swiGLUBackwardVector(dgate, dup, dy, gate, up []float32) {
	dup, dy, gate, up = dup[:len(dgate)], dy[:len(dgate)], gate[:len(dgate)], up[:len(dgate)]
	each(len(dgate), func(i, n int) {
		swiGLUBackwardNEON(at(dgate, i), at(dup, i), at(dy, i), at(gate, i), at(up, i), n)
	})
}

func geluVector(y, x []float32) {
	x = x[:len(y)]
	each(len(y), func(i, n int) { geluNEON(at(y, i), at(x, i), n) })
}

func geluBackwardVector(dx, dy, x []float32) {
	dy, x = dy[:len(dx)], x[:len(dx)]
	each(len(dx), func(i, n int) { geluBackwardNEON(at(dx, i), at(dy, i), at(x, i), n) })
}

func adamWVector(w, m, v, g []float32, s *AdamWStep) {
	m, v, g = m[:len(w)], v[:len(w)], g[:len(w)]
	c := [10]float32{
		1 - float32(s.LR*s.Decay), s.LR, s.Beta1, 1 - s.Beta1, s.Beta2, 1 - s.Beta2,
		1 / s.C1, 1 / s.C2, s.Eps, s.GradScale,
	}
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

func tileVector(rows, k int, a []float32, lda int, b, c []float32, ldc int, accumulate bool) {
	_, _, _ = a[(rows-1)*lda+k-1], b[16*k-1], c[(rows-1)*ldc+15]
	switch rows {
	case 1:
		tile1NEON(k, ptr(a), lda, ptr(b), ptr(c), ldc, accumulate)
	case 2:
		tile2NEON(k, ptr(a), lda, ptr(b), ptr(c), ldc, accumulate)
	case 3:
		tile3NEON(k, ptr(a), lda, ptr(b), ptr(c), ldc, accumulate)
	case 4:
		tile4NEON(k, ptr(a), lda, ptr(b), ptr(c), ldc, accumulate)
	case 5:
		tile5NEON(k, ptr(a), lda, ptr(b), ptr(c), ldc, accumulate)
	default:
		tile6NEON(k, ptr(a), lda, ptr(b), ptr(c), ldc, accumulate)
	}
}

func packRowsVector(dst []float32, panel int, src []float32, stride, k, panels int) {
	_, _ = dst[(panels-1)*panel+k*16-1], src[(k-1)*stride+panels*16-1]
	packRows16NEON(ptr(dst), panel, ptr(src), stride, k, panels)
}

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

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
	AdamW:          adamWVector,
	RoundBF16:      roundBF16Vector,
	ToInt8:         toInt8Vector,
	F16:            f16NEON,
	BF16:           bf16NEON,
	Q8_0:           q8_0NEON,
	Q4_0:           q4_0NEON,
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
func sealVector(dst, src []float32, width, k int) { roundBF16Vector(dst[:width*k], src) }

func tileVector(k int, a, b, c []float32, ldc int, accumulate bool) {
	_, _, _ = a[6*k-1], b[16*k-1], c[5*ldc+15]
	tileNEON(k, ptr(a), ptr(b), ptr(c), ldc, accumulate)
}

func packRowsVector(dst []float32, panel int, src []float32, stride, width, k, panels int) {
	_, _ = dst[(panels-1)*panel+k*width-1], src[(k-1)*stride+panels*width-1]
	if width == 16 {
		packRows16NEON(ptr(dst), panel, ptr(src), stride, k, panels)
	} else {
		packRows6NEON(ptr(dst), panel, ptr(src), stride, k, panels)
	}
}

func packColsVector(dst, src []float32, stride, width, k int) {
	_, _ = dst[k*width-1], src[(width-1)*stride+k-1]
	k4 := k &^ 3
	if k4 > 0 {
		if width == 16 {
			packCols16NEON(ptr(dst), ptr(src), stride, k4)
		} else {
			packCols6NEON(ptr(dst), ptr(src), stride, k4)
		}
	}
	for p := k4; p < k; p++ {
		for i := range width {
			dst[p*width+i] = src[i*stride+p]
		}
	}
}

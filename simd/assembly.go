//go:build (amd64 || arm64) && !purego

package simd

import (
	"math"
	"unsafe"
)

// What stands in front of assembly: functions that check lengths, and cut long
// slices, because a call into assembly cannot be preempted. dotOf and the like make the
// functions of a set out of assembly that takes pointers, and is told the lengths.

// chunk is how many numbers one call of assembly reads per slice: at most some
// 20 µs, also from main memory. A multiple of what a loop takes at a time.
const chunk = 1 << 14

func ptr(x []float32) *float32 { return unsafe.SliceData(x) }

// each calls f for [0,n) in pieces of at most chunk.
func each(n int, f func(i, n int)) {
	i := 0
	for ; n-i > chunk; i += chunk {
		f(i, chunk)
	}
	f(i, n-i)
}

// at returns a pointer to x[i] for 0 ≤ i ≤ len(x), which callers have checked.
func at(x []float32, i int) *float32 {
	return (*float32)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(x)), 4*i))
}

// checkRows panics if count rows of n columns do not lie in rows.
func checkRows(count, n int, rows []float32, stride int) {
	if !inside(count, n, stride, len(rows)) {
		panic("simd: rows are shorter than their count and stride say")
	}
}

func dotOf(f func(x, y *float32, n int) float32) func(x, y []float32) float32 {
	return func(x, y []float32) float32 {
		y = y[:len(x)]
		var s float32
		for len(x) > chunk {
			s += f(ptr(x), ptr(y), chunk)
			x, y = x[chunk:], y[chunk:]
		}
		return s + f(ptr(x), ptr(y), len(x))
	}
}

func sumOf(f func(x *float32, n int) float32) func(x []float32) float32 {
	return func(x []float32) float32 {
		var s float32
		for len(x) > chunk {
			s += f(ptr(x), chunk)
			x = x[chunk:]
		}
		return s + f(ptr(x), len(x))
	}
}

func maxOf(f func(x *float32, n int) float32) func(x []float32) float32 {
	return func(x []float32) float32 {
		m := float32(math.Inf(-1))
		for len(x) > chunk {
			m = max(m, f(ptr(x), chunk))
			x = x[chunk:]
		}
		return max(m, f(ptr(x), len(x)))
	}
}

func axpyOf(f func(y *float32, a float32, x *float32, n int)) func(y []float32, a float32, x []float32) {
	return func(y []float32, a float32, x []float32) {
		x = x[:len(y)]
		for len(y) > chunk {
			f(ptr(y), a, ptr(x), chunk)
			y, x = y[chunk:], x[chunk:]
		}
		f(ptr(y), a, ptr(x), len(y))
	}
}

func scaleOf(f func(y *float32, a float32, n int)) func(y []float32, a float32) {
	return func(y []float32, a float32) {
		for len(y) > chunk {
			f(ptr(y), a, chunk)
			y = y[chunk:]
		}
		f(ptr(y), a, len(y))
	}
}

// each2 is for a function of each element of two slices, each3 and each5 for more.
func each2(f func(y, x *float32, n int)) func(y, x []float32) {
	return func(y, x []float32) {
		x = x[:len(y)]
		for len(y) > chunk {
			f(ptr(y), ptr(x), chunk)
			y, x = y[chunk:], x[chunk:]
		}
		f(ptr(y), ptr(x), len(y))
	}
}

func each3(f func(z, x, y *float32, n int)) func(z, x, y []float32) {
	return func(z, x, y []float32) {
		x, y = x[:len(z)], y[:len(z)]
		for len(z) > chunk {
			f(ptr(z), ptr(x), ptr(y), chunk)
			z, x, y = z[chunk:], x[chunk:], y[chunk:]
		}
		f(ptr(z), ptr(x), ptr(y), len(z))
	}
}

func each5(f func(a, b, c, d, e *float32, n int)) func(a, b, c, d, e []float32) {
	return func(a, b, c, d, e []float32) {
		b, c, d, e = b[:len(a)], c[:len(a)], d[:len(a)], e[:len(a)]
		for len(a) > chunk {
			f(ptr(a), ptr(b), ptr(c), ptr(d), ptr(e), chunk)
			a, b, c, d, e = a[chunk:], b[chunk:], c[chunk:], d[chunk:], e[chunk:]
		}
		f(ptr(a), ptr(b), ptr(c), ptr(d), ptr(e), len(a))
	}
}

func dotRowsOf(f func(out *float32, count int, x *float32, n int, rows *float32, stride int)) func(out, x, rows []float32, stride int) {
	return func(out, x, rows []float32, stride int) {
		if len(out) == 0 {
			return
		}
		checkRows(len(out), len(x), rows, stride)
		step := max(4, chunk/max(1, len(x))&^3)
		for i := 0; i < len(out); i += step {
			f(at(out, i), min(step, len(out)-i), ptr(x), len(x), at(rows, i*stride), stride)
		}
	}
}

func axpyRowsOf(f func(y *float32, n int, a *float32, count int, rows *float32, stride int)) func(y, a, rows []float32, stride int) {
	return func(y, a, rows []float32, stride int) {
		if len(a) == 0 || len(y) == 0 {
			return
		}
		checkRows(len(a), len(y), rows, stride)
		step := max(1, chunk/len(y))
		each(len(y), func(j, n int) {
			for i := 0; i < len(a); i += step {
				f(at(y, j), n, at(a, i), min(step, len(a)-i), at(rows, i*stride+j), stride)
			}
		})
	}
}

func expSubOf(f func(y, x *float32, sub float32, n int) float32) func(y, x []float32, sub float32) float32 {
	return func(y, x []float32, sub float32) float32 {
		x = x[:len(y)]
		var s float32
		for len(y) > chunk {
			s += f(ptr(y), ptr(x), sub, chunk)
			y, x = y[chunk:], x[chunk:]
		}
		return s + f(ptr(y), ptr(x), sub, len(y))
	}
}

// tileOf makes Tile.Run of a function for each number of rows from 1 on.
func tileOf(nr int, f ...func(k int, a *float32, lda int, b, c *float32, ldc int, accumulate bool)) func(rows, k int, a []float32, lda int, b, c []float32, ldc int, accumulate bool) {
	return func(rows, k int, a []float32, lda int, b, c []float32, ldc int, accumulate bool) {
		_, _, _ = a[(rows-1)*lda+k-1], b[nr*k-1], c[(rows-1)*ldc+nr-1]
		f[rows-1](k, ptr(a), lda, ptr(b), ptr(c), ldc, accumulate)
	}
}

func packRowsOf(nr int, f func(dst *float32, panel int, src *float32, stride, k, panels int)) func(dst []float32, panel int, src []float32, stride, k, panels int) {
	return func(dst []float32, panel int, src []float32, stride, k, panels int) {
		_, _ = dst[(panels-1)*panel+k*nr-1], src[(k-1)*stride+panels*nr-1]
		f(ptr(dst), panel, ptr(src), stride, k, panels)
	}
}

// constants are the constants of a step as assembly wants them.
func (s *AdamWStep) constants() [10]float32 {
	return [10]float32{
		1 - float32(s.LR*s.Decay), s.LR, s.Beta1, 1 - s.Beta1, s.Beta2, 1 - s.Beta2,
		1 / s.C1, 1 / s.C2, s.Eps, s.GradScale,
	}
}

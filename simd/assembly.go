//go:build (amd64 || arm64) && !purego

package simd

import "unsafe"

// What the functions in front of assembly share: they check lengths, and cut long
// slices, because a call into assembly cannot be preempted.

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
	if stride < 0 || (count-1)*stride+n > len(rows) {
		panic("simd: rows are shorter than their count and stride say")
	}
}

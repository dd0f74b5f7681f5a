package quant

import (
	"encoding/binary"
	"math"

	"github.com/guardcpu/guardcpu/simd"
)

// The K types have blocks of 256 elements, in 8 or 16 parts with scales of their own, which
// are small integers times a binary16 number of the block. A part's scale is searched for: of some
// candidates the one with the least weighted error. The searches are those of
// ggml-quants.c, operation for operation in float32, so that they find the same.

// superblock is the elements of a block, as many as a K type packs together.
const superblock = 256

// tiny is GROUP_MAX_EPS, below which ggml takes a part for zeros.
const tiny = 1e-15

// huge is the largest element that the searches take: cubes of it stay finite. Every K
// type but Q8_K refuses much smaller ones, which binary16 scales cannot reach.
const huge = 1e10

// checkSuperblock returns an error for the first x that is not finite, else the index of
// the first x of largest magnitude. first is the index of x[0] for the message.
func checkSuperblock(name string, x []float32, first int) (at int, err error) {
	for i, v := range x {
		if !finite(v) {
			return 0, &ValueError{name, first + i, v}
		}
	}
	return largestAt(x), nil
}

// largestAt returns the index of the first x of largest magnitude.
func largestAt(x []float32) (at int) {
	for i, v := range x {
		if abs(v) > abs(x[at]) {
			at = i
		}
	}
	return at
}

// packSuperblocks packs block by block, as pack does, which returns false if the
// scales are too large for binary16.
func packSuperblocks(name string, dst []byte, src []float32, blockBytes int, pack func(b []byte, x []float32) bool) error {
	checkLengths(name, len(src), superblock, len(dst), blockBytes)
	for k := 0; k < len(src); k += superblock {
		x, b := src[k:k+superblock], dst[k/superblock*blockBytes:][:blockBytes]
		at, err := checkSuperblock(name, x, k)
		if err != nil {
			return err
		}
		clear(b)
		if abs(x[at]) > huge || !pack(b, x) {
			return &ValueError{name, k + at, x[at]}
		}
	}
	return nil
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

// nearest rounds to an integer, halves to even, for |x| < 2²²; of others it takes bits, as ggml does.
// The conversion keeps a product that is x from being fused with the sum.
func nearest(x float32) int32 {
	return int32(math.Float32bits(float32(x)+0x1.8p23)&0x7fffff) - 0x400000
}

// clamp returns the nearest of lo…hi to q.
func clamp(q, lo, hi int32) int32 { return max(lo, min(hi, q)) }

// putScale writes d to b as binary16 and returns what it has become, and whether it is finite.
func putScale(b []byte, d float32) (float32, bool) {
	h := f32ToF16(d)
	binary.LittleEndian.PutUint16(b, h)
	return simd.FromF16(h), h&0x7c00 != 0x7c00
}

// searchSymmetric sets q to integers from 0 on and returns s so that x ≈ s·(q-n), q < 2n: of 19 scales the
// one with which the best s (least squares, weighted by x²) has the least error (make_qx_quants).
func searchSymmetric(q []int32, x []float32, n int32) float32 {
	clear(q)
	at := largestAt(x)
	if abs(x[at]) < tiny {
		return 0
	}
	largest := x[at]
	sums := func(inv float32) (xl, l2 float32) {
		for _, v := range x {
			l := float32(clamp(nearest(inv*v), -n, n-1))
			w := v * v
			xl += float32(float32(w*v) * l)
			l2 += float32(float32(w*l) * l)
		}
		return xl, l2
	}
	set := func(inv float32) {
		for i, v := range x {
			q[i] = n + clamp(nearest(inv*v), -n, n-1)
		}
	}
	inv := float32(-n) / largest
	set(inv)
	xl, l2 := sums(inv)
	var scale float32
	if l2 != 0 {
		scale = xl / l2
	}
	best := scale * xl
	for try := -9; try <= 9; try++ {
		if try == 0 {
			continue
		}
		inv := -(float32(n) + float32(0.1*float32(try))) / largest
		xl, l2 := sums(inv)
		if l2 > 0 && float32(xl*xl) > float32(best*l2) {
			set(inv)
			scale = xl / l2
			best = scale * xl
		}
	}
	return scale
}

// searchMinimum sets q to integers 0…n and returns s and m ≥ 0 so that x ≈ s·q - m: of some scales,
// (first + step·i + n)/(max x - min x) for i ≤ steps, the one with the least error Σ w·(s·q-m-x)², or
// with absolute set Σ w·|s·q-m-x|, for its best s and m (make_qkx2_quants). aux is as long as x.
func searchMinimum(q, aux []int32, x, w []float32, n int32, first, step float32, steps int, absolute bool) (s, m float32) {
	least, most := x[0], x[0]
	sumW := w[0]
	sumX := sumW * x[0]
	for i, v := range x[1:] {
		least, most = min(least, v), max(most, v)
		sumW += w[i+1]
		sumX += float32(w[i+1] * v)
	}
	if least > 0 {
		least = 0
	}
	if most == least {
		clear(q)
		return 0, -least
	}
	failure := func(q []int32, s, m float32) (sum float32) {
		for i, v := range x {
			d := float32(float32(s*float32(q[i]))+m) - v
			if absolute {
				d = abs(d)
			} else {
				d *= d
			}
			sum += float32(w[i] * d)
		}
		return sum
	}
	m = least
	inv := float32(n) / (most - m)
	s = 1 / inv
	for i, v := range x {
		q[i] = clamp(nearest(inv*(v-m)), 0, n)
	}
	best := failure(q, s, m)
	for i := 0; i <= steps; i++ {
		inv := (first + float32(step*float32(i)) + float32(n)) / (most - m)
		var l1, l2, xl float32
		for j, v := range x {
			aux[j] = clamp(nearest(inv*(v-m)), 0, n)
			l := float32(aux[j])
			wl := float32(w[j] * l)
			l1 += wl
			l2 += float32(wl * l)
			xl += float32(wl * v)
		}
		det := float32(sumW*l2) - float32(l1*l1)
		if !(det > 0) {
			continue
		}
		sTry := (float32(sumW*xl) - float32(sumX*l1)) / det
		mTry := (float32(l2*sumX) - float32(l1*xl)) / det
		if mTry > 0 {
			mTry, sTry = 0, xl/l2
		}
		if e := failure(aux, sTry, mTry); e < best {
			copy(q, aux)
			best, s, m = e, sTry, mTry
		}
	}
	return s, -m
}

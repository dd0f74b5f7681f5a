package simd

import (
	"fmt"
	"math"
	"sync"
)

// Int8 is a matrix of activations rounded to 8 bits, in blocks of 32 along the rows:
//
//	x[i,j] ≈ D[i,j/32]·Q[i,j]
//
// Q is row-major, [Rows,Cols], D, S and DS are [Rows,Cols/32]; S[i,b] is the sum of the
// block's Q, which are from -127 to 127, DS[i,b] = D·S as a float32, and H, [Rows,Cols/16], has the
// sums of halves of blocks. The slices have room for a multiple of Int8Rows rows, so that kernels may
// read, but not use, rows past the last.
type Int8 struct {
	Rows, Cols int
	Q          []int8
	D          []float32
	S          []int32
	DS         []float32
	H          []int16
}

// Int8Len is the number of elements of a block of activations.
const Int8Len = 32

// Int8Rows is the number to whose multiple the rows of an Int8 are filled up.
const Int8Rows = 16

func (x *Int8) blocks() int { return x.Cols / Int8Len }

// check panics unless the slices have room for the rows there may be.
func (x *Int8) check() {
	n := x.padded() * x.blocks()
	if x.Rows < 0 || x.Cols < 0 || x.Cols%Int8Len != 0 || len(x.Q) < n*Int8Len || len(x.D) < n || len(x.S) < n || len(x.DS) < n || len(x.H) < 2*n {
		panic(fmt.Sprintf("simd: Int8: %d×%d with %d numbers, %d scales and %d, %d and %d sums", x.Rows, x.Cols, len(x.Q), len(x.D), len(x.S), len(x.DS), len(x.H)))
	}
}

// padded returns the number of rows there is room for.
func (x *Int8) padded() int { return roundUp(x.Rows, Int8Rows) }

// Resize gives x the shape rows×cols in its old memory, when that is large enough.
// The elements keep no meaning. It panics unless cols is a multiple of 32.
func (x *Int8) Resize(rows, cols int) {
	if rows < 0 || cols < 0 || cols%Int8Len != 0 {
		panic(fmt.Sprintf("simd: Int8.Resize: %d×%d, want columns a multiple of %d", rows, cols, Int8Len))
	}
	x.Rows, x.Cols = rows, cols
	n := x.padded() * cols
	if cap(x.Q) < n {
		x.Q, x.D, x.S = make([]int8, n), make([]float32, n/Int8Len), make([]int32, n/Int8Len)
		x.DS, x.H = make([]float32, n/Int8Len), make([]int16, 2*n/Int8Len)
		return
	}
	x.Q, x.D, x.S = x.Q[:n], x.D[:n/Int8Len], x.S[:n/Int8Len]
	x.DS, x.H = x.DS[:n/Int8Len], x.H[:2*n/Int8Len]
}

// SetRow rounds v to row i. Different rows may be set at the same time.
func (x *Int8) SetRow(k *Kernels, i int, v []float32) {
	if i < 0 || i >= x.Rows || len(v) != x.Cols {
		panic(fmt.Sprintf("simd: Int8.SetRow: row %d of %d numbers, x is %d×%d", i, len(v), x.Rows, x.Cols))
	}
	n, b := x.Cols, x.blocks()
	q, d, s := x.Q[i*n:(i+1)*n], x.D[i*b:(i+1)*b], x.S[i*b:(i+1)*b]
	k.ToInt8(q, d, s, v)
	for j, sum := range s {
		at := i*b + j
		x.DS[at] = float32(sum) * d[j]
		var half int16
		for _, v := range q[j*Int8Len:][:Int8Len/2] {
			half += int16(v)
		}
		x.H[2*at], x.H[2*at+1] = half, int16(sum)-half
	}
}

// int8Least is 2⁻¹⁰⁰, below which the numbers of a block are taken as 0: 127/m would overflow
// for the smallest of them.
const int8Least = 0x1p-100

// toInt8Generic is Kernels.ToInt8.
func toInt8Generic(q []int8, d []float32, s []int32, x []float32) {
	checkToInt8(q, d, s, x)
	for b := range d {
		v, qb := x[b*Int8Len:(b+1)*Int8Len], q[b*Int8Len:(b+1)*Int8Len]
		var bits uint32 // of the largest |v|; the largest of all are those of NaN and infinities
		for _, e := range v {
			bits = max(bits, math.Float32bits(e)&0x7fffffff)
		}
		m := math.Float32frombits(bits)
		d[b], s[b] = m/127, 0
		if !(m >= int8Least) || m > math.MaxFloat32 {
			if m < int8Least {
				d[b] = 0
			}
			clear(qb)
			continue
		}
		inv := 127 / m
		for j, e := range v {
			qb[j] = int8(math.RoundToEven(float64(e * inv)))
			s[b] += int32(qb[j])
		}
	}
}

func checkToInt8(q []int8, d []float32, s []int32, x []float32) {
	if len(x)%Int8Len != 0 || len(q) != len(x) || len(d) != len(x)/Int8Len || len(s) != len(d) {
		panic(fmt.Sprintf("simd: ToInt8: %d numbers to %d with %d scales and %d sums", len(x), len(q), len(d), len(s)))
	}
}

var bytePool = sync.Pool{New: func() any { return new([]byte) }}

// growBytes returns a slice of length n, in b's memory when that is large enough.
func growBytes(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// scaled is one step of an 8-bit product: y + isum·(dw·dx), each result rounded.
func scaled(y float32, isum int32, dw, dx float32) float32 {
	return y + float32(float32(isum)*float32(dw*dx))
}

// The portable tile keeps its panel as rows of unpacked blocks: a float32 scale and
// 32 signed bytes each, so that it serves every type of such blocks.
const (
	int8GenericTile  = 4
	int8GenericBlock = 4 + Int8Len
)

// int8TileGeneric returns the portable tile of a type whose blocks unpack splits into
// scale and integers.
func int8TileGeneric(blockBytes int, unpack func(q *[Int8Len]int8, block []byte) (d float32)) Int8Tile {
	t := Int8Tile{MR: int8GenericTile, NR: int8GenericTile, PanelBytes: int8GenericTile * int8GenericBlock}
	t.Pack = func(panel, w []byte, rowBytes, blocks int) {
		t.checkPack(len(panel), len(w), rowBytes, blocks, blockBytes)
		var q [Int8Len]int8
		for b := range blocks {
			for j := range t.NR {
				p := panel[(b*t.NR+j)*int8GenericBlock:][:int8GenericBlock]
				putFloat32(p, unpack(&q, w[j*rowBytes+b*blockBytes:][:blockBytes]))
				for i, v := range q {
					p[4+i] = byte(v)
				}
			}
		}
	}
	t.Run = func(c []float32, x *Int8, row, block, blocks int, panel []byte, accumulate bool) {
		t.check(c, x, row, block, blocks, Int8Len, panel)
		if !accumulate {
			clear(c[:t.MR*t.NR])
		}
		for b := range blocks {
			for i := range t.MR {
				at := (row+i)*x.blocks() + block + b
				q := x.Q[at*Int8Len:][:Int8Len]
				for j := range t.NR {
					p := panel[(b*t.NR+j)*int8GenericBlock:][:int8GenericBlock]
					w := p[4:]
					var isum int32
					for k, v := range q {
						isum += int32(v) * int32(int8(w[k]))
					}
					c[i*t.NR+j] = scaled(c[i*t.NR+j], isum, getFloat32(p), x.D[at])
				}
			}
		}
	}
	return t
}

// dotInt8Generic returns the portable DotInt8 of a type whose blocks unpack splits
// into scale and integers.
func dotInt8Generic(name string, blockBytes int, unpack func(q *[Int8Len]int8, block []byte) (d float32)) func(y []float32, ldy, n int, x *Int8, w []byte) {
	return func(y []float32, ldy, n int, x *Int8, w []byte) {
		checkDotInt8(name, len(y), ldy, n, x, len(w), Int8Len, blockBytes)
		var qw [Int8Len]int8
		blocks := x.blocks()
		for j := range n {
			for i := range x.Rows {
				y[i*ldy+j] = 0
			}
			for b := range blocks {
				dw := unpack(&qw, w[(j*blocks+b)*blockBytes:][:blockBytes])
				for i := range x.Rows {
					at := i*blocks + b
					var isum int32
					for k, v := range x.Q[at*Int8Len:][:Int8Len] {
						isum += int32(v) * int32(qw[k])
					}
					y[i*ldy+j] = scaled(y[i*ldy+j], isum, dw, x.D[at])
				}
			}
		}
	}
}

//go:build !purego

package simd

import "unsafe"

// first returns a pointer to the first element of x, which may be empty.
func first[T any](x []T) *T { return unsafe.SliceData(x) }

// weightsNEON has assembly for some types.
var weightsNEON = func() Weights {
	w := weightsGeneric
	w.F16 = f16NEON
	w.BF16 = bf16NEON
	w.Q8_0 = q8_0NEON
	w.Q4_0 = q4_0NEON
	return w
}()

var f16NEON = Packed{
	BlockLen: 1, BlockBytes: 2,
	Unpack:  unpack16Vector("F16", unpackF16NEON, unpackF16Generic),
	DotRows: dotRows16Vector("F16", dotRowsF16NEON),
}

var bf16NEON = Packed{
	BlockLen: 1, BlockBytes: 2,
	Unpack:  unpack16Vector("BF16", unpackBF16NEON, unpackBF16Generic),
	DotRows: dotRows16Vector("BF16", dotRowsBF16NEON),
}

var q8_0NEON = Packed{
	BlockLen: 32, BlockBytes: 34,
	Unpack:  unpackBlocksVector("Q8_0", 34, unpackQ8_0NEON),
	DotInt8: dotInt8Vector("Q8_0", 34, dotQ8_0x1NEON, dotQ8_0x2NEON, dotQ8_0x4NEON),
	Tile:    int8TileVector(4, 144, 34, packQ8_0NEON, tileInt8NEON),
}

var q4_0NEON = Packed{
	BlockLen: 32, BlockBytes: 18,
	Unpack:  unpackBlocksVector("Q4_0", 18, unpackQ4_0NEON),
	DotInt8: dotInt8Vector("Q4_0", 18, dotQ4_0x1NEON, dotQ4_0x2NEON, dotQ4_0x4NEON),
	Tile:    int8TileVector(4, 144, 18, packQ4_0NEON, tileInt8NEON),
}

// unpack16Vector returns the Unpack of numbers of 16 bits: eight at a time, and the
// last ones by the portable loop.
func unpack16Vector(name string, unpack func(dst *float32, src *byte, n int), rest func(dst []float32, src []byte)) func(dst []float32, src []byte) {
	return func(dst []float32, src []byte) {
		checkUnpack(name, len(dst), 1, len(src), 2)
		n := len(dst) &^ 7
		for i := 0; i < n; i += chunk {
			unpack(at(dst, i), first(src[2*i:]), min(chunk, n-i))
		}
		rest(dst[n:], src[2*n:])
	}
}

// unpackBlocksVector returns the Unpack of blocks of 32.
func unpackBlocksVector(name string, blockBytes int, unpack func(dst *float32, src *byte, blocks int)) func(dst []float32, src []byte) {
	return func(dst []float32, src []byte) {
		checkUnpack(name, len(dst), 32, len(src), blockBytes)
		for i := 0; i < len(dst); i += chunk {
			unpack(at(dst, i), &src[i/32*blockBytes], min(chunk, len(dst)-i)/32)
		}
	}
}

// dotRows16Vector returns the DotRows of numbers of 16 bits.
func dotRows16Vector(name string, dot func(out *float32, count int, x *float32, n int, w *byte)) func(out, x []float32, w []byte) {
	return func(out, x []float32, w []byte) {
		checkDotRows(name, len(out), len(x), len(w), 2)
		step := max(4, chunk/max(1, len(x))&^3)
		for i := 0; i < len(out); i += step {
			dot(at(out, i), min(step, len(out)-i), ptr(x), len(x), first(w[2*i*len(x):]))
		}
	}
}

func toInt8Vector(q []int8, d []float32, s []int32, x []float32) {
	checkToInt8(q, d, s, x)
	for b := 0; b < len(d); b += chunk / Int8Len {
		toInt8NEON(&q[b*Int8Len], &d[b], &s[b], &x[b*Int8Len], min(chunk/Int8Len, len(d)-b))
	}
}

// dotInt8Rows multiplies some rows of activations, as many as it is made for, by
// groups of four rows of weights that begin stride bytes apart.
type dotInt8Rows func(y *float32, ldy, groups int, q *int8, d *float32, blocks int, w *byte, stride int)

// dotInt8Vector returns the DotInt8 of a type with kernels for one, two and four
// rows of activations.
func dotInt8Vector(name string, blockBytes int, one, two, four dotInt8Rows) func(y []float32, ldy, n int, x *Int8, w []byte) {
	return func(y []float32, ldy, n int, x *Int8, w []byte) {
		checkDotInt8(name, len(y), ldy, n, x, len(w), Int8Len, blockBytes)
		blocks := x.blocks()
		if n == 0 || blocks == 0 {
			for i := range x.Rows {
				clear(y[i*ldy : i*ldy+n])
			}
			return
		}
		stride := blocks * blockBytes
		for i := 0; i < x.Rows; {
			rows, dot := 1, one
			switch {
			case x.Rows-i >= 4:
				rows, dot = 4, four
			case x.Rows-i >= 2:
				rows, dot = 2, two
			}
			q, d := &x.Q[i*x.Cols], &x.D[i*blocks]
			// A call is a few ten thousand products of weights, some 10 µs.
			step := max(1, chunk/(32*blocks*rows)) * 4
			for j := 0; j+4 <= n; j += step {
				dot(&y[i*ldy+j], ldy, min(step, n-j)/4, q, d, blocks, &w[j*stride], stride)
			}
			switch rest := n & 3; {
			case rest > 0 && n >= 4: // the last four, of which some are there already
				dot(&y[i*ldy+n-4], ldy, 1, q, d, blocks, &w[(n-4)*stride], stride)
			case rest > 0: // each of them four times
				s := scratchPool.Get().(*gemmScratch)
				t := s.take(4 * rows)
				for j := range rest {
					dot(&t[0], 4, 1, q, d, blocks, &w[j*stride], 0)
					for r := range rows {
						y[(i+r)*ldy+j] = t[4*r]
					}
				}
				scratchPool.Put(s)
			}
			i += rows
		}
	}
}

// int8TileVector returns a tile of four rows of activations and nr of weights.
func int8TileVector(nr, panelBytes, blockBytes int, pack func(panel, w *byte, rowBytes, blocks int),
	run func(c *float32, q *int8, d *float32, stride, blocks int, panel *byte, accumulate bool)) Int8Tile {
	t := Int8Tile{MR: 4, NR: nr, PanelBytes: panelBytes}
	t.Pack = func(panel, w []byte, rowBytes, blocks int) {
		t.checkPack(len(panel), len(w), rowBytes, blocks, blockBytes)
		pack(&panel[0], &w[0], rowBytes, blocks)
	}
	t.Run = func(c []float32, x *Int8, row, block, blocks int, panel []byte, accumulate bool) {
		t.check(c, x, row, block, blocks, Int8Len, panel)
		from := row*x.blocks() + block
		run(&c[0], &x.Q[from*Int8Len], &x.D[from], x.blocks(), blocks, &panel[0], accumulate)
	}
	return t
}

//go:build !purego

package simd

import "unsafe"

// The packed weights of the set avx2. The assembly takes pointers and whole vectors or
// groups of rows; the functions here check lengths, cut long work, and leave the
// rest to the portable loops, which give the same bits.

// weightsAVX2 has assembly for some types.
var weightsAVX2 = func() Weights {
	w := weightsGeneric
	w.F16 = f16AVX2
	w.BF16 = bf16AVX2
	w.Q8_0 = q8_0AVX2
	w.Q4_0 = q4_0AVX2
	w.Q4_1.Unpack = unpackBlocks("Q4_1", 32, 20, unpackQ4_1AVX2)
	w.Q5_0.Unpack = unpackBlocks("Q5_0", 32, 22, unpackQ5_0AVX2)
	w.Q5_1.Unpack = unpackBlocks("Q5_1", 32, 24, unpackQ5_1AVX2)
	w.IQ4_NL.Unpack = unpackBlocks("IQ4_NL", 32, 18, unpackIQ4_NLAVX2)
	w.IQ4_XS.Unpack = unpackBlocks("IQ4_XS", 256, 136, unpackIQ4_XSAVX2)
	w.MXFP4.Unpack = unpackBlocks("MXFP4", 32, 17, unpackMXFP4AVX2)
	w.NVFP4.Unpack = unpackBlocks("NVFP4", 64, 36, unpackNVFP4AVX2)
	w.TQ2_0.Unpack = unpackBlocks("TQ2_0", 256, 66, unpackTQ2_0AVX2)
	w.TQ1_0.Unpack = unpackBlocks("TQ1_0", 256, 54, unpackTQ1_0AVX2)
	w.IQ3_S.Unpack = unpackGridBlocks("IQ3_S", 110, iq3_sGrid, signsOfBytes, unpackIQ3_SAVX2)
	w.IQ3_XXS.Unpack = unpackGridBlocks("IQ3_XXS", 98, iq3_xxsGrid, signsOfSeven, unpackIQ3_XXSAVX2)
	w.IQ2_S.Unpack = unpackGridBlocks("IQ2_S", 82, iq2_sGrid, signsOfBytes, unpackIQ2_SAVX2)
	w.IQ2_XS.Unpack = unpackGridBlocks("IQ2_XS", 74, iq2_xsGrid, signsOfSeven, unpackIQ2_XSAVX2)
	w.IQ2_XXS.Unpack = unpackGridBlocks("IQ2_XXS", 66, iq2_xxsGrid, signsOfSeven, unpackIQ2_XXSAVX2)
	w.IQ1_M.Unpack = unpackGridBlocks("IQ1_M", 56, iq1_sGrid, signsOfSeven, unpackIQ1_MAVX2)
	w.IQ1_S.Unpack = unpackGridBlocks("IQ1_S", 50, iq1_sGrid, signsOfSeven, unpackIQ1_SAVX2)
	w.Q2_K = superVector(q2_kSuper, q2_kGeneric, 6272, unpackQ2_KAVX2, dotQ2_KAVX2, packQ2_KAVX2, tileQ2_KAVX2)
	w.Q3_K = superVector(q3_kSuper, q3_kGeneric, 5184, unpackQ3_KAVX2, dotQ3_KAVX2, packQ3_KAVX2, tileQ3_KAVX2)
	w.Q4_K = superVector(q4_kSuper, q4_kGeneric, 5248, unpackQ4_KAVX2, dotQ4_KAVX2, packQ4_KAVX2, tileQ4_KAVX2)
	w.Q5_K = superVector(q5_kSuper, q5_kGeneric, 5248, unpackQ5_KAVX2, dotQ5_KAVX2, packQ5_KAVX2, tileQ5_KAVX2)
	w.Q6_K = superVector(q6_kSuper, q6_kGeneric, 5184, unpackQ6_KAVX2, dotQ6_KAVX2, packQ6_KAVX2, tileQ6_KAVX2)
	return w
}()

var f16AVX2 = Packed{
	BlockLen: 1, BlockBytes: 2,
	Unpack:  unpack16Vector("F16", unpackF16AVX2, unpackF16Generic),
	DotRows: dotRows16Vector("F16", dotRowsF16AVX2, FromF16),
}

var bf16AVX2 = Packed{
	BlockLen: 1, BlockBytes: 2,
	Unpack:  unpack16Vector("BF16", unpackBF16AVX2, unpackBF16Generic),
	DotRows: dotRows16Vector("BF16", dotRowsBF16AVX2, fromBF16),
}

var q8_0AVX2 = Packed{
	BlockLen: 32, BlockBytes: 34,
	Unpack:  unpackBlocks("Q8_0", 32, 34, unpackQ8_0AVX2),
	DotInt8: dotInt8Vector("Q8_0", 34, dotQ8_0AVX2, q8_0Generic.DotInt8),
	Tile:    int8TileVector(34, 4, packQ8_0AVX2, tileQ8_0AVX2),
}

var q4_0AVX2 = Packed{
	BlockLen: 32, BlockBytes: 18,
	Unpack:  unpackBlocks("Q4_0", 32, 18, unpackQ4_0AVX2),
	DotInt8: dotInt8Vector("Q4_0", 18, dotQ4_0AVX2, q4_0Generic.DotInt8),
	Tile:    int8TileVector(18, 4, packQ4_0AVX2, tileQ4_0AVX2),
}

// atByte returns a pointer to b[i] for 0 ≤ i ≤ len(b), which callers have checked.
func atByte[T int8 | byte](b []T, i int) *T {
	return (*T)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), i))
}

func unpack16Vector(name string, asm func(dst *float32, src *byte, n int), rest func(dst []float32, src []byte)) func(dst []float32, src []byte) {
	return func(dst []float32, src []byte) {
		checkUnpack(name, len(dst), 1, len(src), 2)
		whole := len(dst) &^ 7
		each(whole, func(i, n int) { asm(at(dst, i), atByte(src, 2*i), n) })
		rest(dst[whole:], src[2*whole:])
	}
}

func unpackBlocks(name string, blockLen, blockBytes int, asm func(dst *float32, src *byte, blocks int)) func(dst []float32, src []byte) {
	step := chunk / blockLen
	return func(dst []float32, src []byte) {
		checkUnpack(name, len(dst), blockLen, len(src), blockBytes)
		for b, blocks := 0, len(dst)/blockLen; b < blocks; b += step {
			asm(at(dst, blockLen*b), atByte(src, b*blockBytes), min(step, blocks-b))
		}
	}
}

func dotRows16Vector(name string, asm func(out *float32, count int, x *float32, n int, rows *byte, stride int), value func(uint16) float32) func(out, x []float32, w []byte) {
	return func(out, x []float32, w []byte) {
		checkDotRows(name, len(out), len(x), len(w), 2)
		n := len(x)
		whole := n &^ 7
		step := max(4, 2*chunk/max(1, n)&^3)
		for i := 0; i < len(out); i += step {
			asm(at(out, i), min(step, len(out)-i), ptr(x), whole, atByte(w, 2*n*i), 2*n)
		}
		if whole == n {
			return
		}
		for i := range out {
			for j := whole; j < n; j++ {
				at := 2 * (n*i + j)
				out[i] += float32(x[j] * value(uint16(w[at])|uint16(w[at+1])<<8))
			}
		}
	}
}

func toInt8Vector(q []int8, d []float32, s []int32, x []float32) {
	checkToInt8(q, d, s, x)
	for b := 0; b < len(d); b += chunk / 32 {
		toInt8AVX2(atByte(q, 32*b), at(d, b), &s[b], at(x, 32*b), min(chunk/32, len(d)-b))
	}
}

// dotInt8Step is how many blocks of weights one call of assembly multiplies: some 10 µs.
const dotInt8Step = 1 << 12

// dotInt8Vector is dotInt8Groups of a type with blocks of 32.
func dotInt8Vector(name string, blockBytes int, asm func(y *float32, groups int, q *int8, d *float32, s *int32, blocks int, w *byte, rowBytes int),
	rest func(y []float32, ldy, n int, x *Int8, w []byte)) func(y []float32, ldy, n int, x *Int8, w []byte) {
	return dotInt8Groups(name, Int8Len, blockBytes, func(y *float32, groups int, x *Int8, first int, w *byte, rowBytes int) {
		asm(y, groups, atByte(x.Q, Int8Len*first), at(x.D, first), &x.S[first], x.blocks(), w, rowBytes)
	}, rest)
}

// dotInt8Groups returns the DotInt8 of a type: dot multiplies one row of x, whose first block is
// given, and groups of eight rows of weights, rest the rows that are no eight.
func dotInt8Groups(name string, blockLen, blockBytes int, dot func(y *float32, groups int, x *Int8, first int, w *byte, rowBytes int),
	rest func(y []float32, ldy, n int, x *Int8, w []byte)) func(y []float32, ldy, n int, x *Int8, w []byte) {
	return func(y []float32, ldy, n int, x *Int8, w []byte) {
		checkDotInt8(name, len(y), ldy, n, x, len(w), blockLen, blockBytes)
		rowBytes := x.Cols / blockLen * blockBytes
		groups := n / 8
		if x.Cols == 0 {
			groups = 0
		}
		for g := 0; g < groups; {
			step := min(groups-g, max(1, dotInt8Step/8/x.blocks()))
			for i := range x.Rows { // the weights are in the cache after the first row
				dot(at(y, i*ldy+8*g), step, x, i*x.blocks(), atByte(w, 8*g*rowBytes), rowBytes)
			}
			g += step
		}
		if done := 8 * groups; done < n {
			rest(y[done:], ldy, n-done, x, w[done*rowBytes:])
		}
	}
}

// int8TileVector returns the tile of mr by 16.
func int8TileVector(blockBytes, mr int, pack func(panel, w *byte, rowBytes, blocks int),
	run func(c *float32, q *int8, cols int, d *float32, s *int32, blocksInRow int, panel *byte, blocks int)) Int8Tile {
	const nr = 16
	t := Int8Tile{MR: mr, NR: nr, PanelBytes: 32*nr + 4*nr}
	t.Pack = func(panel, w []byte, rowBytes, blocks int) {
		t.checkPack(len(panel), len(w), rowBytes, blocks, blockBytes)
		pack(atByte(panel, 0), atByte(w, 0), rowBytes, blocks)
		pack(atByte(panel, 32), atByte(w, 8*rowBytes), rowBytes, blocks)
	}
	t.Run = func(c []float32, x *Int8, row, block, blocks int, panel []byte, accumulate bool) {
		t.check(c, x, row, block, blocks, Int8Len, panel)
		if !accumulate {
			clear(c[:mr*nr])
		}
		at8 := row*x.blocks() + block
		run(ptr(c), atByte(x.Q, 32*at8), x.Cols, at(x.D, at8), &x.S[at8], x.blocks(), atByte(panel, 0), blocks)
	}
	return t
}

package simd

// q8_0Generic has the weights of Q8_0: a block is a binary16 scale d and 32 signed bytes q;
// w = d·q.
var q8_0Generic = Packed{
	BlockLen: 32, BlockBytes: 34,
	Unpack:  unpackQ8_0Generic,
	DotInt8: dotInt8Generic("Q8_0", 34, splitQ8_0),
	Tile:    int8TileGeneric(34, splitQ8_0),
}

// splitQ8_0 sets q to the integers of a block and returns its scale.
func splitQ8_0(q *[32]int8, block []byte) (d float32) {
	for i, v := range block[2:34] {
		q[i] = int8(v)
	}
	return f16At(block)
}

func unpackQ8_0Generic(dst []float32, src []byte) {
	checkUnpack("Q8_0", len(dst), 32, len(src), 34)
	for ; len(dst) >= 32 && len(src) >= 34; dst, src = dst[32:], src[34:] {
		y, b := (*[32]float32)(dst), (*[34]byte)(src)
		d := f16At(b[:])
		for i := range y {
			y[i] = float32(int8(b[i+2])) * d
		}
	}
}

package simd

// q4_0Generic has the weights of Q4_0: a block is a binary16 scale d and 16 bytes; the lower
// half of byte i holds q[i], the upper half q[i+16]; w = d·(q-8).
var q4_0Generic = Packed{
	BlockLen: 32, BlockBytes: 18,
	Unpack:  unpackQ4_0Generic,
	DotInt8: dotInt8Generic("Q4_0", 18, splitQ4_0),
	Tile:    int8TileGeneric(18, splitQ4_0),
}

// splitQ4_0 sets q to the integers q-8 of a block and returns its scale.
func splitQ4_0(q *[32]int8, block []byte) (d float32) {
	for i, v := range block[2:18] {
		q[i] = int8(v&15) - 8
		q[i+16] = int8(v>>4) - 8
	}
	return f16At(block)
}

func unpackQ4_0Generic(dst []float32, src []byte) {
	checkUnpack("Q4_0", len(dst), 32, len(src), 18)
	for ; len(dst) >= 32 && len(src) >= 18; dst, src = dst[32:], src[18:] {
		y, b := (*[32]float32)(dst), (*[18]byte)(src)
		d := f16At(b[:])
		for i, q := range b[2:] {
			y[i] = float32(int32(q&15)-8) * d
			y[i+16] = float32(int32(q>>4)-8) * d
		}
	}
}

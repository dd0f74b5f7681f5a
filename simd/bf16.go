package simd

import (
	"encoding/binary"
	"math"
)

// bf16Generic has the weights of bfloat16, the upper half of a float32.
var bf16Generic = Packed{
	BlockLen: 1, BlockBytes: 2,
	Unpack:  unpackBF16Generic,
	DotRows: dotRows16Generic("BF16", fromBF16),
}

func fromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

func unpackBF16Generic(dst []float32, src []byte) {
	checkUnpack("BF16", len(dst), 1, len(src), 2)
	for i := range dst {
		dst[i] = fromBF16(binary.LittleEndian.Uint16(src[2*i : 2*i+2]))
	}
}

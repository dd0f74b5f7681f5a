package simd

import (
	"encoding/binary"
	"math"
)

// f16Table holds the float32 of every IEEE 754 binary16 number (1 sign, 5 exponent,
// 10 mantissa bits); a NaN becomes quiet, as with VCVTPH2PS. Looking it up is three
// times as fast as computing it.
var f16Table = func() *[1 << 16]float32 {
	table := new([1 << 16]float32)
	for h := range uint32(1 << 15) {
		var b uint32
		switch e, m := h>>10, h&0x3ff; {
		case e == 0: // zero or subnormal: m·2⁻²⁴
			b = math.Float32bits(float32(m) * 0x1p-24)
		case e < 31: // move the bias from 15 to 127
			b = h<<13 + (127-15)<<23
		case m == 0:
			b = 0x7f800000
		default:
			b = 0x7fc00000 | m<<13
		}
		table[h] = math.Float32frombits(b)
		table[h|0x8000] = math.Float32frombits(b | 1<<31)
	}
	return table
}()

// FromF16 returns the number with these bits of IEEE 754 binary16; a NaN becomes quiet.
func FromF16(h uint16) float32 { return f16Table[h] }

// f16At returns the binary16 number at the beginning of b.
func f16At(b []byte) float32 { return f16Table[binary.LittleEndian.Uint16(b)] }

// putFloat32 and getFloat32 write and read a number at the beginning of b.
func putFloat32(b []byte, v float32) { binary.LittleEndian.PutUint32(b, math.Float32bits(v)) }
func getFloat32(b []byte) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(b))
}

// f16Generic has the weights of binary16.
var f16Generic = Packed{
	BlockLen: 1, BlockBytes: 2,
	Unpack:  unpackF16Generic,
	DotRows: dotRows16Generic("F16", func(h uint16) float32 { return f16Table[h] }),
}

func unpackF16Generic(dst []float32, src []byte) {
	checkUnpack("F16", len(dst), 1, len(src), 2)
	for i := range dst {
		dst[i] = f16Table[binary.LittleEndian.Uint16(src[2*i:2*i+2])]
	}
}

// dotRows16Generic returns the portable DotRows of a type of 16 bits: dotGeneric's sums.
func dotRows16Generic(name string, value func(uint16) float32) func(out, x []float32, w []byte) {
	return func(out, x []float32, w []byte) {
		checkDotRows(name, len(out), len(x), len(w), 2)
		at := func(row []byte, j int) float32 { return value(binary.LittleEndian.Uint16(row[2*j:])) }
		for i := range out {
			row := w[2*i*len(x) : 2*(i+1)*len(x)]
			var s [4]float32
			j := 0
			for ; j+4 <= len(x); j += 4 {
				for l := range s {
					s[l] += float32(x[j+l] * at(row, j+l))
				}
			}
			for ; j < len(x); j++ {
				s[0] += float32(x[j] * at(row, j))
			}
			out[i] = (s[0] + s[1]) + (s[2] + s[3])
		}
	}
}

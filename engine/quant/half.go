package quant

import "math"

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

func f16ToF32(h uint16) float32 { return f16Table[h] }

// f32ToF16 rounds to the nearest binary16 number, halves to even. What rounds
// beyond 65504 becomes an infinity, a NaN a quiet one, as with VCVTPS2PH.
func f32ToF16(x float32) uint16 {
	b := math.Float32bits(x)
	sign, a := uint16(b>>16&0x8000), b&0x7fffffff
	switch {
	case a > 0x7f800000:
		return sign | 0x7e00 | uint16(a>>13&0x3ff)
	case a >= 0x47800000: // 2¹⁶ and above
		return sign | 0x7c00
	case a < 0x38800000: // below 2⁻¹⁴: adding ½ makes the unit of the last place 2⁻²⁴
		return sign | uint16(math.Float32bits(math.Float32frombits(a)+0.5)-0x3f000000)
	}
	a += 0xfff + a>>13&1 // round to even; a carry into the exponent is right
	return sign | uint16((a-(127-15)<<23)>>13)
}

// f32ToBF16 rounds to the nearest bfloat16 number (the upper half of a float32),
// halves to even; a NaN becomes quiet. As ggml_compute_fp32_to_bf16.
func f32ToBF16(x float32) uint16 {
	b := math.Float32bits(x)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

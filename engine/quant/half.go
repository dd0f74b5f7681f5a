package quant

import "math"

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

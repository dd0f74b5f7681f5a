package quant

import "math"

// f16ToF32 widens an IEEE 754 binary16 number (1 sign, 5 exponent, 10 mantissa
// bits); a NaN becomes quiet, as with VCVTPH2PS. It has no branches, because zeros
// among weights cannot be predicted.
func f16ToF32(h uint16) float32 {
	const rebias = (127 - 15) << 23              // the bias of the exponent
	a := uint32(h&0x7fff) << 13                  // exponent and mantissa where a float32 has them
	small := uint32(int32(a-1<<23) >> 31)        // all ones for zero and subnormals
	special := uint32(int32(31<<23-1-a) >> 31)   // all ones for infinities and NaN
	a += rebias + special&rebias + small&(1<<23) // a small m·2⁻²⁴ has become 2⁻¹⁴ + m·2⁻²⁴
	x := math.Float32frombits(a) - math.Float32frombits(small&(rebias+1<<23))
	return math.Float32frombits(math.Float32bits(x) | uint32(h&0x8000)<<16)
}

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

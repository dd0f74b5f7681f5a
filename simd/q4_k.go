package simd

// q4_kGeneric has the weights of Q4_K: a block is binary16 numbers d and n, 12 bytes with six-bit scales
// s and minima m, for 32 weights each, and 128 bytes; w = d·s·q - n·m. The lower halves
// of 32 bytes hold the integers of 32 weights, the upper halves those of the next 32.
var q4_kGeneric = q4_kSuper.packed(func(y []float32, b []byte) {
	d, n := f16At(b), f16At(b[2:])
	for k := range 8 {
		sk, mk := scaleQ4_K(b[4:16], k)
		s, m := d*float32(sk), n*float32(mk)
		for i, q := range b[16+k/2*32:][:32] {
			y[32*k+i] = float32(s*float32(q>>(k%2*4)&15)) - m
		}
	}
})

var q4_kSuper = &superType{name: "Q4_K", blockBytes: 144, minima: 32, split: func(b *super, block []byte) {
	for i := range 256 {
		b[i] = block[16+i/64*32+i%32] >> (i / 32 % 2 * 4) & 15
	}
	b.setScales(f16At(block), f16At(block[2:]), func(p int) (s, m byte) { return scaleQ4_K(block[4:16], p/2) })
}}

// scaleQ4_K returns scale and minimum k of 8: those of the first four are the lower six bits of
// bytes, where the last four have their upper two.
func scaleQ4_K(b []byte, k int) (s, m byte) {
	if k < 4 {
		return b[k] & 63, b[k+4] & 63
	}
	return b[k+4]&15 | b[k-4]>>6<<4, b[k+4]>>4 | b[k]>>6<<4
}

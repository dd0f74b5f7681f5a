package simd

// q2_kGeneric has the weights of Q2_K: a block is 16 bytes of four-bit scales and minima s | m<<4, for
// 16 weights each, 64 bytes of two-bit integers, and binary16 numbers d and n; w = d·s·q - n·m. The
// integers of weights i, i+32, i+64 and i+96 of a half block are the bits of byte i, from the lowest.
var q2_kGeneric = q2_kSuper.packed(func(y []float32, b []byte) {
	d, n := f16At(b[80:]), f16At(b[82:])
	for k := range 16 {
		s, m := d*float32(b[k]&15), n*float32(b[k]>>4)
		quarters, shift := b[16+k/8*32+k%2*16:][:16], k%8/2*2
		for i, q := range quarters {
			y[16*k+i] = float32(s*float32(q>>shift&3)) - m
		}
	}
})

var q2_kSuper = &superType{name: "Q2_K", blockBytes: 84, minima: 16, split: func(b *super, block []byte) {
	for i := range 256 {
		b[i] = quarter(block[16:80], i)
	}
	b.setScales(f16At(block[80:]), f16At(block[82:]), func(p int) (s, m byte) { return block[p] & 15, block[p] >> 4 })
}}

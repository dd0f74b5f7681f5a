package simd

// q5_kGeneric has the weights of Q5_K: a block is that of Q4_K, with 32 bytes before the last 128:
// bit i/32 of byte i%32 is the highest of the five bits of weight i.
var q5_kGeneric = q5_kSuper.packed(func(y []float32, b []byte) {
	d, n := f16At(b), f16At(b[2:])
	for k := range 8 {
		sk, mk := scaleQ4_K(b[4:16], k)
		s, m := d*float32(sk), n*float32(mk)
		for i, q := range b[48+k/2*32:][:32] {
			y[32*k+i] = float32(s*float32(q>>(k%2*4)&15|b[16+i]>>k&1<<4)) - m
		}
	}
})

var q5_kSuper = &superType{name: "Q5_K", blockBytes: 176, minima: 32, split: func(b *super, block []byte) {
	for i := range 256 {
		b[i] = block[48+i/64*32+i%32]>>(i/32%2*4)&15 | block[16+i%32]>>(i/32)&1<<4
	}
	b.setScales(f16At(block), f16At(block[2:]), func(p int) (s, m byte) { return scaleQ4_K(block[4:16], p/2) })
}}

package simd

// q6_kGeneric has the weights of Q6_K: a block is 128 bytes with the lower four bits of the integers, 64
// with the upper two, 16 signed scales s, for 16 weights each, and a binary16 scale d;
// w = d·s·(q-32). In a half block the lower halves of 64 bytes belong to 64 weights, the upper halves to
// the next 64; the upper bits lie as those of Q2_K.
var q6_kGeneric = q6_kSuper.packed(func(y []float32, b []byte) {
	d := f16At(b[208:])
	for k := range 16 {
		s := d * float32(int8(b[192+k]))
		low, shift := b[k/8*64+k%4*16:][:16], k%8/4*4
		high, shift2 := b[128+k/8*32+k%2*16:][:16], k%8/2*2
		for i, q := range low {
			y[16*k+i] = s * float32(int32(q>>shift&15|high[i]>>shift2&3<<4)-32)
		}
	}
})

var q6_kSuper = &superType{name: "Q6_K", blockBytes: 210, split: func(b *super, block []byte) {
	for i := range 256 {
		b[i] = (block[i/128*64+i%64]>>(i%128/64*4)&15 | quarter(block[128:192], i)<<4) - 32
	}
	b.setScales(f16At(block[208:]), 0, func(p int) (s, m byte) { return block[192+p], 0 })
}}

package simd

// q3_kGeneric has the weights of Q3_K: a block is 32 bytes with the highest bits of the integers, 64 with
// the lower two as in Q2_K, 12 with six-bit scales s, and a binary16 scale d; w = d·(s-32)·(q-4).
// The highest bit of weight i is bit i/32 of byte i%32.
var q3_kGeneric = q3_kSuper.packed(func(y []float32, b []byte) {
	d := f16At(b[108:])
	for k := range 16 {
		s := d * float32(scaleQ3_K(b[96:108], k))
		high, quarters, shift := b[k%2*16:][:16], b[32+k/8*32+k%2*16:][:16], k%8/2*2
		for i, q := range quarters {
			y[16*k+i] = s * float32(int32(q>>shift&3|high[i]>>(k/2)&1<<2)-4)
		}
	}
})

var q3_kSuper = &superType{name: "Q3_K", blockBytes: 110, split: func(b *super, block []byte) {
	for i := range 256 {
		b[i] = (quarter(block[32:96], i) | block[i%32]>>(i/32)&1<<2) - 4
	}
	b.setScales(f16At(block[108:]), 0, func(p int) (s, m byte) { return byte(scaleQ3_K(block[96:108], p)), 0 })
}}

// scaleQ3_K returns scale k of 16, less 32: four bits of it are in the first 8 of the bytes b, two
// in the last 4.
func scaleQ3_K(b []byte, k int) int32 {
	return int32(b[k%8]>>(k/8*4)&15|b[8+k%4]>>(k/4*2)&3<<4) - 32
}

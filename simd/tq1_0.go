package simd

// tq1_0Generic has the weights of TQ1_0: a block is 48 and 4 bytes and a binary16 scale d. A
// byte has five digits of base 3, the bytes of the second kind four, as a fraction of 256: a
// digit is the integer part of three times it, the next is in what is left. Digit n of
// bytes 0…31 is for 32 weights, that of bytes 32…47 for 16, that of the last four for 4;
// w = d·(digit-1).
var tq1_0Generic = blocksOf("TQ1_0", 256, 54, func(y []float32, b []byte) {
	d := f16At(b[52:])
	for _, part := range []struct{ from, to, digits int }{{0, 32, 5}, {32, 48, 5}, {48, 52, 4}} {
		power := byte(1)
		for range part.digits {
			for i, v := range b[part.from:part.to] {
				y[i] = float32(int32(uint16(v*power)*3>>8)-1) * d
			}
			y = y[part.to-part.from:]
			power *= 3
		}
	}
})

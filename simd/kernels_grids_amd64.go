//go:build !purego

package simd

// What the assembly of IQ1, IQ2 and IQ3 multiplies a point by: ±1 for each of eight signs,
// which are a byte, or seven bits and what makes their number even.
var (
	signsOfBytes = signBytes(256, func(v uint32) byte { return byte(v) })
	signsOfSeven = signBytes(128, evenSigns)
)

func signBytes(n int, signs func(v uint32) byte) []int8 {
	var b []int8
	for v := range n {
		for i := range 8 {
			b = append(b, 1-int8(signs(uint32(v))>>i&1)*2)
		}
	}
	return b
}

// unpackGridBlocks returns the Unpack of a type whose weights are coordinates of points.
func unpackGridBlocks(name string, blockBytes int, points *grid, signs []int8, asm func(dst *float32, src *byte, blocks int, points, signs *int8)) func(dst []float32, src []byte) {
	return unpackBlocks(name, 256, blockBytes, func(dst *float32, src *byte, blocks int) {
		asm(dst, src, blocks, &points.coords[0], &signs[0])
	})
}

//go:build !purego

package simd

// neondot is neon with what CPUs with DotProd add: sums of four products of bytes.
// The bits are those of neon.
var neondot = func() Kernels {
	k := neon
	k.Name = "neondot"
	k.Q8_0.DotInt8 = dotInt8Vector("Q8_0", 34, dotQ8_0x1NEONDot, dotQ8_0x2NEONDot, dotQ8_0x4NEONDot)
	k.Q8_0.Tile = int8TileVector(8, 288, 34, packQ8_0NEONDot, tileInt8NEONDot)
	k.Q4_0.DotInt8 = dotInt8Vector("Q4_0", 18, dotQ4_0x1NEONDot, dotQ4_0x2NEONDot, dotQ4_0x4NEONDot)
	k.Q4_0.Tile = int8TileVector(8, 288, 18, packQ4_0NEONDot, tileInt8NEONDot)
	return k
}()

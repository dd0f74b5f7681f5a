package quant

import (
	"math"
	"testing"

	"github.com/guardcpu/guardcpu/simd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// formats16 are the two 16-bit formats by their definition: exponent and mantissa
// bits, in float64 arithmetic, and what converts them.
var formats16 = []struct {
	name      string
	mantissa  int
	bias      int
	decode    func(uint16) float32
	encode    func(float32) uint16
	inf       uint16
	quietBits uint16
}{
	{"F16", 10, 15, simd.FromF16, f32ToF16, 0x7c00, 0x0200},
	{"BF16", 7, 127, func(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }, f32ToBF16, 0x7f80, 0x0040},
}

// define returns the number that the bits stand for, by the definition.
func define(h uint16, mantissa, bias int) float64 {
	e := int(h&0x7fff) >> mantissa
	m := float64(int(h) & (1<<mantissa - 1))
	x := math.Ldexp(m, 1-bias-mantissa)
	if e > 0 {
		x = math.Ldexp(m+float64(int(1)<<mantissa), e-bias-mantissa)
	}
	if h&0x8000 != 0 {
		x = math.Copysign(x, -1)
	}
	return x
}

// Every number of 16 bits is decoded by the definition and encoded back to itself.
func TestHalfDecodesAll(t *testing.T) {
	for _, f := range formats16 {
		t.Run(f.name, func(t *testing.T) {
			for i := range 1 << 16 {
				h := uint16(i)
				x := f.decode(h)
				back := f.encode(x)
				ok := back == h
				switch a := h & 0x7fff; {
				case a < f.inf:
					ok = ok && math.Float64bits(define(h, f.mantissa, f.bias)) == math.Float64bits(float64(x))
				case a == f.inf:
					ok = ok && math.IsInf(float64(x), 1-2*int(h>>15))
				default: // a NaN keeps its sign and payload and is quiet
					ok = x != x && back == h|f.quietBits
				}
				require.True(t, ok, "%#04x is %g, and back %#04x", h, x, back)
			}
		})
	}
}

// Between each two neighbours: what is nearer to one becomes that one, the middle
// the even one. Rounding is monotonic, so that this is all there is.
func TestHalfRoundsToNearestEven(t *testing.T) {
	for _, f := range formats16 {
		t.Run(f.name, func(t *testing.T) {
			for lo := range f.inf {
				hi := lo + 1 // past the largest: the power of two that is one step above
				middle := float32((define(lo, f.mantissa, f.bias) + define(hi, f.mantissa, f.bias)) / 2)
				even := lo + lo&1
				below := math.Nextafter32(middle, 0)
				above := math.Nextafter32(middle, float32(math.Inf(1)))
				for _, sign := range []float32{1, -1} {
					bit := uint16(math.Float32bits(sign) >> 16 & 0x8000)
					got := [3]uint16{f.encode(sign * below), f.encode(sign * middle), f.encode(sign * above)}
					require.True(t, got == [3]uint16{lo | bit, even | bit, hi | bit}, "around %g: %#04x", sign*middle, got)
				}
			}
			assert.Equal(t, f.inf, f.encode(math.MaxFloat32))
		})
	}
}

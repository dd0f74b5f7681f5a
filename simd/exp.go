package simd

import "math"

// Constants of exp, the same in every set. With n = round(x·log₂e) and
// r = x - n·ln2, |r| ≤ ½ln2, it is exp(x) = 2ⁿ·exp(r), and
//
//	exp(r) ≈ 1 + r + r²·(c2 + c3·r + c4·r² + c5·r³ + c6·r⁴ + c7·r⁵)
//
// ln2 is split (Cody & Waite 1980, ch. 6) so that n·expLn2Hi is exact. The
// coefficients are those of Cephes' expf (S. Moshier, 1992).
const (
	expLog2e = 1.44269504088896341
	expLn2Hi = 0.693359375
	expLn2Lo = -2.12194440e-4
	expC2    = 5.0000001201e-1
	expC3    = 1.6666665459e-1
	expC4    = 4.1665795894e-2
	expC5    = 8.3334519073e-3
	expC6    = 1.3981999507e-3
	expC7    = 1.9875691500e-4

	// expMin is the smallest x whose exp is not 0 here: ln 2⁻¹²⁶, the smallest normal number.
	expMin = -87.3365447504
	// expMax is the largest x whose exp is not +Inf: ln(2¹²⁸ - 2¹⁰⁴), rounded down.
	expMax = 88.7228317261
)

// exp32 is the portable exp (see the constants): within 1 ulp, 0 below
// expMin, +Inf above expMax, NaN for NaN.
func exp32(x float32) float32 {
	switch {
	case x != x:
		return x
	case x < expMin:
		return 0
	case x > expMax:
		return float32(math.Inf(1))
	}
	n := float32(math.RoundToEven(float64(float32(x * expLog2e))))
	r := x - float32(n*expLn2Hi)
	r -= float32(n * expLn2Lo)
	p := float32(expC7*r) + expC6
	p = float32(p*r) + expC5
	p = float32(p*r) + expC4
	p = float32(p*r) + expC3
	p = float32(p*r) + expC2
	p = float32(p*float32(r*r)) + r
	p++
	return math.Float32frombits(uint32(int32(math.Float32bits(p)) + int32(n)<<23))
}

package simd_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/simd/simdtest"
)

// bf16 is v rounded to the eight bits of a bfloat16, ties to even, for numbers that
// are neither subnormal nor too large.
func bf16(v float64) float64 {
	m, e := math.Frexp(v)
	return math.Ldexp(math.RoundToEven(m*256), e-8)
}

// eachSet is simdtest.EachSet, and one set more: generic with a tile of bfloat16 that
// are stored in pairs, so that every machine tests what is done for such tiles.
func eachSet(t *testing.T, f func(t *testing.T, k *simd.Kernels)) {
	t.Helper()
	simdtest.EachSet(t, f)
	k := *simd.All()[0]
	k.Name, k.TileBF16 = "pairs", pairs
	t.Run("set=pairs", func(t *testing.T) { f(t, &k) })
}

// pairs is a tile of 6×4 that is laid out as that of VDPBF16PS and of BFDOT: a word of
// a sealed panel has the steps 2p (in its low half) and 2p+1 of one column.
var pairs = simd.Tile{
	MR: 6, NR: 4, Half: true,
	PackRows: simd.All()[0].Tile.PackRows,
	Seal: func(dst, src []float32, k int) {
		for p := 0; p < k; p += 2 {
			for i := range 4 {
				var odd float32
				if p+1 < k {
					odd = src[(p+1)*4+i]
				}
				dst[p/2*4+i] = pair(src[p*4+i], odd)
			}
		}
	},
	SealRow: func(dst, src []float32) {
		for p := 0; p < len(src); p += 2 {
			var odd float32
			if p+1 < len(src) {
				odd = src[p+1]
			}
			dst[p/2] = pair(src[p], odd)
		}
	},
	Run: func(rows, k int, a []float32, lda int, b, c []float32, ldc int, accumulate bool) {
		for i := range rows {
			for j := range 4 {
				var s float32
				for p := range (k + 1) / 2 {
					x, y := math.Float32bits(a[i*lda+p]), math.Float32bits(b[p*4+j])
					s += float32(math.Float32frombits(x<<16) * math.Float32frombits(y<<16))
					s += float32(math.Float32frombits(x&^0xffff) * math.Float32frombits(y&^0xffff))
				}
				if accumulate {
					s += c[i*ldc+j]
				}
				c[i*ldc+j] = s
			}
		}
	},
}

// pair is a word of two bfloat16.
func pair(even, odd float32) float32 {
	lo, hi := math.Float32bits(float32(bf16(float64(even)))), math.Float32bits(float32(bf16(float64(odd))))
	return math.Float32frombits(lo>>16 | hi)
}

// TestGemmBF16Rounds: where panels are float32 the product is Gemm's of numbers
// rounded before, bit for bit.
func TestGemmBF16Rounds(t *testing.T) {
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		if k.TileBF16.Half {
			t.Skip("the products are those of another instruction")
		}
		rng := rand.New(rand.NewPCG(6, 6))
		for o := range 4 {
			for _, m := range []int{2, 70} {
				g := gemmCase{m: m, n: 50, k: 300, transA: o&1 != 0, transB: o&2 != 0, bf16: true}
				a, b := newOperand(rng, g.m, g.k, 0, g.transA), newOperand(rng, g.k, g.n, 0, g.transB)
				got := g.run(t, k, nil, a, b, nil)
				for _, x := range [][]float32{a.x, b.x} {
					k.RoundBF16(x, x)
				}
				g.bf16 = false
				simdtest.SameBits(t, g.run(t, k, nil, a, b, nil), got, fmt.Sprintf("%+v", g))
			}
		}
	})
}

// TestGemmNotFinite: a NaN or an infinity reaches the elements it belongs to, and no other.
func TestGemmNotFinite(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	payload := math.Float32frombits(0x7f800001) // a NaN whose upper half is that of an infinity
	eachSet(t, func(t *testing.T, k *simd.Kernels) {
		for o := range 8 {
			for _, m := range []int{2, 13} {
				const n, kk = 37, 301
				g := gemmCase{m: m, n: n, k: kk, transA: o&1 != 0, transB: o&2 != 0, bf16: o&4 != 0}
				rng := rand.New(rand.NewPCG(7, uint64(o)))
				a, b := newOperand(rng, m, kk, 0, g.transA), newOperand(rng, kk, n, 0, g.transB)
				for i, x := range a.x { // no zero, for inf·0 is NaN
					a.x[i] = x + float32(math.Copysign(1, float64(x)))
				}
				*a.element(0, 7), *b.element(300, 5), *b.element(299, 9), *b.element(2, 36) = nan, payload, inf, -inf
				for i, v := range g.run(t, k, nil, a, b, nil) {
					r, c := i/n, i%n
					switch {
					case r == 0 || c == 5:
						require.True(t, v != v, "%+v: element %d,%d is %v", g, r, c, v)
					case c == 9 || c == 36:
						require.True(t, math.IsInf(float64(v), 0), "%+v: element %d,%d is %v", g, r, c, v)
					default:
						require.False(t, math.IsNaN(float64(v)) || math.IsInf(float64(v), 0), "%+v: element %d,%d is %v", g, r, c, v)
					}
				}
			}
		}
	})
}

// element is the stored element (r,c) of the operand.
func (o operand) element(r, c int) *float32 { return &o.from(r, c)[0] }

// TestRoundBF16 tries every number of a bfloat16 with what decides about rounding.
func TestRoundBF16(t *testing.T) {
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		low := []uint32{0, 1, 0x7fff, 0x8000, 0x8001, 0xffff}
		x := make([]float32, 1<<16)
		got := make([]float32, len(x))
		for _, l := range low {
			for hi := range x {
				x[hi] = math.Float32frombits(uint32(hi)<<16 | l)
			}
			k.RoundBF16(got, x)
			for hi, v := range x {
				u, w := uint32(hi)<<16, math.Float32bits(got[hi])
				if v != v {
					require.True(t, got[hi] != got[hi] && w&0xffff == 0, "NaN %#x became %#x", math.Float32bits(v), w)
					continue
				}
				if l > 0x8000 || l == 0x8000 && hi&1 == 1 {
					u += 1 << 16
				}
				require.Equal(t, u, w, "%#x", math.Float32bits(v))
			}
		}
	})
}

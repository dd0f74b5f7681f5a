package simd_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/simd/simdtest"
)

const eps = simdtest.Eps

// maxLen is the largest length of which every one is tested; it covers every tail.
const maxLen = 300

// long lengths cross the pieces in which long slices are handed to assembly.
var long = []int{1<<14 - 1, 1 << 14, 1<<14 + 1, 40000}

func lengths() []int {
	var ns []int
	for n := range maxLen + 1 {
		ns = append(ns, n)
	}
	return append(ns, long...)
}

// elementwise is a function that treats each element of its slices alone.
type elementwise struct {
	name   string
	slices int
	run    func(k *simd.Kernels, s [][]float32)
	// ref returns what the call makes of one element of each slice, and how far off it may be.
	ref func(v []float64) (want, tol []float64)
	// prepare changes the random numbers.
	prepare func(s [][]float32)
	// alias lists pairs of slices that may be the same.
	alias [][2]int
}

var step = simd.AdamWStep{LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 0.01, C1: 0.271, C2: 0.002997001, GradScale: 0.5}

var ops = []elementwise{
	{name: "Axpy", slices: 2,
		run: func(k *simd.Kernels, s [][]float32) { k.Axpy(s[0], 0.7, s[1]) },
		ref: func(v []float64) ([]float64, []float64) {
			ax := float64(float32(0.7)) * v[1]
			return []float64{v[0] + ax, v[1]}, []float64{2 * eps * (math.Abs(v[0]) + math.Abs(ax)), 0}
		}},
	{name: "Add", slices: 2,
		run: func(k *simd.Kernels, s [][]float32) { k.Add(s[0], s[1]) },
		ref: func(v []float64) ([]float64, []float64) { return []float64{round(v[0] + v[1]), v[1]}, []float64{0, 0} }},
	{name: "Mul", slices: 2,
		run: func(k *simd.Kernels, s [][]float32) { k.Mul(s[0], s[1]) },
		ref: func(v []float64) ([]float64, []float64) { return []float64{round(v[0] * v[1]), v[1]}, []float64{0, 0} }},
	{name: "Scale", slices: 1,
		run: func(k *simd.Kernels, s [][]float32) { k.Scale(s[0], 0.7) },
		ref: func(v []float64) ([]float64, []float64) {
			return []float64{round(v[0] * float64(float32(0.7)))}, []float64{0}
		}},
	{name: "RoundBF16", slices: 2, alias: [][2]int{{0, 1}},
		run: func(k *simd.Kernels, s [][]float32) { k.RoundBF16(s[0], s[1]) },
		ref: func(v []float64) ([]float64, []float64) { return []float64{bf16(v[1]), v[1]}, []float64{0, 0} }},
	{name: "ExpSub", slices: 2, alias: [][2]int{{0, 1}},
		run: func(k *simd.Kernels, s [][]float32) { k.ExpSub(s[0], s[1], 0.3) },
		ref: func(v []float64) ([]float64, []float64) {
			e := exp64(round(v[1] - float64(float32(0.3))))
			return []float64{e, v[1]}, []float64{expTol(e), 0}
		}},
	{name: "SwiGLU", slices: 3,
		run: func(k *simd.Kernels, s [][]float32) { k.SwiGLU(s[0], s[1], s[2]) },
		ref: func(v []float64) ([]float64, []float64) {
			y := v[1] * sigmoid(v[1]) * v[2]
			return []float64{y, v[1], v[2]}, []float64{8*eps*math.Abs(y) + tiny(v[2]), 0, 0}
		}},
	{name: "SwiGLUBackward", slices: 5, alias: [][2]int{{0, 3}, {1, 4}},
		run: func(k *simd.Kernels, s [][]float32) { k.SwiGLUBackward(s[0], s[1], s[2], s[3], s[4]) },
		ref: func(v []float64) ([]float64, []float64) {
			dy, z, u := v[2], v[3], v[4]
			s := sigmoid(z)
			dup := dy * z * s
			dgate := dy * u * s * (1 + z*(1-s))
			return []float64{dgate, dup, dy, z, u}, []float64{
				8*eps*math.Abs(dy*u)*s*(1+math.Abs(z)) + tiny(dy*u),
				8*eps*math.Abs(dup) + tiny(dy), 0, 0, 0}
		}},
	{name: "GELU", slices: 2, alias: [][2]int{{0, 1}},
		run: func(k *simd.Kernels, s [][]float32) { k.GELU(s[0], s[1]) },
		ref: func(v []float64) ([]float64, []float64) {
			x := v[1]
			u := math.Sqrt(2/math.Pi) * (x + 0.044715*x*x*x)
			y := x * sigmoid(2*u) // ½x(1+tanh u), without its cancellation
			return []float64{y, x}, []float64{eps*(8+8*math.Abs(u))*math.Abs(y) + tiny(x), 0}
		}},
	{name: "GELUBackward", slices: 3, alias: [][2]int{{0, 1}},
		run: func(k *simd.Kernels, s [][]float32) { k.GELUBackward(s[0], s[1], s[2]) },
		ref: func(v []float64) ([]float64, []float64) {
			dy, x := v[1], v[2]
			u := math.Sqrt(2/math.Pi) * (x + 0.044715*x*x*x)
			du := math.Sqrt(2/math.Pi) * (1 + 3*0.044715*x*x)
			s := sigmoid(2 * u) // ½(1+tanh u); its derivative is 2s(1-s)du
			d := s + 2*x*s*(1-s)*du
			return []float64{dy * d, dy, x}, []float64{
				8*eps*math.Abs(dy)*s*(1+2*math.Abs(u))*(1+2*math.Abs(x)*du) + tiny(dy), 0, 0}
		}},
	{name: "AdamW", slices: 4,
		prepare: func(s [][]float32) {
			for i, v := range s[2] {
				s[2][i] = max(v, -v)
			}
		},
		run: func(k *simd.Kernels, s [][]float32) { k.AdamW(s[0], s[1], s[2], s[3], &step) },
		ref: func(v []float64) ([]float64, []float64) {
			lr, b1, b2 := float64(step.LR), float64(step.Beta1), float64(step.Beta2)
			g := v[3] * float64(step.GradScale)
			m := b1*v[1] + (1-b1)*g
			absM := b1*math.Abs(v[1]) + (1-b1)*math.Abs(g)
			vv := b2*v[2] + (1-b2)*g*g
			den := math.Sqrt(vv/float64(step.C2)) + float64(step.Eps)
			w := v[0]*(1-lr*float64(step.Decay)) - lr*m/float64(step.C1)/den
			return []float64{w, m, vv, v[3]}, []float64{
				3*eps*math.Abs(v[0]) + 16*eps*lr*absM/float64(step.C1)/den,
				4 * eps * absM, 6 * eps * vv, 0}
		}},
}

// round returns the nearest float32. Rounding a float64 sum or product of two float32
// numbers is the correctly rounded float32 one (Figueroa 1995).
func round(x float64) float64 { return float64(float32(x)) }

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// tiny is the absolute error that underflow in exp and after it causes, times what it is multiplied with.
func tiny(x float64) float64 { return 1e-36 * (1 + math.Abs(x)) }

// exp64 is exp with the range of the kernels'.
func exp64(x float64) float64 {
	if x < -87.3365447504 {
		return 0
	}
	return round(math.Exp(x)) // +Inf above
}

// expTol is one and a half units in the last place of e.
func expTol(e float64) float64 {
	if math.IsInf(e, 0) {
		return 0
	}
	_, exponent := math.Frexp(e)
	return math.Ldexp(2, exponent-24)
}

// wide fills x with numbers of several magnitudes.
func wide(rng *rand.Rand, x []float32) {
	for i := range x {
		x[i] = (2*rng.Float32() - 1) * []float32{0.1, 1, 10, 50}[rng.IntN(4)]
	}
}

func newSlices(rng *rand.Rand, o elementwise, n int) ([]*simdtest.Buffer, [][]float32) {
	bufs := make([]*simdtest.Buffer, o.slices)
	s := make([][]float32, o.slices)
	for i := range bufs {
		bufs[i] = simdtest.Guarded(rng, n)
		s[i] = bufs[i].X
		wide(rng, s[i])
	}
	if o.prepare != nil {
		o.prepare(s)
	}
	return bufs, s
}

func cloneAll(s [][]float32) [][]float32 {
	c := make([][]float32, len(s))
	for i := range s {
		c[i] = slices.Clone(s[i])
	}
	return c
}

func TestElementwise(t *testing.T) {
	for _, o := range ops {
		t.Run(o.name, func(t *testing.T) {
			simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
				for _, n := range lengths() {
					rng := rand.New(rand.NewPCG(1, uint64(n)))
					bufs, s := newSlices(rng, o, n)
					before := cloneAll(s)
					want, tol := make([][]float64, o.slices), make([][]float64, o.slices)
					for i := range n {
						v := make([]float64, o.slices)
						for j := range v {
							v[j] = float64(s[j][i])
						}
						w, e := o.ref(v)
						for j := range v {
							want[j], tol[j] = append(want[j], w[j]), append(tol[j], e[j])
						}
					}
					o.run(k, s)
					for j := range s {
						simdtest.NearAll(t, want[j], s[j], func(i int) float64 { return tol[j][i] }, fmt.Sprintf("slice %d", j))
						bufs[j].Check(t)
					}

					// The bits of an element depend neither on where the slices lie
					// nor on where they are cut.
					cut := rng.IntN(n + 1)
					again := cloneAll(before)
					head, tail := make([][]float32, o.slices), make([][]float32, o.slices)
					for j := range again {
						head[j], tail[j] = again[j][:cut], again[j][cut:]
					}
					o.run(k, head)
					o.run(k, tail)
					for j := range s {
						simdtest.SameBits(t, s[j], again[j], fmt.Sprintf("slice %d of %d cut at %d", j, n, cut))
					}

					// Nor on whether slices that may be the same are.
					if len(o.alias) > 0 {
						same, out := cloneAll(before), make([]bool, o.slices)
						for _, p := range o.alias {
							same[p[0]], out[p[1]] = same[p[1]], true
						}
						o.run(k, same)
						for j := range s {
							if !out[j] {
								simdtest.SameBits(t, s[j], same[j], fmt.Sprintf("slice %d with %v the same", j, o.alias))
							}
						}
					}
				}
			})
		})
	}
}

func TestElementwiseShortSlicePanics(t *testing.T) {
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		for _, o := range ops {
			for short := 1; short < o.slices; short++ {
				s := make([][]float32, o.slices)
				for j := range s {
					s[j] = make([]float32, 20)
				}
				s[short] = s[short][:19:19]
				require.Panics(t, func() { o.run(k, s) }, "%s with slice %d short", o.name, short)
			}
		}
		x, short := make([]float32, 20), make([]float32, 19)
		require.Panics(t, func() { k.Dot(x, short) })
		require.Panics(t, func() { k.DotRows(x[:3], x[:7], short, 7) })
		require.Panics(t, func() { k.AxpyRows(x[:7], x[:3], short, 7) })
	})
}

func TestReductions(t *testing.T) {
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		for _, n := range lengths() {
			rng := rand.New(rand.NewPCG(2, uint64(n)))
			x, y := simdtest.Guarded(rng, n), simdtest.Guarded(rng, n)
			var dot, absDot, sum, absSum, sumExp float64
			largest := math.Inf(-1)
			for i, v := range x.X {
				p := float64(v) * float64(y.X[i])
				dot += p
				absDot += math.Abs(p)
				sum += float64(v)
				absSum += math.Abs(float64(v))
				largest = max(largest, float64(v))
				sumExp += math.Exp(round(float64(v) - 0.5))
			}
			// A sum of n products of one rounding each, in any order (Higham 2002, §3.1).
			bound := float64(n+1) * eps
			simdtest.Near(t, dot, k.Dot(x.X, y.X), bound*absDot, "Dot of ", n)
			simdtest.Near(t, sum, k.Sum(x.X), bound*absSum, "Sum of ", n)
			simdtest.Near(t, largest, k.Max(x.X), 0, "Max of ", n)
			out := simdtest.Guarded(rng, n)
			simdtest.Near(t, sumExp, k.ExpSub(out.X, x.X, 0.5), (bound+3*eps)*sumExp, "ExpSub of ", n)
			for _, b := range []*simdtest.Buffer{x, y, out} {
				b.Check(t)
			}
			// The same numbers somewhere else give the same bits.
			x2, y2 := simdtest.Guarded(rng, n), simdtest.Guarded(rng, n)
			copy(x2.X, x.X)
			copy(y2.X, y.X)
			simdtest.SameBits(t,
				[]float32{k.Dot(x.X, y.X), k.Sum(x.X), k.ExpSub(out.X, x.X, 0.5)},
				[]float32{k.Dot(x2.X, y2.X), k.Sum(x2.X), k.ExpSub(out.X, x2.X, 0.5)}, n)
		}
	})
}

func TestMaxSpecial(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		for n := 1; n <= 100; n++ {
			x := make([]float32, n)
			for i := range x {
				for j := range x {
					x[j] = -5 - float32(j)
				}
				for _, v := range []float32{-1, inf, nan, -nan} {
					x[i] = v
					simdtest.Near(t, float64(v), k.Max(x), 0, n, " with ", v, " at ", i)
				}
				if n > 1 {
					x[i], x[(i+1)%n] = inf, -inf
					simdtest.Near(t, float64(inf), k.Max(x), 0, n, " with both infinities at ", i)
					x[i], x[(i+1)%n] = nan, inf
					simdtest.Near(t, math.NaN(), k.Max(x), 0, n, " with NaN and Inf at ", i)
				}
				x[i] = 0
			}
			for i := range x {
				x[i] = -inf
			}
			simdtest.Near(t, math.Inf(-1), k.Max(x), 0, "all -Inf")
		}
		big := make([]float32, 50000)
		for _, i := range []int{0, 1 << 14, 49999} {
			big[i] = nan
			simdtest.Near(t, math.NaN(), k.Max(big), 0, "NaN at ", i)
			big[i] = 3
			simdtest.Near(t, 3, k.Max(big), 0, "3 at ", i)
			big[i] = 0
		}
	})
}

func TestExpSpecial(t *testing.T) {
	inf := math.Inf(1)
	cases := []struct{ x, want float64 }{
		{0, 1}, {math.Copysign(0, -1), 1}, {-inf, 0}, {inf, inf}, {math.NaN(), math.NaN()},
		{-1e30, 0}, {1e30, inf}, {-88, 0}, {-87.34, 0}, {-3e38, 0}, {3e38, inf},
		{88.72283, math.Exp(round(88.72283))}, {88.7229, inf}, {-87.3365, math.Exp(round(-87.3365))},
		{1, math.E}, {1e-30, 1}, {-1e-30, 1}, {1e-45, 1},
	}
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		for _, c := range cases {
			for n := 1; n < 40; n++ {
				x, y := make([]float32, n), make([]float32, n)
				x[n-1] = float32(c.x)
				k.ExpSub(y, x, 0)
				simdtest.Near(t, c.want, y[n-1], expTol(c.want), "exp of ", c.x)
				for _, v := range y[:n-1] {
					require.Equal(t, float32(1), v)
				}
			}
		}
		// A masked row of attention: everything but one is -Inf.
		x := []float32{float32(-inf), 2, float32(-inf)}
		require.Equal(t, float32(1), k.ExpSub(x, x, 2))
		require.Equal(t, []float32{0, 1, 0}, x)
	})
}

// TestExpAccuracy compares exp with math.Exp for one in 4,999 of all float32
// numbers between its limits. doc.go has the error found by trying all of them.
func TestExpAccuracy(t *testing.T) {
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		const n = 1 << 10
		x, y := make([]float32, 0, n), make([]float32, n)
		worst, at := 0.0, float32(0)
		for b := uint64(0); b < 1<<32; b += 4999 {
			v := math.Float32frombits(uint32(b))
			if !(v >= -87.33654 && v <= 88.7228) {
				continue
			}
			if x = append(x, v); len(x) < n {
				continue
			}
			k.ExpSub(y, x, 0)
			for i, v := range x {
				e := math.Exp(float64(v))
				_, exponent := math.Frexp(e)
				ulp := math.Abs(float64(y[i])-e) / math.Ldexp(1, exponent-24)
				if !(ulp <= worst) {
					worst, at = ulp, v
				}
			}
			x = x[:0]
		}
		t.Logf("largest error %.3f ulp at %v", worst, at)
		require.LessOrEqual(t, worst, 1.011)
	})
}

func TestRows(t *testing.T) {
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		for n := range maxLen + 1 {
			for _, count := range []int{0, 1, 2, 3, 4, 5, 8, 11} {
				rng := rand.New(rand.NewPCG(uint64(n), uint64(count)))
				testRows(t, k, rng, n, count, n+rng.IntN(9))
			}
		}
		rng := rand.New(rand.NewPCG(3, 3))
		testRows(t, k, rng, 4096, 37, 4096)
		testRows(t, k, rng, 33000, 9, 33001)
		testRows(t, k, rng, 3, 9001, 3)
		testRows(t, k, rng, 64, 1000, 64)
		testRows(t, k, rng, 5, 100, 0) // one row, a hundred times
		x := make([]float32, 8)
		for _, stride := range []int{-1, 3, 1 << 62, math.MaxInt} {
			require.Panics(t, func() { k.DotRows(make([]float32, 5), x[:2], x, stride) })
			require.Panics(t, func() { k.AxpyRows(x[:2], make([]float32, 5), x, stride) })
		}
	})
}

func testRows(t *testing.T, k *simd.Kernels, rng *rand.Rand, n, count, stride int) {
	t.Helper()
	size := 0
	if count > 0 {
		size = (count-1)*stride + n
	}
	rows := simdtest.Guarded(rng, size)
	for i := range max(0, count-1) {
		for j := n; j < stride; j++ {
			rows.X[i*stride+j] = float32(math.NaN())
		}
	}
	at := func(i, j int) float64 { return float64(rows.X[i*stride+j]) }
	msg := fmt.Sprintf("%d rows of %d, stride %d", count, n, stride)

	x, out := simdtest.Guarded(rng, n), simdtest.Guarded(rng, count)
	want, abs := make([]float64, count), make([]float64, count)
	for i := range want {
		for j, v := range x.X {
			p := float64(v) * at(i, j)
			want[i] += p
			abs[i] += math.Abs(p)
		}
	}
	k.DotRows(out.X, x.X, rows.X, stride)
	simdtest.NearAll(t, want, out.X, func(i int) float64 { return float64(n+1) * eps * abs[i] }, "DotRows ", msg)
	// A row's bits do not depend on the rows it is computed with.
	for i := range min(count, 12) {
		one := make([]float32, 1)
		k.DotRows(one, x.X, rows.X[i*stride:i*stride+n], stride)
		simdtest.SameBits(t, out.X[i:i+1], one, "DotRows ", msg, " row ", i)
	}

	a, y := simdtest.Guarded(rng, count), simdtest.Guarded(rng, n)
	before := slices.Clone(y.X)
	want, abs = make([]float64, n), make([]float64, n)
	for j, v := range before {
		want[j], abs[j] = float64(v), math.Abs(float64(v))
		for i, w := range a.X {
			p := float64(w) * at(i, j)
			want[j] += p
			abs[j] += math.Abs(p)
		}
	}
	k.AxpyRows(y.X, a.X, rows.X, stride)
	simdtest.NearAll(t, want, y.X, func(j int) float64 { return float64(count+1) * eps * abs[j] }, "AxpyRows ", msg)
	// Row by row and column by column it is the same.
	cut := rng.IntN(n + 1)
	for i := range a.X {
		k.AxpyRows(before[:cut], a.X[i:i+1], rows.X[i*stride:i*stride+n], stride)
		k.AxpyRows(before[cut:], a.X[i:i+1], rows.X[i*stride+cut:i*stride+n], stride)
	}
	simdtest.SameBits(t, y.X, before, "AxpyRows ", msg)
	for _, b := range []*simdtest.Buffer{rows, x, out, a, y} {
		b.Check(t)
	}
}

// TestNaNPropagates: a NaN in an input is a NaN in the result, wherever it is.
func TestNaNPropagates(t *testing.T) {
	nan := float32(math.NaN())
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		for _, o := range ops {
			for n := 1; n < 40; n++ {
				// Which slices are inputs: all whose element changes the reference.
				for in := range o.slices {
					s := make([][]float32, o.slices)
					for j := range s {
						s[j] = make([]float32, n)
						for i := range s[j] {
							s[j][i] = 0.5
						}
					}
					s[in][n-1] = nan
					v := make([]float64, o.slices)
					for j := range v {
						v[j] = float64(s[j][n-1])
					}
					want, _ := o.ref(v)
					o.run(k, s)
					for j := range s {
						require.Equal(t, math.IsNaN(want[j]), math.IsNaN(float64(s[j][n-1])), "%s: NaN in slice %d, element of slice %d", o.name, in, j)
						for _, w := range s[j][:n-1] {
							require.False(t, math.IsNaN(float64(w)), "%s: NaN spread", o.name)
						}
					}
				}
			}
		}
		for n := 1; n < 70; n++ {
			x, y := make([]float32, n), make([]float32, n)
			x[n-1] = nan
			simdtest.Near(t, math.NaN(), k.Dot(x, y), 0)
			simdtest.Near(t, math.NaN(), k.Dot(y, x), 0)
			simdtest.Near(t, math.NaN(), k.Sum(x), 0)
			simdtest.Near(t, math.NaN(), k.ExpSub(y, x, 0), 0)
		}
	})
}

func TestSets(t *testing.T) {
	all := simd.All()
	require.Equal(t, "generic", all[0].Name)
	for _, k := range all {
		got, err := simd.ByName(k.Name)
		require.NoError(t, err)
		require.Same(t, k, got)
		t.Setenv(simd.EnvName, k.Name)
		require.Same(t, k, simd.Best())
	}
	t.Setenv(simd.EnvName, "")
	require.Same(t, all[len(all)-1], simd.Best())
	if want, ok := os.LookupEnv("GUARDCPU_EXPECT_SET"); ok { // what this CPU should choose
		require.Equal(t, want, simd.Best().Name)
	}
	t.Setenv(simd.EnvName, "sse9")
	_, err := simd.Select()
	require.ErrorContains(t, err, `no kernel set "sse9"`)
	require.ErrorContains(t, err, "generic")
	require.ErrorContains(t, err, "GUARDCPU_SIMD")
	require.Panics(t, func() { simd.Best() })
}

package simd_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/simd/simdtest"
)

// workers returns a simd.For that runs its items on n goroutines, as the pool of
// the engine does.
func workers(n int) simd.For {
	return func(items int, body func(i int)) {
		var next atomic.Int64
		run := func() {
			for i := int(next.Add(1)) - 1; i < items; i = int(next.Add(1)) - 1 {
				body(i)
			}
		}
		var wg sync.WaitGroup
		for range min(n, items) - 1 {
			wg.Go(run)
		}
		run()
		wg.Wait()
	}
}

// operand is a guarded random matrix with its stored shape.
type operand struct {
	buf        *simdtest.Buffer
	x          []float32 // buf.X, or a part
	rows, cols int
	stride     int
	trans      bool
}

// newOperand returns random numbers for a factor that is rows×cols after transposition.
func newOperand(rng *rand.Rand, rows, cols, pad int, trans bool) operand {
	o := operand{rows: rows, cols: cols, trans: trans}
	if trans {
		o.rows, o.cols = cols, rows
	}
	o.stride = o.cols + pad
	n := 0
	if o.rows > 0 && o.cols > 0 {
		n = (o.rows-1)*o.stride + o.cols
	}
	o.buf = simdtest.Guarded(rng, n)
	o.x = o.buf.X
	if pad > 0 { // what lies between the rows must not be read
		for r := range max(0, o.rows-1) {
			for c := o.cols; c < o.stride; c++ {
				o.x[r*o.stride+c] = float32(math.NaN())
			}
		}
	}
	return o
}

func (o operand) at(r, c int) float64 {
	if o.trans {
		r, c = c, r
	}
	return float64(o.x[r*o.stride+c])
}

// simd returns the operand as Gemm takes it, read in place or by Unpack.
func (o operand) simd(unpack bool) simd.Operand {
	if !unpack {
		return simd.Operand{Data: o.x, Stride: o.stride, Trans: o.trans}
	}
	return simd.Operand{Trans: o.trans, Unpack: func(dst []float32, row, col int) {
		if row < 0 || row >= o.rows || col < 0 || col+len(dst) > o.cols {
			panic(fmt.Sprintf("Unpack of %d at (%d,%d), the matrix is %d×%d", len(dst), row, col, o.rows, o.cols))
		}
		copy(dst, o.x[row*o.stride+col:])
	}}
}

type gemmCase struct {
	m, n, k          int
	transA, transB   bool
	padA, padB, padC int
	unpackA, unpackB bool
	accumulate       bool
	bf16             bool
}

// gemm is the product of the case.
func (g gemmCase) gemm(k *simd.Kernels) func(par simd.For, c []float32, ldc, m, n, kk int, a, b simd.Operand, accumulate bool) {
	if g.bf16 {
		return k.GemmBF16
	}
	return k.Gemm
}

// run computes the case with k and returns the m×n result; it checks all guards.
func (g gemmCase) run(t *testing.T, k *simd.Kernels, par simd.For, a, b operand, c0 []float32) []float32 {
	t.Helper()
	rng := rand.New(rand.NewPCG(9, 9))
	ldc := g.n + g.padC
	size := 0
	if g.m > 0 && g.n > 0 {
		size = (g.m-1)*ldc + g.n
	}
	c := simdtest.Guarded(rng, size)
	for i := range c.X {
		c.X[i] = float32(math.NaN())
	}
	for i := range g.m {
		if g.accumulate && g.n > 0 {
			copy(c.X[i*ldc:i*ldc+g.n], c0[i*g.n:])
		}
	}
	g.gemm(k)(par, c.X, ldc, g.m, g.n, g.k, a.simd(g.unpackA), b.simd(g.unpackB), g.accumulate)
	c.Check(t)
	a.buf.Check(t)
	b.buf.Check(t)
	out := make([]float32, 0, g.m*g.n)
	if g.n == 0 {
		return out
	}
	for i := range g.m {
		out = append(out, c.X[i*ldc:i*ldc+g.n]...)
		if i < g.m-1 {
			for _, v := range c.X[i*ldc+g.n : (i+1)*ldc] {
				if v == v {
					t.Fatalf("%+v: wrote %v between the rows of c", g, v)
				}
			}
		}
	}
	return out
}

func (g gemmCase) check(t *testing.T, k *simd.Kernels, par simd.For) {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(g.m*1000+g.n), uint64(g.k)))
	a := newOperand(rng, g.m, g.k, g.padA, g.transA)
	b := newOperand(rng, g.k, g.n, g.padB, g.transB)
	c0 := make([]float32, g.m*g.n)
	simdtest.Fill(rng, c0)
	got := g.run(t, k, par, a, b, c0)
	want := make([]float64, g.m*g.n)
	abs := make([]float64, g.m*g.n)
	col := make([]float64, g.k)
	rows := make([]float64, g.m*g.k)
	number, u := func(v float64) float64 { return v }, simdtest.Eps
	if g.bf16 {
		number, u = bf16, 2*simdtest.Eps
	}
	for i := range rows {
		rows[i] = number(a.at(i/g.k, i%g.k))
	}
	for j := range g.n {
		for p := range col {
			col[p] = number(b.at(p, j))
		}
		for i := range g.m {
			var s, sa float64
			if g.accumulate {
				s = float64(c0[i*g.n+j])
				sa = math.Abs(s)
			}
			for p, v := range rows[i*g.k : (i+1)*g.k] {
				v *= col[p]
				s += v
				sa += math.Abs(v)
			}
			want[i*g.n+j], abs[i*g.n+j] = s, sa
		}
	}
	// A sum of k products and c, each operation rounded once (Higham 2002, §3.1), with
	// bfloat16 maybe not to the nearest.
	simdtest.NearAll(t, want, got, func(i int) float64 {
		return float64(g.k+2)*u*abs[i] + 1e-37
	}, fmt.Sprintf("%+v", g))
}

func TestGemmShapes(t *testing.T) {
	eachSet(t, func(t *testing.T, k *simd.Kernels) {
		sizes := []int{1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 15, 16, 17, 23, 31, 33, 40}
		i := 0
		for _, m := range sizes {
			for _, n := range sizes {
				for _, kk := range sizes {
					i++
					g := gemmCase{m: m, n: n, k: kk,
						transA: i&1 != 0, transB: i&2 != 0, accumulate: i&4 != 0,
						padA: i % 3, padB: i % 5, padC: i % 4,
						unpackA: i%7 == 0, unpackB: i%5 == 0}
					g.check(t, k, nil)
					if g.bf16 = i%3 == 0; g.bf16 {
						g.check(t, k, nil)
					}
				}
			}
		}
	})
}

// TestGemmBlocks has shapes larger than the blocks, in all four orientations, and
// operands that are unpacked.
func TestGemmBlocks(t *testing.T) {
	shapes := []struct{ m, n, k int }{
		{97, 65, 257}, {20, 530, 256}, {5, 4200, 270}, {4200, 5, 270}, {13, 17, 2100},
		{1, 700, 600}, {3, 90, 5000}, {2, 3, 200000},
	}
	eachSet(t, func(t *testing.T, k *simd.Kernels) {
		for i, s := range shapes {
			for o := range 4 {
				g := gemmCase{m: s.m, n: s.n, k: s.k, transA: o&1 != 0, transB: o&2 != 0,
					padA: 3, padB: 5 * (o % 2), padC: 2, accumulate: (i+o)%2 == 0, unpackB: (i+o)%3 == 0, unpackA: (i+o)%5 == 0}
				if s.k > 100000 && !g.transB {
					continue // of this length only the dot products are of interest
				}
				if testing.Short() && o != i%4 {
					continue
				}
				g.check(t, k, workers(2))
				g.bf16 = true
				g.check(t, k, workers(2))
			}
		}
	})
}

// TestGemmStrides has rows that begin a multiple of 4 KiB apart.
func TestGemmStrides(t *testing.T) {
	eachSet(t, func(t *testing.T, k *simd.Kernels) {
		for o := range 4 {
			g := gemmCase{m: 30, n: 40, k: 50, transA: o&1 != 0, transB: o&2 != 0,
				padA: 1024 - 50 + o&1*20, padB: 1024 - 40 - o>>1*10, padC: 984}
			g.check(t, k, nil)
			g.bf16 = true
			g.check(t, k, nil)
		}
	})
}

func TestGemmEmpty(t *testing.T) {
	eachSet(t, func(t *testing.T, k *simd.Kernels) {
		for _, acc := range []bool{false, true} {
			for _, s := range [][3]int{{0, 3, 3}, {3, 0, 3}, {3, 3, 0}, {0, 0, 0}} {
				for o := range 8 {
					gemmCase{m: s[0], n: s[1], k: s[2], transA: o&1 != 0, transB: o&2 != 0, padC: 1, accumulate: acc, bf16: o&4 != 0}.check(t, k, nil)
				}
			}
		}
	})
}

func TestGemmPanics(t *testing.T) {
	x := make([]float32, 12)
	op := func(n, stride int, trans bool) simd.Operand {
		return simd.Operand{Data: x[:n], Stride: stride, Trans: trans}
	}
	eachSet(t, func(t *testing.T, k *simd.Kernels) {
		c := make([]float32, 9)
		run := func(c []float32, ldc int, a, b simd.Operand) func() {
			return func() { k.Gemm(nil, c, ldc, 3, 3, 4, a, b, false) }
		}
		a, b := op(12, 4, false), op(12, 3, false)
		require.NotPanics(t, run(c, 3, a, b))
		require.PanicsWithValue(t, "simd: Gemm: c has 8 numbers and stride 3, want 3×3", run(c[:8], 3, a, b))
		require.PanicsWithValue(t, "simd: Gemm: c has 9 numbers and stride 2, want 3×3", run(c, 2, a, b))
		require.PanicsWithValue(t, "simd: Gemm: a has 11 numbers and stride 4, want 3×4", run(c, 3, op(11, 4, false), b))
		require.PanicsWithValue(t, "simd: Gemm: b has 11 numbers and stride 4, want 3×4", run(c, 3, a, op(11, 4, true)))
		require.PanicsWithValue(t, "simd: Gemm: b has neither Data nor Unpack", run(c, 3, a, simd.Operand{}))
		require.Panics(t, func() { k.Gemm(nil, c, 3, -1, 3, 4, a, b, false) })
	})
}

// TestGemmSameBits: neither the number of workers nor the rows and columns that
// are computed with it change a bit of an element, and unpacking does not either.
func TestGemmSameBits(t *testing.T) {
	step, many := 1, []int{2, 3, 7}
	if testing.Short() {
		step, many = 5, []int{3}
	}
	eachSet(t, func(t *testing.T, k *simd.Kernels) {
		for o := 0; o < 16; o += step {
			g := gemmCase{m: 150, n: 330, k: 520, transA: o&1 != 0, transB: o&2 != 0, accumulate: o&4 != 0, padA: 1, padC: 3, bf16: o&8 != 0}
			if g.bf16 {
				g.k = 1101 // more than two panels, the last odd
			}
			rng := rand.New(rand.NewPCG(4, uint64(o)))
			a, b := newOperand(rng, g.m, g.k, g.padA, g.transA), newOperand(rng, g.k, g.n, g.padB, g.transB)
			c0 := make([]float32, g.m*g.n)
			simdtest.Fill(rng, c0)
			want := g.run(t, k, nil, a, b, c0)
			for _, w := range many {
				simdtest.SameBits(t, want, g.run(t, k, workers(w), a, b, c0), fmt.Sprintf("%d workers %+v", w, g))
			}
			u := g
			u.unpackA, u.unpackB = true, true
			simdtest.SameBits(t, want, u.run(t, k, workers(2), a, b, c0), fmt.Sprintf("%+v", u))

			// Rows r0…r0+m and columns j0…j0+n alone.
			for _, s := range []struct{ r0, m, j0, n int }{{0, 4, 0, 330}, {7, 61, 0, 330}, {149, 1, 0, 330}, {140, 10, 5, 18}, {0, 150, 329, 1}} {
				if s.m <= 3 && g.transB && !g.transA {
					continue // dot products
				}
				sub := g
				sub.m, sub.n = s.m, s.n
				sa, sb := a, b
				// Slices of the stored matrices, with the guards of the whole.
				sa.x, sb.x = a.from(s.r0, 0), b.from(0, s.j0)
				sc := make([]float32, 0, s.m*s.n)
				part := make([]float32, 0, s.m*s.n)
				for i := range s.m {
					lo := (s.r0+i)*g.n + s.j0
					sc, part = append(sc, c0[lo:lo+s.n]...), append(part, want[lo:lo+s.n]...)
				}
				simdtest.SameBits(t, part, sub.run(t, k, nil, sa, sb, sc), fmt.Sprintf("%+v of %+v", s, g))
			}
		}

		// The same for the dot products of few rows.
		for i := range 6 {
			m := i%3 + 1
			g := gemmCase{m: m, n: 700, k: 900, transB: true, bf16: i >= 3}
			rng := rand.New(rand.NewPCG(5, 5))
			a, b := newOperand(rng, g.m, g.k, 0, false), newOperand(rng, g.k, g.n, 0, true)
			want := g.run(t, k, nil, a, b, nil)
			simdtest.SameBits(t, want, g.run(t, k, workers(3), a, b, nil))
			one := g
			one.m = 1
			simdtest.SameBits(t, want[:g.n], one.run(t, k, nil, a, b, nil))
			g.unpackB = true
			simdtest.SameBits(t, want, g.run(t, k, workers(3), a, b, nil))
		}
	})
}

// TestGemmBlocking: nor do the sizes of the caches. The smallest buffer makes products of
// many passes in all directions.
func TestGemmBlocking(t *testing.T) {
	eachSet(t, func(t *testing.T, k *simd.Kernels) {
		for o := range 16 {
			for _, shape := range [][3]int{{60, 35, 1101}, {35, 60, 1101}, {300, 70, 35}, {70, 300, 35}} {
				g := gemmCase{m: shape[0], n: shape[1], k: shape[2], transA: o&1 != 0, transB: o&2 != 0,
					accumulate: o&4 != 0, bf16: o&8 != 0, unpackA: o%3 == 0, unpackB: o%5 == 0}
				rng := rand.New(rand.NewPCG(8, uint64(o)))
				a, b := newOperand(rng, g.m, g.k, 0, g.transA), newOperand(rng, g.k, g.n, 0, g.transB)
				c0 := make([]float32, g.m*g.n)
				simdtest.Fill(rng, c0)
				want := g.run(t, k, nil, a, b, c0)
				t.Run("", func(t *testing.T) {
					simd.SetBlocking(t, 1, 1, 1)
					simdtest.SameBits(t, want, g.run(t, k, workers(3), a, b, c0), fmt.Sprintf("smallest %+v", g))
					rows, cols, buf := simd.NewBlocking(2<<20, 64<<20)
					simd.SetBlocking(t, rows, cols, buf)
					simdtest.SameBits(t, want, g.run(t, k, workers(3), a, b, c0), fmt.Sprintf("large %+v", g))
				})
			}
		}
	})
}

func TestBlockingForCaches(t *testing.T) {
	for _, c := range [][5]int{
		{512 << 10, 32 << 20, 48, 112, 2 << 20},
		{0, -1, 48, 112, 1 << 19},
		{1, 1, 24, 48, 1 << 19},
		{1 << 20, 16 << 20, 96, 240, 1 << 20},
		{1 << 30, 1 << 30, 192, 480, 4 << 20},
	} {
		rows, cols, buf := simd.NewBlocking(c[0], c[1])
		require.Equal(t, [3]int{c[2], c[3], c[4]}, [3]int{rows, cols, buf}, "L2 %d, L3 %d", c[0], c[1])
	}
}

// from returns what is stored from element (r,c) of the operand on.
func (o operand) from(r, c int) []float32 {
	if o.trans {
		r, c = c, r
	}
	return o.x[r*o.stride+c:]
}

// TestGemmAllocations: the scratch memory is used again.
func TestGemmAllocations(t *testing.T) {
	eachSet(t, func(t *testing.T, k *simd.Kernels) {
		x, w, y := make([]float32, 64*96), make([]float32, 128*96), make([]float32, 64*128)
		run := func() {
			k.Gemm(nil, y, 128, 64, 128, 96, simd.Operand{Data: x, Stride: 96}, simd.Operand{Data: w, Stride: 96, Trans: true}, false)
		}
		half := func() {
			k.GemmBF16(nil, y, 128, 64, 128, 96, simd.Operand{Data: x, Stride: 96}, simd.Operand{Data: w, Stride: 96, Trans: true}, false)
		}
		for _, f := range []func(){run, half} {
			f()
			require.LessOrEqual(t, testing.AllocsPerRun(20, f), 1.0)
		}
	})
}

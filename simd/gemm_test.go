package simd_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

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
	if pad > 0 { // what lies between the rows must not be read
		for r := range max(0, o.rows-1) {
			for c := o.cols; c < o.stride; c++ {
				o.buf.X[r*o.stride+c] = float32(math.NaN())
			}
		}
	}
	return o
}

func (o operand) at(r, c int) float64 {
	if o.trans {
		r, c = c, r
	}
	return float64(o.buf.X[r*o.stride+c])
}

// simd returns the operand as Gemm takes it, read in place or by Unpack.
func (o operand) simd(unpack bool) simd.Operand {
	if !unpack {
		return simd.Operand{Data: o.buf.X, Stride: o.stride, Trans: o.trans}
	}
	return simd.Operand{Trans: o.trans, Unpack: func(dst []float32, row, col int) {
		if row < 0 || row >= o.rows || col < 0 || col+len(dst) > o.cols {
			panic(fmt.Sprintf("Unpack of %d at (%d,%d), the matrix is %d×%d", len(dst), row, col, o.rows, o.cols))
		}
		copy(dst, o.buf.X[row*o.stride+col:])
	}}
}

type gemmCase struct {
	m, n, k             int
	transA, transB      bool
	padA, padB, padC    int
	unpackA, unpackB    bool
	accumulate, seedNaN bool
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
		if g.accumulate {
			copy(c.X[i*ldc:i*ldc+g.n], c0[i*g.n:])
		}
	}
	k.Gemm(par, c.X, ldc, g.m, g.n, g.k, a.simd(g.unpackA), b.simd(g.unpackB), g.accumulate)
	c.Check(t)
	a.buf.Check(t)
	b.buf.Check(t)
	out := make([]float32, 0, g.m*g.n)
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
	for i := range g.m {
		for j := range g.n {
			var s, sa float64
			if g.accumulate {
				s = float64(c0[i*g.n+j])
				sa = math.Abs(s)
			}
			for p := range g.k {
				v := a.at(i, p) * b.at(p, j)
				s += v
				sa += math.Abs(v)
			}
			want[i*g.n+j], abs[i*g.n+j] = s, sa
		}
	}
	// A sum of k products and c, each operation rounded once (Higham 2002, §3.1).
	simdtest.NearAll(t, want, got, func(i int) float64 {
		return float64(g.k+2)*simdtest.Eps*abs[i] + 1e-37
	}, fmt.Sprintf("%+v", g))
}

func TestGemmShapes(t *testing.T) {
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
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
				}
			}
		}
	})
}

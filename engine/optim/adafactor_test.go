package optim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/internal/par"
	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/simd/simdtest"
)

// adafactor64 is Adafactor as the paper writes it (algorithms 4 and 5), with the sums of
// squares over rows and columns and the whole matrix of second moments.
type adafactor64 struct {
	rows, cols int
	w          []float64
	r, c, v    []float64 // sums of rows and columns; v of a vector
}

func (a *adafactor64) step(t int, g []float64, lr, decay float64) {
	beta := 1 - math.Pow(float64(t), -0.8)
	if a.r == nil {
		a.r, a.c, a.v = make([]float64, a.rows), make([]float64, a.cols), make([]float64, a.cols)
	}
	rowSum, colSum := make([]float64, a.rows), make([]float64, a.cols)
	for i := range a.rows {
		for j := range a.cols {
			sq := g[i*a.cols+j]*g[i*a.cols+j] + 1e-30
			rowSum[i] += sq
			colSum[j] += sq
		}
	}
	sumR := 0.0
	for i := range a.r {
		a.r[i] = beta*a.r[i] + (1-beta)*rowSum[i]
		sumR += a.r[i]
	}
	for j := range a.c {
		a.c[j] = beta*a.c[j] + (1-beta)*colSum[j]
		a.v[j] = beta*a.v[j] + (1-beta)*colSum[j] // of one row
	}
	u, rms := make([]float64, len(g)), 0.0
	for i := range a.rows {
		for j := range a.cols {
			v := a.r[i] * a.c[j] / sumR
			if a.rows == 1 {
				v = a.v[j]
			}
			k := i*a.cols + j
			u[k] = g[k] / math.Sqrt(v)
			rms += u[k] * u[k] / float64(len(g))
		}
	}
	for k := range a.w {
		a.w[k] -= lr * decay * a.w[k]
		a.w[k] -= lr * u[k] / math.Max(1, math.Sqrt(rms))
	}
}

// Ten steps of a matrix and of a vector, whose gradients differ by orders of magnitude from
// row to row and step to step, so that the clipping of the update works at some and not at others.
func TestAdafactorMatchesFloat64(t *testing.T) {
	for _, shape := range []Shape{{3, 4}, {1, 5}, {200, 130}, {130, 300}} {
		simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
			rng := rand.New(rand.NewPCG(1, uint64(shape.Rows)))
			n := shape.Rows * shape.Cols
			w, g := make([]float32, n), make([]float32, n)
			simdtest.Fill(rng, w)
			ref := &adafactor64{rows: shape.Rows, cols: shape.Cols, w: make([]float64, n)}
			for i, v := range w {
				ref.w[i] = float64(v)
			}
			opt, err := New("adafactor", k, Options{Decay: 0.1}, []Shape{shape})
			require.NoError(t, err)
			clipped := 0
			for step := range 10 {
				simdtest.Fill(rng, g)
				g64 := make([]float64, n)
				for i := range g {
					g[i] *= float32(math.Exp2(float64(i/shape.Cols%9 - 4 + step%5*2)))
					g64[i] = 0.5 * float64(g[i])
				}
				opt.Begin(step)
				opt.Step(serial, 0, Float32(w), g, 0.01, 0.5, true)
				before := append([]float64(nil), ref.w...)
				ref.step(step+1, g64, 0.01, 0.1)
				var moved float64
				for i := range before {
					moved += math.Pow((ref.w[i]-before[i]*(1-0.001))/0.01, 2) / float64(n)
				}
				if moved > 1-1e-9 {
					clipped++
				}
				// Each step adds a few roundings of w and of an update of about 0.01 whose
				// factors are sums of up to 300 squares.
				simdtest.NearAll(t, ref.w, w, func(i int) float64 {
					return float64(step+1) * simdtest.Eps * (4*math.Abs(ref.w[i]) + 0.01*20*float64(1+int(math.Sqrt(float64(n)))))
				}, fmt.Sprintf("%v step %d", shape, step))
			}
			require.Greater(t, clipped, 1)
			require.Less(t, clipped, 10)
		})
	}
}

func TestAdafactorIsTheSameForAnyWorkers(t *testing.T) {
	shapes := []Shape{{1000, 70}, {1, 70}, {7, 20000}}
	run := func(workers int) (all []float32) {
		opt, err := New("adafactor", simd.Best(), Options{}, shapes)
		require.NoError(t, err)
		rng := rand.New(rand.NewPCG(2, 2))
		for step := range 3 {
			opt.Begin(step)
			for i, s := range shapes {
				w, g := make([]float32, s.Rows*s.Cols), make([]float32, s.Rows*s.Cols)
				simdtest.Fill(rng, w)
				simdtest.Fill(rng, g)
				opt.Step(par.New(workers).For, i, Float32(w), g, 0.1, 1, false)
				all = append(all, w...)
			}
		}
		return all
	}
	want := run(1)
	for _, workers := range []int{2, 3, 7, 64} {
		simdtest.SameBits(t, want, run(workers), workers, " workers")
	}
}

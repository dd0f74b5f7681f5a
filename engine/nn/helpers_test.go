package nn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/internal/par"
	"github.com/guardcpu/guardcpu/engine/internal/ref"
	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/simd/simdtest"
)

// tolerance is how far a result may be from the reference, in units of the
// largest element of the reference.
const tolerance = 1e-5

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// eachSet runs f with every set of kernels and with 1, 2 and 7 workers. f checks its
// results and returns them; they must not depend on the workers by a single bit.
func eachSet(t *testing.T, f func(t *testing.T, c *Ctx) [][]float32) {
	t.Helper()
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		var first [][]float32
		for _, workers := range []int{1, 2, 7} {
			got := f(t, &Ctx{K: k, Par: par.New(workers)})
			if first == nil {
				first = got
			}
			require.Len(t, got, len(first))
			for i := range got {
				simdtest.SameBits(t, first[i], got[i], fmt.Sprintf("(result %d with %d workers)", i, workers))
			}
		}
	})
}

// near fails unless got is within tolerance of want, in units of want's largest element.
func near(t testing.TB, what string, want []float64, got []float32) {
	t.Helper()
	var scale float64
	for _, v := range want {
		scale = max(scale, math.Abs(v))
	}
	simdtest.NearAll(t, want, got, func(int) float64 { return tolerance * scale }, "of "+what)
}

// randMat returns a random matrix inside a larger one of NaNs.
func randMat(rng *rand.Rand, rows, cols int) Mat {
	whole := NewMat(rows+2, cols+5)
	for i := range whole.Data {
		whole.Data[i] = float32(math.NaN())
	}
	m := whole.View(1, rows, 2, cols)
	for r := range rows {
		for i := range m.Row(r) {
			m.Row(r)[i] = float32(rng.NormFloat64())
		}
	}
	return m
}

func zeroMat(rows, cols int) Mat {
	m := randMat(newRand(0), rows, cols)
	m.Zero()
	return m
}

func clone(m Mat) Mat {
	out := zeroMat(m.Rows, m.Cols)
	for r := range m.Rows {
		copy(out.Row(r), m.Row(r))
	}
	return out
}

// flat returns the elements of m, row after row.
func flat(m Mat) []float32 {
	var x []float32
	for r := range m.Rows {
		x = append(x, m.Row(r)...)
	}
	return x
}

func f64(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

func f64Mat(m Mat) []float64 { return f64(flat(m)) }

func refMat(m Mat) ref.Mat[float64] { return ref.Reshape(f64Mat(m), m.Cols) }

// newParam returns a random float32 parameter, scaled by 1/√cols if it is a matrix.
func newParam(rng *rand.Rand, name string, rows, cols int) *Param {
	p := &Param{Name: name, Rows: rows, Cols: cols, F32: make([]float32, rows*cols)}
	for i := range p.F32 {
		p.F32[i] = float32(rng.NormFloat64())
		if rows > 1 {
			p.F32[i] /= float32(math.Sqrt(float64(cols)))
		}
	}
	return p
}

// dot is the loss Σ coef∘y whose upstream gradient is coef.
func dot(y ref.Mat[complex128], coef []float64) complex128 {
	var sum complex128
	n := 0
	for _, row := range y {
		for _, v := range row {
			sum += v * complex(coef[n], 0)
			n++
		}
	}
	return sum
}

// plus returns x + y.
func plus(x, y []float64) []float64 {
	out := make([]float64, len(x))
	for i := range x {
		out[i] = x[i] + y[i]
	}
	return out
}

// formSink forms gradients from their factors, in float64.
type formSink struct {
	t     testing.TB
	grads map[*Param][]float64
	order []*Param // of the calls
}

func newFormSink(t testing.TB) *formSink { return &formSink{t: t, grads: map[*Param][]float64{}} }

// of returns p's gradient; the sink must have been called for it.
func (s *formSink) of(p *Param) []float32 {
	require.Contains(s.t, s.grads, p, p.Name)
	out := make([]float32, p.Len())
	for i, v := range s.grads[p] {
		out[i] = float32(v)
	}
	return out
}

func (s *formSink) call(p *Param) []float64 {
	s.order = append(s.order, p)
	if s.grads[p] == nil {
		s.grads[p] = make([]float64, p.Len())
	}
	return s.grads[p]
}

func (s *formSink) Linear(p *Param, dy, x Mat) {
	assert.Equal(s.t, []int{p.Rows, p.Cols, x.Rows}, []int{dy.Cols, x.Cols, dy.Rows}, p.Name)
	g := s.call(p)
	for t := range dy.Rows {
		for n, d := range dy.Row(t) {
			for k, v := range x.Row(t) {
				g[n*p.Cols+k] += float64(d) * float64(v)
			}
		}
	}
}

func (s *formSink) Gain(p *Param, dy, xhat Mat) {
	g := s.call(p)
	for t := range dy.Rows {
		for n, d := range dy.Row(t) {
			g[n] += float64(d) * float64(xhat.Row(t)[n])
		}
	}
}

func (s *formSink) Bias(p *Param, dy Mat) {
	g := s.call(p)
	for t := range dy.Rows {
		for n, d := range dy.Row(t) {
			g[n] += float64(d)
		}
	}
}

func (s *formSink) Rows(p *Param, ids []int32, dy Mat) {
	g := s.call(p)
	for t, id := range ids {
		for n, d := range dy.Row(t) {
			g[int(id)*p.Cols+n] += float64(d)
		}
	}
}

// generic is a context of the portable kernels on one worker, for panics.
func generic() *Ctx { return &Ctx{K: simd.All()[0]} }

// adapterSink also forms the gradients of adapters.
type adapterSink struct {
	*formSink
	c *Ctx
}

func (s adapterSink) Linear(p *Param, dy, x Mat) {
	s.formSink.Linear(p, dy, x)
	if p.Adapter != nil {
		AdapterBackward(s.c, p.Adapter, dy, x, s.formSink)
	}
}

func (s adapterSink) Rows(p *Param, ids []int32, dy Mat) {
	s.formSink.Rows(p, ids, dy)
	if p.Adapter != nil {
		AdapterRowsBackward(s.c, p.Adapter, ids, dy, s.formSink)
	}
}

func newAdapter(rng *rand.Rand, p *Param, rank int) *Adapter {
	return &Adapter{
		A:     newParam(rng, p.Name+".a", rank, p.Cols),
		B:     newParam(rng, p.Name+".b", p.Rows, rank),
		Scale: 1.5,
	}
}

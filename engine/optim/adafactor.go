package optim

import (
	"math"
	"sync"

	"github.com/guardcpu/guardcpu/simd"
)

// adafactor is Shazeer & Stern 2018 (arXiv:1804.04235v1), algorithms 4 and 5 with the
// learning rate as it is given (no relative step) and without a first moment. For a
// matrix [R,C], with t counted from 1 and β = 1 − t^(−0.8) (section 7.2):
//
//	r[i] = β·r[i] + (1−β)·(mean_j g[i,j]² + ε₁)
//	c[j] = β·c[j] + (1−β)·(mean_i g[i,j]² + ε₁)
//	u[i,j] = g[i,j]/√(r[i]·c[j]/mean(r))
//	w = w·(1 − lr·decay) − lr·u/max(1, rms(u)/d)
//
// A vector has its own second moments v in place of r·c/mean(r). ε₁ is added to the
// means, which is the same as to each square.
type adafactor struct {
	k      *simd.Kernels
	o      Options
	shapes []Shape
	r, c   [][]float32 // second moments of rows and columns; of a vector all in c
	beta   float64

	buf []float32 // sums of groups of rows
	row sync.Pool // a worker's *[]float32 for a row
}

const (
	adafactorEps  = 1e-30 // ε₁, section 9
	adafactorClip = 1     // d, section 9
	adafactorPow  = -0.8  // section 7.2
	// rowGroups is the largest number of groups of rows whose sums are apart.
	rowGroups = 64
)

func newAdafactor(k *simd.Kernels, o Options, shapes []Shape) Optimizer {
	a := &adafactor{k: k, o: o, shapes: shapes}
	a.row.New = func() any { return new([]float32) }
	for _, s := range shapes {
		var r []float32
		if s.Rows > 1 {
			r = make([]float32, s.Rows)
		}
		a.r, a.c = append(a.r, r), append(a.c, make([]float32, s.Cols))
	}
	return a
}

func (a *adafactor) Begin(t int) { a.beta = 1 - math.Pow(float64(t+1), adafactorPow) }

func (a *adafactor) Step(par simd.For, i int, w Weights, g []float32, lr, scale float64, decay bool) {
	s, r, c := a.shapes[i], a.r[i], a.c[i]
	if len(g) == 0 {
		return
	}
	squares, sums := a.squares(par, s, g)
	for j := range c {
		c[j] = a.moment(c[j], float64(sums[j])*scale*scale/float64(s.Rows))
	}
	// u[i,j] = g[i,j]·left[i]·right[j]
	left, right := []float64{scale}, make([]float32, s.Cols)
	for j, v := range c {
		right[j] = float32(1 / math.Sqrt(float64(v)))
	}
	if r != nil {
		mean := 0.0
		for i := range r {
			r[i] = a.moment(r[i], squares[i]*scale*scale/float64(s.Cols))
			mean += float64(r[i]) / float64(s.Rows)
		}
		left = make([]float64, s.Rows)
		for i, v := range r {
			left[i] = scale * math.Sqrt(mean/float64(v))
		}
	}
	a.rows(par, s, func(lo, hi int, u []float32) {
		for i := lo; i < hi; i++ {
			copy(u, g[i*s.Cols:])
			a.k.Mul(u, right)
			squares[i] = float64(a.k.Dot(u, u))
		}
	})
	var total float64
	for i, v := range squares {
		total += left[i] * left[i] * v
	}
	step := lr / math.Max(1, math.Sqrt(total/float64(len(g)))/adafactorClip)
	keep := float32(1)
	if decay {
		keep = float32(1 - lr*a.o.Decay)
	}
	a.rows(par, s, func(lo, hi int, u []float32) {
		w(lo*s.Cols, hi*s.Cols, func(w []float32) {
			for i := lo; i < hi; i++ {
				copy(u, g[i*s.Cols:])
				a.k.Mul(u, right)
				wi := w[(i-lo)*s.Cols:][:s.Cols]
				a.k.Scale(wi, keep)
				a.k.Axpy(wi, float32(-step*left[i]), u)
			}
		})
	})
}

func (a *adafactor) Moments(i int) []Moment {
	if a.r[i] == nil {
		return []Moment{{"c", a.c[i]}}
	}
	return []Moment{{"r", a.r[i]}, {"c", a.c[i]}}
}

// moment returns a second moment after one more mean of squares.
func (a *adafactor) moment(v float32, mean float64) float32 {
	return float32(a.beta*float64(v) + (1-a.beta)*(mean+adafactorEps))
}

// squares returns Σ_j g[i,j]² of every row and Σ_i g[i,j]² of every column. Groups of rows,
// which depend on the shape alone, have sums of columns of their own, added in order.
func (a *adafactor) squares(par simd.For, s Shape, g []float32) (rows []float64, cols []float32) {
	per := max(1, (1<<14)/s.Cols, (s.Rows+rowGroups-1)/rowGroups)
	groups := (s.Rows + per - 1) / per
	if n := groups * s.Cols; cap(a.buf) < n {
		a.buf = make([]float32, n)
	}
	sums := a.buf[:groups*s.Cols]
	rows = make([]float64, s.Rows)
	par(groups, func(k int) {
		u := a.scratch(s.Cols)
		defer a.row.Put(u)
		sum := sums[k*s.Cols : (k+1)*s.Cols]
		clear(sum)
		for i := k * per; i < min(s.Rows, (k+1)*per); i++ {
			gi := g[i*s.Cols : (i+1)*s.Cols]
			rows[i] = float64(a.k.Dot(gi, gi))
			copy(*u, gi)
			a.k.Mul(*u, gi)
			a.k.Add(sum, *u)
		}
	})
	cols = sums[:s.Cols]
	for k := 1; k < groups; k++ {
		a.k.Add(cols, sums[k*s.Cols:(k+1)*s.Cols])
	}
	return rows, cols
}

// rows calls f for rows [lo,hi) that together are all of a tensor's, with scratch of a row's length.
func (a *adafactor) rows(par simd.For, s Shape, f func(lo, hi int, u []float32)) {
	per := max(1, (1<<14)/s.Cols)
	par((s.Rows+per-1)/per, func(k int) {
		u := a.scratch(s.Cols)
		defer a.row.Put(u)
		f(k*per, min(s.Rows, (k+1)*per), *u)
	})
}

func (a *adafactor) scratch(n int) *[]float32 {
	u := a.row.Get().(*[]float32)
	if cap(*u) < n {
		*u = make([]float32, n)
	}
	*u = (*u)[:n]
	return u
}

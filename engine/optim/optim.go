// Package optim changes weights by their gradients: optimizers, learning rate
// schedules and gradient clipping. It knows slices of numbers, not models.
//
// Updates are elementwise, and sums are divided among workers by a tensor's shape
// alone, so the number of workers changes no bit of the result.
package optim

import (
	"fmt"
	"math"
	"strings"

	"github.com/guardcpu/guardcpu/simd"
)

// Options are the constants of an optimizer. Not every optimizer uses all of them.
type Options struct {
	Beta1    float64 // AdamW: decay of the first moment
	Beta2    float64 // AdamW: decay of the second moment
	Eps      float64 // AdamW: added to the root of the second moment
	Momentum float64 // SGD: 0 is plain gradient descent
	Decay    float64 // decoupled weight decay, a share of the learning rate
}

// Optimizer updates one tensor after the other.
type Optimizer interface {
	// Begin starts update t, counted from 0.
	Begin(t int)
	// Step moves w, which is tensor i, against its gradient g (first multiplied by
	// scale) with learning rate lr. decay says whether weight decay applies to it.
	// par divides the work. It asks w for every element once.
	Step(par simd.For, i int, w Weights, g []float32, lr, scale float64, decay bool)
	// Moments returns what it remembers of tensor i from update to update, as views that do not move.
	Moments(i int) []Moment
}

// Moment is one of the things an optimizer remembers of a tensor.
type Moment struct {
	Name   string // unique among those of a tensor
	Values []float32
}

// Weights gives elements [lo,hi) of a tensor to change, which may set them to other values, and
// keeps what it leaves there. It may be called by several workers at once, for different elements.
type Weights func(lo, hi int, change func(w []float32))

// Float32 returns weights that lie in memory as float32 numbers and are changed in place.
func Float32(w []float32) Weights {
	return func(lo, hi int, change func([]float32)) { change(w[lo:hi]) }
}

// Shape is that of a tensor; a vector has one row.
type Shape struct{ Rows, Cols int }

// Kind is a row of the table of optimizers.
type Kind struct {
	Name    string
	Doc     string
	Moments int // numbers kept for each parameter, at most
	New     func(k *simd.Kernels, o Options, shapes []Shape) Optimizer
}

// Optimizers lists the optimizers by name.
var Optimizers = []Kind{
	{"adamw", "Adam with decoupled weight decay; two float32 moments a parameter", 2, newAdamW},
	{"adafactor", "the second moment of a matrix as that of its rows and columns; no first moment, next to no memory", 0, newAdafactor},
	{"sgd", "gradient descent, with momentum if asked for", 1, newSGD},
}

// New returns the optimizer of that name for tensors of the given shapes, or an
// error that lists the known ones.
func New(name string, k *simd.Kernels, o Options, shapes []Shape) (Optimizer, error) {
	known := make([]string, len(Optimizers))
	for i, kind := range Optimizers {
		if kind.Name == name {
			return kind.New(k, o, shapes), nil
		}
		known[i] = kind.Name
	}
	return nil, fmt.Errorf("optim: optimizer %q is not known; there are %s", name, strings.Join(known, ", "))
}

// ClipScale returns the factor that brings a gradient of the given norm down to
// at most limit: min(1, limit/norm). A limit of 0 or less clips nothing.
func ClipScale(norm, limit float64) float64 {
	if limit <= 0 || norm <= limit {
		return 1
	}
	return limit / norm
}

func zeros(shapes []Shape) [][]float32 {
	out := make([][]float32, len(shapes))
	for i, s := range shapes {
		out[i] = make([]float32, s.Rows*s.Cols)
	}
	return out
}

// pieces runs f over pieces [lo,hi) of n elements, some microseconds of work each.
func pieces(par simd.For, n int, f func(lo, hi int)) {
	const piece = 1 << 14
	par((n+piece-1)/piece, func(i int) { f(i*piece, min(n, (i+1)*piece)) })
}

// adamW is Loshchilov & Hutter 2019 (arXiv:1711.05101v3, algorithm 2); the
// arithmetic is simd.Kernels.AdamW.
type adamW struct {
	k    *simd.Kernels
	o    Options
	m, v [][]float32
	step simd.AdamWStep
}

func newAdamW(k *simd.Kernels, o Options, shapes []Shape) Optimizer {
	return &adamW{k: k, o: o, m: zeros(shapes), v: zeros(shapes)}
}

func (a *adamW) Begin(t int) {
	a.step = simd.AdamWStep{
		Beta1: float32(a.o.Beta1), Beta2: float32(a.o.Beta2), Eps: float32(a.o.Eps),
		C1: float32(1 - math.Pow(a.o.Beta1, float64(t+1))),
		C2: float32(1 - math.Pow(a.o.Beta2, float64(t+1))),
	}
}

func (a *adamW) Step(par simd.For, i int, w Weights, g []float32, lr, scale float64, decay bool) {
	s := a.step
	s.LR, s.GradScale = float32(lr), float32(scale)
	if decay {
		s.Decay = float32(a.o.Decay)
	}
	m, v := a.m[i], a.v[i]
	pieces(par, len(g), func(lo, hi int) {
		w(lo, hi, func(w []float32) { a.k.AdamW(w, m[lo:hi], v[lo:hi], g[lo:hi], &s) })
	})
}

func (a *adamW) Moments(i int) []Moment { return []Moment{{"m", a.m[i]}, {"v", a.v[i]}} }

// sgd is w ← w·(1 - lr·decay) - lr·u with u = momentum·u + scale·g
// (Sutskever et al. 2013, as PyTorch writes it: no dampening, no Nesterov).
type sgd struct {
	k *simd.Kernels
	o Options
	u [][]float32 // nil without momentum
}

func newSGD(k *simd.Kernels, o Options, shapes []Shape) Optimizer {
	s := &sgd{k: k, o: o}
	if o.Momentum != 0 {
		s.u = zeros(shapes)
	}
	return s
}

func (s *sgd) Begin(int) {}

func (s *sgd) Step(par simd.For, i int, w Weights, g []float32, lr, scale float64, decay bool) {
	pieces(par, len(g), func(lo, hi int) {
		w(lo, hi, func(w []float32) {
			if decay && s.o.Decay != 0 {
				s.k.Scale(w, float32(1-lr*s.o.Decay))
			}
			if s.u == nil {
				s.k.Axpy(w, float32(-lr*scale), g[lo:hi])
				return
			}
			u := s.u[i][lo:hi]
			s.k.Scale(u, float32(s.o.Momentum))
			s.k.Axpy(u, float32(scale), g[lo:hi])
			s.k.Axpy(w, float32(-lr), u)
		})
	})
}

func (s *sgd) Moments(i int) []Moment {
	if s.u == nil {
		return nil
	}
	return []Moment{{"u", s.u[i]}}
}

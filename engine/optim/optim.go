// Package optim changes weights by their gradients: optimizers, learning rate
// schedules and gradient clipping. It knows slices of numbers, not models.
//
// Every update is elementwise, so how the elements are divided among workers
// changes no bit of the result.
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
	// Step moves w against its gradient g (first multiplied by scale) with learning
	// rate lr. Tensor i has the length given to the constructor; [lo,hi) are the
	// elements to update, so that workers may share a tensor. decay says
	// whether weight decay applies to it.
	Step(i, lo, hi int, w, g []float32, lr, scale float64, decay bool)
}

// Kind is a row of the table of optimizers.
type Kind struct {
	Name string
	Doc  string
	New  func(k *simd.Kernels, o Options, lens []int) Optimizer
}

// Optimizers lists the optimizers by name.
var Optimizers = []Kind{
	{"adamw", "Adam with decoupled weight decay; two float32 moments a parameter", newAdamW},
	{"sgd", "gradient descent, with momentum if asked for", newSGD},
}

// New returns the optimizer of that name for tensors of the given lengths, or an
// error that lists the known ones.
func New(name string, k *simd.Kernels, o Options, lens []int) (Optimizer, error) {
	known := make([]string, len(Optimizers))
	for i, kind := range Optimizers {
		if kind.Name == name {
			return kind.New(k, o, lens), nil
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

func zeros(lens []int) [][]float32 {
	out := make([][]float32, len(lens))
	for i, n := range lens {
		out[i] = make([]float32, n)
	}
	return out
}

// adamW is Loshchilov & Hutter 2019 (arXiv:1711.05101v3, algorithm 2); the
// arithmetic is simd.Kernels.AdamW.
type adamW struct {
	k    *simd.Kernels
	o    Options
	m, v [][]float32
	step simd.AdamWStep
}

func newAdamW(k *simd.Kernels, o Options, lens []int) Optimizer {
	return &adamW{k: k, o: o, m: zeros(lens), v: zeros(lens)}
}

func (a *adamW) Begin(t int) {
	a.step = simd.AdamWStep{
		Beta1: float32(a.o.Beta1), Beta2: float32(a.o.Beta2), Eps: float32(a.o.Eps),
		C1: float32(1 - math.Pow(a.o.Beta1, float64(t+1))),
		C2: float32(1 - math.Pow(a.o.Beta2, float64(t+1))),
	}
}

func (a *adamW) Step(i, lo, hi int, w, g []float32, lr, scale float64, decay bool) {
	s := a.step
	s.LR, s.GradScale = float32(lr), float32(scale)
	if decay {
		s.Decay = float32(a.o.Decay)
	}
	a.k.AdamW(w[lo:hi], a.m[i][lo:hi], a.v[i][lo:hi], g[lo:hi], &s)
}

// sgd is w ← w·(1 - lr·decay) - lr·u with u = momentum·u + scale·g
// (Sutskever et al. 2013, as PyTorch writes it: no dampening, no Nesterov).
type sgd struct {
	k *simd.Kernels
	o Options
	u [][]float32 // nil without momentum
}

func newSGD(k *simd.Kernels, o Options, lens []int) Optimizer {
	s := &sgd{k: k, o: o}
	if o.Momentum != 0 {
		s.u = zeros(lens)
	}
	return s
}

func (s *sgd) Begin(int) {}

func (s *sgd) Step(i, lo, hi int, w, g []float32, lr, scale float64, decay bool) {
	w, g = w[lo:hi], g[lo:hi]
	if decay && s.o.Decay != 0 {
		s.k.Scale(w, float32(1-lr*s.o.Decay))
	}
	if s.u == nil {
		s.k.Axpy(w, float32(-lr*scale), g)
		return
	}
	u := s.u[i][lo:hi]
	s.k.Scale(u, float32(s.o.Momentum))
	s.k.Axpy(u, float32(scale), g)
	s.k.Axpy(w, float32(-lr), u)
}

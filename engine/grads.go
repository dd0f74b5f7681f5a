package engine

import (
	"math"

	"github.com/guardcpu/guardcpu/engine/nn"
)

// Grads holds one float32 gradient for each trainable parameter of a model.
type Grads struct {
	ctx    *nn.Ctx
	params []*nn.Param
	of     map[*nn.Param]*grad
}

// grad is one gradient. Zero only marks it as stale, for the first product that would be
// added to zeros can be written in their place.
type grad struct {
	v     []float32
	stale bool // v stands for zeros, whatever it holds
}

// NewGrads returns zero gradients for what the model trains now.
func NewGrads(m *Model) *Grads {
	g := &Grads{ctx: m.Ctx, params: m.Trainable(), of: map[*nn.Param]*grad{}}
	for _, p := range g.params {
		g.of[p] = &grad{v: make([]float32, p.Len())}
	}
	return g
}

// gradsIn returns gradients of ps in memory, which it takes what it needs of and returns the rest.
func gradsIn(memory []float32, c *nn.Ctx, ps []*nn.Param) (*Grads, []float32) {
	g := &Grads{ctx: c, params: ps, of: map[*nn.Param]*grad{}}
	for _, p := range ps {
		n := p.Len()
		g.of[p], memory = &grad{v: memory[:n:n], stale: true}, memory[n:]
	}
	return g, memory
}

// Of returns the gradient of p, [Rows*Cols], or nil when p is not trained.
func (g *Grads) Of(p *nn.Param) []float32 {
	d := g.of[p]
	if d == nil {
		return nil
	}
	return d.clean(g.ctx)
}

// clean returns the gradient with its zeros written out.
func (d *grad) clean(c *nn.Ctx) []float32 {
	if d.stale {
		d.stale = false
		pieces(c, len(d.v), func(_, lo, hi int) { clear(d.v[lo:hi]) })
	}
	return d.v
}

// pieces runs f over pieces [lo,hi) of n elements, whose length is fixed so that
// partial results do not depend on the workers. i counts them.
func pieces(c *nn.Ctx, n int, f func(i, lo, hi int)) {
	c.Par.For((n+piece-1)/piece, func(i int) { f(i, i*piece, min(n, (i+1)*piece)) })
}

// piece is a length of which a pass over memory takes some microseconds.
const piece = 1 << 14

// Params returns the parameters that have a gradient, in the order of Model.Trainable.
func (g *Grads) Params() []*nn.Param { return g.params }

// Zero clears every gradient. Slices that Of returned before show it only after another Of.
func (g *Grads) Zero() {
	for _, d := range g.of {
		d.stale = true
	}
}

// Scale multiplies every gradient by a.
func (g *Grads) Scale(a float32) {
	for _, p := range g.params {
		v := g.Of(p)
		pieces(g.ctx, len(v), func(_, lo, hi int) { g.ctx.K.Scale(v[lo:hi], a) })
	}
}

// Norm returns √Σg² over all parameters, summed in float64 in a fixed order.
func (g *Grads) Norm() float64 {
	var sum float64
	for _, p := range g.params {
		sum += sumSquares(g.ctx, g.Of(p))
	}
	return math.Sqrt(sum)
}

// sumSquares returns Σx². Pieces of a fixed length are summed apart, and then
// their sums in order, so the result does not depend on the workers.
func sumSquares(c *nn.Ctx, x []float32) float64 {
	sums := make([]float64, (len(x)+piece-1)/piece)
	pieces(c, len(x), func(i, lo, hi int) { sums[i] = float64(c.K.Dot(x[lo:hi], x[lo:hi])) })
	var sum float64
	for _, s := range sums {
		sum += s
	}
	return sum
}

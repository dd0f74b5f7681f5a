package engine

import (
	"math"

	"github.com/guardcpu/guardcpu/engine/nn"
)

// Grads holds one float32 gradient for each trainable parameter of a model.
type Grads struct {
	ctx    *nn.Ctx
	params []*nn.Param
	of     map[*nn.Param][]float32
}

// NewGrads returns zero gradients for what the model trains now.
func NewGrads(m *Model) *Grads {
	g := &Grads{ctx: m.Ctx, params: m.Trainable(), of: map[*nn.Param][]float32{}}
	for _, p := range g.params {
		g.of[p] = make([]float32, p.Len())
	}
	return g
}

// Of returns the gradient of p, [Rows*Cols], or nil when p is not trained.
func (g *Grads) Of(p *nn.Param) []float32 { return g.of[p] }

// Params returns the parameters that have a gradient, in the order of Model.Trainable.
func (g *Grads) Params() []*nn.Param { return g.params }

// Zero clears every gradient.
func (g *Grads) Zero() {
	for _, p := range g.params {
		clear(g.of[p])
	}
}

// Scale multiplies every gradient by a.
func (g *Grads) Scale(a float32) {
	for _, p := range g.params {
		g.ctx.K.Scale(g.of[p], a)
	}
}

// Norm returns √Σg² over all parameters, summed in float64 in a fixed order.
func (g *Grads) Norm() float64 {
	var sum float64
	for _, p := range g.params {
		sum += sumSquares(g.ctx, g.of[p])
	}
	return math.Sqrt(sum)
}

// sumSquares returns Σx². Pieces of a fixed length are summed apart, and then
// their sums in order, so the result does not depend on the workers.
func sumSquares(c *nn.Ctx, x []float32) float64 {
	const piece = 1 << 14
	sums := make([]float64, (len(x)+piece-1)/piece)
	c.Par.For(len(sums), func(i int) {
		part := x[i*piece : min(len(x), (i+1)*piece)]
		sums[i] = float64(c.K.Dot(part, part))
	})
	var sum float64
	for _, s := range sums {
		sum += s
	}
	return sum
}

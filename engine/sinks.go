package engine

import (
	"math"
	"slices"

	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/simd"
)

// rowsSink is a sink that wants to know, before the calls it is for, which sample
// of the batch each row of the factors belongs to.
type rowsSink interface {
	beginRows(sampleOf []int32)
}

// doneSink is a sink that wants to know when all of a parameter's gradient of this
// backward pass has been delivered.
type doneSink interface {
	done(p *nn.Param)
}

// Accumulate is the sink that adds the gradient of every parameter to a Grads:
//
//	matrix dW += dyᵀ·x    gain dw += Σ_t dy_t∘x̂_t    bias db += Σ_t dy_t    rows dE[id_t] += dy_t
type Accumulate struct{ g *Grads }

// NewAccumulate returns a sink that adds to g.
func NewAccumulate(g *Grads) Accumulate { return Accumulate{g} }

// Linear adds dyᵀ·x.
func (a Accumulate) Linear(p *nn.Param, dy, x nn.Mat) { addLinear(a.g.ctx, a.g.of[p], dy, x) }

// Gain adds Σ_t dy_t∘x̂_t.
func (a Accumulate) Gain(p *nn.Param, dy, xhat nn.Mat) { addGain(a.g.ctx, a.g.Of(p), dy, xhat) }

// Bias adds Σ_t dy_t.
func (a Accumulate) Bias(p *nn.Param, dy nn.Mat) { addBias(a.g.ctx, a.g.Of(p), dy) }

// Rows adds dy_t to row ids[t].
func (a Accumulate) Rows(p *nn.Param, ids []int32, dy nn.Mat) { addRows(a.g.ctx, a.g.Of(p), ids, dy) }

func addLinear(c *nn.Ctx, dw *grad, dy, x nn.Mat) {
	if dy.Rows == 0 {
		return
	}
	c.Gemm(dw.v, x.Cols, dy.Cols, x.Cols, dy.Rows,
		simd.Operand{Data: dy.Data, Stride: dy.Stride, Trans: true},
		simd.Operand{Data: x.Data, Stride: x.Stride}, !dw.stale)
	dw.stale = false
}

// columns runs f over pieces of n columns; a sum over rows stays in one piece.
func columns(c *nn.Ctx, n int, f func(lo, hi int)) {
	const width = 128
	c.Par.For((n+width-1)/width, func(i int) { f(i*width, min(n, (i+1)*width)) })
}

func addGain(c *nn.Ctx, dw []float32, dy, xhat nn.Mat) {
	columns(c, dy.Cols, func(lo, hi int) {
		y := make([]float32, hi-lo)
		for t := range dy.Rows {
			copy(y, dy.Row(t)[lo:hi])
			c.K.Mul(y, xhat.Row(t)[lo:hi])
			c.K.Add(dw[lo:hi], y)
		}
	})
}

func addBias(c *nn.Ctx, db []float32, dy nn.Mat) {
	columns(c, dy.Cols, func(lo, hi int) {
		for t := range dy.Rows {
			c.K.Add(db[lo:hi], dy.Row(t)[lo:hi])
		}
	})
}

func addRows(c *nn.Ctx, de []float32, ids []int32, dy nn.Mat) {
	d := dy.Cols
	columns(c, d, func(lo, hi int) {
		for t, id := range ids {
			c.K.Add(de[int(id)*d+lo:int(id)*d+hi], dy.Row(t)[lo:hi])
		}
	})
}

// Dot is the sink that never forms a gradient: for every sample s of a packed batch
// it adds ⟨∂L/∂θ restricted to the sample's rows, G⟩ to Scores[s]. With a loss that
// is a sum over samples this is the inner product of the sample's gradient with G:
//
//	matrix Σ_t dy_t·(G·x_t)    gain Σ_t (dy_t∘x̂_t)·G    bias Σ_t dy_t·G    rows Σ_t dy_t·G[id_t]
type Dot struct {
	g        *Grads
	sampleOf []int32
	rows     []int32 // of the batch, which the factors belong to; nil: all
	Scores   []float64
	z        []float32
}

// NewDot returns a sink that scores a batch of n samples against g.
func NewDot(g *Grads, n int) *Dot { return &Dot{g: g, Scores: make([]float64, n)} }

// begin makes d score another batch, against g, adding to scores.
func (d *Dot) begin(g *Grads, scores []float64) { d.g, d.Scores, d.rows = g, scores, nil }

func (d *Dot) beginRows(sampleOf []int32) { d.sampleOf = sampleOf }

// SelectRows says which rows of the batch the next factors are of.
func (d *Dot) SelectRows(rows []int32) { d.rows = rows }

// each adds f(t) to the score of the sample that row t belongs to.
func (d *Dot) each(rows int, f func(t int) float32) {
	part := make([]float32, rows)
	d.g.ctx.Par.For((rows+63)/64, func(i int) {
		for t := i * 64; t < min(rows, (i+1)*64); t++ {
			part[t] = f(t)
		}
	})
	for t, v := range part {
		if d.rows != nil {
			t = int(d.rows[t])
		}
		d.Scores[d.sampleOf[t]] += float64(v)
	}
}

// Linear adds Σ_t dy_t·(G·x_t), or where that is the narrower product Σ_t (dy_t·G)·x_t.
func (d *Dot) Linear(p *nn.Param, dy, x nn.Mat) {
	c, g := d.g.ctx, simd.Operand{Data: d.g.Of(p), Stride: p.Cols}
	from, with := x, dy
	if g.Trans = p.Rows <= p.Cols; !g.Trans {
		from, with = dy, x
	}
	d.z = grow(d.z, with.Rows*with.Cols)
	z := nn.Mat{Rows: with.Rows, Cols: with.Cols, Stride: with.Cols, Data: d.z}
	c.Gemm(z.Data, z.Stride, z.Rows, z.Cols, from.Cols, simd.Operand{Data: from.Data, Stride: from.Stride}, g, false)
	d.each(z.Rows, func(t int) float32 { return c.K.Dot(with.Row(t), z.Row(t)) })
}

// Gain adds Σ_t (dy_t∘x̂_t)·G.
func (d *Dot) Gain(p *nn.Param, dy, xhat nn.Mat) {
	c, g := d.g.ctx, d.g.Of(p)
	d.z = grow(d.z, dy.Rows*dy.Cols)
	d.each(dy.Rows, func(t int) float32 {
		z := d.z[t*dy.Cols : (t+1)*dy.Cols]
		copy(z, dy.Row(t))
		c.K.Mul(z, xhat.Row(t))
		return c.K.Dot(z, g)
	})
}

// Bias adds Σ_t dy_t·G.
func (d *Dot) Bias(p *nn.Param, dy nn.Mat) {
	g := d.g.Of(p)
	d.each(dy.Rows, func(t int) float32 { return d.g.ctx.K.Dot(dy.Row(t), g) })
}

// Rows adds Σ_t dy_t·G[ids[t]].
func (d *Dot) Rows(p *nn.Param, ids []int32, dy nn.Mat) {
	g := d.g.Of(p)
	d.each(dy.Rows, func(t int) float32 {
		lo := int(ids[t]) * p.Cols
		return d.g.ctx.K.Dot(dy.Row(t), g[lo:lo+p.Cols])
	})
}

// Tee is the sink that hands everything to several others, which share one backward pass.
type Tee []nn.Sink

// Linear calls that of every sink.
func (t Tee) Linear(p *nn.Param, dy, x nn.Mat) {
	for _, s := range t {
		s.Linear(p, dy, x)
	}
}

// Gain calls that of every sink.
func (t Tee) Gain(p *nn.Param, dy, xhat nn.Mat) {
	for _, s := range t {
		s.Gain(p, dy, xhat)
	}
}

// Bias calls that of every sink.
func (t Tee) Bias(p *nn.Param, dy nn.Mat) {
	for _, s := range t {
		s.Bias(p, dy)
	}
}

// Rows calls that of every sink.
func (t Tee) Rows(p *nn.Param, ids []int32, dy nn.Mat) {
	for _, s := range t {
		s.Rows(p, ids, dy)
	}
}

func (t Tee) beginRows(sampleOf []int32) {
	for _, s := range t {
		if s, ok := s.(rowsSink); ok {
			s.beginRows(sampleOf)
		}
	}
}

// SelectRows calls that of every sink that has one.
func (t Tee) SelectRows(rows []int32) {
	for _, s := range t {
		nn.SelectRows(s, rows)
	}
}

func (t Tee) done(p *nn.Param) {
	for _, s := range t {
		if s, ok := s.(doneSink); ok {
			s.done(p)
		}
	}
}

// perTensor forms one parameter's gradient at a time and hands it over when it is
// complete, so that no more than a layer's gradients, and those of a tied embedding, are
// alive at once.
type perTensor struct {
	ctx  *nn.Ctx
	open map[*nn.Param]*grad
	free [][]float32 // memory of gradients that were taken
	take func(p *nn.Param, g []float32)
}

func newPerTensor(c *nn.Ctx, take func(p *nn.Param, g []float32)) *perTensor {
	return &perTensor{ctx: c, open: map[*nn.Param]*grad{}, take: take}
}

// grad returns the gradient of p so far, in memory that may have served another one.
func (s *perTensor) grad(p *nn.Param) *grad {
	d := s.open[p]
	if d == nil {
		d = &grad{v: s.memory(p.Len()), stale: true}
		s.open[p] = d
	}
	return d
}

// memory returns n numbers of any value: what a complete gradient of that length had, or new ones.
func (s *perTensor) memory(n int) []float32 {
	for i, v := range s.free {
		if len(v) == n {
			s.free = slices.Delete(s.free, i, i+1)
			return v
		}
	}
	return make([]float32, n)
}

func (s *perTensor) Linear(p *nn.Param, dy, x nn.Mat)  { addLinear(s.ctx, s.grad(p), dy, x) }
func (s *perTensor) Gain(p *nn.Param, dy, xhat nn.Mat) { addGain(s.ctx, s.clean(p), dy, xhat) }
func (s *perTensor) Bias(p *nn.Param, dy nn.Mat)       { addBias(s.ctx, s.clean(p), dy) }
func (s *perTensor) Rows(p *nn.Param, ids []int32, dy nn.Mat) {
	addRows(s.ctx, s.clean(p), ids, dy)
}

func (s *perTensor) clean(p *nn.Param) []float32 { return s.grad(p).clean(s.ctx) }

// done hands over the gradient of p: zeros where nothing was delivered, as of an expert without rows.
func (s *perTensor) done(p *nn.Param) {
	d := s.grad(p)
	s.take(p, d.clean(s.ctx))
	s.free = append(s.free, d.v)
	delete(s.open, p)
}

// drop forgets what an unfinished pass has delivered.
func (s *perTensor) drop() {
	for _, d := range s.open {
		s.free = append(s.free, d.v)
	}
	clear(s.open)
}

// Norm is the sink that measures the gradient of one backward pass, tensor by tensor.
type Norm struct {
	*perTensor
	squares map[*nn.Param]float64
	params  []*nn.Param
}

// NewNorm returns a sink that measures what the model trains now.
func NewNorm(m *Model) *Norm {
	n := &Norm{squares: map[*nn.Param]float64{}, params: m.Trainable()}
	n.perTensor = newPerTensor(m.Ctx, func(p *nn.Param, g []float32) { n.squares[p] = sumSquares(m.Ctx, g) })
	return n
}

// Of returns the L2 norm of one parameter's gradient.
func (n *Norm) Of(p *nn.Param) float64 { return math.Sqrt(n.squares[p]) }

// Total returns the L2 norm of the whole gradient.
func (n *Norm) Total() float64 {
	var sum float64
	for _, p := range n.params {
		sum += n.squares[p]
	}
	return math.Sqrt(sum)
}

// Update is the sink that applies a step of the trainer's optimizer to each tensor as soon as its
// gradient is complete, and drops the gradient. The whole batch must be one
// backward pass, and gradients are not clipped, for their norm is not known in time. After
// a gradient that is not finite, nothing is applied any more.
type Update struct {
	*Norm
	tr      *Trainer
	bad     *nn.Param // whose gradient is not finite
	applied bool      // to a tensor at least
}

// NewUpdate returns a sink for steps of tr, which it does not count.
func NewUpdate(tr *Trainer) *Update {
	u := &Update{Norm: NewNorm(tr.m), tr: tr}
	measure := u.take
	u.take = func(p *nn.Param, g []float32) {
		measure(p, g)
		if u.bad == nil && !finite(u.squares[p]) {
			u.bad = p
		}
		if u.bad == nil {
			tr.apply(p, g, tr.rate(tr.step), 1)
			u.applied = true
		}
	}
	return u
}

// Begin makes the sink ready for the next step of the trainer, in the memory of the one before.
func (u *Update) Begin() {
	u.drop()
	clear(u.squares)
	u.bad, u.applied = nil, false
	u.tr.opt.Begin(u.tr.step)
}

// route passes on the gradients of trainable parameters only, and turns the
// gradient of an adapted matrix into those of its adapter: it is the LoRA sink, and
// every other sink stands behind it.
type route struct {
	ctx *nn.Ctx
	to  nn.Sink
}

func (r *route) Linear(p *nn.Param, dy, x nn.Mat) {
	if p.Trainable {
		r.to.Linear(p, dy, x)
	}
	if p.Adapter != nil {
		nn.AdapterBackward(r.ctx, p.Adapter, dy, x, r.to)
	}
}

func (r *route) Gain(p *nn.Param, dy, xhat nn.Mat) {
	if p.Trainable {
		r.to.Gain(p, dy, xhat)
	}
}

func (r *route) Bias(p *nn.Param, dy nn.Mat) {
	if p.Trainable {
		r.to.Bias(p, dy)
	}
}

func (r *route) Rows(p *nn.Param, ids []int32, dy nn.Mat) {
	if p.Trainable {
		r.to.Rows(p, ids, dy)
	}
	if p.Adapter != nil {
		nn.AdapterRowsBackward(r.ctx, p.Adapter, ids, dy, r.to)
	}
}

func (r *route) beginRows(sampleOf []int32) {
	if s, ok := r.to.(rowsSink); ok {
		s.beginRows(sampleOf)
	}
}

func (r *route) SelectRows(rows []int32) { nn.SelectRows(r.to, rows) }

func (r *route) done(ps ...*nn.Param) {
	s, ok := r.to.(doneSink)
	if !ok {
		return
	}
	for _, p := range ps {
		if p == nil {
			continue
		}
		if p.Adapter != nil {
			s.done(p.Adapter.B)
			s.done(p.Adapter.A)
		}
		if p.Trainable {
			s.done(p)
		}
	}
}

// grow returns a slice of length n, with the memory of s where it is enough.
func grow(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n)
	}
	return s[:n]
}

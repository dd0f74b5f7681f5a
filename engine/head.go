package engine

import (
	"github.com/guardcpu/guardcpu/engine/nn"
)

// headState is the memory of the final norm and the output matrix.
type headState struct {
	x, y, dy, dx, logits []float32
	norm                 nn.NormState
}

// headFloats bounds the logits that are alive at once: 64 MiB, or 32 rows of a vocabulary beyond 512 Ki.
const headFloats = 16 << 20

// Chunk is some of the rows a loss was asked for, with their logits.
type Chunk struct {
	First  int    // Rows[i] is element First+i of the rows asked for
	Rows   []int  // rows of the trace
	Logits nn.Mat // [len(Rows), V]; a LossFunc overwrites it by dloss/dlogits
	Ctx    *nn.Ctx

	losses []float64
}

// LossFunc computes the loss of a chunk's rows from their logits.
type LossFunc func(c *Chunk)

// Each calls f for every row of the chunk, in parallel: i counts from the first of the
// rows asked for, and the result is that row's loss.
func (c *Chunk) Each(f func(i int, logits []float32) float64) {
	c.Ctx.Par.For(len(c.Rows), func(i int) {
		c.losses[c.First+i] = f(c.First+i, c.Logits.Row(i))
	})
}

// runHead computes logits and losses of the given rows in chunks, and with a sink
// the gradients of the output matrix and the final norm; dh receives the
// gradient of the last block's output.
func (t *Trace) runHead(rows []int, f LossFunc, to *route, dh nn.Mat) []float64 {
	m, cfg, st := t.m, &t.m.Config, &t.head
	c, d, v := m.Ctx, cfg.DModel, cfg.NVocab
	losses := make([]float64, len(rows))
	size := max(32, min(4096, headFloats/v))
	last := t.h[len(t.h)-1]
	for lo := 0; lo < len(rows); lo += size {
		chunk := rows[lo:min(len(rows), lo+size)]
		n := len(chunk)
		mat := func(buf *[]float32, cols int) nn.Mat {
			*buf = grow(*buf, n*cols)
			return nn.Mat{Rows: n, Cols: cols, Stride: cols, Data: *buf}
		}
		x, y, logits := mat(&st.x, d), mat(&st.y, d), mat(&st.logits, v)
		c.Par.For(n, func(i int) { copy(x.Row(i), last.Row(chunk[i])) })
		m.finalNorm(c, y, x, &st.norm)
		slope := m.output(c, logits, y, to != nil)
		f(&Chunk{First: lo, Rows: chunk, Logits: logits, Ctx: c, losses: losses})
		if to == nil {
			continue
		}
		sampleOf := make([]int32, n)
		for i, r := range chunk {
			sampleOf[i] = t.sampleOf[r]
		}
		to.beginRows(sampleOf)
		if slope.Data != nil { // logits = c·tanh(z/c)
			c.K.Mul(logits.Data, slope.Data)
		}
		dy, dx := mat(&st.dy, d), mat(&st.dx, d)
		nn.BiasBackward(m.w.outputBias, logits, to)
		dy.Zero()
		nn.LinearBackward(c, dy, logits, y, m.w.output, to)
		dx.Zero()
		nn.NormBackward(c, cfg.Norm, dx, dy, x, m.w.outNorm, m.w.outNormBias, &st.norm, to)
		for i, r := range chunk {
			copy(dh.Row(r), dx.Row(i))
		}
	}
	return losses
}

// headDone tells the sink that runHead has delivered all it will.
func (m *Model) headDone(to *route) {
	to.done(m.w.outputBias, m.w.outNorm, m.w.outNormBias)
	if !m.Config.Tied {
		to.done(m.w.output)
	}
}

// finalNorm sets y to the normalised x; st is what its backward needs.
func (m *Model) finalNorm(c *nn.Ctx, y, x nn.Mat, st *nn.NormState) {
	nn.Norm(c, m.Config.Norm, y, x, m.w.outNorm, m.w.outNormBias, m.Config.Eps, st)
}

// output sets the logits z of normalised hidden states, or c·tanh(z/c) where the model bounds them; it
// returns 1 − tanh²(z/c) if slopes are asked for, without Data where there is no bound.
func (m *Model) output(c *nn.Ctx, logits, y nn.Mat, slopes bool) (slope nn.Mat) {
	nn.Linear(c, logits, y, m.w.output)
	nn.AddBias(c, logits, m.w.outputBias)
	if m.Config.LogitCap > 0 {
		if slopes {
			slope = nn.NewMat(logits.Rows, logits.Cols)
		}
		nn.Softcap(c, logits, slope, m.Config.LogitCap)
	}
	return slope
}

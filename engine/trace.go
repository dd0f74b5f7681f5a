package engine

import (
	"slices"

	"github.com/guardcpu/guardcpu/engine/nn"
)

// Trace runs packed batches forwards, and backwards into a gradient sink.
//
// A batch is a concatenation of samples without padding; attention is causal inside
// each sample. Forward keeps the input of every block and, for as many of the last blocks
// as Keep allows, what is inside; Backward computes the inside of the others again.
type Trace struct {
	// Keep is how many bytes the insides of blocks may take, NewTrace's value DefaultKeep;
	// one block's are always there. The results are the same bits. Set it before Forward.
	Keep int
	// Stop, if not nil, is asked before every block. Once it says so, what Forward and Backward
	// leave and return has no meaning.
	Stop func() bool

	m        *Model
	samples  []Sample
	ids      []int32
	pos      []int32          // position of each row in its sample
	sampleOf []int32          // sample of each row
	segs     []nn.Segment     // one for each sample
	stays    bool             // the weights of the blocks stay in memory (see Model.LimitWeights)
	lo       int              // the first of the blocks that the trace runs, mostly 0 to L-1
	h        []nn.Mat         // h[i] is the input of block lo+i; the last the output of the last
	states   []*nn.BlockState // of the last blocks; the last state serves the others too
	room     int              // rows that each of them may hold, at least those of the batch
	holds    []int            // the block whose values a state holds
	bufs     [][]float32
	head     headState
}

// DefaultKeep is what a trace keeps for its backward pass: all of a model of 110M
// parameters and 512 tokens, little beside the weights of one that is much larger.
const DefaultKeep = 320 << 20

// NewTrace returns an empty trace of m. It keeps its memory from batch to batch.
func (m *Model) NewTrace() *Trace { return &Trace{m: m, Keep: DefaultKeep} }

// Target is a prediction that counts: the logits of trace row Row predict Token.
type Target struct {
	Sample, Row int
	Token       int32
}

// Targets returns the masked positions of the batch, sample by sample, in order.
func (t *Trace) Targets() []Target {
	var out []Target
	for s, seg := range t.segs {
		for i := 1; i < seg.N; i++ {
			if t.samples[s].Mask[i] {
				out = append(out, Target{s, seg.Start + i - 1, t.ids[seg.Start+i]})
			}
		}
	}
	return out
}

// Start returns the first row of a sample; row Start(s)+i holds its token i.
func (t *Trace) Start(sample int) int { return t.segs[sample].Start }

// NRows returns the number of rows of the batch.
func (t *Trace) NRows() int { return len(t.ids) }

// window returns a view of the trace in which samples [lo,hi) of the batch are all there are. Its rows are
// those of the batch.
func (t *Trace) window(lo, hi int) *Trace {
	w := *t
	w.samples, w.segs = t.samples[lo:hi], t.segs[lo:hi]
	return &w
}

// pack lays the samples one after the other.
func (t *Trace) pack(samples []Sample) {
	if err := t.m.check(samples); err != nil {
		panic(err.Error())
	}
	t.samples = samples
	t.ids, t.pos, t.sampleOf, t.segs = t.ids[:0], t.pos[:0], t.sampleOf[:0], t.segs[:0]
	for s, smp := range samples {
		t.segs = append(t.segs, nn.Segment{Start: len(t.ids), N: len(smp.IDs)})
		for i, id := range smp.IDs {
			t.ids = append(t.ids, id)
			t.pos = append(t.pos, int32(i))
			t.sampleOf = append(t.sampleOf, int32(s))
		}
	}
}

// mat returns buffer i as a rows × cols matrix, growing it where needed.
func (t *Trace) mat(i, rows, cols int) nn.Mat {
	for len(t.bufs) <= i {
		t.bufs = append(t.bufs, nil)
	}
	t.bufs[i] = grow(t.bufs[i], rows*cols)
	return nn.Mat{Rows: rows, Cols: cols, Stride: cols, Data: t.bufs[i]}
}

// span says that the trace runs blocks [lo,hi) on the batch; without keepInputs, two buffers
// serve all of them and only the last output remains. The insides may take keep bytes.
func (t *Trace) span(lo, hi int, keepInputs bool, keep int) {
	t.lo, t.h = lo, t.h[:0]
	for i := range hi - lo + 1 {
		if !keepInputs {
			i %= 2
		}
		t.h = append(t.h, t.mat(i, len(t.ids), t.m.Config.DModel))
	}
	t.setStates(keep, hi-lo)
}

// setStates makes one state for each of the last of n blocks whose insides fit into keep
// bytes, at least one. The memory of a state only grows, so what counts is the largest batch
// that the states have served. One of at most half its rows begins anew if more blocks fit then.
func (t *Trace) setStates(keep, n int) {
	cfg, rows := &t.m.Config, len(t.ids)
	fit := func(rows int) int { return cfg.kept(n, keep, rows) }
	if rows > t.room || 2*rows <= t.room && fit(rows) > fit(t.room) {
		t.states, t.room = nil, rows
	}
	n = fit(t.room)
	for len(t.states) < n {
		t.states = append(t.states, nn.NewBlockState(cfg.BlockConfig, 0))
	}
	t.states = slices.Delete(t.states, n, len(t.states)) // which lets go of them
	t.holds = slices.Repeat([]int{-1}, n)
}

// state returns the index of the state that block lo+i uses.
func (t *Trace) state(i int) int { return min(len(t.states)-1, len(t.h)-2-i) }

// Forward computes the blocks for a batch of samples. It panics on an empty sample, a
// mask of another length, and a token that the model has not.
func (t *Trace) Forward(samples []Sample) { t.forward(samples, true) }

// forward runs all blocks; without keepInputs only the last output remains.
func (t *Trace) forward(samples []Sample, keepInputs bool) {
	t.pack(samples)
	m, keep := t.m, t.Keep
	if !keepInputs {
		keep = 0
	}
	t.span(0, m.Config.NLayers, keepInputs, keep)
	m.embed(m.Ctx, t.h[0], t.ids, t.pos)
	m.leaveEmbed()
	t.runBlocks(true)
}

// runBlocks runs the blocks of the span; without output, of the last only what its Backward needs.
func (t *Trace) runBlocks(output bool) {
	m, cfg := t.m, &t.m.Config
	for i := range len(t.h) - 1 {
		if t.stopped() {
			return
		}
		b, s := &m.w.blocks[t.lo+i], t.state(i)
		t.want(i + 1)
		if output || i < len(t.h)-2 {
			b.Forward(m.Ctx, &cfg.BlockConfig, t.states[s], t.h[i+1], t.h[i], t.pos, t.segs)
		} else {
			b.Inside(m.Ctx, &cfg.BlockConfig, t.states[s], t.h[i], t.pos, t.segs)
		}
		t.holds[s] = i
		t.leave(i)
	}
}

func (t *Trace) stopped() bool { return t.Stop != nil && t.Stop() }

// want and leave tell the model that block lo+i is used next, or has been used.
func (t *Trace) want(i int) {
	if !t.stays && i >= 0 && i < len(t.h)-1 {
		t.m.wantBlock(t.lo + i)
	}
}

func (t *Trace) leave(i int) {
	if !t.stays {
		t.m.leaveBlock(t.lo + i)
	}
}

// Backward takes the loss that f computes from the logits of the given rows
// (distinct, in any order) and delivers the gradients of all trainable parameters
// to s. It returns the loss of each row, as f set it. Rows without a loss cost no logits.
func (t *Trace) Backward(rows []int, f LossFunc, s nn.Sink) (losses []float64) {
	_ = t.backward(s, func(to *route, dh nn.Mat) error {
		losses = t.runHead(rows, f, to, dh)
		return nil
	})
	return losses
}

// backward delivers the gradients of what head computes by runHead, which may be called several times
// for different rows. On head's error, which it returns, no parameter's gradient is complete.
func (t *Trace) backward(s nn.Sink, head func(to *route, dh nn.Mat) error) error {
	m := t.m
	to := &route{ctx: m.Ctx, to: s}
	dh := t.gradient()
	dh.Zero()
	if err := head(to, dh); err != nil {
		return err
	}
	m.headDone(to)
	m.leaveOutput()
	dh = t.blocksBackward(dh, to)
	m.embedBackward(m.Ctx, dh, t.ids, t.pos, to)
	return nil
}

// gradient returns memory for the gradient of the last output.
func (t *Trace) gradient() nn.Mat { return t.mat(len(t.h), len(t.ids), t.m.Config.DModel) }

// blocksBackward returns the gradient of the first input for that of the last output, dh, which
// gradient returned and which is overwritten.
func (t *Trace) blocksBackward(dh nn.Mat, to *route) nn.Mat {
	m, cfg := t.m, &t.m.Config
	to.beginRows(t.sampleOf)
	dx := t.mat(len(t.h)+1, len(t.ids), cfg.DModel)
	for i := len(t.h) - 2; i >= 0; i-- {
		if t.stopped() {
			return dh
		}
		b, s := &m.w.blocks[t.lo+i], t.state(i)
		t.want(i - 1)
		if t.holds[s] != i {
			b.Inside(m.Ctx, &cfg.BlockConfig, t.states[s], t.h[i], t.pos, t.segs)
			t.holds[s] = i
		}
		b.Backward(m.Ctx, &cfg.BlockConfig, t.states[s], dx, dh, t.h[i], t.pos, t.segs, to)
		to.done(b.Params()...)
		t.leave(i)
		dh, dx = dx, dh
	}
	return dh
}

// Losses computes f for the given rows without a gradient; f may leave the logits as they are.
func (t *Trace) Losses(rows []int, f LossFunc) []float64 {
	losses := t.runHead(rows, f, nil, nn.Mat{})
	t.m.leaveOutput()
	return losses
}

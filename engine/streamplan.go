package engine

import "github.com/guardcpu/guardcpu/engine/nn"

// Buffer is a part of the memory that some work takes.
type Buffer struct {
	Name  string
	Bytes uint64
}

// StreamStage is what one stage of a stream does.
type StreamStage struct {
	Name    string // "forward, blocks 0 to 3"
	Flops   float64
	Weights uint64 // bytes of the file that are read, and in memory if they do not stay
	Read    uint64 // bytes of spills
	Written uint64
}

// StreamPlan is what a stream takes.
type StreamPlan struct {
	Stages  []StreamStage
	Buffers []Buffer // in memory besides the weights
	Weights uint64   // bytes of weights in memory at most, when each stage gives back what it has used
	Spill   uint64   // bytes of spills at most at once
}

// PlanStream says what Stream takes for the batches.
func (m *Model) PlanStream(batches []StreamBatch, o StreamOptions) *StreamPlan {
	c, groups := &m.Config, len(o.Shares)
	var most, all BatchSize
	for _, b := range batches {
		size := Size(b.Samples)
		most, all = most.Max(size), all.Add(size)
	}
	rows := most.Rows
	boundary := uint64(all.Rows * c.DModel * o.Spill.Bytes())
	plan := &StreamPlan{}
	gradient, blocks := 0, 0
	held := map[string]uint64{}
	for _, st := range m.streamStages(o.Blocks) {
		x := StreamStage{Name: st.String(), Weights: m.stageWeights(st, rows)}
		plan.Weights = max(plan.Weights, x.Weights)
		for _, b := range batches {
			x.Flops += batchFlops(st, b, groups)
		}
		if st.lo > 0 || st.kind == stageHead {
			x.Read += boundary
		}
		if st.kind == stageBackward || st.kind == stageEmbedding {
			x.Read += boundary
		}
		if st.write != "" {
			held[st.write], x.Written = boundary, boundary
		}
		if st.kind == stageHead && m.tiedGradient() {
			for _, p := range trained(m.w.embed) {
				held[tiedSpill] += uint64(4 * groups * p.Len())
			}
			x.Written += held[tiedSpill]
		}
		if st.kind == stageEmbedding {
			x.Read += held[tiedSpill]
		}
		sum := uint64(0)
		for _, n := range held {
			sum += n
		}
		plan.Spill = max(plan.Spill, sum)
		for _, name := range st.drop {
			delete(held, name)
		}
		gradient, blocks = max(gradient, totalLen(m.gradientsOf(st))), max(blocks, st.hi-st.lo)
		plan.Stages = append(plan.Stages, x)
	}
	plan.Buffers = append([]Buffer{{"gradients", uint64(4 * groups * gradient)}}, m.TraceBuffers(rows, most.Targets, blocks, blocks, groups)...)
	if o.Dir == "" {
		plan.Buffers = append(plan.Buffers, Buffer{"boundaries", plan.Spill})
	} else {
		plan.Buffers = append(plan.Buffers, Buffer{"spill", uint64(max(rows*c.DModel*o.Spill.Bytes(), 4*tiedSection))})
	}
	return plan
}

// stageWeights returns the bytes of the file that a stage reads.
func (m *Model) stageWeights(st stage, rows int) (n uint64) {
	for l := st.lo; l < st.hi; l++ {
		n += m.mapped(m.w.blocks[l].Params()...)
	}
	switch {
	case st.kind == stageHead, st.kind == stageEmbedding && m.tiedGradient():
		n += m.mapped(m.w.output)
	case st.lo == 0: // of the embedding, what a batch looks at, and what the system maps around it
		n += min(m.mapped(m.w.embed, m.w.positions), uint64(rows)*faultAround)
	}
	return n
}

// faultAround is how many bytes Linux maps when one is looked at (fault_around_bytes).
const faultAround = 64 << 10

// TraceBuffers says what a trace holds for batches of that many rows, of which targets have a loss, over
// some blocks, of which it keeps the insides of kept; groups is the number of Dot sinks.
func (m *Model) TraceBuffers(rows, targets, blocks, kept, groups int) []Buffer {
	c := &m.Config
	n := min(targets, max(32, min(4096, headFloats/c.NVocab)))
	logits := c.NVocab
	if c.LogitCap > 0 {
		logits *= 2
	}
	state := c.StateBytes(rows)
	return []Buffer{
		{"activations", uint64(4*rows*c.DModel*(blocks+3) + kept*state)},
		{"backward pass", uint64(state + 4*rows*max(c.DModel, c.NHeads*c.DHead)*groups)},
		{"logits", uint64(4 * n * (logits + 4*c.DModel))},
	}
}

// BlockWeights returns the weights of the blocks that a token is multiplied with, and OutputWeights those of the output.
func (m *Model) BlockWeights() float64 { return m.blockWork(0, m.Config.NLayers) }

// OutputWeights returns the weights of the output matrix.
func (m *Model) OutputWeights() int { return m.w.output.Len() }

// MappedWeights returns the bytes of the file that the computation reads, and HeldWeights those of weights in memory.
func (m *Model) MappedWeights() uint64 { return m.mapped(m.params...) }

// HeldWeights returns the bytes of float32 weights, which are in memory in any case.
func (m *Model) HeldWeights() (n uint64) {
	hold := func(p *nn.Param) { n += uint64(4 * len(p.F32)) }
	for _, p := range m.params {
		hold(p)
		if p.Adapter != nil {
			hold(p.Adapter.A)
			hold(p.Adapter.B)
		}
	}
	return n
}

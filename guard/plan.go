package guard

import (
	"fmt"

	"github.com/guardcpu/guardcpu/engine"
)

// AttributionPlan is how Attribute works within its memory, and what that takes.
type AttributionPlan struct {
	// ChunkBlocks is of how many blocks at most the gradient is in memory at once, and Chunks are these blocks,
	// from the first; 0 and none where the gradient of the whole model is.
	ChunkBlocks int
	Chunks      [][2]int
	BatchTokens int
	Groups      int // of retain samples, each with a gradient of its own
	Retain      int // retain samples taken
	Forget      int
	// Buffers are what is in memory at most, and Peak is their sum. Smallest is the least Peak that any
	// plan has for the same samples, groups and spill.
	Buffers  []engine.Buffer
	Peak     uint64
	Smallest uint64
	// WeightLimit is how much of the weights may be in memory (engine.Model.LimitWeights); 0: all.
	WeightLimit uint64
	Spill       uint64 // bytes of files at most at once
	Phases      []AttributionPhase
}

// AttributionPhase is a part of the work: the two passes of attribution with the whole gradient, or a stage of a stream.
type AttributionPhase struct {
	Name    string
	Flops   float64 // of products with weights
	Weights uint64  // bytes of weights that are read from the file, once
	Read    uint64  // bytes of spills
	Written uint64
}

// Streamed says whether the gradient of the whole model is never in memory.
func (p *AttributionPlan) Streamed() bool { return p.ChunkBlocks > 0 }

// Heap returns the bytes of Peak that are not pages of files.
func (p *AttributionPlan) Heap() uint64 {
	return p.Peak - programBytes - p.Buffers[len(p.Buffers)-1].Bytes
}

// Flops returns those of all phases.
func (p *AttributionPlan) Flops() (n float64) {
	for _, ph := range p.Phases {
		n += ph.Flops
	}
	return n
}

// MemoryError says that no plan fits.
type MemoryError struct {
	Model        string
	Have, Needed uint64
}

func (e *MemoryError) Error() string {
	const gib = 1 << 30
	return fmt.Sprintf("guard: attribution of %s needs at least %.2f GiB of memory, %.2f GiB are allowed", e.Model, float64(e.Needed)/gib, float64(e.Have)/gib)
}

// What a process holds besides: its program, as far as it is looked at; and the runtime, the vocabulary, the
// samples, and scratch of products.
const (
	programBytes = 32 << 20
	runtimeBytes = 64 << 20
)

// leastTokens is of how many tokens batches are at least, where memory is short: of fewer, unpacking the weights
// would take as long as multiplying with them.
const leastTokens = 128

// PlanAttribution says how Attribute would work with the same arguments, and what it would take. The error is a
// *MemoryError if no plan fits into the memory.
//
// The gradient of the whole model is taken if it fits with all weights. Else the stream has batches of
// o.BatchTokens, or of fewer tokens where these do not fit, and chunks as large as fit: they cost no more
// operations than small ones, and fewer spills. Weights that do not fit are given back chunk by chunk.
func PlanAttribution(m *engine.Model, retain, forget []engine.Sample, o ScoreOptions) (*AttributionPlan, error) {
	if err := o.check(m, retain, forget); err != nil {
		return nil, err
	}
	return planAttribution(m, retain, forget, o)
}

func planAttribution(m *engine.Model, retain, forget []engine.Sample, o ScoreOptions) (*AttributionPlan, error) {
	blocks := m.Config.NLayers
	if o.ChunkBlocks > 0 {
		blocks = min(blocks, o.ChunkBlocks)
	}
	least := 1
	if o.ChunkBlocks > 0 {
		least = blocks
	}
	tokens := min(o.BatchTokens, leastTokens)
	smallest := planStream(newScoring(m, retain, forget, o, tokens), least, tokens, true).Peak
	done := func(p *AttributionPlan) bool {
		smallest = min(smallest, p.Peak)
		p.Smallest = smallest
		return o.Memory == 0 || p.Peak <= o.Memory
	}
	if o.ChunkBlocks == 0 {
		if p := planWhole(newScoring(m, retain, forget, o, o.BatchTokens)); done(p) {
			return p, nil
		}
	}
	for tokens := o.BatchTokens; ; tokens = max(leastTokens, tokens/2) {
		s := newScoring(m, retain, forget, o, tokens)
		chunks := 0
		for n := blocks; n >= least; n-- {
			if k := len(m.Config.Chunks(n)); k > chunks {
				chunks = k
				for _, limit := range []bool{false, true} {
					if p := planStream(s, n, tokens, limit); done(p) {
						return p, nil
					}
				}
			}
		}
		if tokens <= leastTokens {
			return nil, &MemoryError{m.File.Name, o.Memory, smallest}
		}
	}
}

// planWhole plans attribution with the whole gradient.
func planWhole(s *scoring) *AttributionPlan {
	m := s.m
	plan := s.newPlan(s.o.BatchTokens)
	var most engine.BatchSize
	var tokens [2]float64 // each times the weights it is multiplied with, of retain and forget
	weights := m.BlockWeights()
	for _, b := range s.batches {
		size := engine.Size(b.samples)
		most = most.Max(size)
		scored := 0
		if b.group == engine.Scored {
			scored = 1
		}
		tokens[scored] += float64(size.Rows)*weights + float64(size.Targets)*float64(m.OutputWeights())
	}
	trained := 0
	for _, p := range m.Trainable() {
		trained += p.Len()
	}
	plan.Buffers = append(plan.Buffers, engine.Buffer{Name: "gradients", Bytes: uint64(4 * len(s.share) * trained)})
	plan.Buffers = append(plan.Buffers, m.TraceBuffersWithin(engine.DefaultKeep, most, len(s.share))...)
	plan.finish(m.MappedWeights())
	passes := [2]int{3, 2 + len(s.share)}
	if !m.Params()[0].Trainable { // what adapters take is not counted
		passes = [2]int{2, 2}
	}
	plan.Phases = []AttributionPhase{
		{Name: "retain", Flops: float64(2*passes[0]) * tokens[0], Weights: m.MappedWeights()},
		{Name: "forget", Flops: float64(2*passes[1]) * tokens[1], Weights: m.MappedWeights()},
	}
	return plan
}

// planStream plans a stream in chunks of that many blocks. With limit, a stage gives back the weights that it has used.
func planStream(s *scoring, blocks, tokens int, limit bool) *AttributionPlan {
	m, plan := s.m, s.newPlan(tokens)
	plan.Chunks = m.Config.Chunks(blocks)
	for _, c := range plan.Chunks {
		plan.ChunkBlocks = max(plan.ChunkBlocks, c[1]-c[0])
	}
	x := m.PlanStream(s.engineBatches(), s.engineOptions(blocks))
	plan.Buffers = append(plan.Buffers, x.Buffers...)
	if s.o.SpillDir != "" {
		plan.Spill = x.Spill
	}
	for _, st := range x.Stages {
		plan.Phases = append(plan.Phases, AttributionPhase(st))
	}
	weights := m.MappedWeights()
	if limit && x.Weights < weights {
		weights = x.Weights
		plan.WeightLimit = weights
	}
	plan.finish(weights)
	return plan
}

// newPlan is a plan with what is the same for all.
func (s *scoring) newPlan(tokens int) *AttributionPlan {
	return &AttributionPlan{
		BatchTokens: tokens, Groups: len(s.share), Retain: len(s.retain), Forget: len(s.forget),
		Buffers: []engine.Buffer{{Name: "process", Bytes: programBytes + runtimeBytes}, {Name: "float32 weights", Bytes: s.m.HeldWeights()}},
	}
}

// finish adds the weights that are in memory at most, and sums up.
func (p *AttributionPlan) finish(weights uint64) {
	p.Buffers = append(p.Buffers, engine.Buffer{Name: "weights", Bytes: weights})
	p.Peak = engine.Sum(p.Buffers)
}

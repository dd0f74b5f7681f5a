package engine

import (
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/optim"
)

// Sum returns the bytes of all buffers.
func Sum(buffers []Buffer) (n uint64) {
	for _, b := range buffers {
		n += b.Bytes
	}
	return n
}

// BatchSize is how large the batch of a training step is: its rows, and those that have a loss.
type BatchSize struct{ Rows, Targets int }

// Size returns the size of samples packed into one batch.
func Size(samples []Sample) (n BatchSize) {
	for _, s := range samples {
		n.Rows += len(s.IDs)
		n.Targets += s.NTargets()
	}
	return n
}

// Add returns the size of both packed into one batch.
func (b BatchSize) Add(c BatchSize) BatchSize {
	return BatchSize{b.Rows + c.Rows, b.Targets + c.Targets}
}

// Max returns a batch at least as large as both.
func (b BatchSize) Max(c BatchSize) BatchSize {
	return BatchSize{max(b.Rows, c.Rows), max(b.Targets, c.Targets)}
}

// Recomputed returns of how many blocks a trace whose Keep is keep computes the insides once more in its backward
// pass over rows rows.
func (m *Model) Recomputed(keep, rows int) int {
	return m.Config.NLayers - m.Config.kept(m.Config.NLayers, keep, rows)
}

// kept returns of how many of some blocks a trace keeps the insides in keep bytes.
func (c *Config) kept(blocks, keep, rows int) int {
	return max(1, min(blocks, keep/max(1, c.StateBytes(rows))))
}

// TraceBuffersWithin is TraceBuffers of all blocks for a trace whose Keep is keep.
func (m *Model) TraceBuffersWithin(keep int, b BatchSize, groups int) []Buffer {
	c := &m.Config
	return m.TraceBuffers(b.Rows, b.Targets, c.NLayers, c.kept(c.NLayers, keep, b.Rows), groups)
}

// totalLen returns how many numbers parameters have together.
func totalLen(ps []*nn.Param) (n int) {
	for _, p := range ps {
		n += p.Len()
	}
	return n
}

// largestBlock returns the numbers of the block that has most.
func (m *Model) largestBlock() (n int) {
	for l := range m.w.blocks {
		n = max(n, totalLen(m.w.blocks[l].Params()))
	}
	return n
}

// optimizerBuffer is what the optimizer of o keeps of tensors.
func optimizerBuffer(o TrainOptions, shapes []optim.Shape) Buffer {
	return Buffer{"optimizer (" + o.Optimizer + ")", optim.Bytes(o.Optimizer, optim.Options{Momentum: o.Momentum}, shapes)}
}

// FullBuffers says what a Trainer holds after TrainFull, besides the vectors, which are in memory in any case, and its trace.
func (m *Model) FullBuffers(o TrainOptions) []Buffer {
	masters, all := uint64(0), uint64(0)
	shapes := make([]optim.Shape, len(m.params))
	for i, p := range m.params {
		shapes[i] = optim.Shape{Rows: p.Rows, Cols: p.Cols}
		all += 4 * uint64(p.Len())
		if p.Rows > 1 {
			masters += 4 * uint64(p.Len())
		}
	}
	return []Buffer{
		{"float32 masters", masters},
		{"gradients", all},
		optimizerBuffer(o, shapes),
	}
}

// FusedBuffers says what a Trainer holds after TrainFused, besides vectors and its trace: the gradients of one block at
// a time, and those of the matrices at the ends, where a tied one is alive from the head to the embedding.
func (m *Model) FusedBuffers(o TrainOptions) []Buffer {
	weights := uint64(0)
	shapes := make([]optim.Shape, len(m.params))
	for i, p := range m.params {
		shapes[i] = optim.Shape{Rows: p.Rows, Cols: p.Cols}
		if p.Rows > 1 {
			weights += 2 * uint64(p.Len())
		}
	}
	ends := m.w.embed.Len() // whose memory served the output, of the same shape
	if m.w.positions != nil {
		ends += m.w.positions.Len()
	}
	return []Buffer{
		{"bfloat16 weights", weights},
		{"gradients of a block and of the embedding", 4 * uint64(m.largestBlock()+ends)},
		optimizerBuffer(o, shapes),
	}
}

// LoRABuffers says what a Trainer holds after TrainLoRA, besides vectors and its trace.
func (m *Model) LoRABuffers(lora LoRAOptions, o TrainOptions) ([]Buffer, error) {
	targets, err := m.loraTargets(lora)
	if err != nil {
		return nil, err
	}
	n := uint64(0)
	var shapes []optim.Shape
	for _, p := range targets {
		n += 4 * uint64(lora.Rank*(p.Rows+p.Cols))
		shapes = append(shapes, optim.Shape{Rows: lora.Rank, Cols: p.Cols}, optim.Shape{Rows: p.Rows, Cols: lora.Rank})
	}
	return []Buffer{
		{"adapters", n},
		{"gradients", n},
		optimizerBuffer(o, shapes),
	}, nil
}

// NLLBuffers says what NLL holds for the samples.
func (m *Model) NLLBuffers(samples []Sample) []Buffer {
	var b BatchSize
	for _, run := range Batches(samples, batchRows) {
		b = b.Max(Size(samples[run[0]:run[1]]))
	}
	c := &m.Config
	logits := m.TraceBuffers(b.Rows, b.Targets, 0, 0, 0)[2]
	return []Buffer{{"activations", uint64(2*4*b.Rows*c.DModel + c.StateBytes(b.Rows))}, logits}
}

// GenerateBuffers says what generating holds that starts with a batch of prompts of so many tokens, of which each has
// at most most tokens with what follows.
func (m *Model) GenerateBuffers(prompts []int, most int) []Buffer {
	c := &m.Config
	rows := 0
	for _, n := range prompts {
		rows += n
	}
	cache := 2 * 4 * c.NLayers * c.NKVHeads * c.DHead * most * len(prompts)
	return []Buffer{
		{"keys and values", uint64(cache)},
		{"activations", uint64(2*4*rows*c.DModel + c.StateBytes(rows))},
		{"logits", uint64(4 * len(prompts) * (c.NVocab + 2*c.DModel))},
	}
}

// LeastWeights returns what LimitWeights leaves of the mapped weights in memory at least.
func (m *Model) LeastWeights() uint64 {
	least := m.mapped(m.w.output)
	for l := range m.w.blocks {
		least = max(least, 2*m.mapped(m.w.blocks[l].Params()...))
	}
	return min(least, m.MappedWeights())
}

// LeastGradient returns the bytes of the largest gradient that a stream in chunks of one block holds: a block's or the output's.
func (m *Model) LeastGradient() uint64 {
	return 4 * uint64(max(m.w.output.Len()+m.w.outNorm.Len(), m.largestBlock()))
}

package engine

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/guardcpu/guardcpu/engine/nn"
)

// StreamBatch is a packed batch of a stream with its loss and its part in it.
type StreamBatch struct {
	Term
	// Group says to which gradient that of the loss is added; the samples of a Scored batch
	// are scored by all of them. All batches of groups come before those that are scored.
	Group int
}

// Scored is the Group of a batch whose samples are scored.
const Scored = -1

// StreamOptions say how a stream divides its work.
type StreamOptions struct {
	// Shares are the weights of the groups in the gradient whose norm is taken.
	Shares []float64
	// Blocks is how many blocks there are in a chunk at most.
	Blocks int
	// Spill is how the inputs of chunks and their gradients are kept.
	Spill SpillType
	// Dir is a directory for them, which is made if it is not there; "" keeps them in memory.
	Dir string
	// Key names the work: model, batches and losses. With one, a stream that was stopped at any
	// point goes on with the stage that it was in, where Dir has what the stages before it left,
	// and ends with the same bits. RemoveStream then clears Dir, when the result is safe.
	Key string
	// WeightLimit is for Model.LimitWeights while the stream runs; 0 leaves what is there.
	WeightLimit uint64
	// Note is told in a sentence how the stream goes on, or why not. It may be nil.
	Note func(string)
}

// StreamResult is what a stream found.
type StreamResult struct {
	Losses [][]float64   // of each batch, row by row as its LossFunc set them
	Scores [][][]float64 // of each scored batch, for each group, the samples' inner products
	Norm   float64       // ‖Σ_k Shares[k]·G_k‖
}

// Stream takes the inner products of the gradient of every sample of scored batches with the gradients
// G_k of groups of batches, without a gradient of the whole model in memory. It works through
// the model for all batches together, in stages:
//
//	forward    chunk by chunk: what a chunk puts out is kept for all batches
//	head       losses, the gradient of the last output; G and scores of the head
//	backward   chunk by chunk from the last: its blocks are run again from the chunk's input;
//	           first the groups' batches are added to G of the chunk, then the others are dotted with it
//	embedding  the same for the embedding
//
// A chunk is some consecutive blocks. Cost: 8·P flops a token. The forward pass goes on from the kept numbers as
// they were rounded, so scores are the same however the stream is interrupted, and with
// SpillF32 they are those of Trace on the same batches: the same bits, but for the order of sums
// of a tied embedding. What G holds for that is kept until the end, where the heads of
// scored batches are run again.
//
// The progress counts thousandths of the work. The stream stops between blocks with the context's error.
func (m *Model) Stream(ctx context.Context, batches []StreamBatch, o StreamOptions, p Progress) (*StreamResult, error) {
	if o.WeightLimit > 0 {
		defer func(r *residency) { m.resident = r }(m.resident)
		m.LimitWeights(o.WeightLimit)
	}
	s, err := m.newStream(batches, o, p)
	if err != nil {
		return nil, err
	}
	s.t.Stop = func() bool { return ctx.Err() != nil }
	for s.next < len(s.stages) {
		if err := s.run(ctx, s.stages[s.next]); err != nil {
			return nil, s.stop(err)
		}
	}
	return &StreamResult{Losses: s.losses, Scores: s.scores, Norm: s.norm()}, s.stop(nil)
}

// stream is the state of Stream.
type stream struct {
	m       *Model
	o       StreamOptions
	batches []StreamBatch
	groups  int
	params  []*nn.Param // that have a gradient
	stages  []stage
	next    int
	t       *Trace
	keep    int       // bytes of the insides of a chunk
	arena   []float32 // the gradients of a stage
	dots    Tee       // of each group
	buf     []byte

	spills   map[string]*spill
	recorded []string // the files that a resume needs
	free     [][]byte // memory of spills that are gone

	losses  [][]float64
	scores  [][][]float64
	squares []float64 // of each parameter: ‖Σ_k Shares[k]·G_k‖²

	progress   Progress
	done, work float64
}

type stageKind int

const (
	stageForward stageKind = iota
	stageHead
	stageBackward
	stageEmbedding
)

// stage is a part of a stream's work that is done for all batches, reading and writing spills.
type stage struct {
	kind    stageKind
	lo, hi  int    // its blocks
	write   string // the spill that it makes; "": none
	drop    []string
	weights float64 // that a token is multiplied with
	frozen  bool    // they have no gradient, though adapters may have one
}

func (s stage) String() string {
	switch s.kind {
	case stageForward:
		return fmt.Sprintf("forward, blocks %d to %d", s.lo, s.hi-1)
	case stageHead:
		return "head"
	case stageBackward:
		return fmt.Sprintf("backward, blocks %d to %d", s.lo, s.hi-1)
	}
	return "embedding"
}

// The names of spills: the input of a block, its gradient, the gradients of a tied embedding.
func inputSpill(block int) string    { return fmt.Sprintf("h%d", block) }
func gradientSpill(block int) string { return fmt.Sprintf("dh%d", block) }

const tiedSpill = "tied"

// Chunks divides the blocks of the model into chunks of about equal length, at most n blocks.
func (c *Config) Chunks(n int) (chunks [][2]int) {
	count := (c.NLayers + n - 1) / n
	for i := range count {
		chunks = append(chunks, [2]int{i * c.NLayers / count, (i + 1) * c.NLayers / count})
	}
	return chunks
}

// streamStages lists the stages of a stream.
func (m *Model) streamStages(blocks int) (stages []stage) {
	c := &m.Config
	chunks := c.Chunks(blocks)
	for _, b := range chunks {
		stages = append(stages, stage{kind: stageForward, lo: b[0], hi: b[1], write: inputSpill(b[1]), weights: m.blockWork(b[0], b[1])})
	}
	last := inputSpill(c.NLayers)
	head := stage{kind: stageHead, write: gradientSpill(c.NLayers), drop: []string{last}, weights: float64(m.w.output.Len())}
	end := stage{kind: stageEmbedding, drop: []string{gradientSpill(0)}}
	if m.tiedGradient() {
		head.drop, end.drop = nil, append(end.drop, last, tiedSpill)
		end.weights = head.weights
	}
	stages = append(stages, head)
	for i := len(chunks) - 1; i >= 0; i-- {
		b := chunks[i]
		st := stage{kind: stageBackward, lo: b[0], hi: b[1], write: gradientSpill(b[0]), drop: []string{gradientSpill(b[1])}, weights: m.blockWork(b[0], b[1])}
		if b[0] > 0 {
			st.drop = append(st.drop, inputSpill(b[0]))
		}
		stages = append(stages, st)
	}
	stages = append(stages, end)
	for i := range stages {
		stages[i].frozen = !m.w.embed.Trainable
	}
	return stages
}

// blockWork returns the weights that a token is multiplied with in blocks [lo,hi).
func (m *Model) blockWork(lo, hi int) (n float64) {
	share := 1.0
	if e := m.Config.MoE; e.NExperts > 0 {
		share = float64(e.NUsed) / float64(e.NExperts)
	}
	for l := lo; l < hi; l++ {
		b := &m.w.blocks[l]
		for _, p := range b.Params() {
			n += float64(p.Len())
		}
		for _, p := range b.MoE.Params() {
			if p != b.MoE.Router {
				n -= (1 - share) * float64(p.Len())
			}
		}
	}
	return n
}

func (m *Model) newStream(batches []StreamBatch, o StreamOptions, p Progress) (*stream, error) {
	s := &stream{m: m, o: o, batches: batches, groups: len(o.Shares), params: m.Trainable(), t: m.NewTrace(), spills: map[string]*spill{}, progress: p}
	s.t.stays = true
	if o.Blocks < 1 || o.Spill != SpillBF16 && o.Spill != SpillF32 {
		return nil, fmt.Errorf("engine: a stream in chunks of %d blocks, spilled as %q: want at least 1 block, %s or %s", o.Blocks, o.Spill, SpillBF16, SpillF32)
	}
	s.stages = m.streamStages(o.Blocks)
	s.losses, s.scores = make([][]float64, len(batches)), make([][][]float64, len(batches))
	s.squares = make([]float64, len(s.params))
	for range s.groups {
		s.dots = append(s.dots, new(Dot))
	}
	rows := 0
	for i, b := range batches {
		if err := m.check(b.Samples); err != nil {
			return nil, err
		}
		if b.Group < Scored || b.Group >= s.groups || i > 0 && b.Group != Scored && batches[i-1].Group == Scored {
			panic(fmt.Sprintf("engine: Stream: batch %d is of group %d, there are %d, and scored batches come last", i, b.Group, s.groups))
		}
		if b.Group == Scored {
			for range s.groups {
				s.scores[i] = append(s.scores[i], make([]float64, len(b.Samples)))
			}
		}
		rows = max(rows, Size(b.Samples).Rows)
	}
	for _, st := range s.stages {
		for i := range batches {
			s.work += batchFlops(st, s.batches[i], s.groups)
		}
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	s.reserve(rows)
	if m.resident != nil {
		m.File.Forget() // what was looked at before
	}
	return s, nil
}

// reserve takes the memory of the largest stage and batch once, so that none becomes garbage.
func (s *stream) reserve(rows int) {
	cfg, n, largest := &s.m.Config, 0, 0
	for _, st := range s.stages {
		n = max(n, st.hi-st.lo)
		largest = max(largest, totalLen(s.m.gradientsOf(st)))
	}
	s.arena = make([]float32, s.groups*largest)
	s.keep = n * cfg.StateBytes(rows)
	for range n {
		s.t.states = append(s.t.states, nn.NewBlockState(cfg.BlockConfig, rows))
	}
	s.t.room = rows
	for i := range n + 3 {
		s.t.mat(i, rows, cfg.DModel)
	}
}

// batchFlops returns the flops of a stage for a batch: 2 for each weight and token in the forward pass,
// once more when it is repeated, for the gradient of the input, and for G or each product with a G. What adapters
// take is not counted.
func batchFlops(st stage, b StreamBatch, groups int) float64 {
	passes, size := 1, Size(b.Samples)
	tokens := size.Rows
	if st.frozen {
		groups = 0
	}
	switch {
	case st.kind == stageForward:
	case b.Group == Scored:
		passes = 2 + groups
	case st.kind == stageEmbedding:
		passes = 0
	case st.frozen:
		passes = 2
	default:
		passes = 3
	}
	if st.kind == stageHead || st.kind == stageEmbedding {
		tokens = size.Targets
	}
	return 2 * float64(passes) * st.weights * float64(tokens)
}

// run does one stage for all batches, records that it is done, and lets go of what it was
// the last to read.
func (s *stream) run(ctx context.Context, st stage) error {
	var out *spill
	var err error
	if st.write != "" {
		if out, err = s.create(st.write, s.o.Spill, s.batchEnds()); err != nil {
			return err
		}
	}
	grads, err := s.gradients(st)
	if err != nil {
		return err
	}
	for i := range s.batches {
		if err := ctx.Err(); err != nil {
			return err
		}
		if i == len(s.batches)-1 {
			s.wantNext()
		}
		s.t.pack(s.batches[i].Samples)
		var x nn.Mat
		switch st.kind {
		case stageForward:
			x, err = s.forward(st, i)
		case stageHead:
			x, err = s.head(i, grads)
		case stageBackward:
			x, err = s.backward(st, i, grads)
		case stageEmbedding:
			err = s.embedding(i, grads)
		}
		if err == nil {
			err = ctx.Err() // the trace may have stopped
		}
		if err == nil && out != nil {
			s.buf, err = out.put(s.m.Ctx, i, x.Data, s.buf)
		}
		if err != nil {
			return err
		}
		s.done += batchFlops(st, s.batches[i], s.groups)
		s.progress.report(int(1000*s.done/s.work), 1000)
	}
	if st.kind == stageHead && s.m.tiedGradient() {
		if err := s.saveTied(grads); err != nil {
			return err
		}
	}
	s.leave(st)
	s.measure(st, grads)
	if err := s.finite(); err != nil {
		return err
	}
	return s.finish(st)
}

// wantNext has the weights of the next stage read ahead, if those of all do not stay in memory.
func (s *stream) wantNext() {
	if s.m.resident == nil || s.next+1 == len(s.stages) {
		return
	}
	switch st := s.stages[s.next+1]; st.kind {
	case stageHead:
		s.m.File.ReadAhead(s.m.tensorsOf(s.m.w.output))
	default:
		for l := st.lo; l < st.hi; l++ {
			s.m.File.ReadAhead(s.m.resident.blocks[l])
		}
	}
}

// leave gives back the weights of a stage.
func (s *stream) leave(st stage) {
	if s.m.resident == nil {
		return
	}
	for l := st.lo; l < st.hi; l++ {
		s.m.File.ForgetTensors(s.m.resident.blocks[l])
	}
	s.m.leaveOutput()
}

// forward runs the blocks of a chunk.
func (s *stream) forward(st stage, batch int) (nn.Mat, error) {
	s.t.span(st.lo, st.hi, false, s.keep)
	if err := s.input(st.lo, batch); err != nil {
		return nn.Mat{}, err
	}
	s.t.runBlocks(true)
	return s.t.h[st.hi-st.lo], nil
}

// input sets the input of the first block of the trace's span.
func (s *stream) input(block, batch int) error {
	t := s.t
	if block == 0 {
		s.m.embed(s.m.Ctx, t.h[0], t.ids, t.pos)
		s.m.leaveEmbed()
		return nil
	}
	return s.read(inputSpill(block), batch, t.h[0].Data)
}

func (s *stream) read(name string, section int, x []float32) (err error) {
	s.buf, err = s.spills[name].get(s.m.Ctx, section, x, s.buf)
	return err
}

// head computes the losses of a batch and returns the gradient of the last output.
func (s *stream) head(batch int, grads []*Grads) (nn.Mat, error) {
	sink := s.sink(batch, grads)
	if s.batches[batch].Group == Scored && s.m.tiedGradient() { // G is not complete
		sink = only{sink, func(p *nn.Param) bool { return !s.isTied(p) }}
	}
	var dh nn.Mat
	var err error
	s.losses[batch], dh, err = s.runHead(batch, sink)
	return dh, err
}

func (s *stream) runHead(batch int, sink nn.Sink) ([]float64, nn.Mat, error) {
	t, last := s.t, s.m.Config.NLayers
	t.span(last, last, true, s.keep)
	if err := s.input(last, batch); err != nil {
		return nil, nn.Mat{}, err
	}
	dh := t.gradient()
	dh.Zero()
	rows, f := s.batches[batch].Loss(t)
	return t.runHead(rows, f, &route{ctx: s.m.Ctx, to: sink}, dh), dh, nil
}

// backward runs the blocks of a chunk again and then backwards, and returns the gradient of its input.
func (s *stream) backward(st stage, batch int, grads []*Grads) (nn.Mat, error) {
	t := s.t
	t.span(st.lo, st.hi, true, s.keep)
	if err := s.input(st.lo, batch); err != nil {
		return nn.Mat{}, err
	}
	t.runBlocks(false)
	dh := t.gradient()
	if err := s.read(gradientSpill(st.hi), batch, dh.Data); err != nil {
		return nn.Mat{}, err
	}
	return t.blocksBackward(dh, &route{ctx: s.m.Ctx, to: s.sink(batch, grads)}), nil
}

// embedding ends the backward pass of a batch.
func (s *stream) embedding(batch int, grads []*Grads) error {
	t, sink := s.t, s.sink(batch, grads)
	t.span(0, 0, true, s.keep)
	dh := t.gradient()
	if err := s.read(gradientSpill(0), batch, dh.Data); err != nil {
		return err
	}
	to := &route{ctx: s.m.Ctx, to: sink}
	to.beginRows(t.sampleOf)
	s.m.embedBackward(s.m.Ctx, dh, t.ids, t.pos, to)
	if s.batches[batch].Group == Scored && s.m.tiedGradient() {
		_, _, err := s.runHead(batch, only{sink, s.isTied})
		return err
	}
	return nil
}

// sink returns where the gradient of a batch goes.
func (s *stream) sink(batch int, grads []*Grads) nn.Sink {
	if k := s.batches[batch].Group; k != Scored {
		return NewAccumulate(grads[k])
	}
	for k, g := range grads {
		s.dots[k].(*Dot).begin(g, s.scores[batch][k])
	}
	return s.dots
}

// gradientsOf returns the parameters of which a stage forms gradients.
func (m *Model) gradientsOf(st stage) []*nn.Param {
	w := &m.w
	switch st.kind {
	case stageHead:
		return trained(w.outNorm, w.outNormBias, w.output, w.outputBias)
	case stageBackward:
		var ps []*nn.Param
		for l := st.lo; l < st.hi; l++ {
			ps = append(ps, w.blocks[l].Params()...)
		}
		return trained(ps...)
	case stageEmbedding:
		return trained(w.embed, w.positions)
	}
	return nil
}

// trained returns what has a gradient of parameters, of which some may be absent.
func trained(ps ...*nn.Param) (out []*nn.Param) {
	for _, p := range ps {
		if p != nil && p.Trainable {
			out = append(out, p)
		}
		if p != nil && p.Adapter != nil {
			out = append(out, p.Adapter.A, p.Adapter.B)
		}
	}
	return out
}

// tiedGradient says whether the head and the embedding add to one gradient.
func (m *Model) tiedGradient() bool { return m.Config.Tied && len(trained(m.w.embed)) > 0 }

// tied returns the parameters that the head and the embedding share.
func (s *stream) tied() []*nn.Param { return trained(s.m.w.embed) }

func (s *stream) isTied(p *nn.Param) bool {
	e := s.m.w.embed
	return p == e || e.Adapter != nil && (p == e.Adapter.A || p == e.Adapter.B)
}

// gradients returns the gradients of a stage for each group, zero, or for a tied embedding what the head left.
func (s *stream) gradients(st stage) ([]*Grads, error) {
	ps, memory := s.m.gradientsOf(st), s.arena
	grads := make([]*Grads, s.groups)
	for k := range grads {
		grads[k], memory = gradsIn(memory, s.m.Ctx, ps)
	}
	if st.kind == stageEmbedding && s.m.tiedGradient() {
		err := s.eachTied(grads, func(section int, g []float32) error { return s.read(tiedSpill, section, g) })
		return grads, err
	}
	return grads, nil
}

// tiedSection is the length of most sections of the tied spill, in numbers.
const tiedSection = 1 << 20

// tiedEnds are the ends of the sections of the tied spill (see eachTied).
func (s *stream) tiedEnds() (ends []int) {
	end := 0
	for _, p := range s.tied() {
		for range s.groups {
			for lo := 0; lo < p.Len(); lo += tiedSection {
				end += min(tiedSection, p.Len()-lo)
				ends = append(ends, end)
			}
		}
	}
	return ends
}

// eachTied calls f for every section of the tied spill: pieces of the gradient of a parameter, group by group.
func (s *stream) eachTied(grads []*Grads, f func(section int, g []float32) error) error {
	section := 0
	for _, p := range s.tied() {
		for _, g := range grads {
			for v := range slices.Chunk(g.Of(p), tiedSection) {
				if err := f(section, v); err != nil {
					return err
				}
				section++
			}
		}
	}
	return nil
}

// saveTied keeps what the head has added to the gradients of a tied embedding.
func (s *stream) saveTied(grads []*Grads) error {
	out, err := s.create(tiedSpill, SpillF32, s.tiedEnds())
	if err != nil {
		return err
	}
	return s.eachTied(grads, func(section int, g []float32) (err error) {
		s.buf, err = out.put(s.m.Ctx, section, g, s.buf)
		return err
	})
}

// measure takes the norms of the gradients that a stage has completed, which it overwrites.
func (s *stream) measure(st stage, grads []*Grads) {
	c := s.m.Ctx
	for i, p := range s.params {
		if grads[0].of[p] == nil || st.kind == stageHead && s.m.tiedGradient() && s.isTied(p) {
			continue
		}
		sum := grads[0].Of(p)
		pieces(c, len(sum), func(_, lo, hi int) {
			c.K.Scale(sum[lo:hi], float32(s.o.Shares[0]))
			for k := 1; k < s.groups; k++ {
				c.K.Axpy(sum[lo:hi], float32(s.o.Shares[k]), grads[k].Of(p)[lo:hi])
			}
		})
		s.squares[i] = sumSquares(c, sum)
	}
}

func (s *stream) norm() float64 {
	var sum float64
	for _, v := range s.squares {
		sum += v
	}
	return math.Sqrt(sum)
}

// finite says which loss or score found so far is not finite.
func (s *stream) finite() error {
	bad := func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }
	for i, b := range s.batches {
		for _, l := range s.losses[i] {
			if bad(l) {
				return fmt.Errorf("engine: a loss of %s is %v: the model's weights or its arithmetic overflow", b.Name, l)
			}
		}
		for _, group := range s.scores[i] {
			for j, v := range group {
				if bad(v) {
					return fmt.Errorf("engine: the score of sample %d of %s is %v", j, b.Name, v)
				}
			}
		}
	}
	if v := s.norm(); bad(v) {
		return fmt.Errorf("engine: the norm of the gradient is %v: the model's weights or its arithmetic overflow", v)
	}
	return nil
}

// batchEnds are the ends of a spill's sections, one a batch.
func (s *stream) batchEnds() []int {
	ends, end := make([]int, len(s.batches)), 0
	for i, b := range s.batches {
		end += Size(b.Samples).Rows * s.m.Config.DModel
		ends[i] = end
	}
	return ends
}

// create makes a spill.
func (s *stream) create(name string, typ SpillType, ends []int) (*spill, error) {
	x := &spill{name: name, typ: typ, ends: ends, sums: make([]uint32, len(ends))}
	s.spills[name] = x
	if s.o.Dir != "" {
		return x, s.spillError(x.create(s.o.Dir))
	}
	n := x.size()
	for i, b := range s.free {
		if cap(b) >= n {
			x.data = b[:n]
			s.free = slices.Delete(s.free, i, i+1)
			return x, nil
		}
	}
	x.data = make([]byte, n)
	return x, nil
}

// only passes on what is delivered for the parameters of which ok is true.
type only struct {
	to nn.Sink
	ok func(p *nn.Param) bool
}

func (s only) Linear(p *nn.Param, dy, x nn.Mat) {
	if s.ok(p) {
		s.to.Linear(p, dy, x)
	}
}

func (s only) Gain(p *nn.Param, dy, xhat nn.Mat) {
	if s.ok(p) {
		s.to.Gain(p, dy, xhat)
	}
}

func (s only) Bias(p *nn.Param, dy nn.Mat) {
	if s.ok(p) {
		s.to.Bias(p, dy)
	}
}

func (s only) Rows(p *nn.Param, ids []int32, dy nn.Mat) {
	if s.ok(p) {
		s.to.Rows(p, ids, dy)
	}
}

func (s only) beginRows(sampleOf []int32) {
	if to, ok := s.to.(rowsSink); ok {
		to.beginRows(sampleOf)
	}
}

package engine

import (
	"fmt"

	"github.com/guardcpu/guardcpu/engine/nn"
)

// Session generates: it feeds tokens to several sequences at once and keeps their
// keys and values. It runs the same layer functions as Trace, but with activations
// of 8 bits where weights are quantised, unless Options.Compute is float32.
type Session struct {
	m     *Model
	ctx   *nn.Ctx
	lens  []int     // tokens fed to each sequence
	most  int       // tokens that a sequence is fed at most, if that is known
	cache [][]nn.KV // [layer][sequence]
	st    *nn.BlockState
	norm  nn.NormState

	stopped  func() error // asked before every block, if set: an error ends Feed
	ids, pos []int32
	segs     []nn.Segment
	ends     []int // the last row of each feed
	// inputs and outputs of blocks; the last rows, normalised; their logits
	a, b, last, normed, logits []float32
}

// Feed is some tokens that follow what a sequence has been fed before.
type Feed struct {
	Seq int
	IDs []int32
}

// Int8 says whether sessions round activations to 8 bits in products with quantised weights.
func (m *Model) Int8() bool { return m.Ctx.Compute != nn.ComputeF32 }

// NewSession returns a session of nSeqs empty sequences. Its memory grows with what they are fed.
func (m *Model) NewSession(nSeqs int) *Session {
	ctx := *m.Ctx
	ctx.Int8 = m.Int8()
	s := &Session{m: m, ctx: &ctx, lens: make([]int, nSeqs), st: nn.NewBlockState(m.Config.BlockConfig, 0)}
	kv := m.Config.NKVHeads * m.Config.DHead
	s.cache = make([][]nn.KV, m.Config.NLayers)
	for l := range s.cache {
		s.cache[l] = make([]nn.KV, nSeqs)
		for i := range s.cache[l] {
			s.cache[l][i] = nn.KV{K: nn.NewMat(0, kv), V: nn.NewMat(0, kv)}
		}
	}
	return s
}

// Len returns how many tokens sequence seq has been fed.
func (s *Session) Len(seq int) int { return s.lens[seq] }

// Truncate forgets what sequence seq has been fed but for its first n tokens.
func (s *Session) Truncate(seq, n int) { s.lens[seq] = min(n, s.lens[seq]) }

// Feed appends tokens to different sequences and returns the logits after the last
// token of each, [len(feeds), V], which are valid until the next call.
func (s *Session) Feed(feeds []Feed) (nn.Mat, error) {
	m, cfg := s.m, &s.m.Config
	ids, pos, segs, ends := s.ids[:0], s.pos[:0], s.segs[:0], s.ends[:0]
	for _, f := range feeds {
		if len(f.IDs) == 0 {
			return nn.Mat{}, fmt.Errorf("engine: sequence %d is fed no tokens", f.Seq)
		}
		past := s.lens[f.Seq]
		if err := m.checkIDs(past, f.IDs); err != nil {
			return nn.Mat{}, fmt.Errorf("engine: sequence %d: %w", f.Seq, err)
		}
		segs = append(segs, nn.Segment{Start: len(ids), N: len(f.IDs), Past: past})
		for j, id := range f.IDs {
			ids, pos = append(ids, id), append(pos, int32(past+j))
		}
		ends = append(ends, len(ids)-1)
	}
	s.ids, s.pos, s.segs, s.ends = ids, pos, segs, ends
	mat := func(buf *[]float32, rows, cols int) nn.Mat {
		*buf = grow(*buf, rows*cols)
		return nn.Mat{Rows: rows, Cols: cols, Stride: cols, Data: *buf}
	}
	n, d := len(ids), cfg.DModel
	x, y := mat(&s.a, n, d), mat(&s.b, n, d)
	m.embed(s.ctx, x, ids, pos)
	m.leaveEmbed()
	last := mat(&s.last, len(feeds), d)
	for l := range m.w.blocks {
		if s.stopped != nil {
			if err := s.stopped(); err != nil {
				return nn.Mat{}, err
			}
		}
		for i, f := range feeds {
			kv := &s.cache[l][f.Seq]
			s.reserve(&kv.K, segs[i].Past+segs[i].N)
			s.reserve(&kv.V, segs[i].Past+segs[i].N)
			segs[i].KV = kv
		}
		m.wantBlock(l + 1)
		if l == cfg.NLayers-1 { // of what it puts out, only the last rows are read
			m.w.blocks[l].ForwardRows(s.ctx, &cfg.BlockConfig, s.st, last, x, pos, segs, ends)
		} else {
			m.w.blocks[l].Forward(s.ctx, &cfg.BlockConfig, s.st, y, x, pos, segs)
		}
		m.leaveBlock(l)
		x, y = y, x
	}
	for _, f := range feeds {
		s.lens[f.Seq] += len(f.IDs)
	}
	normed := mat(&s.normed, len(feeds), d)
	m.finalNorm(s.ctx, normed, last, &s.norm)
	logits := mat(&s.logits, len(feeds), cfg.NVocab)
	m.output(s.ctx, logits, normed, false)
	m.leaveOutput()
	return logits, nil
}

// reserve makes m at least n rows long, at least doubling what it lengthens, but not beyond what is needed at most:
// that is there from the beginning where it is at most four times as long.
func (s *Session) reserve(m *nn.Mat, n int) {
	if n <= m.Rows {
		return
	}
	rows := max(n, 2*m.Rows)
	if s.most >= n {
		rows = min(max(rows, 4*n), s.most)
	}
	longer := nn.NewMat(rows, m.Cols)
	copy(longer.Data, m.Data)
	*m = longer
}

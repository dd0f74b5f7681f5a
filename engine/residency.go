package engine

import (
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/gguf"
)

// residency says which of a model's mapped weights may stay in memory: those of the first
// blocks. The others are given back when they have been used and read ahead before.
type residency struct {
	blocks       [][]*gguf.Tensor
	embed, other []*gguf.Tensor // other: the output
	stay         int            // blocks
}

// LimitWeights bounds the memory of the file's weights that are in use to about that many bytes;
// two of its blocks, or the output matrix, are there in any case. 0, or as many bytes as there
// are, is no bound. It must not be called while the model is used.
func (m *Model) LimitWeights(bytes uint64) {
	m.resident = nil
	if bytes == 0 || m.mapped(m.params...) <= bytes {
		return
	}
	r := &residency{blocks: make([][]*gguf.Tensor, len(m.w.blocks)), embed: m.tensorsOf(m.w.embed, m.w.positions)}
	if !m.Config.Tied {
		r.other = m.tensorsOf(m.w.output)
	}
	passing := m.mapped(m.w.output)
	for l := range m.w.blocks {
		r.blocks[l] = m.tensorsOf(m.w.blocks[l].Params()...)
		passing = max(passing, 2*m.mapped(m.w.blocks[l].Params()...))
	}
	for l := range m.w.blocks {
		passing += m.mapped(m.w.blocks[l].Params()...)
		if passing > bytes {
			break
		}
		r.stay++
	}
	m.resident = r
}

// mapped returns the bytes of the file that the computation reads for parameters.
func (m *Model) mapped(ps ...*nn.Param) (n uint64) {
	for _, p := range ps {
		if p != nil && p.F32 == nil && !m.inMemory(p) {
			n += uint64(len(p.Stored.Data))
		}
	}
	return n
}

// tensorsOf returns the tensors of the file that matrices lie in.
func (m *Model) tensorsOf(ps ...*nn.Param) (ts []*gguf.Tensor) {
	for _, p := range ps {
		if p == nil || p.Rows == 1 {
			continue
		}
		if t, ok := m.File.Tensor(tensorOf(p)); ok && (len(ts) == 0 || ts[len(ts)-1] != t) {
			ts = append(ts, t)
		}
	}
	return ts
}

// wantBlock has the weights of a block read ahead.
func (m *Model) wantBlock(l int) {
	if r := m.resident; r != nil && l >= r.stay && l < len(r.blocks) {
		m.File.ReadAhead(r.blocks[l])
	}
}

// leaveBlock gives back the weights of a block, unless they may stay.
func (m *Model) leaveBlock(l int) {
	if r := m.resident; r != nil && l >= r.stay {
		m.File.ForgetTensors(r.blocks[l])
	}
}

// leaveEmbed and leaveOutput give back the matrices at the model's ends.
func (m *Model) leaveEmbed() {
	if r := m.resident; r != nil {
		m.File.ForgetTensors(r.embed)
	}
}

func (m *Model) leaveOutput() {
	if r := m.resident; r != nil {
		if m.Config.Tied {
			m.leaveEmbed()
		} else {
			m.File.ForgetTensors(r.other)
		}
	}
}

// Forget lets go of the memory of the file that p lies in.
func (m *Model) Forget(p *nn.Param) { m.File.ForgetTensors(m.tensorsOf(p)) }

package engine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"slices"

	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/simd"
)

// LoRAOptions say which matrices get an adapter and how large it is.
type LoRAOptions struct {
	Rank    int
	Alpha   float64  // the adapter is scaled by Alpha/Rank
	Targets []string // patterns of path.Match on tensor names, e.g. "blk.*.attn_q.weight"
	Seed    uint64
}

// DefaultLoRAOptions adapt every matrix of every block with rank 8 and α = 16.
func DefaultLoRAOptions() LoRAOptions {
	return LoRAOptions{Rank: 8, Alpha: 16, Targets: []string{"blk.*.weight"}}
}

// TrainLoRA freezes the model as it is, merging adapters it has, and gives each matrix
// that matches a target a trainable adapter (Hu et al. 2021, arXiv:2106.09685): A is uniform
// in ±1/√Cols, B is zero, so the model computes the same until it is trained. On an error
// nothing has changed.
func (m *Model) TrainLoRA(o LoRAOptions) error {
	targets, err := m.loraTargets(o)
	if err != nil {
		return err
	}
	m.MergeLoRA()
	for _, p := range m.params {
		p.Trainable = false
	}
	for _, p := range targets {
		rng := rand.New(rand.NewPCG(o.Seed, uint64(p.Index)))
		ad := newAdapter(p, o.Rank, loraScale(float32(o.Alpha), o.Rank))
		ad.A.F32, ad.B.F32 = make([]float32, ad.A.Len()), make([]float32, ad.B.Len())
		bound := 1 / math.Sqrt(float64(p.Cols))
		for i := range ad.A.F32 {
			ad.A.F32[i] = float32((2*rng.Float64() - 1) * bound)
		}
		p.Adapter = ad
	}
	m.loraAlpha = float32(o.Alpha)
	return nil
}

// newAdapter returns an adapter of p without its values.
func newAdapter(p *nn.Param, rank int, scale float32) *nn.Adapter {
	return &nn.Adapter{
		A:     &nn.Param{Index: p.Index, Name: p.Name + loraA, Rows: rank, Cols: p.Cols, Trainable: true},
		B:     &nn.Param{Index: p.Index, Name: p.Name + loraB, Rows: p.Rows, Cols: rank, Trainable: true},
		Scale: scale,
	}
}

// loraScale is what B·A is scaled by; as for llama.cpp, an alpha of 0 scales nothing.
func loraScale(alpha float32, rank int) float32 {
	if alpha == 0 {
		return 1
	}
	return alpha / float32(rank)
}

// loraTargets are the matrices that get an adapter.
func (m *Model) loraTargets(o LoRAOptions) ([]*nn.Param, error) {
	if o.Rank < 1 || o.Rank > m.Config.DModel {
		return nil, fmt.Errorf("engine: LoRA rank is %d, want 1 to the model's width %d", o.Rank, m.Config.DModel)
	}
	if !(o.Alpha > 0) || math.IsInf(o.Alpha, 0) {
		return nil, fmt.Errorf("engine: LoRA alpha is %g, want a positive number", o.Alpha)
	}
	var targets []*nn.Param
	for _, p := range m.params {
		if p.Rows == 1 {
			continue
		}
		hit := false
		for _, pattern := range o.Targets {
			ok, err := path.Match(pattern, tensorOf(p))
			if err != nil {
				return nil, fmt.Errorf("engine: LoRA target %q: %w", pattern, err)
			}
			hit = hit || ok
		}
		if hit {
			targets = append(targets, p)
		}
	}
	if len(targets) == 0 {
		return nil, fmt.Errorf("engine: no matrix matches the LoRA targets %q", o.Targets)
	}
	return targets, nil
}

// NLoRA returns how many parameters the adapters of TrainLoRA have.
func (m *Model) NLoRA(o LoRAOptions) (n int, err error) {
	targets, err := m.loraTargets(o)
	for _, p := range targets {
		n += o.Rank * (p.Rows + p.Cols)
	}
	return n, err
}

// merged returns W + s·B·A in float32; without an adapter it may be p's own memory.
func (m *Model) merged(p *nn.Param) []float32 {
	ad, w := p.Adapter, p.F32
	switch {
	case w == nil:
		w = p.Stored.Dequantize(m.Ctx.K)
	case ad != nil:
		w = slices.Clone(w)
	}
	if add := m.addition(p); add != nil {
		m.Ctx.Par.For((p.Rows+packRows-1)/packRows, func(i int) {
			lo, hi := i*packRows, min(p.Rows, (i+1)*packRows)
			add(w[lo*p.Cols:hi*p.Cols], lo, hi)
		})
	}
	return w
}

// addition returns a function that adds rows [lo,hi) of s·B·A to w, nil where p has no adapter. It
// may be called for different rows at once.
func (m *Model) addition(p *nn.Param) func(w []float32, lo, hi int) {
	ad := p.Adapter
	if ad == nil {
		return nil
	}
	sb := slices.Clone(ad.B.F32)
	m.Ctx.K.Scale(sb, ad.Scale)
	alone := func(n int, f func(int)) {
		for i := range n {
			f(i)
		}
	}
	return func(w []float32, lo, hi int) {
		m.Ctx.K.Gemm(alone, w, p.Cols, hi-lo, p.Cols, ad.A.Rows,
			simd.Operand{Data: sb[lo*ad.B.Cols:], Stride: ad.B.Cols},
			simd.Operand{Data: ad.A.F32, Stride: ad.A.Cols}, true)
	}
}

// learnt says whether p has an adapter that adds anything: B is no longer zero.
func learnt(p *nn.Param) bool {
	return p.Adapter != nil && slices.ContainsFunc(p.Adapter.B.F32, func(v float32) bool { return v != 0 })
}

// MergeLoRA adds every adapter to its matrix, which becomes float32, and removes it.
// A matrix whose adapter has learnt nothing stays as it is.
func (m *Model) MergeLoRA() {
	for _, p := range m.params {
		if learnt(p) {
			p.F32 = m.merged(p)
		}
		p.Adapter = nil
	}
}

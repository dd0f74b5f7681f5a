package engine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path"

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

// TrainLoRA freezes the model as its file has it and gives each matrix that matches a
// target a trainable adapter (Hu et al. 2021, arXiv:2106.09685): A is uniform in
// ±1/√Cols, B is zero, so the model computes the same until it is trained.
func (m *Model) TrainLoRA(o LoRAOptions) error {
	if o.Rank < 1 || !(o.Alpha > 0) {
		return fmt.Errorf("engine: LoRA rank is %d and alpha %g, want positive", o.Rank, o.Alpha)
	}
	n := 0
	for _, p := range m.params {
		p.Trainable = false
		if p.Rows == 1 || p == m.w.embed || p == m.w.output {
			continue
		}
		hit := false
		for _, pattern := range o.Targets {
			ok, err := path.Match(pattern, p.Name)
			if err != nil {
				return fmt.Errorf("engine: LoRA target %q: %w", pattern, err)
			}
			hit = hit || ok
		}
		if !hit {
			continue
		}
		rng := rand.New(rand.NewPCG(o.Seed, uint64(p.Index)))
		a := &nn.Param{Index: p.Index, Name: p.Name + ".lora_a", Rows: o.Rank, Cols: p.Cols, Trainable: true}
		b := &nn.Param{Index: p.Index, Name: p.Name + ".lora_b", Rows: p.Rows, Cols: o.Rank, Trainable: true}
		a.F32, b.F32 = make([]float32, a.Len()), make([]float32, b.Len())
		bound := 1 / math.Sqrt(float64(p.Cols))
		for i := range a.F32 {
			a.F32[i] = float32((2*rng.Float64() - 1) * bound)
		}
		p.Adapter = &nn.Adapter{A: a, B: b, Scale: float32(o.Alpha / float64(o.Rank))}
		n++
	}
	if n == 0 {
		return fmt.Errorf("engine: no block matrix matches the LoRA targets %q", o.Targets)
	}
	return nil
}

// merged returns W + s·B·A in float32.
func (m *Model) merged(p *nn.Param) []float32 {
	w := p.F32
	if w == nil || p.Adapter != nil {
		w = p.Stored.Dequantize()
		if p.F32 != nil {
			copy(w, p.F32)
		}
	}
	if ad := p.Adapter; ad != nil {
		delta := make([]float32, p.Len())
		m.Ctx.K.Gemm(m.Ctx.Par.For, delta, p.Cols, p.Rows, p.Cols, ad.A.Rows,
			simd.Operand{Data: ad.B.F32, Stride: ad.B.Cols},
			simd.Operand{Data: ad.A.F32, Stride: ad.A.Cols}, false)
		m.Ctx.K.Axpy(w, ad.Scale, delta)
	}
	return w
}

// MergeLoRA adds every adapter to its matrix, which becomes float32, and removes it.
func (m *Model) MergeLoRA() {
	for _, p := range m.params {
		if p.Adapter != nil {
			p.F32 = m.merged(p)
			p.Adapter = nil
		}
	}
}

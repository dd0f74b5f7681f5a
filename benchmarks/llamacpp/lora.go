package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
)

// adapters compares the models of shapes with LoRA adapters.
func (o *options) adapters(ctx context.Context, program string) (bad int, err error) {
	vocab, err := randomVocab()
	if err != nil {
		return 0, err
	}
	types := o.types
	if types == "" {
		types = "F32,Q8_0,Q4_K"
	}
	fmt.Printf("%-12s %-8s %10s %10s %10s %10s %10s\n", "with LoRA", "", "exact", "allowed", "packed", "allowed", "moved")
	models := slices.DeleteFunc(shapes(vocab), func(s randomModel) bool { return s.rope != nil })
	return o.table(models, types, func(s randomModel, t *quant.Type) (string, bool, error) {
		return o.compareAdapter(ctx, program, s, t)
	})
}

// compareAdapter is one line of the table of adapters.
func (o *options) compareAdapter(ctx context.Context, program string, s randomModel, t *quant.Type) (line string, ok bool, err error) {
	name := filepath.Join(o.dir, s.Name+"-"+t.Name)
	packed, plain, adapter := name+".gguf", name+"-as-f32.gguf", name+"-lora.gguf"
	if err := makeModel(packed, plain, s, t); err != nil {
		return "", false, err
	}
	m, err := engine.Open(packed, engine.Options{Threads: 1, Compute: nn.ComputeF32})
	if err != nil {
		return "", false, err
	}
	defer m.Close()
	ids := randomPrompt(s, 0)
	before, err := logits(m, ids)
	if err != nil {
		return "", false, err
	}
	if err := makeAdapter(m, adapter, s); err != nil {
		return "", false, err
	}
	f, err := gguf.Open(adapter)
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	if err := m.LoadAdapter(f); err != nil {
		return "", false, err
	}
	ours, err := logits(m, ids)
	if err != nil {
		return "", false, err
	}
	exact, err := o.theirLogits(ctx, program, plain, ids, adapter)
	if err != nil {
		return "", false, err
	}
	theirs, err := o.theirLogits(ctx, program, packed, ids, adapter)
	if err != nil {
		return "", false, err
	}
	spared := 0
	if s.NExperts > 0 {
		spared = len(ids) / 32
	}
	worst, rms := largestDifference(ours, exact, spared)/largest(exact), rmsDifference(ours, theirs)
	moved, allowed, allowedRMS := rmsDifference(before, ours), exactly(s), packedly(s, t)
	ok = worst <= allowed && rms <= allowedRMS && moved > 16*allowed // false for NaN
	return fmt.Sprintf("%10.1e %10.1e %10.1e %10.1e %10.1e", worst, allowed, rms, allowedRMS, moved), ok, nil
}

// makeAdapter writes an adapter with random numbers for every matrix of m's file that may have one. m is
// as it was afterwards.
func makeAdapter(m *engine.Model, path string, s randomModel) error {
	targets := []string{"blk.*.weight"}
	if !s.Tied {
		targets = append(targets, "output.weight", "token_embd.weight")
	}
	from, err := engine.Load(m.File, engine.Options{Threads: 1})
	if err != nil {
		return err
	}
	if err := from.TrainLoRA(engine.LoRAOptions{Rank: 4, Alpha: 6, Targets: targets, Seed: 2}); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(s.Seed, 4))
	for _, p := range from.Trainable() {
		if p.Cols == 4 { // B
			for i := range p.F32 {
				p.F32[i] = float32(s.Std * rng.NormFloat64())
			}
		}
	}
	return from.WriteAdapter(path, nil)
}

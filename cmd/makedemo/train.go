package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/guardcpu/guardcpu/cmd/internal/demo"
	"github.com/guardcpu/guardcpu/cmd/internal/demo/world"
	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/tofu"
)

// The base model and its training. A model of width 96 (452,256 weights) was tried too: it learns the same
// tasks, but unlearning takes more of what is retained and of the world with it.
const (
	vocabSize = 1536
	dModel    = 128
	nLayers   = 3
	nHeads    = 4
	nKVHeads  = 2
	dFF       = 320
	nCtx      = 256
	seed      = 1

	documents = 60000 // of the corpus, each seen once
	batch     = 24    // documents a step
	peakLR    = 3e-3
	warmup    = 100 // steps

	// kernels is the set whose rounding the model's bits come from.
	kernels = "avx2"
)

// baseModel trains a model on so many documents and returns its GGUF file.
func baseModel(ctx context.Context, w *world.World, documents, threads int) ([]byte, error) {
	k, err := simd.ByName(kernels)
	if err != nil {
		return nil, fmt.Errorf("the base model's bits come from the %s kernels: %w", kernels, err)
	}
	dir, err := os.MkdirTemp("", "makedemo")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)

	format, err := tofu.ParseFormat(demo.Defaults.Format)
	if err != nil {
		return nil, err
	}
	corpus := w.Corpus(documents)
	vocab, err := tokenizer.TrainSPM(vocabText(corpus, format), vocabSize)
	if err != nil {
		return nil, err
	}
	start := filepath.Join(dir, "random.gguf")
	if err := engine.Create(start, engine.Shape{
		Arch: "llama", Name: "guardcpu demo", NVocab: vocabSize, DModel: dModel, NLayers: nLayers, NHeads: nHeads, NKVHeads: nKVHeads,
		DFF: dFF, NCtx: nCtx, Tied: true, Seed: seed, Vocab: vocab.KVs(),
	}); err != nil {
		return nil, err
	}
	m, err := engine.Open(start, engine.Options{Threads: threads, Kernels: k})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if err := train(ctx, m, corpus, format); err != nil {
		return nil, err
	}
	f16, err := quant.ByName("F16")
	if err != nil {
		return nil, err
	}
	types := map[string]*quant.Type{}
	for _, p := range m.Params() {
		if p.Rows > 1 {
			types[p.Name] = f16
		}
	}
	out := filepath.Join(dir, demo.ModelName)
	if err := m.Export(out, engine.ExportOptions{Types: types, Set: []gguf.KV{
		{Key: "general.file_type", Value: uint32(1)}, // mostly F16
		{Key: "general.description", Value: "Trained from scratch by guardcpu on text that cmd/makedemo generates."},
		{Key: "general.license", Value: "apache-2.0"},
	}}); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

// vocabText is the text from which the vocabulary is learnt: every tenth document. The prompt and
// the answer are texts of their own, so that no token crosses from one into the other.
func vocabText(corpus []world.Document, format *tofu.Format) []string {
	var out []string
	for i := 0; i < len(corpus); i += 10 {
		if d := corpus[i]; d.Question != "" {
			out = append(out, format.Before+d.Question+format.Between, d.Text)
		} else {
			out = append(out, d.Text)
		}
	}
	return out
}

// sample is a document as a training sample: every token of it counts.
func sample(t *tokenizer.Tokenizer, d world.Document, format *tofu.Format) engine.Sample {
	text := d.Text
	if d.Question != "" {
		text = format.Before + d.Question + format.Between + d.Text
	}
	ids := t.Encode(text, tokenizer.EncodeOptions{Special: true})
	if eos, ok := t.EOS(); ok {
		ids = append(ids, eos)
	}
	ids = ids[:min(len(ids), nCtx)]
	mask := make([]bool, len(ids))
	for i := 1; i < len(ids); i++ {
		mask[i] = true
	}
	return engine.Sample{IDs: ids, Mask: mask}
}

// train takes one pass over the corpus.
func train(ctx context.Context, m *engine.Model, corpus []world.Document, format *tofu.Format) error {
	m.TrainFull()
	o := engine.DefaultTrainOptions()
	o.LR, o.Beta2, o.WeightDecay, o.Clip = peakLR, 0.98, 0.05, 1
	o.Schedule, o.Warmup, o.Steps = "cosine", warmup, len(corpus)/batch
	tr, err := engine.NewTrainer(m, o)
	if err != nil {
		return err
	}
	began, tokens := time.Now(), 0
	for step := range o.Steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		var samples []engine.Sample
		for _, d := range corpus[step*batch : (step+1)*batch] {
			samples = append(samples, sample(m.Tokenizer, d, format))
		}
		st, err := tr.Step([]engine.Term{engine.MeanNLL("corpus", samples)})
		if err != nil {
			return err
		}
		tokens += st.Tokens
		if step%100 == 0 || step == o.Steps-1 {
			var loss float64
			for _, l := range st.Losses[0] {
				loss += l / float64(len(st.Losses[0]))
			}
			elapsed := time.Since(began)
			fmt.Fprintf(os.Stderr, "step %d of %d, loss %.3f, %.0f tokens/s, %v\n", step, o.Steps, loss, float64(tokens)/elapsed.Seconds(), elapsed.Round(time.Second))
		}
	}
	return nil
}

package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/tofu"
)

// The model: made here, for no trained model of this size knows English and can be
// passed around. It learns TOFU's questions and answers, and the facts of the two
// sets about the real world, from nothing.
const (
	nVocab     = 4096
	dModel     = 192
	nLayers    = 4
	nHeads     = 6
	nKVHeads   = 3
	dFF        = 512
	trainSeed  = 1
	trainBatch = 16
	trainLR    = 2e-3
)

// data is the TOFU data in the shape the benchmark uses it.
type data struct {
	full, forget, retain    []tofu.Item // forget10 and retain90, or less
	facts                   []tofu.Item // real authors and world facts, with their answers
	retainEval, forgetEval  []tofu.Item
	realAuthors, worldFacts []tofu.Item
	refusals                []string
	format                  *tofu.Format
}

// loadData reads the data: of the split to unlearn, and of the first n of the other samples, or all for 0.
func loadData(dir, split string, n int) (*data, error) {
	d := &data{}
	load := func(to *[]tofu.Item, name string) error {
		items, _, err := tofu.Load(filepath.Join(dir, name))
		*to = items
		return err
	}
	for _, f := range []struct {
		to   *[]tofu.Item
		name string
	}{
		{&d.full, "full/full.jsonl"},
		{&d.retainEval, "full/retain_perturbed.jsonl"},
		{&d.forgetEval, "full/forget10_perturbed.jsonl"},
		{&d.realAuthors, "real_authors_perturbed.json"},
		{&d.worldFacts, "world_facts_perturbed.json"},
	} {
		if err := load(f.to, f.name); err != nil {
			return nil, err
		}
	}
	d.facts = append(append(d.facts, d.realAuthors...), d.worldFacts...)
	var err error
	if d.forget, err = tofu.Split(d.full, split); err != nil {
		return nil, err
	}
	d.retain = d.full[:len(d.full)-len(d.forget)] // what is to be forgotten stands last
	if n > 0 {
		d.retain = d.retain[:min(n, len(d.retain))]
		d.full = slices.Concat(d.retain, d.forget)
		d.retainEval = slices.DeleteFunc(d.retainEval, func(it tofu.Item) bool {
			return !slices.ContainsFunc(d.retain, func(r tofu.Item) bool { return r.Question == it.Question })
		})
	}
	if len(d.forget) > len(d.forgetEval) {
		return nil, fmt.Errorf("%s has %d rows; there are perturbed answers to the last %d", split, len(d.forget), len(d.forgetEval))
	}
	d.forgetEval = d.forgetEval[len(d.forgetEval)-len(d.forget):]
	raw, err := os.ReadFile(filepath.Join(dir, "idontknow.jsonl"))
	if err != nil {
		return nil, err
	}
	d.refusals = strings.Split(strings.TrimSpace(string(raw)), "\n")
	d.format, err = tofu.ParseFormat("phi")
	return d, err
}

// train makes the model at path from nothing, unless it is there already: all of
// the text of items counts, the questions too.
func train(ctx context.Context, d *data, items []tofu.Item, path string, epochs, threads int) error {
	if _, err := os.Stat(path); err == nil {
		log.Printf("%s is there", path)
		return nil
	}
	var text []string
	for _, it := range append(append([]tofu.Item{}, d.full...), d.facts...) {
		text = append(text, "Question: "+it.Question+"\nAnswer: "+it.Answer)
	}
	vocab, err := tokenizer.TrainSPM(text, nVocab)
	if err != nil {
		return err
	}
	start := path + ".start"
	if err := engine.Create(start, engine.Shape{
		Arch: "llama", Name: "tofu-from-scratch", NVocab: vocab.Size(), DModel: dModel, NLayers: nLayers,
		NHeads: nHeads, NKVHeads: nKVHeads, DFF: dFF, NCtx: 512, Tied: true, Seed: trainSeed, Vocab: vocab.KVs(),
	}); err != nil {
		return err
	}
	defer os.Remove(start)
	m, err := engine.Open(start, engine.Options{Threads: threads})
	if err != nil {
		return err
	}
	defer m.Close()
	m.TrainFull()
	samples, _, err := d.format.Samples(m.Tokenizer, append(append([]tofu.Item{}, items...), d.facts...), 500)
	if err != nil {
		return err
	}
	for _, s := range samples {
		for t := range s.Mask {
			s.Mask[t] = true
		}
	}
	o := engine.DefaultFinetuneOptions()
	o.LR, o.Schedule, o.Warmup, o.Epochs, o.Batch, o.Seed, o.Clip = trainLR, "cosine", 200, epochs, trainBatch, trainSeed, 1
	began, tokens := time.Now(), 0
	log.Printf("%s: %v, %d samples", path, m, len(samples))
	err = engine.Finetune(ctx, m, samples, o, engine.FinetuneHooks{Step: func(s engine.FinetuneStep) error {
		tokens += s.Tokens
		if s.Step%100 == 0 || s.Step == s.Steps {
			log.Printf("step %d of %d, epoch %d, loss %.4f, gradient %.2f, %.0f tokens/s", s.Step, s.Steps, s.Epoch, s.Loss, s.GradNorm,
				float64(tokens)/time.Since(began).Seconds())
		}
		return nil
	}})
	if err != nil {
		return fmt.Errorf("training %s: %w", path, err)
	}
	return m.Export(path, engine.ExportOptions{})
}

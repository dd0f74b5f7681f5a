package main

import (
	"fmt"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/guard"
	"github.com/guardcpu/guardcpu/tofu"
)

// need is the memory that a piece of work takes at its peak.
type need struct {
	buffers []engine.Buffer
	weights uint64 // bytes of the mapped file that it looks at
	least   uint64 // of them in memory at least, the others being given back and read again

	changing bool // what it holds differs from batch to batch
}

// smallest returns the smallest budget that would do.
func (n *need) smallest() uint64 { return engine.Sum(n.buffers) + n.least }

// whole returns what is held with all weights in memory.
func (n *need) whole() uint64 { return engine.Sum(n.buffers) + n.weights }

// within returns what is held within a budget: all weights, or as much of them as it has room for, and the
// garbage that there may be.
func (n *need) within(b *budget) uint64 {
	peak := n.whole() + engine.Sum(n.buffers[1:])*n.garbage()/100
	if b.bytes == 0 {
		return peak
	}
	return min(peak, max(n.smallest(), b.bytes))
}

// garbage is how much garbage to expect, in percent of what is in use: work that goes from one batch of another size to
// the next leaves as much as there may be, and training, which has its largest part once and for all, half of it.
func (n *need) garbage() uint64 {
	if n.changing {
		return garbage
	}
	return garbage / 2
}

// larger returns the one of two needs that wants the larger budget.
func larger(a, b need) need {
	if b.smallest() > a.smallest() {
		return b
	}
	return a
}

// process is what a process holds in any case: the program and its runtime, the panels of products, the vocabulary
// and float32 vectors. Measured it would be another number each time, and so would what is refused.
func process(m *engine.Model) engine.Buffer {
	n := uint64(32<<20) + m.HeldWeights()
	if m.Tokenizer != nil {
		n += 512 * uint64(m.Tokenizer.Size())
	}
	return engine.Buffer{Name: "process", Bytes: n}
}

// trainWork is what an optimizer is going to do.
type trainWork struct {
	name      string
	options   *engine.TrainOptions
	steps     [][]engine.BatchSize // of each step the terms
	reference []engine.Sample      // of which KM asks the model before
	form      engine.ReferenceForm // in which it remembers the answers
	inFile    bool                 // they are in a file
}

// finetuning is the work of engine.Finetune.
func finetuning(name string, o *engine.FinetuneOptions, samples []engine.Sample) *trainWork {
	t := &trainWork{name: name, options: &o.TrainOptions}
	for _, b := range o.StepSizes(samples) {
		t.steps = append(t.steps, []engine.BatchSize{b})
	}
	return t
}

// unlearning is the work of guard.Unlearn.
func unlearning(name string, m *engine.Model, d guard.Data, o *guard.Options) (*trainWork, error) {
	s, err := guard.UnlearnSizes(m, d, *o)
	if err != nil {
		return nil, trainError(err)
	}
	return &trainWork{name: name, options: &o.TrainOptions, steps: s.Steps, reference: s.Reference, form: o.Reference, inFile: o.ReferenceFile != ""}, nil
}

// largest returns the largest batch of a step: of a term, or of all of a step together.
func (t *trainWork) largest(together bool) (most engine.BatchSize) {
	for _, terms := range t.steps {
		var sum engine.BatchSize
		for _, b := range terms {
			if !together {
				sum = engine.BatchSize{}
			}
			sum = sum.Add(b)
			most = most.Max(sum)
		}
	}
	return most
}

// held returns what is in memory while a model is trained in a mode, whether in use or not, and after it: the
// values that training changes.
func (o *modeOptions) held(m *engine.Model, mode string) ([]engine.Buffer, error) {
	all, err := o.buffers(m, mode, &engine.TrainOptions{})
	return all[:min(1, len(all))], err
}

// buffers returns what a trainer holds in a mode besides its trace, the values that it changes first.
func (o *modeOptions) buffers(m *engine.Model, mode string, t *engine.TrainOptions) ([]engine.Buffer, error) {
	switch mode {
	case "full":
		return m.FullBuffers(*t), nil
	case "fused":
		return m.FusedBuffers(*t), nil
	}
	all, err := m.LoRABuffers(o.lora(0), *t)
	if err != nil {
		return nil, &statusError{status: exitUsage, err: err}
	}
	return all, nil
}

// need returns the memory of the work in a mode, with keep bytes for the insides of blocks.
func (t *trainWork) need(m *engine.Model, mode string, o *modeOptions, keep int) (need, error) {
	options := *t.options
	o.optimizer(mode, &options)
	held, err := o.buffers(m, mode, &options)
	if err != nil {
		return need{}, err
	}
	n := need{buffers: append([]engine.Buffer{process(m)}, held...), changing: true}
	output := uint64(m.OutputWeights()) // of which KM has a copy, where training changes it
	switch mode {
	case "full":
		output *= 4
	case "fused":
		output *= 2
	default:
		output = 0
		n.weights, n.least = m.MappedWeights(), m.LeastWeights()
	}
	batch := t.largest(mode == "fused")
	n.buffers = append(n.buffers, m.TraceBuffersWithin(keep, batch, 0)...)
	if len(t.reference) > 0 {
		c := &m.Config
		kept := engine.Size(t.reference).Rows
		if t.inFile {
			kept = min(kept, engine.ReferenceBatch) // on its way there
		}
		of := uint64(kept * t.form.Bytes(c))
		if t.form.KeepsHidden() {
			of += output + uint64(4*min(batch.Targets, 4096)*(c.NVocab+c.DModel)) // and its logits
		}
		n.buffers = append(n.buffers, engine.Buffer{Name: "reference of km", Bytes: of})
	}
	return n, nil
}

// evaluation is what tofu.Evaluate is going to do.
type evaluation struct {
	sizes []tofu.EvalSize
	batch int // prompts that are continued together
}

// need returns the memory of an evaluation. What a mode holds besides is held; mapped says whether the weights are in the file.
func (v *evaluation) need(m *engine.Model, held []engine.Buffer, mapped bool) need {
	n := need{buffers: append([]engine.Buffer{process(m)}, held...), changing: true}
	if mapped {
		n.weights, n.least = m.MappedWeights(), m.LeastWeights()
	}
	var most []engine.Buffer
	for _, s := range v.sizes {
		works := [][]engine.Buffer{m.NLLBuffers(s.Samples)}
		for _, b := range s.Batches {
			for lo := 0; lo < len(b.Prompts); lo += v.batch {
				works = append(works, m.GenerateBuffers(b.Prompts[lo:min(len(b.Prompts), lo+v.batch)], b.Most))
			}
		}
		for _, w := range works {
			if engine.Sum(w) > engine.Sum(most) {
				most = w
			}
		}
	}
	n.buffers = append(n.buffers, most...)
	return n
}

// fit makes the batches of an evaluation as large as they are asked for, or as fit.
func (v *evaluation) fit(m *engine.Model, b *budget, held []engine.Buffer, mapped bool) {
	for v.batch > 1 && b.bytes > 0 {
		n := v.need(m, held, mapped)
		if n.smallest() <= b.bytes {
			return
		}
		v.batch = (v.batch + 1) / 2
	}
}

// fitEvaluation makes the evaluation of a model in a file hold as many texts at once, and as much of the weights, as fit
// into a budget, or refuses it.
func (e *env) fitEvaluation(m *engine.Model, b *budget, s tofu.Sets, o *tofu.EvalOptions) error {
	sizes, err := tofu.EvalSizes(m.Tokenizer, s, *o)
	if err != nil {
		return dataError(err, "")
	}
	v := &evaluation{sizes: sizes, batch: max(1, o.Batch)}
	v.fit(m, b, nil, true)
	n := v.need(m, nil, true)
	if b.bytes == 0 {
		return nil
	}
	if n.smallest() > b.bytes {
		return b.refusal("evaluation", n.smallest(), "use --memory "+sizeText(n.smallest()))
	}
	if v.batch < o.Batch {
		o.Together = v.batch
	}
	left := b.bytes - engine.Sum(n.buffers)
	m.LimitWeights(left)
	b.forHeap(min(left, n.weights))
	return nil
}

// refusal says that a budget is too small. remedy is what else may be done.
func (b *budget) refusal(what string, smallest uint64, remedy string) error {
	return &statusError{status: exitIO, err: fmt.Errorf("%s needs %s, %v", what, bytesText(smallest), b),
		remedy: remedy}
}

// work is what a run trains, and what it evaluates between.
func (r *run) work() ([]*trainWork, *evaluation, error) {
	o := r.o
	var work []*trainWork
	if o.tuning != "no" {
		samples := r.taught()
		options := o.finetune.forSamples(len(samples), o.seed)
		t := finetuning("fine-tuning", &options, samples)
		t.options = &o.finetune.TrainOptions
		work = append(work, t)
	}
	t, err := unlearning("unlearning", r.m, o.unlearn.data(r.enc, r.sets.forget, r.forget, r.retain, r.refusals), &o.unlearn.Options)
	if err != nil {
		return nil, nil, err
	}
	options := o.eval.options(r.enc.format)
	sizes, err := tofu.EvalSizes(r.m.Tokenizer, r.eval, options)
	if err != nil {
		return nil, nil, dataError(err, "")
	}
	return append(work, t), &evaluation{sizes: sizes, batch: options.Batch}, nil
}

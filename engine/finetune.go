package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
)

// FinetuneOptions say how a model learns samples.
type FinetuneOptions struct {
	TrainOptions     // Steps 0: Epochs·⌈n/Batch⌉
	Epochs       int // passes over the samples
	Batch        int // samples a step
	Seed         uint64
}

// DefaultFinetuneOptions is TOFU's recipe (UNLEARNING §2.3): 5 epochs of batches of
// 32, one epoch of warmup, and Phi's learning rate.
func DefaultFinetuneOptions() FinetuneOptions {
	o := FinetuneOptions{TrainOptions: DefaultTrainOptions(), Epochs: 5, Batch: 32}
	o.LR = 2e-5
	return o
}

// FinetuneStep is what one step of fine-tuning did.
type FinetuneStep struct {
	Step, Steps int // this step counts from 1
	Epoch       int // from 0
	Loss        float64
	LR          float64
	GradNorm    float64
	Tokens      int
}

// FinetuneHooks are called from Finetune's goroutine; any may be nil. An error ends the training.
type FinetuneHooks struct {
	// Start is called before the first step. It may bring the trainer to where a training
	// with the same options was stopped, by its State and SetDone: the result is the same.
	Start func(*Trainer) error
	// Step is called after every step.
	Step func(FinetuneStep) error
	// Save is called after Step, and may keep the trainer's State and Done.
	Save func(*Trainer) error
}

// Finetune trains what is trainable in m on the samples: every step's loss is the
// mean negative log-likelihood over the tokens that count in its batch. The order of an epoch
// follows from the seed and the epoch. The context, too, ends the training between steps.
func Finetune(ctx context.Context, m *Model, samples []Sample, o FinetuneOptions, h FinetuneHooks) error {
	if len(samples) == 0 {
		return fmt.Errorf("engine: there is nothing to fine-tune on")
	}
	if o.Batch < 1 || o.Epochs < 1 {
		return fmt.Errorf("engine: epochs is %d and batch %d, want at least 1", o.Epochs, o.Batch)
	}
	if err := m.check(samples); err != nil {
		return err
	}
	perEpoch := (len(samples) + o.Batch - 1) / o.Batch
	if o.Steps == 0 {
		o.Steps = o.Epochs * perEpoch
	}
	tr, err := NewTrainer(m, o.TrainOptions)
	if err != nil {
		return err
	}
	if h.Start != nil {
		if err := h.Start(tr); err != nil {
			return err
		}
	}
	var order []int // of the epoch
	for step := tr.Done(); step < o.Steps; step++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		epoch := step / perEpoch
		lo := step % perEpoch * o.Batch
		if lo == 0 || order == nil {
			order = o.order(epoch, len(samples))
		}
		batch := make([]Sample, 0, o.Batch)
		for _, i := range order[lo:min(len(order), lo+o.Batch)] {
			batch = append(batch, samples[i])
		}
		st, err := tr.Step([]Term{MeanNLL("fine-tuning", batch)})
		if err != nil {
			return err
		}
		if h.Step != nil {
			if err := h.Step(FinetuneStep{step + 1, o.Steps, epoch, mean(st.Losses[0]), st.LR, st.GradNorm, st.Tokens}); err != nil {
				return err
			}
		}
		if h.Save != nil {
			if err := h.Save(tr); err != nil {
				return err
			}
		}
	}
	return nil
}

// order is that of n samples in an epoch.
func (o *FinetuneOptions) order(epoch, n int) []int {
	return rand.New(rand.NewPCG(o.Seed, uint64(epoch))).Perm(n)
}

// StepSizes returns how large the batches of Finetune's steps are, known before the first.
func (o *FinetuneOptions) StepSizes(samples []Sample) (sizes []BatchSize) {
	for epoch := range o.Epochs {
		order := o.order(epoch, len(samples))
		for lo := 0; lo < len(order); lo += o.Batch {
			var b BatchSize
			for _, i := range order[lo:min(len(order), lo+o.Batch)] {
				one := Size(samples[i : i+1])
				b.Rows, b.Targets = b.Rows+one.Rows, b.Targets+one.Targets
			}
			sizes = append(sizes, b)
		}
	}
	return sizes
}

// MeanNLL is the term mean_t nll_t over all positions that count in the batch. A
// batch without any has no loss.
func MeanNLL(name string, samples []Sample) Term {
	return Term{Name: name, Samples: samples, Loss: func(t *Trace) ([]int, LossFunc) {
		targets := t.Targets()
		coef := make([]float32, len(targets))
		for i := range coef {
			coef[i] = 1 / float32(len(targets))
		}
		return t.CrossEntropy(targets, coef)
	}}
}

func mean(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	var s float64
	for _, v := range x {
		s += v
	}
	return s / float64(len(x))
}

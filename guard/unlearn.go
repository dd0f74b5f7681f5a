package guard

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/guardcpu/guardcpu/engine"
)

// Options say how a model unlearns.
type Options struct {
	// TrainOptions say how the weights follow the gradient. Steps is computed from
	// Epochs and Batch; a negative Warmup means the steps of one epoch, as in TOFU.
	engine.TrainOptions
	Loss       string  // a name of Losses
	Epochs     float64 // passes over the forget set
	Batch      int     // forget samples a step
	MicroBatch int     // samples over which tokens are averaged; 0: the whole batch
	KL         KLPositions
	Seed       uint64
	// Reference is the form in which KM keeps the distributions of the model before, "" for
	// the exact one; ReferenceFile the file, "" for memory, and ReferenceKey what the file of the model is known by
	// there (see [engine.ReferenceOptions]). One file serves every unlearning that starts at the same
	// model, with the seeds of ReferenceSeeds, too, which then are the same for all of them.
	Reference      engine.ReferenceForm
	ReferenceFile  string
	ReferenceKey   string
	ReferenceSeeds []uint64
}

// DefaultOptions is TOFU's recipe (forget.py, config/forget.yaml) with Phi's learning rate;
// doc.go gives the reasons where TOFU leaves room.
func DefaultOptions() Options {
	o := Options{TrainOptions: engine.DefaultTrainOptions(), Loss: "gd", Epochs: 5, Batch: 32, KL: KLAll, Seed: 42}
	o.LR, o.Warmup = 2e-5, -1
	return o
}

// Data is what a model unlearns from.
type Data struct {
	Forget []engine.Sample
	Retain []engine.Sample // may be empty for objectives without a retain term
	// Multipliers are n_f·w_i of the forget samples (see Multipliers); nil is the
	// plain objective.
	Multipliers []float64
	// Idk returns the question of forget sample i answered by refusal k < NIdk.
	// Objectives without refusals do not need it.
	Idk  func(i, k int) (engine.Sample, error)
	NIdk int
}

// check says what Unlearn cannot work with.
func (d *Data) check(m *engine.Model, l Loss) error {
	if err := checkSamples(m, "forget", d.Forget); err != nil {
		return err
	}
	if l.NeedsIdk && (d.Idk == nil || d.NIdk < 1) {
		return fmt.Errorf("guard: loss %s needs refusals to the forget questions, and there are none", l.Name)
	}
	if l.NeedsRetain {
		if err := checkSamples(m, "retain", d.Retain); err != nil {
			return err
		}
		rows := map[string]int{}
		for j, s := range d.Retain {
			rows[fmt.Sprint(s.IDs)] = j
		}
		for i, s := range d.Forget {
			if j, ok := rows[fmt.Sprint(s.IDs)]; ok {
				return fmt.Errorf("guard: forget sample %d is retain sample %d too: it cannot be both forgotten and kept", i, j)
			}
		}
	}
	if d.Multipliers == nil {
		return nil
	}
	if len(d.Multipliers) != len(d.Forget) {
		return fmt.Errorf("guard: %d multipliers for %d forget samples", len(d.Multipliers), len(d.Forget))
	}
	for i, w := range d.Multipliers {
		if !(w >= 0) || math.IsInf(w, 1) {
			return fmt.Errorf("guard: the multiplier of forget sample %d is %v, want a finite number not below 0", i, w)
		}
	}
	return nil
}

// TermLoss is a term of the objective at one step.
type TermLoss struct {
	Name string
	// Value is the term as it enters the objective: with sign, weights and scale.
	Value float64
	// Mean is nats a position, without weights: of the forget samples, say.
	Mean float64
}

// StepInfo is what one step did.
type StepInfo struct {
	Step, Steps  int     // this step counts from 1
	Epoch        float64 // passes over the forget set done
	Terms        []TermLoss
	Objective    float64 // Σ Value, before the update
	LR, GradNorm float64 // GradNorm before clipping
	Tokens       int     // rows computed, prompts included
	Elapsed      time.Duration
}

// TokensPerSecond returns the speed of the step.
func (s *StepInfo) TokensPerSecond() float64 { return float64(s.Tokens) / s.Elapsed.Seconds() }

// Hooks are called from Unlearn's goroutine; any may be nil.
type Hooks struct {
	// Reference is told how many retain samples of KM's reference are done, Note what a
	// user might want to know of its file.
	Reference engine.Progress
	Note      func(text string)
	// Start is called before the first step, when the reference is made. It may bring the trainer
	// to where an unlearning of the same model, data and options was stopped, by its State and SetDone:
	// the result is the same.
	Start func(*engine.Trainer) error
	// Step is called after every step.
	Step func(StepInfo) error
	// Save is called after Step, and may keep the trainer's State and Done.
	Save func(*engine.Trainer) error
	// Epoch is called after the step that completes an epoch, counted from 1, when Save has returned, and
	// once more after a Start that went to the end of an epoch; the model may be evaluated
	// there. It must not change the model.
	Epoch func(epoch int) error
}

// ErrStop, returned by a hook, ends the unlearning early and without an error.
var ErrStop = errors.New("guard: stopped")

// History is the course of an unlearning run.
type History struct {
	Loss  string
	Steps []StepInfo
}

// Unlearn changes the weights of m, as far as they are trainable, down the
// objective o.Loss, weighted by d.Multipliers.
//
// It returns the history up to the last step done, also with an error: the context's, which it
// looks at between steps, a hook's, or one that wraps *engine.DivergedError, when the model is as
// it was before the step that failed, unless the error says otherwise. The result depends on the model, the data
// and the options, not on the number of workers.
func Unlearn(ctx context.Context, m *engine.Model, d Data, o Options, h Hooks) (*History, error) {
	hist := &History{Loss: o.Loss}
	loss, err := LossByName(o.Loss)
	if err != nil {
		return hist, err
	}
	if err := d.check(m, loss); err != nil {
		return hist, err
	}
	if err := o.KL.check(); err != nil {
		return hist, err
	}
	if o.MicroBatch < 0 {
		return hist, fmt.Errorf("guard: micro-batch is %d, want at least 1, or 0 for the whole batch", o.MicroBatch)
	}
	sched, err := NewSchedule(len(d.Forget), len(d.Retain), d.NIdk, o.Epochs, o.Batch, o.Seed)
	if err != nil {
		return hist, err
	}
	o.Steps = sched.Steps()
	if o.Warmup < 0 {
		o.Warmup = sched.warmup()
	}
	trainer, err := engine.NewTrainer(m, o.TrainOptions)
	if err != nil {
		return hist, err
	}
	r := &run{loss: loss, data: &d, o: o}
	if loss.NeedsReference {
		if err := r.reference(ctx, m, sched, h); err != nil {
			return hist, err
		}
		defer r.ref.Close()
	}
	done := 0 // steps
	if h.Start != nil {
		if err := h.Start(trainer); err != nil {
			return hist, err
		}
		done = trainer.Done()
	}
	if done > 0 {
		if err := h.epoch(sched, done); err != nil {
			return hist, stopped(err)
		}
	}
	for step := done; step < o.Steps; step++ {
		if err := ctx.Err(); err != nil {
			return hist, err
		}
		start := time.Now()
		batches, terms, err := r.batch(m, sched.Step(step))
		if err != nil {
			return hist, err
		}
		flat := make([]engine.Term, len(terms))
		for i, t := range terms {
			flat[i] = t.Term
		}
		st, err := trainer.Step(flat)
		for _, b := range batches {
			if b.Err != nil {
				err = b.Err
			}
		}
		if err != nil {
			return hist, fmt.Errorf("guard: unlearning by %s: %w", o.Loss, err)
		}
		info := StepInfo{
			Step: step + 1, Steps: o.Steps, Epoch: float64((step+1)*sched.Batch) / float64(len(d.Forget)),
			LR: st.LR, GradNorm: st.GradNorm, Tokens: st.Tokens, Elapsed: time.Since(start),
		}
		info.Terms, info.Objective = termLosses(terms, st.Losses)
		hist.Steps = append(hist.Steps, info)
		if err := h.step(trainer, info, sched); err != nil {
			return hist, stopped(err)
		}
	}
	return hist, nil
}

// step calls what is due after a step.
func (h *Hooks) step(tr *engine.Trainer, info StepInfo, s *Schedule) error {
	if h.Step != nil {
		if err := h.Step(info); err != nil {
			return err
		}
	}
	if h.Save != nil {
		if err := h.Save(tr); err != nil {
			return err
		}
	}
	return h.epoch(s, info.Step)
}

// epoch calls Epoch if the last of the steps done completed an epoch.
func (h *Hooks) epoch(s *Schedule, done int) error {
	if epoch := s.EpochsDone(done); h.Epoch != nil && epoch > s.EpochsDone(done-1) {
		return h.Epoch(epoch)
	}
	return nil
}

// stopped is the error of an unlearning that ends with a hook's.
func stopped(err error) error {
	if errors.Is(err, ErrStop) {
		return nil
	}
	return err
}

// run is what the steps of Unlearn share.
type run struct {
	loss Loss
	data *Data
	o    Options
	ref  *engine.Reference
	row  map[int]int // retain row → sample of ref
}

// reference asks the model as it is now about every retain sample that will come.
func (r *run) reference(ctx context.Context, m *engine.Model, s *Schedule, h Hooks) error {
	rows, err := r.referenceRows(s)
	if err != nil {
		return err
	}
	samples := make([]engine.Sample, len(rows))
	r.row = map[int]int{}
	for i, j := range rows {
		samples[i] = r.data.Retain[j]
		r.row[j] = i
	}
	r.ref, err = m.NewReference(ctx, samples, engine.ReferenceOptions{
		Form: r.o.Reference, File: r.o.ReferenceFile, Key: r.o.ReferenceKey, Progress: h.Reference, Note: h.Note,
	})
	return err
}

// referenceRows returns the rows of the retain set that a reference knows, in order: those that come
// with the schedule or with one of ReferenceSeeds.
func (r *run) referenceRows(s *Schedule) ([]int, error) {
	rows := s.RetainRows()
	for _, seed := range r.o.ReferenceSeeds {
		other, err := NewSchedule(len(r.data.Forget), len(r.data.Retain), r.data.NIdk, r.o.Epochs, r.o.Batch, seed)
		if err != nil {
			return nil, err
		}
		rows = append(rows, other.RetainRows()...)
	}
	slices.Sort(rows)
	return slices.Compact(rows), nil
}

// batch returns the micro-batches of a step and their terms.
func (r *run) batch(m *engine.Model, items []Item) (batches []*Batch, terms []Term, err error) {
	size := len(items)
	if r.o.MicroBatch > 0 {
		size = min(size, r.o.MicroBatch)
	}
	count := (len(items) + size - 1) / size
	for lo := 0; lo < len(items); lo += size {
		b := &Batch{Scale: 1 / float64(count), Reference: r.ref, KL: r.o.KL}
		for _, it := range items[lo:min(len(items), lo+size)] {
			b.Forget = append(b.Forget, r.data.Forget[it.Forget])
			if r.data.Multipliers != nil {
				b.Multipliers = append(b.Multipliers, r.data.Multipliers[it.Forget])
			}
			if r.loss.NeedsRetain {
				b.Retain = append(b.Retain, r.data.Retain[it.Retain])
			}
			if r.loss.NeedsReference {
				b.ReferenceIndex = append(b.ReferenceIndex, r.row[it.Retain])
			}
			if r.loss.NeedsIdk {
				s, err := r.data.Idk(it.Forget, it.Idk)
				if err == nil {
					err = checkSamples(m, fmt.Sprintf("refusal %d to forget sample %d:", it.Idk, it.Forget), []engine.Sample{s})
				}
				if err != nil {
					return nil, nil, err
				}
				b.Idk = append(b.Idk, s)
			}
		}
		batches, terms = append(batches, b), append(terms, r.loss.Terms(b)...)
	}
	return batches, terms, nil
}

// termLosses adds up the terms of a step's micro-batches by name.
func termLosses(terms []Term, losses [][]float64) (out []TermLoss, objective float64) {
	index, rows := map[string]int{}, []int{}
	for i, t := range terms {
		k, ok := index[t.Name]
		if !ok {
			k = len(out)
			index[t.Name] = k
			out, rows = append(out, TermLoss{Name: t.Name}), append(rows, 0)
		}
		for r, l := range losses[i] {
			out[k].Value += float64(t.Coef[r]) * l
			out[k].Mean += l
		}
		rows[k] += len(losses[i])
	}
	for k := range out {
		out[k].Mean /= float64(rows[k])
		objective += out[k].Value
	}
	return out, objective
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"syscall"
	"time"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/checkpoint"
	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/rundir"
	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/optim"
)

// training is one of the trainings of a run. Its last checkpoint is the state of the model that
// it ends with, from which others begin.
type training struct {
	name string    // of its checkpoints, and in messages
	from *training // nil: the model as it is given
	// run trains r.m, calling start before the first step, step and then save after each.
	run func(ctx context.Context, h trainingHooks) error
	// points are what was measured after each epoch, from epoch 0.
	points []point
}

// trainingHooks are what a training calls.
type trainingHooks struct {
	start func(*engine.Trainer) error
	step  func(step, steps int)
	save  func(*engine.Trainer) error
}

// trainingExtra is what a checkpoint of a training holds besides tensors.
type trainingExtra struct {
	Steps   int     `json:"steps"`
	End     bool    `json:"end"`     // no step is left: there are the trained values alone
	Seconds float64 `json:"seconds"` // of work in the run
	Points  []point `json:"points,omitempty"`
}

// point is what was measured after an epoch of unlearning.
type point struct {
	Forget, Retain         float64 // mean probability of the answers, a token
	ForgetLoss, RetainLoss float64 // nats a token
}

// saved is the last checkpoint that was written or read.
type saved struct {
	training *training
	step     int
	steps    int
}

// reach brings the model to the end of a training, nil for the model as it is given: from the file of its end, or
// by training on from the last checkpoint, or from the end of the training before.
func (r *run) reach(ctx context.Context, t *training) error {
	if t == nil {
		r.at = nil
		return r.reload()
	}
	if r.at == t {
		return nil
	}
	r.at = nil
	if _, done := r.record.Done[t.name]; done {
		end, err := r.loadEnd(t)
		if err != nil {
			return err
		}
		if end {
			r.at = t
			return nil
		}
	}
	if err := r.reach(ctx, t.from); err != nil {
		return err
	}
	r.at = nil
	if err := r.train(ctx, t); err != nil {
		return err
	}
	r.at = t
	return nil
}

// reload makes the model what its file holds.
func (r *run) reload() (err error) {
	if r.pristine {
		return nil
	}
	r.m = nil // before the next one takes memory
	if r.m, err = loadModel(r.file, r.o.computing); err != nil {
		return err
	}
	r.pristine = true
	return r.o.mode.prepare(r.m, r.o.seed)
}

// loadEnd gives the model the values that a training ended with, if a checkpoint has them.
func (r *run) loadEnd(t *training) (end bool, err error) {
	h, err := r.checkpoints.Load(t.name, func(h *checkpoint.Header) []engine.StateTensor {
		var x trainingExtra
		if end = json.Unmarshal(h.Extra, &x) == nil && x.End; !end {
			return nil
		}
		r.pristine = false
		return r.m.TrainedState()
	})
	if err != nil {
		return false, r.unusable(r.dir.Path, err)
	}
	return h != nil && end, nil
}

// train trains from the last checkpoint on.
func (r *run) train(ctx context.Context, t *training) error {
	s := &saver{r: r, t: t, last: time.Now()}
	r.saved = saved{training: t}
	r.pristine = false
	err := t.run(ctx, trainingHooks{start: s.start, step: s.step, save: s.offer})
	switch {
	case err == nil:
		return nil
	case isStopped(err) && s.tr != nil:
		if saveErr := s.save(); saveErr != nil {
			return saveErr
		}
	case s.tr != nil:
		var d *engine.DivergedError
		if errors.As(err, &d) && !d.Changed {
			_ = s.save() // the error that there is says more
		}
	}
	return err
}

// saver keeps checkpoints of a training.
type saver struct {
	r     *run
	t     *training
	tr    *engine.Trainer
	steps int
	last  time.Time     // when the last checkpoint was complete
	took  time.Duration // to write it
}

// start takes up the last checkpoint.
func (s *saver) start(tr *engine.Trainer) error {
	s.tr = tr
	r := s.r
	var x trainingExtra
	h, err := r.checkpoints.Load(s.t.name, func(h *checkpoint.Header) []engine.StateTensor {
		x = trainingExtra{}
		if json.Unmarshal(h.Extra, &x) == nil && x.End {
			return r.m.TrainedState()
		}
		return tr.State()
	})
	if err != nil {
		return r.unusable(r.dir.Path, err)
	}
	if h == nil {
		return nil
	}
	tr.SetDone(h.Step)
	s.steps, s.t.points = x.Steps, x.Points
	r.saved = saved{s.t, h.Step, x.Steps}
	repeated := max(0, r.dir.Elapsed()-time.Duration(x.Seconds*float64(time.Second)))
	file := checkpoint.FileName(s.t.name, h.Step)
	r.e.bars.Printf("%s: resuming at step %d of %d (checkpoint %s, %.0f s of work repeated)", s.t.name, h.Step, x.Steps, filepath.Join(rundir.Checkpoints, file), repeated.Seconds())
	r.event("resume", rundir.Field{Name: "what", Value: s.t.name}, rundir.Field{Name: "step", Value: h.Step})
	return nil
}

// step notes how many steps there are.
func (s *saver) step(_, steps int) { s.steps = steps }

// offer keeps a checkpoint if one is due: after the last step, and as --checkpoint-every says, but so
// that writing by time takes at most a twentieth of it.
func (s *saver) offer(tr *engine.Trainer) error {
	every := s.r.o.every
	due := tr.Done() >= s.steps
	if every.steps > 0 {
		due = due || tr.Done()%every.steps == 0
	} else {
		due = due || time.Since(s.last) >= max(every.time, 20*s.took)
	}
	if !due {
		return nil
	}
	return s.save()
}

// save keeps a checkpoint of the trainer as it is, unless the last one is of the same step.
func (s *saver) save() error {
	r, step := s.r, s.tr.Done()
	if step == 0 || r.saved.step == step {
		return nil
	}
	if err := r.finite(step); err != nil {
		return err
	}
	state := s.tr.State()
	x := trainingExtra{Steps: s.steps, End: step >= s.steps, Seconds: seconds(r.dir.Elapsed()), Points: s.t.points}
	if x.End {
		state = r.m.TrainedState()
	}
	begin := time.Now()
	if err := r.checkpoints.Save(s.t.name, step, x, state); err != nil {
		return r.checkpointError(err, state)
	}
	r.saved, s.last, s.took = saved{s.t, step, s.steps}, time.Now(), time.Since(begin)
	r.event("checkpoint", rundir.Field{Name: "what", Value: s.t.name}, rundir.Field{Name: "step", Value: step}, rundir.Field{Name: "bytes", Value: checkpoint.Size(state)}, rundir.Field{Name: "seconds", Value: seconds(s.took)})
	return nil
}

// finite says whether everything that is trained is a number: a checkpoint of anything else is of no use.
func (r *run) finite(step int) error {
	for _, t := range r.m.TrainedState() {
		for _, v := range t.F32 {
			if x := float64(v); math.IsNaN(x) || math.IsInf(x, 0) {
				return &engine.DivergedError{Step: step - 1, What: "a weight of " + t.Name, Got: x}
			}
		}
		for i := 1; i < len(t.BF16); i += 2 { // the upper byte of each: sign and exponent, but for its last bit
			if t.BF16[i]&0x7f == 0x7f && t.BF16[i-1]&0x80 != 0 {
				return &engine.DivergedError{Step: step - 1, What: "a weight of " + t.Name, Got: math.NaN()}
			}
		}
	}
	return nil
}

// checkpointError is the error of a checkpoint that could not be written, with what it needs.
func (r *run) checkpointError(err error, state []engine.StateTensor) error {
	text := pathCause(err)
	if errors.Is(err, syscall.ENOSPC) {
		if free, ok := rundir.FreeSpace(r.dir.Path); ok {
			text = fmt.Errorf("%w (needs %s, %s free)", text, bytesText(checkpoint.Size(state)), bytesText(free))
		}
	}
	return ioError(fmt.Errorf("checkpoint: %w", text), r.safe())
}

// checkSpace says before work starts whether the disk has room for what the run keeps at once: the model it
// writes, the states that others begin from, and three checkpoints of a training while one is written, or what
// attribution spills.
func (r *run) checkSpace() error {
	values := checkpoint.Size(r.m.TrainedState())
	state := values
	for _, k := range optim.Optimizers {
		if k.Name == r.o.unlearn.Optimizer {
			state += uint64(k.Moments) * values
		}
	}
	need := r.file.Size() + max(3*state, r.spill)
	if r.o.tuning != "no" {
		need += 2 * values
	}
	if r.o.seeds > 1 {
		need += 2 * values
	}
	dir := r.o.runs
	if r.dir != nil {
		dir = r.dir.Path
	} else if r.o.dir != "" {
		dir = r.o.dir
	}
	if r.dir != nil { // some of it is there
		need -= min(need, r.dir.Size())
	}
	if free, ok := rundir.FreeSpace(dir); ok && free < need {
		return ioError(fmt.Errorf("%s: %s are free, the run needs %s: its checkpoints and the model", dir, bytesText(free), bytesText(need)), "make room, or use --run-dir for another place")
	}
	return nil
}

package engine

import (
	"fmt"
	"math"

	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/optim"
	"github.com/guardcpu/guardcpu/simd"
)

// TrainOptions say how weights follow their gradients.
type TrainOptions struct {
	Optimizer   string  // a name of optim.Optimizers
	LR          float64 // peak learning rate
	Beta1       float64
	Beta2       float64
	Eps         float64
	Momentum    float64 // SGD only
	WeightDecay float64 // not applied to norm gains and biases
	Clip        float64 // largest gradient norm; 0: no clipping
	Schedule    string  // a name of optim.Schedules
	Warmup      int     // updates
	Steps       int     // updates in all
	Keep        int     // bytes that a step's trace may keep, see Trace.Keep; 0: DefaultKeep
}

// DefaultTrainOptions are those of TOFU's recipe but for the learning rate and the numbers of updates:
// AdamW (0.9, 0.999, 1e-8), weight decay 0.01, a linear schedule, no clipping.
func DefaultTrainOptions() TrainOptions {
	return TrainOptions{Optimizer: "adamw", LR: 1e-5, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01, Schedule: "linear"}
}

// Term is one part of a step's loss: a packed batch and what is computed from its logits.
type Term struct {
	Name    string
	Samples []Sample
	// Loss returns, for a trace that has run forward on Samples, the rows that
	// have a loss and the loss itself.
	Loss func(t *Trace) (rows []int, f LossFunc)
}

// StepStats is what a step did.
type StepStats struct {
	Step     int // updates before this one
	LR       float64
	GradNorm float64
	Losses   [][]float64 // of each term, row by row as its LossFunc set them
	Tokens   int
}

// DivergedError says that a step's loss or gradient is not finite. The weights
// are as they were before that step, unless Changed says that some of them are not.
type DivergedError struct {
	Step    int     // updates before that step
	What    string  // "loss of forget", "gradient norm"
	Got     float64 // NaN or ±Inf
	Changed bool
}

func (e *DivergedError) Error() string {
	if e.Changed {
		return fmt.Sprintf("engine: diverged at step %d: %s is %g, and weights have changed: go on from the last checkpoint; try a lower learning rate", e.Step+1, e.What, e.Got)
	}
	return fmt.Sprintf("engine: diverged at step %d: %s is %g; try a lower learning rate", e.Step+1, e.What, e.Got)
}

// Trainer takes optimizer steps on a model. Make it after TrainFull, TrainFused or TrainLoRA.
type Trainer struct {
	m     *Model
	o     TrainOptions
	sched optim.Schedule
	opt   optim.Optimizer
	index map[*nn.Param]int
	grads *Grads
	trace *Trace
	step  int
	fused bool // see TrainFused

	update *Update // of fused steps
}

// NewTrainer returns a trainer for what m trains now.
func NewTrainer(m *Model, o TrainOptions) (*Trainer, error) {
	sched, err := optim.ScheduleByName(o.Schedule)
	if err != nil {
		return nil, err
	}
	ps := m.Trainable()
	if len(ps) == 0 {
		return nil, fmt.Errorf("engine: nothing is trainable: call TrainFull, TrainFused or TrainLoRA first")
	}
	if !(o.LR >= 0) || math.IsInf(o.LR, 0) {
		return nil, fmt.Errorf("engine: the learning rate is %g, want a finite number not below 0", o.LR)
	}
	tr := &Trainer{m: m, o: o, sched: sched, index: map[*nn.Param]int{}, trace: m.NewTrace()}
	if o.Keep != 0 {
		tr.trace.Keep = o.Keep
	}
	shapes := make([]optim.Shape, len(ps))
	for i, p := range ps {
		if p.F32 == nil && !m.fused(p) {
			return nil, fmt.Errorf("engine: %s has a gradient and cannot be changed: call TrainFull, TrainFused or TrainLoRA first", p.Name)
		}
		tr.fused = tr.fused || p.F32 == nil
		tr.index[p], shapes[i] = i, optim.Shape{Rows: p.Rows, Cols: p.Cols}
	}
	if tr.fused {
		if err := checkFused(&o); err != nil {
			return nil, err
		}
	}
	tr.opt, err = optim.New(o.Optimizer, m.Ctx.K, optim.Options{
		Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Eps, Momentum: o.Momentum, Decay: o.WeightDecay,
	}, shapes)
	return tr, err
}

func (tr *Trainer) rate(t int) float64 { return tr.o.LR * tr.sched.Share(t, tr.o.Warmup, tr.o.Steps) }

// Step takes one step down the sum of the terms' losses. On an error, such as a
// *DivergedError that does not say otherwise, nothing has changed.
func (tr *Trainer) Step(terms []Term) (StepStats, error) {
	if tr.fused {
		return tr.fusedStep(terms)
	}
	if tr.grads == nil {
		tr.grads = NewGrads(tr.m)
	}
	st := StepStats{Step: tr.step, LR: tr.rate(tr.step)}
	tr.grads.Zero()
	for _, term := range terms {
		if err := tr.m.check(term.Samples); err != nil {
			return st, err
		}
		tr.trace.Forward(term.Samples)
		rows, f := term.Loss(tr.trace)
		losses := tr.trace.Backward(rows, f, NewAccumulate(tr.grads))
		if err := tr.checkLosses(term.Name, losses); err != nil {
			return st, err
		}
		st.Losses = append(st.Losses, losses)
		st.Tokens += tr.trace.NRows()
	}
	st.GradNorm = tr.grads.Norm()
	if !finite(st.GradNorm) {
		return st, &DivergedError{Step: tr.step, What: "gradient norm", Got: st.GradNorm}
	}
	tr.opt.Begin(tr.step)
	scale := optim.ClipScale(st.GradNorm, tr.o.Clip)
	for _, p := range tr.grads.Params() {
		tr.apply(p, tr.grads.Of(p), st.LR, scale)
	}
	tr.step++
	return st, nil
}

// checkLosses returns an error for a loss that is not finite.
func (tr *Trainer) checkLosses(term string, losses []float64) error {
	for _, l := range losses {
		if !finite(l) {
			return &DivergedError{Step: tr.step, What: "loss of " + term, Got: l}
		}
	}
	return nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// apply updates one parameter.
func (tr *Trainer) apply(p *nn.Param, g []float32, lr, scale float64) {
	adapter := p.Stored.Data == nil
	decay := p.Rows > 1 || adapter // of rank 1, A has one row and is no vector
	w := optim.Float32(p.F32)
	if p.F32 == nil {
		w = stochastic(tr.m.Ctx.K, p.Stored, simd.RandomKey(tr.m.seed, uint64(tr.step), uint64(p.Index)))
	}
	tr.opt.Step(tr.m.Ctx.Par.For, tr.index[p], w, g, lr, scale, decay)
}

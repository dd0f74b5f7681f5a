package guard

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
)

// trainingModes are the ways of training, each with an optimizer that it takes.
var trainingModes = []struct {
	name, optimizer string
	train           func(t *testing.T, m *engine.Model, seed uint64)
}{
	{"full", "adamw", func(_ *testing.T, m *engine.Model, _ uint64) { m.TrainFull() }},
	{"fused", "adafactor", func(_ *testing.T, m *engine.Model, seed uint64) { m.TrainFused(seed) }},
	{"lora", "adamw", func(t *testing.T, m *engine.Model, seed uint64) {
		o := engine.DefaultLoRAOptions()
		o.Seed = seed
		require.NoError(t, m.TrainLoRA(o))
	}},
}

// trained returns a copy of what training has made.
func trained(m *engine.Model) []engine.StateTensor {
	state := m.TrainedState()
	for i, s := range state {
		state[i].F32, state[i].BF16 = slices.Clone(s.F32), slices.Clone(s.BF16)
	}
	return state
}

// Every objective in every mode: multipliers of τ = ∞ are the plain objective, bit for bit, after several
// steps; a finite τ is not; and workers change nothing.
func TestInfiniteTemperatureIsThePlainObjective(t *testing.T) {
	for _, mode := range trainingModes {
		for _, arch := range archs {
			for _, l := range Losses {
				t.Run(mode.name+" "+arch+" "+l.Name, func(t *testing.T) {
					a := attribute(t, open(t, arch, 2), data(5, 6).Retain, data(5, 6).Forget, DefaultScoreOptions())
					run := func(tau float64, threads int) ([]engine.StateTensor, *History) {
						m, d, o := open(t, arch, threads), data(5, 6), options(l.Name)
						if tau != 0 {
							var err error
							d.Multipliers, err = Multipliers(a.Scores, tau)
							require.NoError(t, err)
						}
						mode.train(t, m, 3)
						o.Optimizer = mode.optimizer
						h := unlearn(t, m, d, o)
						return trained(m), h
					}
					m := open(t, arch, 2)
					mode.train(t, m, 3)
					start := trained(m)
					plain, history := run(0, 2)
					same, sameHistory := run(math.Inf(1), 7)
					assert.Equal(t, plain, same)
					assert.Equal(t, history, sameHistory)
					weighted, _ := run(0.5, 2)
					assert.NotEqual(t, plain, weighted)
					assert.NotEqual(t, start, plain)
					assert.Len(t, history.Steps, 7)
					for _, term := range history.Steps[0].Terms {
						if term.Name == "kl" {
							assert.Equal(t, TermLoss{Name: "kl"}, term, "the divergence starts at zero")
						}
					}
				})
			}
		}
	}
}

// A fused step is the full step of every objective: the losses and the norm of the gradient are the same up to
// rounding, and the mean over seeds of the rounded weights is where the full step goes, up to the
// deviation that random rounding of that many seeds leaves: measured along the step.
func TestFusedStepsOfEveryObjective(t *testing.T) {
	const seeds = 12
	for _, arch := range archs {
		for _, c := range lossCases() {
			t.Run(arch+" "+c.String(), func(t *testing.T) {
				m := open(t, arch, 2)
				m.TrainFused(0)
				m.TrainFull() // numbers of bfloat16, with masters
				_, _, guarded := problem(t, m, c)
				shift(m, 8)
				m.TrainFused(0)
				start := m.Snapshot()
				var terms []engine.Term
				for _, term := range guarded {
					terms = append(terms, term.Term)
				}
				o := options(c.loss).TrainOptions
				o.Optimizer, o.Schedule, o.Warmup, o.Steps, o.LR = "adafactor", "constant", 0, 1, 1e-3
				step := func() (engine.StepStats, []float64) {
					tr, err := engine.NewTrainer(m, o)
					require.NoError(t, err)
					st, err := tr.Step(terms)
					require.NoError(t, err)
					return st, matrices(m)
				}
				m.TrainFull()
				before := matrices(m)
				want, exact := step()

				mean := make([]float64, len(exact))
				for seed := range uint64(seeds) {
					m.TrainFused(seed)
					m.Restore(start)
					got, w := step()
					near(t, want.GradNorm, got.GradNorm, 2e-5*want.GradNorm, "the norm of the gradient")
					for i, losses := range want.Losses {
						for r, l := range losses {
							near(t, l, got.Losses[i][r], 2e-5*(1+math.Abs(l)), terms[i].Name)
						}
					}
					for i, v := range w {
						mean[i] += (v - exact[i]) / seeds
					}
				}
				var along, variance, length float64
				for i, d := range mean {
					// of the numbers of bfloat16 around x, the one nearer to zero, and the way to the other
					x := exact[i]
					lower := float64(math.Float32frombits(math.Float32bits(float32(x)) &^ 0xffff))
					ulp := float64(math.Float32frombits(math.Float32bits(float32(lower))+0x10000)) - lower
					share := (x - lower) / ulp
					update := x - before[i]
					along += update * d
					variance += update * update * share * (1 - share) * ulp * ulp / seeds
					length += update * update
				}
				t.Logf("along the step: %.4f of its length, standard deviation %.4f", along/length, math.Sqrt(variance)/length)
				require.Less(t, math.Sqrt(variance)/length, 0.05, "the test would see nothing")
				require.LessOrEqual(t, math.Abs(along), 5*math.Sqrt(variance))
			})
		}
	}
}

// matrices returns the numbers of all matrices, one after the other.
func matrices(m *engine.Model) (all []float64) {
	for _, p := range m.Params() {
		if p.Rows == 1 {
			continue
		}
		w := p.F32
		if w == nil {
			w = p.Stored.Dequantize(m.Ctx.K)
		}
		for _, v := range w {
			all = append(all, float64(v))
		}
	}
	return all
}

// A loss that is not finite stops fused unlearning where it is.
func TestFusedUnlearningDiverges(t *testing.T) {
	m, d, o := open(t, "llama", 2), data(5, 6), options("gd")
	m.TrainFused(1)
	p, err := m.Param("output_norm.weight")
	require.NoError(t, err)
	o.Optimizer = "adafactor"
	steps := 0
	var at []engine.StateTensor
	h, err := Unlearn(context.Background(), m, d, o, Hooks{Step: func(StepInfo) error {
		if steps++; steps == 3 {
			p.F32[0] = float32(math.NaN())
			at = trained(m)
		}
		return nil
	}})
	var diverged *engine.DivergedError
	require.ErrorAs(t, err, &diverged)
	assert.False(t, diverged.Changed)
	assert.Len(t, h.Steps, 3)
	assert.Equal(t, fmt.Sprint(at), fmt.Sprint(trained(m)))
}

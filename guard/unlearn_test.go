package guard

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
)

// options are fit for a tiny model: a few steps that move its weights visibly.
func options(loss string) Options {
	o := DefaultOptions()
	o.Loss, o.LR, o.Epochs, o.Batch = loss, 1e-3, 3, 2
	return o
}

func unlearn(t testing.TB, m *engine.Model, d Data, o Options) *History {
	t.Helper()
	h, err := Unlearn(context.Background(), m, d, o, Hooks{})
	require.NoError(t, err)
	for i := range h.Steps {
		h.Steps[i].Elapsed = 0 // the only thing that may differ from run to run
	}
	return h
}

func TestUnlearningDoesNotDependOnTheWorkers(t *testing.T) {
	for _, arch := range archs {
		for _, l := range Losses {
			run := func(threads int, seed uint64) ([]float32, *History) {
				m, d, o := open(t, arch, threads), data(5, 6), options(l.Name)
				d.Multipliers = []float64{2, 0.5, 0.5, 1.5, 0.5}
				o.Seed, o.MicroBatch, o.Clip = seed, 1, 1
				h := unlearn(t, m, d, o)
				return theta(m), h
			}
			want, history := run(1, 1)
			got, same := run(7, 1)
			assert.Equal(t, want, got, "%s %s", arch, l.Name)
			assert.Equal(t, history, same)
			other, _ := run(1, 2)
			assert.NotEqual(t, want, other, "%s %s: the seed changes nothing", arch, l.Name)
		}
	}
}

// A step of plain gradient ascent on the weighted forget loss changes the mean
// retain loss by η·Σ w_i·a_i, to first order.
func TestARetainLossChangesAsTheScoresSay(t *testing.T) {
	for _, arch := range archs {
		d := data(6, 8)
		m := open(t, arch, 2)
		so := DefaultScoreOptions()
		so.TokenLoss = TokenSum // GA divides the summed nll by the tokens of the batch
		a := attribute(t, m, d.Retain, d.Forget, so)
		var changes []float64
		for _, tau := range []float64{math.Inf(1), a.GradNorm, a.GradNorm / 8} {
			mult, s, err := Summarize(a.Scores, tau)
			require.NoError(t, err)
			d.Multipliers = mult
			o := options("ga")
			o.Optimizer, o.WeightDecay, o.Schedule, o.Warmup, o.Epochs, o.Batch = "sgd", 0, "constant", 0, 1, 6
			o.LR = 2e-4
			m := open(t, arch, 2)
			before := meanLoss(t, m, d.Retain, TokenSum)
			h := unlearn(t, m, d, o)
			require.Len(t, h.Steps, 1)
			change := meanLoss(t, m, d.Retain, TokenSum) - before
			eta := o.LR * 6 / float64(nTargets(d.Forget)) // of Σ w_i·∇nll_i
			t.Logf("%s: τ=%.3g: change %.6f, predicted %.6f", arch, tau, change, eta*s.WeightedMean)
			near(t, eta*s.WeightedMean, change, 0.03*math.Abs(eta*s.WeightedMean)+1e-5, "the change of the retain loss")
			changes = append(changes, change)
		}
		assert.Less(t, changes[1], changes[0], "%s: weights do not spare the retain set", arch)
		assert.Less(t, changes[2], changes[1], "%s: stronger weights do not spare it more", arch)
	}
}

// A model that knows eight samples by heart unlearns two of them: they become unlikely
// (or, with po, give way to the refusals), and the others stay known, for GA
// without a term that keeps them at least better than the forgotten.
func TestUnlearningForgetsAndRetains(t *testing.T) {
	for _, arch := range archs {
		learned := open(t, arch, 2)
		d := data(2, 6)
		fo := engine.DefaultFinetuneOptions()
		fo.LR, fo.Epochs, fo.Batch, fo.Warmup = 0.02, 60, 4, 2
		require.NoError(t, engine.Finetune(context.Background(), learned, append(append([]engine.Sample{}, d.Forget...), d.Retain...), fo, engine.FinetuneHooks{}))
		weights := theta(learned)
		require.Less(t, meanLoss(t, learned, d.Forget, TokenMean), 0.2)
		for _, l := range Losses {
			for _, weighted := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s weighted=%v", arch, l.Name, weighted), func(t *testing.T) {
					m := open(t, arch, 2)
					move(m, weights, 0, make([]float64, len(weights)))
					d := d
					if weighted {
						a := attribute(t, m, d.Retain, d.Forget, DefaultScoreOptions())
						tau, err := AutoTau(a.Scores, DefaultESSShare)
						require.NoError(t, err)
						d.Multipliers, err = Multipliers(a.Scores, tau)
						require.NoError(t, err)
					}
					o := options(l.Name)
					o.LR, o.Epochs = 3e-3, 40
					switch l.Name {
					case "ga":
						o.Epochs = 18
					case "po":
						o.Epochs, d.NIdk = 80, 1
					}
					unlearn(t, m, d, o)
					forget, retain := meanLoss(t, m, d.Forget, TokenMean), meanLoss(t, m, d.Retain, TokenMean)
					t.Logf("forget %.2f, retain %.2f", forget, retain)
					assert.Greater(t, forget, 1.0)
					if l.Name == "ga" {
						assert.Less(t, retain, forget-0.5)
						return
					}
					assert.Less(t, retain, 0.3)
					if l.Name == "po" {
						refusals := []engine.Sample{refusal(d.Forget[0], 0), refusal(d.Forget[1], 0)}
						assert.Less(t, meanLoss(t, m, refusals, TokenMean), 0.5)
					}
				})
			}
		}
	}
}

func TestUnlearnReportsWhatItDoes(t *testing.T) {
	m, d, o := open(t, "llama", 2), data(5, 6), options("km")
	d.Multipliers = []float64{2, 0.5, 0.5, 1.5, 0.5}
	o.Warmup, o.MicroBatch = -1, 1
	var steps []StepInfo
	var epochs []int
	reference := 0
	h, err := Unlearn(context.Background(), m, d, o, Hooks{
		Reference: func(done, total int) { reference = done },
		Step:      func(s StepInfo) error { steps = append(steps, s); return nil },
		Epoch:     func(e int) error { epochs = append(epochs, e); return nil },
	})
	require.NoError(t, err)
	assert.Equal(t, h.Steps, steps)
	assert.Equal(t, "km", h.Loss)
	require.Len(t, steps, 7)                // 3·5 items in batches of 2
	assert.Equal(t, []int{1, 2, 3}, epochs) // after 6, 10 and 14 items, the last step
	sched, err := NewSchedule(5, 6, 5, 3, 2, o.Seed)
	require.NoError(t, err)
	assert.Equal(t, len(sched.RetainRows()), reference)
	// Linear warmup over ⌊5/2⌋ = 2 updates, then down to 0 at update 7.
	for i, share := range []float64{0, 0.5, 1, 0.8, 0.6, 0.4, 0.2} {
		near(t, share*o.LR, steps[i].LR, 1e-15, fmt.Sprint("the rate of update ", i))
	}
	tokens := 0
	for _, it := range sched.Step(0) {
		tokens += len(d.Forget[it.Forget].IDs) + len(d.Retain[it.Retain].IDs)
	}
	first := steps[0]
	assert.Equal(t, tokens, first.Tokens)
	assert.Equal(t, 1, first.Step)
	assert.Equal(t, 7, first.Steps)
	near(t, 0.4, first.Epoch, 1e-15, "epochs after one step")
	assert.Greater(t, first.TokensPerSecond(), 0.0)
	require.Len(t, first.Terms, 2)
	// The first update has rate 0, so step 0 shows the model as it was opened.
	old := open(t, "llama", 2)
	value, sum, n := 0.0, 0.0, 0
	for _, it := range sched.Step(0) {
		s := d.Forget[it.Forget]
		nll := nlls(t, old, []engine.Sample{s})[0]
		value -= d.Multipliers[it.Forget] * nll / float64(s.NTargets()) / 2
		sum += nll
		n += s.NTargets()
	}
	assert.Equal(t, "forget", first.Terms[0].Name)
	near(t, value, first.Terms[0].Value, 1e-5, "the forget term")
	near(t, sum/float64(n), first.Terms[0].Mean, 1e-5, "the mean forget loss")
	near(t, value, first.Objective, 1e-5, "the objective")
	assert.Equal(t, TermLoss{Name: "kl"}, first.Terms[1], "the divergence before the first update")
	assert.Greater(t, steps[6].Terms[1].Mean, 0.0)
}

// The refusals asked for follow from the seed, one for each row and epoch.
func TestRefusalsFollowFromTheSeed(t *testing.T) {
	asked := func(seed uint64) (calls [][2]int) {
		m, d, o := open(t, "llama", 1), data(4, 3), options("po")
		d.NIdk = 100
		d.Idk = func(i, k int) (engine.Sample, error) {
			calls = append(calls, [2]int{i, k})
			return refusal(d.Forget[i], k), nil
		}
		o.Seed, o.Epochs = seed, 4
		unlearn(t, m, d, o)
		return calls
	}
	a := asked(1)
	assert.Equal(t, a, asked(1))
	assert.NotEqual(t, a, asked(2))
	require.Len(t, a, 16)
	lines := map[int]bool{}
	for _, c := range a {
		require.True(t, c[1] >= 0 && c[1] < 100)
		lines[c[1]] = true
	}
	assert.Greater(t, len(lines), 10, "lines of 16 draws from 100")
}

func TestUnlearnStops(t *testing.T) {
	for name, c := range map[string]struct {
		hooks func(cancel func()) Hooks
		err   error
		steps int
	}{
		"cancelled": {func(cancel func()) Hooks {
			return Hooks{Step: func(s StepInfo) error {
				if s.Step == 2 {
					cancel()
				}
				return nil
			}}
		}, context.Canceled, 2},
		"stopped by the step hook": {func(func()) Hooks {
			return Hooks{Step: func(s StepInfo) error {
				if s.Step == 3 {
					return fmt.Errorf("good enough: %w", ErrStop)
				}
				return nil
			}}
		}, nil, 3},
		"stopped by the epoch hook": {func(func()) Hooks {
			return Hooks{Epoch: func(int) error { return ErrStop }}
		}, nil, 3},
		"failing hook": {func(func()) Hooks {
			return Hooks{Epoch: func(int) error { return os.ErrPermission }}
		}, os.ErrPermission, 3},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			m := open(t, "llama", 1)
			start := theta(m)
			h, err := Unlearn(ctx, m, data(5, 6), options("gd"), c.hooks(cancel))
			if c.err == nil {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, c.err)
			}
			assert.Len(t, h.Steps, c.steps)
			assert.NotEqual(t, start, theta(m))
		})
	}
}

// A step that is not finite is named, and the model is as it was before it.
func TestUnlearnDiverges(t *testing.T) {
	m, d, o := open(t, "llama", 1), data(5, 6), options("gd")
	o.LR, o.Warmup, o.Optimizer = 1e30, 0, "sgd"
	var last []float32
	h, err := Unlearn(context.Background(), m, d, o, Hooks{Step: func(StepInfo) error { last = theta(m); return nil }})
	var diverged *engine.DivergedError
	require.True(t, errors.As(err, &diverged), "%v", err)
	assert.Equal(t, len(h.Steps), diverged.Step)
	assert.GreaterOrEqual(t, diverged.Step, 1)
	assert.Equal(t, last, theta(m))
	assert.ErrorContains(t, err, fmt.Sprintf("guard: unlearning by gd: engine: diverged at step %d", diverged.Step+1))
}

// The reference may lie in a file, in any form: the same bits as from memory, also from a file that is there
// already and, where the seeds are named, for every seed. When it cannot be read the error says so and not
// that the loss diverged.
func TestReferenceInAFile(t *testing.T) {
	run := func(o Options, h Hooks) ([]float32, error) {
		m := open(t, "llama", 2)
		_, err := Unlearn(context.Background(), m, data(5, 6), o, h)
		return theta(m), err
	}
	dir := t.TempDir()
	thetas := map[engine.ReferenceForm][]float32{}
	for _, form := range []engine.ReferenceForm{engine.ReferenceHidden, engine.ReferenceHidden16, "topk:3"} {
		o := options("km")
		o.Reference = form
		want, err := run(o, Hooks{})
		require.NoError(t, err)
		thetas[form] = want
		o.ReferenceFile, o.ReferenceKey = filepath.Join(dir, strings.ReplaceAll(string(form), ":", "-")), "model"
		for _, when := range []string{"made", "used again"} {
			got, err := run(o, Hooks{Note: func(text string) { t.Error(text) }})
			require.NoError(t, err)
			assert.Equal(t, want, got, "%s %s", form, when)
		}
		o.ReferenceSeeds = []uint64{o.Seed, 7, 8}
		for k, seed := range o.ReferenceSeeds {
			alone := o
			alone.ReferenceFile, alone.Seed, alone.ReferenceSeeds = "", seed, nil
			want, err := run(alone, Hooks{})
			require.NoError(t, err)
			shared, notes := o, 0
			shared.Seed, shared.ReferenceFile = seed, o.ReferenceFile+"-seeds"
			got, err := run(shared, Hooks{Note: func(string) { notes++ }})
			require.NoError(t, err)
			assert.Equal(t, want, got, "%s, seed %d", form, seed)
			assert.Zero(t, notes, "%s, the file serves seed %d of %d", form, k, len(o.ReferenceSeeds))
		}
	}
	assert.NotEqual(t, thetas[engine.ReferenceHidden], thetas["topk:3"])

	o := options("km")
	o.ReferenceFile = filepath.Join(dir, "cut")
	_, err := run(o, Hooks{Step: func(s StepInfo) error { return os.Truncate(o.ReferenceFile, 5) }})
	assert.ErrorContains(t, err, "engine: the reference:")
	var diverged *engine.DivergedError
	assert.False(t, errors.As(err, &diverged))

	o.ReferenceFile = filepath.Join(dir, "missing", "x")
	_, err = run(o, Hooks{})
	assert.ErrorIs(t, err, os.ErrNotExist)
	o.ReferenceFile, o.Reference = "", "full"
	_, err = run(o, Hooks{})
	assert.ErrorContains(t, err, `a reference of the form "full" is not known`)
}

// Adapters are unlearned too; the frozen weights stay.
func TestUnlearnAdapters(t *testing.T) {
	for _, l := range Losses {
		m := openLoRA(t, "llama")
		p, err := m.Param("blk.0.ffn_up.weight")
		require.NoError(t, err)
		before, frozen := theta(m), p.Stored.Dequantize(m.Ctx.K)
		unlearn(t, m, data(5, 6), options(l.Name))
		assert.NotEqual(t, before, theta(m), l.Name)
		assert.Nil(t, p.F32)
		assert.Equal(t, frozen, p.Stored.Dequantize(m.Ctx.K))
	}
}

func TestUnlearnRefuses(t *testing.T) {
	bad := engine.Sample{IDs: []int32{1, 4}, Mask: []bool{true, false}}
	for name, c := range map[string]struct {
		loss   string
		change func(*Data, *Options)
		want   string
	}{
		"loss":          {"nop", func(*Data, *Options) {}, `guard: loss "nop" is not known; there are ga, gd, km, po`},
		"forget set":    {"ga", func(d *Data, _ *Options) { d.Forget = nil }, "guard: the forget set is empty"},
		"retain set":    {"gd", func(d *Data, _ *Options) { d.Retain = nil }, "guard: the retain set is empty"},
		"retain sample": {"gd", func(d *Data, _ *Options) { d.Retain[1] = bad }, "guard: retain sample 1 has no answer token: its loss is not defined"},
		"overlap": {"km", func(d *Data, _ *Options) { d.Retain[4] = d.Forget[3] },
			"guard: forget sample 3 is retain sample 4 too: it cannot be both forgotten and kept"},
		"refusals":      {"po", func(d *Data, _ *Options) { d.Idk = nil }, "guard: loss po needs refusals to the forget questions, and there are none"},
		"refusal lines": {"po", func(d *Data, _ *Options) { d.NIdk = 0 }, "guard: loss po needs refusals to the forget questions, and there are none"},
		"bad refusal": {"po", func(d *Data, _ *Options) {
			d.NIdk, d.Idk = 1, func(int, int) (engine.Sample, error) { return bad, nil }
		},
			"guard: refusal 0 to forget sample 0: sample 0 has no answer token: its loss is not defined"},
		"multipliers":    {"ga", func(d *Data, _ *Options) { d.Multipliers = []float64{1} }, "guard: 1 multipliers for 5 forget samples"},
		"NaN multiplier": {"ga", func(d *Data, _ *Options) { d.Multipliers = []float64{1, 1, math.NaN(), 1, 1} }, "guard: the multiplier of forget sample 2 is NaN, want a finite number not below 0"},
		"KL":             {"km", func(_ *Data, o *Options) { o.KL = "some" }, `guard: KL positions "some" are not known; there are all, tofu, answer`},
		"micro-batch":    {"ga", func(_ *Data, o *Options) { o.MicroBatch = -1 }, "guard: micro-batch is -1, want at least 1, or 0 for the whole batch"},
		"batch":          {"ga", func(_ *Data, o *Options) { o.Batch = 0 }, "guard: batch is 0, want at least 1"},
		"rate":           {"ga", func(_ *Data, o *Options) { o.LR = math.NaN() }, "engine: the learning rate is NaN, want a finite number not below 0"},
	} {
		t.Run(name, func(t *testing.T) {
			m, d, o := open(t, "llama", 1), data(5, 6), options(c.loss)
			c.change(&d, &o)
			start := theta(m)
			h, err := Unlearn(context.Background(), m, d, o, Hooks{})
			assert.EqualError(t, err, c.want)
			assert.Empty(t, h.Steps)
			assert.Equal(t, start, theta(m))
		})
	}
	// GA needs no retain set.
	m, d := open(t, "llama", 1), data(5, 6)
	d.Retain, d.Idk, d.NIdk = nil, nil, 0
	unlearn(t, m, d, options("ga"))
}

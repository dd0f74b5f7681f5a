package engine_test

import (
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/optim"
	"github.com/guardcpu/guardcpu/engine/quant"
)

// fusedOptions are those of an optimizer that fused training takes.
func fusedOptions(optimizer string, lr float64) engine.TrainOptions {
	o := engine.DefaultTrainOptions()
	o.Optimizer, o.LR, o.Steps, o.Schedule = optimizer, lr, 10, "constant"
	return o
}

func newTrainer(t *testing.T, m *engine.Model, o engine.TrainOptions) *engine.Trainer {
	t.Helper()
	tr, err := engine.NewTrainer(m, o)
	require.NoError(t, err)
	return tr
}

// value returns the present numbers of a parameter.
func value(m *engine.Model, p *nn.Param) []float32 {
	if p.F32 != nil {
		return p.F32
	}
	return p.Stored.Dequantize(m.Ctx.K)
}

// weightsOf returns copies of the present numbers of all parameters.
func weightsOf(m *engine.Model) (all [][]float32) {
	for _, p := range m.Params() {
		all = append(all, slices.Clone(value(m, p)))
	}
	return all
}

// With float32 masters the steps of fused training are those of a Trainer: bit for bit where there is one
// term; where there are several, which are one batch then, up to the order of the sums.
func TestFusedStepsAreSteps(t *testing.T) {
	for _, arch := range tinyArchs {
		for _, kind := range optim.Optimizers {
			for _, several := range []bool{false, true} {
				if several && kind.Name != "sgd" { // a step of theirs for a gradient that is only rounding, as of a key's bias, is as large as any
					continue
				}
				o := fusedOptions(kind.Name, 0.01)
				a, b := tiny.Open(t, tiny.Shape(arch), engine.Options{}), tiny.Open(t, tiny.Shape(arch), engine.Options{})
				a.TrainFull()
				b.TrainFull()
				step, fused := newTrainer(t, a, o), newTrainer(t, b, o)
				fused.Fuse()
				samples := tiny.Samples(6, 12, 2)
				terms := []engine.Term{engine.MeanNLL("x", samples)}
				if several { // the same sample in two of them
					terms = append(terms, engine.MeanNLL("y", samples[2:4]), engine.MeanNLL("z", tiny.Samples(3, 12, 5)))
				}
				for range 3 {
					want, err := step.Step(terms)
					require.NoError(t, err)
					got, err := fused.Step(terms)
					require.NoError(t, err)
					if !several {
						require.Equal(t, want, got)
						continue
					}
					require.Equal(t, want.Tokens, got.Tokens)
					require.InEpsilon(t, want.GradNorm, got.GradNorm, 1e-5, arch)
					for i := range want.Losses {
						require.InDeltaSlice(t, want.Losses[i], got.Losses[i], 1e-4, arch) // of weights 1e-5 apart
					}
				}
				for i, p := range a.Params() {
					q := b.Params()[i]
					if !several {
						require.Equal(t, p.F32, q.F32, "%s %s", arch, p.Name)
						continue
					}
					// sums of a few hundred products, times the rate
					require.InDeltaSlice(t, p.F32, q.F32, 1e-5, "%s %s", arch, p.Name)
				}
			}
		}
	}
}

// distance returns the one of the numbers of bfloat16 around x that is nearer to zero, and the way from there to the other.
func distance(x float32) (lower, distance float64) {
	at := math.Float32frombits(math.Float32bits(x) &^ 0xffff)
	next := math.Float32frombits(math.Float32bits(at) + 0x10000)
	return float64(at), float64(next) - float64(at)
}

// A fused step leaves every weight at one of the two numbers of bfloat16 around what a step with float32
// masters makes of it, and over many seeds their mean is that: the squared deviations of the means are
// those of a random choice, and so is their sum along the update, though the update is much smaller
// than the distance of two numbers.
func TestFusedStepsAreRight(t *testing.T) {
	const seeds = 60
	for _, arch := range []string{"llama", "phi2", "mixtral"} {
		for optimizer, lr := range map[string]float64{"adafactor": 3e-4, "sgd": 3e-4} {
			t.Run(arch+" "+optimizer, func(t *testing.T) {
				o := fusedOptions(optimizer, lr)
				terms := []engine.Term{engine.MeanNLL("x", tiny.Samples(6, 12, 2)), engine.MeanNLL("y", tiny.Samples(3, 12, 5))}
				m, full := tiny.Open(t, tiny.Shape(arch), engine.Options{}), tiny.Open(t, tiny.Shape(arch), engine.Options{})
				m.TrainFused(0)
				full.TrainFull()
				start := m.Snapshot()
				before := weightsOf(m)
				for i, p := range full.Params() {
					copy(p.F32, before[i])
				}
				want, err := newTrainer(t, full, o).Step(terms)
				require.NoError(t, err)

				sums := make([][]float64, len(before))
				for seed := range uint64(seeds) {
					m.Restore(start)
					m.TrainFused(seed)
					got, err := newTrainer(t, m, o).Step(terms)
					require.NoError(t, err)
					require.InEpsilon(t, want.GradNorm, got.GradNorm, 1e-5)
					for i, p := range m.Params() {
						exact := full.Params()[i].F32
						if p.Rows == 1 {
							if optimizer == "sgd" { // see above
								require.InDeltaSlice(t, exact, p.F32, 1e-6, p.Name)
							}
							continue
						}
						require.Nil(t, p.F32)
						if sums[i] == nil {
							sums[i] = make([]float64, p.Len())
						}
						for j, v := range value(m, p) {
							// the sums of the gradient are in another order
							_, ulp := distance(exact[j])
							require.LessOrEqual(t, math.Abs(float64(v)-float64(exact[j])), math.Abs(ulp)+1e-5*math.Abs(float64(exact[j])-float64(before[i][j])), "%s[%d] from %g to %g, want about %g", p.Name, j, before[i][j], v, exact[j])
							sums[i][j] += float64(v) - float64(exact[j])
						}
					}
				}
				var n, squares, along, alongVariance float64
				for i, p := range full.Params() {
					for j := range sums[i] {
						lower, ulp := distance(p.F32[j])
						share := (float64(p.F32[j]) - lower) / ulp
						variance := seeds * share * (1 - share) * ulp * ulp
						if share*(1-share) > 0.02 {
							n++
							squares += sums[i][j] * sums[i][j] / variance
						}
						update := float64(p.F32[j]) - float64(before[i][j])
						along += update * sums[i][j]
						alongVariance += update * update * variance
					}
				}
				t.Logf("%.0f elements: squares %.3f, along the update %.2f", n, squares/n, along/math.Sqrt(alongVariance))
				require.Greater(t, n, 100.0)
				require.InDelta(t, 1, squares/n, 6*math.Sqrt(2/n))
				require.LessOrEqual(t, math.Abs(along), 5*math.Sqrt(alongVariance))
			})
		}
	}
}

func TestFusedTrainingIsTheSameForAnyWorkers(t *testing.T) {
	for _, arch := range tinyArchs {
		run := func(threads int, seed uint64) ([]engine.StateTensor, []engine.StepStats) {
			m := tiny.Open(t, tiny.Shape(arch), engine.Options{Threads: threads})
			m.TrainFused(seed)
			tr := newTrainer(t, m, fusedOptions("adafactor", 0.01))
			var stats []engine.StepStats
			for i := range uint64(3) {
				st, err := tr.Step([]engine.Term{engine.MeanNLL("x", tiny.Samples(5, 12, i)), engine.MeanNLL("y", tiny.Samples(5, 12, 9))})
				require.NoError(t, err)
				stats = append(stats, st)
			}
			return tr.State(), stats
		}
		want, stats := run(1, 1)
		for _, threads := range []int{2, 3, 7, 64} {
			got, same := run(threads, 1)
			require.Equal(t, want, got, "%s: %d workers", arch, threads)
			require.Equal(t, stats, same)
		}
		other, _ := run(1, 2)
		assert.NotEqual(t, want, other, "the seed")
	}
}

func TestFusedTrainingRefuses(t *testing.T) {
	m := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
	m.TrainFused(1)
	o := fusedOptions("adafactor", 0.01)
	o.Clip = 1
	_, err := engine.NewTrainer(m, o)
	assert.EqualError(t, err, "engine: fused training cannot clip the gradient: when its norm is known, the weights have changed; set clip to 0")
	_, err = engine.NewTrainer(m, fusedOptions("adamw", 0.01))
	assert.EqualError(t, err, "engine: fused training keeps no moments of single weights: want adafactor or sgd without momentum, not adamw")
	o = fusedOptions("sgd", 0.01)
	o.Momentum = 0.9
	_, err = engine.NewTrainer(m, o)
	assert.EqualError(t, err, "engine: fused training keeps no moments of single weights: want adafactor or sgd without momentum, not sgd with momentum")
}

// A loss that is not finite changes nothing. A gradient that is not is found at its tensor: those before
// have changed, those after have not, and the error says so.
func TestFusedTrainingDiverges(t *testing.T) {
	m := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
	m.TrainFused(1)
	tr := newTrainer(t, m, fusedOptions("adafactor", 0.01))
	before := m.Snapshot()
	good := engine.MeanNLL("good", tiny.Samples(5, 12, 1))
	bad := good
	bad.Name, bad.Loss = "bad", func(t *engine.Trace) ([]int, engine.LossFunc) {
		rows, f := good.Loss(t)
		return rows, func(c *engine.Chunk) {
			f(c)
			c.Each(func(int, []float32) float64 { return math.Inf(1) })
		}
	}
	_, err := tr.Step([]engine.Term{good, bad})
	assert.EqualError(t, err, "engine: diverged at step 1: loss of bad is +Inf; try a lower learning rate")
	assert.Equal(t, before, m.Snapshot())
	assert.Zero(t, tr.Done())
	fresh := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
	fresh.TrainFused(1)
	for _, tr := range []*engine.Trainer{tr, newTrainer(t, fresh, fusedOptions("adafactor", 0.01))} {
		_, err = tr.Step([]engine.Term{good})
		require.NoError(t, err)
	}
	assert.Equal(t, fresh.TrainedState(), m.TrainedState(), "nothing is left of the failed step")

	m.Restore(before)
	tr.SetDone(0)
	gain, err := m.Param("blk.1.attn_norm.weight")
	require.NoError(t, err)
	was := gain.F32[3]
	bad.Loss = func(t *engine.Trace) ([]int, engine.LossFunc) { // breaks what the forward pass has used
		gain.F32[3] = float32(math.NaN())
		return good.Loss(t)
	}
	_, err = tr.Step([]engine.Term{bad})
	var diverged *engine.DivergedError
	require.ErrorAs(t, err, &diverged)
	assert.True(t, diverged.Changed)
	assert.EqualError(t, err, "engine: diverged at step 1: norm of the gradient of blk.0.attn_norm.weight is NaN, and weights have changed: go on from the last checkpoint; try a lower learning rate")
	assert.Zero(t, tr.Done())
	gain.F32[3] = was
	after := weightsOf(m)
	m.Restore(before)
	for i, was := range weightsOf(m) {
		p := m.Params()[i]
		changed := !assert.ObjectsAreEqual(was, after[i])
		inBlock0 := p.Name[:5] == "blk.0" || p.Name == "token_embd.weight"
		assert.Equal(t, !inBlock0, changed, p.Name)
	}
}

// What has not changed keeps its bytes, whatever its type; what has is packed into the type of the file.
func TestFusedExport(t *testing.T) {
	for _, name := range []string{"F32", "F16", "BF16", "Q8_0", "Q4_0", "IQ4_XS"} {
		t.Run(name, func(t *testing.T) {
			typ, err := quant.ByName(name)
			require.NoError(t, err)
			m := openTyped(t, typ)
			path := m.File.Name
			m.TrainFused(1)
			same := filepath.Join(t.TempDir(), "same.gguf")
			require.NoError(t, m.Export(same, engine.ExportOptions{}))
			requireSameFile(t, path, same)

			p, err := m.Param("blk.0.ffn_up.weight")
			require.NoError(t, err)
			p.Stored.Data[0] ^= 0x80 // the last bit of its first element's exponent
			x := value(m, p)
			out, o := filepath.Join(t.TempDir(), "out.gguf"), engine.ExportOptions{}
			if typ.Pack == nil {
				assert.EqualError(t, m.CheckExport(o), fmt.Sprintf("engine: token_embd.weight: weights of %s can be read, not written", name))
				o.Type = quant.Types[0]
			}
			require.NoError(t, m.CheckExport(o))
			require.NoError(t, m.Export(out, o))
			back := open(t, out)
			for i, q := range back.Params() {
				old := m.Source(m.Params()[i])
				if q.Name != p.Name {
					require.Equal(t, old.Type, q.Stored.Type)
					require.Equal(t, old.Data, q.Stored.Data, q.Name)
					continue
				}
				want := q.Stored.Type
				if typ.Pack != nil {
					require.Equal(t, typ, want)
				}
				packed := make([]byte, len(q.Stored.Data))
				require.NoError(t, want.Pack(packed, x))
				require.Equal(t, packed, q.Stored.Data)
			}
		})
	}
}

// A model may go from any mode to any other; going on in bfloat16 rounds it, once.
func TestFusedFollowsOtherModes(t *testing.T) {
	m := tiny.Open(t, tiny.Shape("phi2"), engine.Options{})
	adapt(t, m, "blk.*.weight")
	want := meanNLL(t, m, tiny.Samples(8, 12, 1))
	m.TrainFused(1)
	rounded := meanNLL(t, m, tiny.Samples(8, 12, 1))
	assert.InDelta(t, want, rounded, 0.05)
	state := m.Snapshot()
	m.TrainFused(2)
	assert.Equal(t, state, m.Snapshot())
	m.TrainFull()
	for _, p := range m.Params() {
		require.NotNil(t, p.F32)
		require.Equal(t, m.Source(p), p.Stored)
	}
	assert.InDelta(t, rounded, meanNLL(t, m, tiny.Samples(8, 12, 1)), 1e-6)
	m.TrainFused(3)
	assert.Equal(t, state, m.Snapshot(), "bfloat16, float32 and back")
	adapt(t, m, "blk.*.weight") // on the rounded weights
	before := meanNLL(t, m, tiny.Samples(8, 12, 1))
	m.MergeLoRA()
	assert.InDelta(t, before, meanNLL(t, m, tiny.Samples(8, 12, 1)), 1e-6)
}

// A bound on the memory of the file's weights means nothing to weights in memory.
func TestFusedWeightsStayWhereTheFileIsBounded(t *testing.T) {
	run := func(limit func(*engine.Model)) []engine.StateTensor {
		m := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
		limit(m)
		m.TrainFused(1)
		limit(m)
		_, err := newTrainer(t, m, fusedOptions("adafactor", 0.01)).Step([]engine.Term{engine.MeanNLL("x", tiny.Samples(5, 12, 1))})
		require.NoError(t, err)
		return m.TrainedState()
	}
	want := run(func(*engine.Model) {})
	assert.Equal(t, want, run(func(m *engine.Model) { m.LimitWeights(1) }))
}

// After the first, a step takes no memory for gradients or unpacked weights.
func TestFusedStepsMakeNoGarbage(t *testing.T) {
	s := tiny.Shape("llama")
	s.DModel, s.DFF, s.NLayers = 256, 512, 3
	m := tiny.Open(t, s, engine.Options{Threads: 1})
	m.TrainFused(1)
	tr := newTrainer(t, m, fusedOptions("adafactor", 0.01))
	step := func() {
		_, err := tr.Step([]engine.Term{engine.MeanNLL("x", tiny.Samples(5, 12, 1))})
		require.NoError(t, err)
	}
	step()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const steps = 5
	for range steps {
		step()
	}
	runtime.ReadMemStats(&after)
	bytes := (after.TotalAlloc - before.TotalAlloc) / steps
	t.Logf("%d bytes a step, %d of them would be gradients of one block", bytes, 4*m.NParams()/s.NLayers)
	require.Less(t, bytes, uint64(m.NParams()/s.NLayers))
}

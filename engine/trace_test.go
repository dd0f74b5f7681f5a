package engine_test

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/simd"
)

var tinyArchs = tiny.Names()

// With -short, as under the race detector, four that have all kinds of layers are enough.
func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		tinyArchs = []string{"llama", "phi2", "mixtral", "gemma3"}
	}
	os.Exit(m.Run())
}

// gradients runs one weighted cross-entropy over the samples and returns the whole gradient.
func gradients(m *engine.Model, samples []engine.Sample, coef func(i int) float32, set func(*engine.Trace)) (*engine.Grads, []float64) {
	tr := m.NewTrace()
	if set != nil {
		set(tr)
	}
	tr.Forward(samples)
	targets := tr.Targets()
	c := make([]float32, len(targets))
	for i := range c {
		c[i] = coef(i)
	}
	g := engine.NewGrads(m)
	rows, f := tr.CrossEntropy(targets, c)
	losses := tr.Backward(rows, f, engine.NewAccumulate(g))
	return g, losses
}

func ones(int) float32 { return 1 }

func equalGrads(t *testing.T, want, got *engine.Grads, msg string) {
	t.Helper()
	for _, p := range want.Params() {
		require.Equal(t, want.Of(p), got.Of(p), "%s: %s", msg, p.Name)
	}
}

func TestBackwardIsTheSameHoweverItIsRun(t *testing.T) {
	for _, arch := range tinyArchs {
		shape := tiny.Shape(arch)
		shape.NLayers = 4
		m := tiny.Open(t, shape, engine.Options{Threads: 1})
		m.TrainFull()
		samples := tiny.Samples(7, 12, 3)
		want, losses := gradients(m, samples, ones, nil)

		rows := 0
		for _, s := range samples {
			rows += len(s.IDs)
		}
		for blocks := range shape.NLayers {
			kept, keptLosses := gradients(m, samples, ones, func(tr *engine.Trace) { tr.Keep = blocks * m.Config.StateBytes(rows) })
			equalGrads(t, want, kept, fmt.Sprintf("%s: %d blocks kept", arch, blocks))
			assert.Equal(t, losses, keptLosses)
		}

		for _, workers := range []int{2, 3, 7, 64} {
			m2 := tiny.Open(t, shape, engine.Options{Threads: workers})
			m2.TrainFull()
			g, l := gradients(m2, samples, ones, nil)
			assert.Equal(t, losses, l)
			for i, p := range want.Params() {
				require.Equal(t, want.Of(p), g.Of(m2.Params()[i]), "%s with %d workers", p.Name, workers)
			}
		}

		// a trace used before gives what a fresh one gives
		tr := m.NewTrace()
		for range 2 {
			for _, s := range [][]engine.Sample{samples[:2], samples} {
				tr.Forward(s)
				targets := tr.Targets()
				c := make([]float32, len(targets))
				for i := range c {
					c[i] = 1
				}
				g := engine.NewGrads(m)
				rows, f := tr.CrossEntropy(targets, c)
				tr.Backward(rows, f, engine.NewAccumulate(g))
				if len(s) == len(samples) {
					equalGrads(t, want, g, arch+": reused trace")
				}
			}
		}
	}
}

// What a trace keeps fits into Keep whatever batches it has had, and as many blocks are kept
// as fit, but for batches that are smaller than one before by less than half.
func TestTraceKeepsWhatFits(t *testing.T) {
	for _, arch := range tinyArchs {
		shape := tiny.Shape(arch)
		shape.NLayers = 6
		m := tiny.Open(t, shape, engine.Options{})
		sample := tiny.Samples(1, 12, 3)[0]
		n := len(sample.IDs)
		tr := m.NewTrace()
		tr.Keep = 6 * m.Config.StateBytes(2*n) // of two samples all blocks
		for i, batch := range []struct{ samples, blocks int }{{2, 6}, {3, 4}, {2, 4}, {1, 6}, {2, 6}, {6, 2}, {4, 2}, {3, 4}, {20, 1}, {1, 6}, {12, 1}, {2, 6}} {
			tr.Forward(slices.Repeat([]engine.Sample{sample}, batch.samples))
			states := reflect.ValueOf(tr).Elem().FieldByName("states")
			assert.Equal(t, batch.blocks, states.Len(), "%s: batch %d", arch, i)
			held := 0
			for k := range states.Cap() { // those behind the end would be held, too
				held += stateBytes(states.Slice(0, states.Cap()).Index(k))
			}
			assert.LessOrEqual(t, held, max(tr.Keep, m.Config.StateBytes(n*batch.samples)), "%s: batch %d", arch, i)
			if i == 0 {
				assert.Equal(t, tr.Keep, held, "StateBytes is what a state has")
			}
		}
	}
}

// stateBytes is the memory of the matrices of a *nn.BlockState, and of the choices of experts.
func stateBytes(state reflect.Value) (bytes int) {
	if state.IsNil() {
		return 0
	}
	for f, field := range state.Elem().Fields() {
		switch {
		case field.Type() == reflect.TypeFor[nn.Mat]():
			bytes += 4 * field.FieldByName("Data").Cap()
		case f.Name == "moe":
			bytes += stateBytes(field.Addr())
		case field.Kind() == reflect.Slice && field.Type().Elem().Size() == 4:
			bytes += 4 * field.Cap()
		}
	}
	return bytes
}

// Samples of a packed batch do not see each other: the batch's gradient is the sum of the samples'.
func TestPackedBatchIsTheSumOfItsSamples(t *testing.T) {
	for _, arch := range tinyArchs {
		m := tiny.Open(t, tiny.Shape(arch), engine.Options{})
		m.TrainFull()
		samples := tiny.Samples(6, 12, 4)
		all, _ := gradients(m, samples, ones, nil)
		sum := engine.NewGrads(m)
		for _, s := range samples {
			g, _ := gradients(m, []engine.Sample{s}, ones, nil)
			for _, p := range g.Params() {
				m.Ctx.K.Add(sum.Of(p), g.Of(p))
			}
		}
		nearGrads(t, sum, all, 1e-5)
	}
}

// nearGrads compares tensor by tensor, relative to the tensor's largest value.
func nearGrads(t *testing.T, want, got *engine.Grads, tol float64) {
	t.Helper()
	for _, p := range want.Params() {
		w, g := want.Of(p), got.Of(p)
		scale := 1e-6
		for _, v := range w {
			scale = max(scale, math.Abs(float64(v)))
		}
		for i := range w {
			d := math.Abs(float64(w[i]) - float64(g[i]))
			require.True(t, d <= tol*scale, "%s[%d]: want %g, got %g (scale %g)", p.Name, i, w[i], g[i], scale)
		}
	}
}

func TestSessionAndTraceGiveTheSameLogits(t *testing.T) {
	for _, arch := range tinyArchs {
		for _, k := range simd.All() {
			m := tiny.Open(t, tiny.Shape(arch), engine.Options{Kernels: k})
			samples := tiny.Samples(3, 14, 5)
			tr := m.NewTrace()
			tr.Forward(samples)
			want := logitsOf(m, tr)

			// fed token by token, all sequences side by side, in pieces of different lengths
			s := m.NewSession(len(samples))
			fed := make([]int, len(samples))
			for step := 0; ; step++ {
				var feeds []engine.Feed
				for i, smp := range samples {
					n := min(1+(step+i)%3, len(smp.IDs)-fed[i])
					if n > 0 {
						feeds = append(feeds, engine.Feed{Seq: i, IDs: smp.IDs[fed[i] : fed[i]+n]})
						fed[i] += n
					}
				}
				if len(feeds) == 0 {
					break
				}
				logits, err := s.Feed(feeds)
				require.NoError(t, err)
				for i, f := range feeds {
					row := want.Row(tr.Start(f.Seq) + fed[f.Seq] - 1)
					for v := range row {
						require.InDelta(t, row[v], logits.Row(i)[v], 2e-5, "%s %s: sequence %d token %d", arch, k.Name, f.Seq, fed[f.Seq]-1)
					}
				}
			}
			for i := range samples {
				assert.Equal(t, len(samples[i].IDs), s.Len(i))
			}
			_, err := s.Feed([]engine.Feed{{Seq: 0}})
			assert.EqualError(t, err, "engine: sequence 0 is fed no tokens")
			_, err = s.Feed([]engine.Feed{{Seq: 0, IDs: []int32{tiny.NVocab}}})
			assert.EqualError(t, err, "engine: sequence 0: token 0 is 31, the vocabulary has 31")
		}
	}
}

func TestDotSinkMatchesExplicitGradients(t *testing.T) {
	for _, arch := range tinyArchs {
		for _, lora := range []bool{false, true} {
			m := tiny.Open(t, tiny.Shape(arch), engine.Options{})
			prepare(t, m, lora)
			samples := tiny.Samples(5, 12, 6)
			mean, _ := gradients(m, tiny.Samples(6, 12, 8), ones, nil)

			tr := m.NewTrace()
			tr.Forward(samples)
			targets := tr.Targets()
			coef := slices.Repeat([]float32{1}, len(targets))
			dot := engine.NewDot(mean, len(samples))
			rows, f := tr.CrossEntropy(targets, coef)
			tr.Backward(rows, f, dot)
			for i, s := range samples {
				g, _ := gradients(m, []engine.Sample{s}, ones, nil)
				var want, scale float64
				for _, p := range g.Params() {
					for j, v := range g.Of(p) {
						x := float64(v) * float64(mean.Of(p)[j])
						want += x
						scale += math.Abs(x)
					}
				}
				assert.NotZero(t, want)
				assert.InDelta(t, want, dot.Scores[i], 1e-5*scale, "%s lora=%v sample %d", arch, lora, i)
			}
		}
	}
}

// prepare makes m trainable, in full or by adapters that have moved off zero.
func prepare(t *testing.T, m *engine.Model, lora bool) {
	if !lora {
		m.TrainFull()
		return
	}
	adapt(t, m, engine.DefaultLoRAOptions().Targets...)
}

// adapt gives the matrices that match adapters of rank 3, moved off zero.
func adapt(t *testing.T, m *engine.Model, targets ...string) {
	o := engine.DefaultLoRAOptions()
	o.Rank, o.Targets = 3, targets
	require.NoError(t, m.TrainLoRA(o))
	for _, p := range m.Trainable() {
		for i := range p.F32 {
			p.F32[i] += float32(0.1 * math.Sin(float64(i+p.Index)))
		}
	}
}

func TestNormSink(t *testing.T) {
	for _, arch := range tinyArchs {
		for _, lora := range []bool{false, true} {
			m := tiny.Open(t, tiny.Shape(arch), engine.Options{})
			prepare(t, m, lora)
			samples := tiny.Samples(5, 12, 6)
			g, _ := gradients(m, samples, ones, nil)
			tr := m.NewTrace()
			tr.Forward(samples)
			targets := tr.Targets()
			rows, f := tr.CrossEntropy(targets, slices.Repeat([]float32{1}, len(targets)))
			n := engine.NewNorm(m)
			tr.Backward(rows, f, n)
			for _, p := range g.Params() {
				var want float64
				for _, v := range g.Of(p) {
					want += float64(v) * float64(v)
				}
				assert.InEpsilon(t, math.Sqrt(want), n.Of(p), 1e-5, p.Name)
			}
			assert.InEpsilon(t, g.Norm(), n.Total(), 1e-12)
		}
	}
}

// The loss along a direction, in float64 from float32 evaluations, agrees with the
// gradient: a coarse check of the whole that needs no second implementation.
func TestLossFallsAlongTheGradient(t *testing.T) {
	for _, arch := range tinyArchs {
		for _, lora := range []bool{false, true} {
			m := tiny.Open(t, tiny.Shape(arch), engine.Options{})
			prepare(t, m, lora)
			samples := tiny.Samples(6, 12, 9)
			g, _ := gradients(m, samples, ones, nil)
			norm := g.Norm()
			at := func(eps float64) float64 {
				s := m.Snapshot()
				defer m.Restore(s)
				for _, p := range m.Trainable() {
					m.Ctx.K.Axpy(p.F32, float32(eps/norm), g.Of(p))
				}
				nll, err := m.NLL(context.Background(), samples, nil)
				require.NoError(t, err)
				var sum float64
				for _, n := range nll {
					sum += n.Sum
				}
				return sum
			}
			const eps = 5e-4 // over no boundary where a row chooses other experts
			assert.InEpsilon(t, norm, (at(eps)-at(-eps))/(2*eps), 5e-3, "%s lora=%v", arch, lora)
		}
	}
}

// A trace may run backwards again; the logits of other rows in between do no harm.
func TestBackwardTwice(t *testing.T) {
	for _, arch := range tinyArchs {
		for _, keep := range []int{0, 1 << 20} {
			m := tiny.Open(t, tiny.Shape(arch), engine.Options{})
			m.TrainFull()
			samples := tiny.Samples(5, 12, 9)
			want, losses := gradients(m, samples, ones, func(tr *engine.Trace) { tr.Keep = keep })
			tr := m.NewTrace()
			tr.Keep = keep
			tr.Forward(samples)
			targets := tr.Targets()
			rows, f := tr.CrossEntropy(targets, slices.Repeat([]float32{1}, len(targets)))
			for range 2 {
				g := engine.NewGrads(m)
				assert.InDeltaSlice(t, losses[:3], tr.Losses(rows[:3], f), 1e-5)
				assert.Equal(t, losses, tr.Backward(rows, f, engine.NewAccumulate(g)))
				equalGrads(t, want, g, arch)
			}
		}
	}
}

// One backward pass into several sinks gives each what a pass of its own does.
func TestTeeEqualsPassesOfTheirOwn(t *testing.T) {
	for _, arch := range tinyArchs {
		for _, lora := range []bool{false, true} {
			m := tiny.Open(t, tiny.Shape(arch), engine.Options{})
			prepare(t, m, lora)
			samples := tiny.Samples(5, 12, 6)
			against, _ := gradients(m, tiny.Samples(6, 12, 8), ones, nil)
			tr := m.NewTrace()
			pass := func(s nn.Sink) []float64 {
				tr.Forward(samples)
				targets := tr.Targets()
				rows, f := tr.CrossEntropy(targets, slices.Repeat([]float32{1}, len(targets)))
				return tr.Backward(rows, f, s)
			}
			g, dot, norm := engine.NewGrads(m), engine.NewDot(against, len(samples)), engine.NewNorm(m)
			losses := pass(engine.Tee{engine.NewAccumulate(g), dot, norm})

			g2, dot2, norm2 := engine.NewGrads(m), engine.NewDot(against, len(samples)), engine.NewNorm(m)
			for _, s := range []nn.Sink{engine.NewAccumulate(g2), dot2, norm2} {
				assert.Equal(t, losses, pass(s))
			}
			equalGrads(t, g2, g, arch)
			assert.Equal(t, dot2.Scores, dot.Scores)
			assert.Equal(t, norm2.Total(), norm.Total())
			assert.NotZero(t, norm.Total())
		}
	}
}

// A trace that is told to stop runs no further block, and is as good as new afterwards.
func TestTraceStops(t *testing.T) {
	shape := tiny.Shape("llama")
	shape.NLayers = 6
	m := tiny.Open(t, shape, engine.Options{})
	m.TrainFull()
	samples := tiny.Samples(3, 12, 3)
	want, losses := gradients(m, samples, ones, nil)
	tr := m.NewTrace()
	asked := 0
	tr.Stop = func() bool { asked++; return asked == 3 || asked == 3+6+2 }
	tr.Forward(samples)
	assert.Equal(t, 3, asked)
	tr.Forward(samples)
	rows, f := tr.CrossEntropy(tr.Targets(), make([]float32, len(losses)))
	tr.Backward(rows, f, discard{})
	assert.Equal(t, 11, asked, "the second block from the end is not run")
	g, again := gradients(m, samples, ones, func(fresh *engine.Trace) { tr.Stop = nil; *fresh = *tr })
	assert.Equal(t, losses, again)
	equalGrads(t, want, g, "after a stop")
}

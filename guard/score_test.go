package guard

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
)

func attribute(t testing.TB, m *engine.Model, retain, forget []engine.Sample, o ScoreOptions) *Attribution {
	t.Helper()
	a, err := Attribute(context.Background(), m, retain, forget, o, nil)
	require.NoError(t, err)
	return a
}

// explicit returns the mean gradient of the retain set and every gradient of the
// forget set, each formed alone.
func explicit(m *engine.Model, retain, forget []engine.Sample, l TokenLoss) (gr []float64, gi [][]float64) {
	n := 0
	for _, p := range m.Trainable() {
		n += p.Len()
	}
	gr = make([]float64, n)
	for _, s := range retain {
		for i, v := range sampleGradient(m, s, l) {
			gr[i] += v / float64(len(retain))
		}
	}
	for _, s := range forget {
		gi = append(gi, sampleGradient(m, s, l))
	}
	return gr, gi
}

func TestScoresAreInnerProductsOfExplicitGradients(t *testing.T) {
	d := data(7, 9)
	models := map[string]*engine.Model{}
	for _, arch := range archs {
		models[arch], models[arch+" lora"] = open(t, arch, 2), openLoRA(t, arch)
	}
	for name, m := range models {
		for _, l := range []TokenLoss{TokenMean, TokenSum} {
			t.Run(fmt.Sprint(name, " ", l), func(t *testing.T) {
				o := DefaultScoreOptions()
				o.TokenLoss, o.BatchTokens = l, 40
				a := attribute(t, m, d.Retain, d.Forget, o)
				gr, gi := explicit(m, d.Retain, d.Forget, l)
				near(t, norm(gr), a.GradNorm, 1e-5*norm(gr), "‖g_r‖")
				near(t, meanLoss(t, m, d.Retain, l), a.RetainLoss, 1e-5, "the retain loss")
				for i := range gi {
					near(t, dot(gr, gi[i]), a.Scores[i], 1e-5*norm(gr)*norm(gi[i]), fmt.Sprint("score ", i))
					near(t, meanLoss(t, m, d.Forget[i:i+1], l), a.ForgetLoss[i], 2e-5, fmt.Sprint("loss ", i))
				}
				assert.Nil(t, a.StdErr)
				assert.Equal(t, 9, a.RetainUsed)
			})
		}
	}
}

// a_i is the slope of l_i along g_r, streamed or not (Richardson's extrapolation over ±e and ±2e with
// e·‖g_r‖ = 0.01; the noise of the float32 losses, 1e-6/0.02, is 5e-5 of ‖g_r‖·1).
func TestScoresAreSlopesAlongTheRetainGradient(t *testing.T) {
	d := data(7, 9)
	for _, arch := range archs {
		m := open(t, arch, 2)
		o := DefaultScoreOptions()
		whole := attribute(t, m, d.Retain, d.Forget, o)
		o.ChunkBlocks, o.Spill = 1, engine.SpillF32
		streamed := attribute(t, m, d.Retain, d.Forget, o)
		require.True(t, streamed.Plan.Streamed())
		gr, gi := explicit(m, d.Retain, d.Forget, TokenMean)
		at, e := theta(m), 0.01/norm(gr)
		at2 := func(step float64) []float64 {
			move(m, at, step, gr)
			out := nlls(t, m, d.Forget)
			for i := range out {
				out[i] /= float64(d.Forget[i].NTargets())
			}
			return out
		}
		p1, n1, p2, n2 := at2(e), at2(-e), at2(2*e), at2(-2*e)
		move(m, at, 0, gr)
		for i := range whole.Scores {
			slope := (8*(p1[i]-n1[i]) - (p2[i] - n2[i])) / (12 * e)
			for _, a := range []*Attribution{whole, streamed} {
				near(t, slope, a.Scores[i], 3e-4*norm(gr)*(norm(gi[i])+0.1), fmt.Sprintf("%s: score %d", arch, i))
			}
		}
	}
}

func TestScoresDoNotDependOnPackingOrWorkers(t *testing.T) {
	d := data(11, 13)
	for _, arch := range archs {
		m := open(t, arch, 1)
		before := theta(m)
		o := DefaultScoreOptions()
		want := attribute(t, m, d.Retain, d.Forget, o)
		assert.Equal(t, before, theta(m), "attribution changes the model")
		for _, tokens := range []int{1, 20, 64, 100000} {
			o.BatchTokens = tokens
			got := attribute(t, m, d.Retain, d.Forget, o)
			again := attribute(t, open(t, arch, 7), d.Retain, d.Forget, o)
			assert.Equal(t, got, again, "%s: seven workers, batches of %d tokens", arch, tokens)
			for i := range want.Scores {
				// Rounding in relation to ‖g_r‖·‖g_i‖, which is about 10.
				near(t, want.Scores[i], got.Scores[i], 1e-5*want.GradNorm*10, fmt.Sprintf("%s: score %d in batches of %d tokens", arch, i, tokens))
				near(t, want.ForgetLoss[i], got.ForgetLoss[i], 1e-5, "a loss")
			}
		}
	}
}

// The standard error of a subset's scores is what the scores of many subsets
// really scatter by, and it is gone when the subset is the set.
func TestSubsetScoresAndTheirError(t *testing.T) {
	d := data(3, 20)
	m := open(t, "llama", 2)
	o := DefaultScoreOptions()
	full := attribute(t, m, d.Retain, d.Forget, o)
	o.RetainSamples, o.Groups = 8, 3 // groups of 2, 3 and 3
	const runs = 400
	var bias, scatter, claimed [3]float64
	for seed := range uint64(runs) {
		o.Seed = seed
		a := attribute(t, m, d.Retain, d.Forget, o)
		require.Equal(t, 8, a.RetainUsed)
		require.Equal(t, 20, a.Retain)
		for i := range a.Scores {
			e := a.Scores[i] - full.Scores[i]
			bias[i] += e / runs
			scatter[i] += e * e / runs
			claimed[i] += a.StdErr[i] * a.StdErr[i] / runs
		}
	}
	for i := range bias {
		near(t, 0, bias[i], 4*math.Sqrt(scatter[i]/runs), fmt.Sprint("the bias of score ", i))
		near(t, 1, claimed[i]/scatter[i], 0.2, fmt.Sprint("the claimed over the true variance of score ", i))
	}
	// One group is the mean of the same subset, without an error.
	many := attribute(t, m, d.Retain, d.Forget, o)
	o.Groups = 1
	one := attribute(t, m, d.Retain, d.Forget, o)
	assert.Nil(t, one.StdErr)
	near(t, one.GradNorm, many.GradNorm, 1e-5*one.GradNorm, "‖g_r‖")
	for i := range one.Scores {
		near(t, one.Scores[i], many.Scores[i], 1e-5*one.GradNorm*10, "a score")
	}
	for _, n := range []int{20, 21} {
		o.RetainSamples, o.Groups = n, 3
		assert.Equal(t, full, attribute(t, m, d.Retain, d.Forget, o), "a subset of %d of 20", n)
	}
}

func TestAttributeReportsProgress(t *testing.T) {
	d := data(5, 6)
	m := open(t, "llama", 1)
	o := DefaultScoreOptions()
	o.BatchTokens, o.RetainSamples, o.Groups = 1, 4, 2
	var done []int
	_, err := Attribute(context.Background(), m, d.Retain, d.Forget, o, func(n, total int) {
		done = append(done, n)
		assert.Equal(t, 9, total)
	})
	require.NoError(t, err)
	assert.Equal(t, []int{1, 2, 3, 4, 5, 6, 7, 8, 9}, done)
}

func TestAttributeRefuses(t *testing.T) {
	d := data(2, 2)
	m := open(t, "llama", 1)
	ok := d.Forget[0]
	for name, c := range map[string]struct {
		forget, retain []engine.Sample
		change         func(*ScoreOptions)
		want           string
	}{
		"no retain set": {d.Forget, nil, nil, "guard: the retain set is empty"},
		"no forget set": {nil, d.Retain, nil, "guard: the forget set is empty"},
		"no answer": {[]engine.Sample{ok, {IDs: []int32{1, 4}, Mask: []bool{true, false}}}, d.Retain, nil,
			"guard: forget sample 1 has no answer token: its loss is not defined"},
		"mask": {[]engine.Sample{{IDs: []int32{1, 4}, Mask: []bool{true}}}, d.Retain, nil,
			"guard: forget sample 0 has 2 tokens and a mask of 1"},
		"token": {d.Forget, []engine.Sample{{IDs: []int32{1, 31}, Mask: []bool{false, true}}}, nil,
			"guard: retain sample 0: token 1 is 31, the vocabulary has 31"},
		"score":      {d.Forget, d.Retain, func(o *ScoreOptions) { o.Kind = "tracin" }, `guard: score "tracin" is not known; there are guard`},
		"token loss": {d.Forget, d.Retain, func(o *ScoreOptions) { o.TokenLoss = "max" }, `guard: token loss "max" is not known; there are mean, sum`},
		"batch": {d.Forget, d.Retain, func(o *ScoreOptions) { o.BatchTokens = 0 },
			"guard: batch tokens 0, retain samples 0, groups 4: want at least 1, 0, 1"},
	} {
		t.Run(name, func(t *testing.T) {
			o := DefaultScoreOptions()
			if c.change != nil {
				c.change(&o)
			}
			_, err := Attribute(context.Background(), m, c.retain, c.forget, o, nil)
			assert.EqualError(t, err, c.want)
		})
	}
	frozen := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
	_, err := Attribute(context.Background(), frozen, d.Retain, d.Forget, DefaultScoreOptions(), nil)
	assert.EqualError(t, err, "guard: nothing is trainable, so there is no gradient to score by: call DifferentiateAll, TrainFull or TrainLoRA first")

	ctx, cancel := context.WithCancel(context.Background())
	o := DefaultScoreOptions()
	o.BatchTokens = 1
	_, err = Attribute(ctx, m, d.Retain, d.Forget, o, func(n, _ int) {
		if n == 3 {
			cancel()
		}
	})
	assert.ErrorIs(t, err, context.Canceled)

	p, err := m.Param("blk.0.ffn_up.weight")
	require.NoError(t, err)
	p.F32[3] = float32(math.NaN())
	_, err = Attribute(context.Background(), m, d.Retain, d.Forget, DefaultScoreOptions(), nil)
	assert.ErrorContains(t, err, "guard: the retain set has loss NaN and gradient norm NaN")
}

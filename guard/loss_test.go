package guard

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
)

// lossCase is an objective with everything that can be set.
type lossCase struct {
	loss     string
	kl       KLPositions
	micro    int
	weighted bool
}

func (c lossCase) String() string {
	return fmt.Sprintf("%s %s micro=%d weighted=%v", c.loss, c.kl, c.micro, c.weighted)
}

func lossCases() (cases []lossCase) {
	for _, l := range Losses {
		kls := []KLPositions{KLAll}
		if l.NeedsReference {
			kls = []KLPositions{KLAll, KLTOFU, KLAnswer}
		}
		for _, kl := range kls {
			for _, micro := range []int{0, 2} {
				for _, weighted := range []bool{false, true} {
					cases = append(cases, lossCase{l.Name, kl, micro, weighted})
				}
			}
		}
	}
	return cases
}

var testItems = []Item{{Forget: 2, Retain: 1, Idk: 0}, {Forget: 0, Retain: 3, Idk: 4}, {Forget: 4, Retain: 1, Idk: 2}, {Forget: 1, Retain: 0, Idk: 2}, {Forget: 3, Retain: 2, Idk: 1}}

// problem returns the terms of one step of a case. The reference is the model as it
// is opened; then its weights are moved, so that no term is zero.
func problem(t *testing.T, m *engine.Model, c lossCase) (d Data, r *run, terms []Term) {
	t.Helper()
	loss, err := LossByName(c.loss)
	require.NoError(t, err)
	d = data(5, 4)
	if c.weighted {
		d.Multipliers = []float64{0.3, 2.2, 0.9, 0.05, 1.55}
	}
	o := DefaultOptions()
	o.KL, o.MicroBatch = c.kl, c.micro
	r = &run{loss: loss, data: &d, o: o}
	if loss.NeedsReference {
		require.NoError(t, r.reference(context.Background(), m, &Schedule{Items: testItems}, Hooks{}))
	}
	_, terms, err = r.batch(m, testItems)
	require.NoError(t, err)
	return d, r, terms
}

func shift(m *engine.Model, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 3))
	w := theta(m)
	dir := make([]float64, len(w))
	for i := range dir {
		dir[i] = rng.NormFloat64()
	}
	move(m, w, 0.02, dir)
}

// Every objective has the value of its formula, put together here from the
// samples' nll and from distributions in float64.
func TestLossesHaveTheValueOfTheirFormula(t *testing.T) {
	for _, arch := range archs {
		for _, c := range lossCases() {
			t.Run(arch+" "+c.String(), func(t *testing.T) {
				m, before := open(t, arch, 2), open(t, arch, 2)
				d, _, terms := problem(t, m, c)
				shift(m, 8)
				mult := d.Multipliers
				if mult == nil {
					mult = []float64{1, 1, 1, 1, 1}
				}
				micros := [][]Item{testItems}
				if c.micro == 2 {
					micros = [][]Item{testItems[:2], testItems[2:4], testItems[4:]}
				}
				want := 0.0
				for _, items := range micros {
					var forget, retain, idk, kl, nForget, nRetain, nIdk, nKL float64
					for _, it := range items {
						f, r := d.Forget[it.Forget], d.Retain[it.Retain]
						a := refusal(f, it.Idk)
						nll := nlls(t, m, []engine.Sample{f, r, a})
						forget += mult[it.Forget] * nll[0]
						retain += nll[1]
						idk += mult[it.Forget] * nll[2]
						nForget += float64(f.NTargets())
						nRetain += float64(r.NTargets())
						nIdk += float64(a.NTargets())
						if c.loss != "km" {
							continue
						}
						p, q := distributions(m, r), distributions(before, r)
						for pos := range p {
							if c.kl == KLAnswer && (pos == len(p)-1 || !r.Mask[pos+1]) {
								continue
							}
							nKL++
							for v := range p[pos] {
								kl += math.Exp(q[pos][v]) * (q[pos][v] - p[pos][v])
							}
						}
						if c.kl == KLTOFU {
							nKL += 500 - float64(len(p))
						}
					}
					switch c.loss {
					case "ga":
						want += -forget / nForget
					case "gd":
						want += -forget/nForget + retain/nRetain
					case "km":
						want += -forget/nForget + kl/nKL
					case "po":
						want += (idk + retain) / (nIdk + nRetain)
					}
				}
				want /= float64(len(micros))
				near(t, want, objective(m, terms), 2e-6*(1+math.Abs(want)), "the objective")
			})
		}
	}
}

// Every gradient agrees with central differences of its objective: along itself
// and along random directions, all of length 1. A difference over ±0.01 along a
// direction is off by about 1e-7·3/0.02 = 2e-5 for rounding and by
// 0.01²/6 times a third derivative, which Richardson's extrapolation from ±0.02 removes;
// the gradients have norms of 5 to 10. Measured: within 1e-4 of the norm.
func TestLossGradients(t *testing.T) {
	for _, arch := range archs {
		for _, c := range lossCases() {
			t.Run(arch+" "+c.String(), func(t *testing.T) {
				m := open(t, arch, 2)
				_, _, terms := problem(t, m, c)
				shift(m, 8)
				g := gradient(m, terms)
				at := theta(m)
				rng := rand.New(rand.NewPCG(6, 6))
				dirs := [][]float64{append([]float64{}, g...)}
				for range 2 {
					dir := make([]float64, len(g))
					for i := range dir {
						dir[i] = rng.NormFloat64()
					}
					dirs = append(dirs, dir)
				}
				for k, dir := range dirs {
					scale := 1 / norm(dir)
					slope := func(e float64) (difference, expected float64) {
						plus := move(m, at, e*scale, dir)
						up := objective(m, terms)
						minus := move(m, at, -e*scale, dir)
						down := objective(m, terms)
						for i := range plus {
							expected += g[i] * (plus[i] - minus[i])
						}
						return (up - down) / (2 * e), expected / (2 * e)
					}
					d1, want := slope(0.01)
					d2, _ := slope(0.02)
					near(t, want, (4*d1-d2)/3, 2e-4*(norm(g)+0.1), fmt.Sprintf("slope along direction %d (‖g‖ = %.3g)", k, norm(g)))
				}
			})
		}
	}
}

// The gradient is Σ_i c_i·∇nll_i with the coefficients of the formula, each ∇nll_i
// formed alone and explicitly, to 4e-5 of the root mean square element (float32 sums
// over the rows in another order; measured: below 1e-5).
func TestLossGradientsAreSumsOfSampleGradients(t *testing.T) {
	for _, arch := range archs {
		for _, c := range lossCases() {
			if c.loss == "km" {
				continue
			}
			t.Run(arch+" "+c.String(), func(t *testing.T) {
				m := open(t, arch, 2)
				d, r, terms := problem(t, m, c)
				micro := len(testItems)
				if c.micro > 0 {
					micro = c.micro
				}
				nMicro := (len(testItems) + micro - 1) / micro
				want := make([]float64, len(theta(m)))
				add := func(s engine.Sample, coef float64) {
					for i, v := range sampleGradient(m, s, TokenSum) {
						want[i] += coef * v
					}
				}
				for lo := 0; lo < len(testItems); lo += micro {
					items := testItems[lo:min(lo+micro, len(testItems))]
					var nForget, nRetain, nIdk float64
					for _, it := range items {
						nForget += float64(d.Forget[it.Forget].NTargets())
						nRetain += float64(d.Retain[it.Retain].NTargets())
						nIdk += float64(refusal(d.Forget[it.Forget], it.Idk).NTargets())
					}
					for _, it := range items {
						mult := 1 / float64(nMicro)
						if c.weighted {
							mult *= d.Multipliers[it.Forget]
						}
						if c.loss == "po" {
							add(refusal(d.Forget[it.Forget], it.Idk), mult/(nIdk+nRetain))
							add(d.Retain[it.Retain], 1/float64(nMicro)/(nIdk+nRetain))
							continue
						}
						add(d.Forget[it.Forget], -mult/nForget)
						if r.loss.NeedsRetain {
							add(d.Retain[it.Retain], 1/float64(nMicro)/nRetain)
						}
					}
				}
				got := gradient(m, terms)
				worst, scale := 0, norm(want)/math.Sqrt(float64(len(want)))
				for i := range got {
					if !(math.Abs(got[i]-want[i]) <= math.Abs(got[worst]-want[worst])) {
						worst = i
					}
				}
				near(t, want[worst], got[worst], 4e-5*scale, fmt.Sprint("the worst element, ", worst))
			})
		}
	}
}

// At the reference itself the divergence and its gradient are zero, not small.
func TestKLIsExactlyZeroAtTheReference(t *testing.T) {
	for _, arch := range archs {
		for _, kl := range []KLPositions{KLAll, KLTOFU, KLAnswer} {
			for variant := range 3 {
				m, micro := open(t, arch, 3), 0
				switch variant {
				case 1:
					m.Ctx.Compute, micro = nn.ComputeBF16, 2
				case 2:
					m.TrainFused(1)
				}
				_, _, terms := problem(t, m, lossCase{"km", kl, micro, false})
				rows := 0
				for _, term := range terms {
					if term.Name != "kl" {
						continue
					}
					rows += len(term.Coef)
					require.Equal(t, 0.0, objective(m, []Term{term}), "%s %s", arch, kl)
					require.Equal(t, 0.0, norm(gradient(m, []Term{term})), "%s %s: norm of the gradient", arch, kl)
				}
				require.Greater(t, rows, 10)
				m.TrainFull()
				shift(m, 1)
				require.Greater(t, objective(m, terms[1:2]), 0.0)
			}
		}
	}
}

func TestLossByName(t *testing.T) {
	_, err := LossByName("nop")
	assert.EqualError(t, err, `guard: loss "nop" is not known; there are ga, gd, km, po`)
	assert.EqualError(t, KLPositions("some").check(), `guard: KL positions "some" are not known; there are all, tofu, answer`)
}

package guard

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
)

// TokenLoss says how the loss of a sample is made of those of its answer tokens.
type TokenLoss string

const (
	TokenMean TokenLoss = "mean" // l = (1/n) Σ_t nll_t over the n answer tokens
	TokenSum  TokenLoss = "sum"  // l = Σ_t nll_t
)

// coef returns what one token's nll is multiplied by in the sample's loss.
func (l TokenLoss) coef(s engine.Sample) float64 {
	if l == TokenSum {
		return 1
	}
	return 1 / float64(s.NTargets())
}

// ScoreOptions say how forget samples are scored.
type ScoreOptions struct {
	Kind      string    // a name of Scores
	TokenLoss TokenLoss // the loss of a sample
	// BatchTokens is about how many tokens are packed into one batch. It changes
	// scores by rounding only.
	BatchTokens int
	// RetainSamples is the number of retain samples, chosen by Seed, whose mean
	// gradient is taken; 0, or as many as there are, takes the whole set.
	RetainSamples int
	// Groups is into how many groups a subset of the retain samples is divided for
	// the standard error of the scores; 1 gives none. A group costs a model-sized
	// gradient in memory and 2·P more operations for a token of the forget set.
	Groups int
	Seed   uint64
}

// DefaultScoreOptions returns the defaults; doc.go gives their reasons.
func DefaultScoreOptions() ScoreOptions {
	return ScoreOptions{Kind: "guard", TokenLoss: TokenMean, BatchTokens: 512, Groups: 4, Seed: 42}
}

// Attribution is what scoring found.
type Attribution struct {
	Kind   string
	Scores []float64 // a_i of each forget sample
	// StdErr is the standard error of each score as an estimate of the score over
	// the whole retain set; nil if the whole set was taken, or one group.
	StdErr []float64
	// ForgetLoss is l_i of each forget sample, RetainLoss the mean l_j over the
	// retain samples taken.
	ForgetLoss []float64
	RetainLoss float64
	GradNorm   float64 // ‖g_r‖
	RetainUsed int     // retain samples taken
	Retain     int     // retain samples there are
}

// Score is a row of the table of attribution scores.
type Score struct {
	Name string
	Doc  string
	// Run scores the forget samples by the model as it is, which it does not change.
	Run func(ctx context.Context, m *engine.Model, retain, forget []engine.Sample, o ScoreOptions, p engine.Progress) (*Attribution, error)
}

// Scores lists the attribution scores by name.
var Scores = []Score{
	{Name: "guard", Doc: "inner product of a sample's loss gradient with the mean gradient of the retain set", Run: innerProducts},
}

// Attribute scores every forget sample by the model as it is: before unlearning,
// and after TrainFull or TrainLoRA, which say with respect to which parameters.
// The progress counts samples, retain before forget.
//
// The scores are the same bits for any number of workers. It is an error if a set
// is empty, a sample has no answer or a token that the model has not, an option is
// not known, nothing is trainable, or a loss or score is not finite. It stops
// between batches with the context's error.
func Attribute(ctx context.Context, m *engine.Model, retain, forget []engine.Sample, o ScoreOptions, p engine.Progress) (*Attribution, error) {
	if err := checkSamples(m, "retain", retain); err != nil {
		return nil, err
	}
	if err := checkSamples(m, "forget", forget); err != nil {
		return nil, err
	}
	if len(m.Trainable()) == 0 {
		return nil, fmt.Errorf("guard: nothing is trainable, so there is no gradient to score by: call TrainFull or TrainLoRA first")
	}
	if o.TokenLoss != TokenMean && o.TokenLoss != TokenSum {
		return nil, fmt.Errorf("guard: token loss %q is not known; there are %s, %s", string(o.TokenLoss), TokenMean, TokenSum)
	}
	if o.BatchTokens < 1 || o.RetainSamples < 0 || o.Groups < 1 {
		return nil, fmt.Errorf("guard: batch tokens %d, retain samples %d, groups %d: want at least 1, 0, 1", o.BatchTokens, o.RetainSamples, o.Groups)
	}
	known := make([]string, len(Scores))
	for i, s := range Scores {
		if s.Name == o.Kind {
			return s.Run(ctx, m, retain, forget, o, p)
		}
		known[i] = s.Name
	}
	return nil, fmt.Errorf("guard: score %q is not known; there are %s", o.Kind, strings.Join(known, ", "))
}

// checkSamples says what a model cannot work with.
func checkSamples(m *engine.Model, set string, samples []engine.Sample) error {
	if len(samples) == 0 {
		return fmt.Errorf("guard: the %s set is empty", set)
	}
	for i, s := range samples {
		if len(s.Mask) != len(s.IDs) {
			return fmt.Errorf("guard: %s sample %d has %d tokens and a mask of %d", set, i, len(s.IDs), len(s.Mask))
		}
		if s.NTargets() == 0 {
			return fmt.Errorf("guard: %s sample %d has no answer token: its loss is not defined", set, i)
		}
		for t, id := range s.IDs {
			if id < 0 || int(id) >= m.Config.NVocab {
				return fmt.Errorf("guard: %s sample %d: token %d is %d, the vocabulary has %d", set, i, t, id, m.Config.NVocab)
			}
		}
	}
	return nil
}

// innerProducts is the score of GUARD (arXiv:2506.10946v2):
//
//	a_i = ⟨g_r, g_i⟩,  g_i = ∇l_i(θ),  g_r = (1/n_r) Σ_j ∇l_j(θ)
//
// with no division by norms. A first pass adds up g_r over packed retain samples, a second one
// takes the inner products from the factors of the gradients of packed forget
// samples (engine.Dot); a gradient of one sample is never formed. Cost: 6·P flops a token.
//
// For a subset of n of n_r samples in K groups with means g_k and sizes n_k,
// a_i = Σ_k (n_k/n)·⟨g_k, g_i⟩ and its standard error is
//
//	√( (1/(K-1)) Σ_k (n_k/n)·(⟨g_k, g_i⟩ - a_i)² · (1 - n/n_r) )
//
// the unbiased variance of a mean from the means of groups, with the correction
// for drawing without replacement.
func innerProducts(ctx context.Context, m *engine.Model, retain, forget []engine.Sample, o ScoreOptions, p engine.Progress) (*Attribution, error) {
	a := &Attribution{
		Kind: o.Kind, Retain: len(retain), RetainUsed: len(retain),
		Scores: make([]float64, len(forget)), ForgetLoss: make([]float64, len(forget)),
	}
	nGroups := 1
	if n := o.RetainSamples; n > 0 && n < len(retain) {
		a.RetainUsed = n
		nGroups = min(o.Groups, n)
		subset := make([]engine.Sample, n)
		for i, j := range draw(streamSubset, o.Seed, 0, 0).Perm(len(retain))[:n] {
			subset[i] = retain[j]
		}
		retain = subset
	}
	n := len(retain)
	report := func(done int) {
		if p != nil {
			p(done, n+len(forget))
		}
	}
	trace := m.NewTrace()

	// The groups are runs of the subset, whose order is random already.
	groups, share := make([]*engine.Grads, nGroups), make([]float64, nGroups)
	for k := range groups {
		lo, hi := k*n/nGroups, (k+1)*n/nGroups
		groups[k], share[k] = engine.NewGrads(m), float64(hi-lo)/float64(n)
		for _, run := range engine.Batches(retain[lo:hi], o.BatchTokens) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			batch := retain[lo+run[0] : lo+run[1]]
			for _, l := range sampleLosses(trace, batch, o.TokenLoss, 1/float64(hi-lo), engine.NewAccumulate(groups[k])) {
				a.RetainLoss += l / float64(n)
			}
			report(lo + run[1])
		}
	}
	parts := make([][]float64, nGroups) // ⟨g_k, g_i⟩
	for _, run := range engine.Batches(forget, o.BatchTokens) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		batch := forget[run[0]:run[1]]
		sinks := make(engine.Tee, nGroups)
		for k, g := range groups {
			sinks[k] = engine.NewDot(g, len(batch))
		}
		copy(a.ForgetLoss[run[0]:], sampleLosses(trace, batch, o.TokenLoss, 1, sinks))
		for k, s := range sinks {
			parts[k] = append(parts[k], s.(*engine.Dot).Scores...)
		}
		report(n + run[1])
	}

	total := groups[0] // g_r; the groups are not needed any more
	total.Scale(float32(share[0]))
	for k := 1; k < nGroups; k++ {
		for _, prm := range total.Params() {
			m.Ctx.K.Axpy(total.Of(prm), float32(share[k]), groups[k].Of(prm))
		}
	}
	a.GradNorm = total.Norm()
	for i := range a.Scores {
		for k := range parts {
			a.Scores[i] += share[k] * parts[k][i]
		}
	}
	if nGroups > 1 {
		a.StdErr = make([]float64, len(forget))
		rest := 1 - float64(n)/float64(a.Retain)
		for i := range a.StdErr {
			v := 0.0
			for k := range parts {
				d := parts[k][i] - a.Scores[i]
				v += share[k] * d * d
			}
			a.StdErr[i] = math.Sqrt(v / float64(nGroups-1) * rest)
		}
	}
	return a, a.check()
}

// sampleLosses returns the loss of each sample of a packed batch, and delivers
// the gradient of scale times their sum to the sink.
func sampleLosses(t *engine.Trace, batch []engine.Sample, l TokenLoss, scale float64, sink nn.Sink) []float64 {
	t.Forward(batch)
	targets := t.Targets()
	coef := make([]float32, len(targets))
	for i, target := range targets {
		coef[i] = float32(scale * l.coef(batch[target.Sample]))
	}
	rows, f := t.CrossEntropy(targets, coef)
	nll := t.Backward(rows, f, sink)
	losses := make([]float64, len(batch))
	for i, target := range targets {
		losses[target.Sample] += nll[i] * l.coef(batch[target.Sample])
	}
	return losses
}

// check says whether every number found is finite.
func (a *Attribution) check() error {
	bad := func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }
	if bad(a.RetainLoss) || bad(a.GradNorm) {
		return fmt.Errorf("guard: the retain set has loss %v and gradient norm %v: the model's weights or its arithmetic overflow", a.RetainLoss, a.GradNorm)
	}
	for i, l := range a.ForgetLoss {
		if bad(l) || bad(a.Scores[i]) {
			return fmt.Errorf("guard: forget sample %d has loss %v and score %v", i, l, a.Scores[i])
		}
	}
	return nil
}

package guard

import (
	"context"
	"fmt"
	"math"
	"slices"
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
	// StreamOptions say what attribution does where the gradient of the whole model is too large.
	StreamOptions
}

// DefaultScoreOptions returns the defaults; doc.go gives their reasons.
func DefaultScoreOptions() ScoreOptions {
	return ScoreOptions{Kind: "guard", TokenLoss: TokenMean, BatchTokens: 512, Groups: 4, Seed: 42, StreamOptions: StreamOptions{Spill: engine.SpillBF16}}
}

// Attribution is what scoring found.
type Attribution struct {
	Kind   string
	Scores []float64 // a_i of each forget sample
	// StdErr is the standard error of each score as an estimate of the score over
	// the whole retain set; nil if the whole set was taken, or one group.
	StdErr []float64
	// HalfCorrelation is Spearman's rank correlation of the scores by one half of the groups with
	// those by the other half: how far another subset would order the samples alike. It is nil without
	// several groups, and where the scores of one half are all equal.
	HalfCorrelation *float64
	// ForgetLoss is l_i of each forget sample, RetainLoss the mean l_j over the
	// retain samples taken.
	ForgetLoss []float64
	RetainLoss float64
	GradNorm   float64 // ‖g_r‖
	RetainUsed int     // retain samples taken
	Retain     int     // retain samples there are
	Plan       *AttributionPlan
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
// and after DifferentiateAll, TrainFull or TrainLoRA, which say with respect to which parameters.
// It works as PlanAttribution says. The progress counts samples, retain before forget; of
// streamed attribution thousandths of the work.
//
// The scores are the same bits for any number of workers. It is an error if a set
// is empty, a sample has no answer or a token that the model has not, an option is
// not known, nothing is trainable, the memory is too little, or a loss or score is not finite. It stops
// between blocks with the context's error.
func Attribute(ctx context.Context, m *engine.Model, retain, forget []engine.Sample, o ScoreOptions, p engine.Progress) (*Attribution, error) {
	if err := o.check(m, retain, forget); err != nil {
		return nil, err
	}
	for _, s := range Scores {
		if s.Name == o.Kind {
			return s.Run(ctx, m, retain, forget, o, p)
		}
	}
	panic("guard: Attribute: check let an unknown score pass")
}

// check says what attribution cannot work with.
func (o *ScoreOptions) check(m *engine.Model, retain, forget []engine.Sample) error {
	if err := checkSamples(m, "retain", retain); err != nil {
		return err
	}
	if err := checkSamples(m, "forget", forget); err != nil {
		return err
	}
	if len(m.Trainable()) == 0 {
		return fmt.Errorf("guard: nothing is trainable, so there is no gradient to score by: call DifferentiateAll, TrainFull or TrainLoRA first")
	}
	if o.TokenLoss != TokenMean && o.TokenLoss != TokenSum {
		return fmt.Errorf("guard: token loss %q is not known; there are %s, %s", string(o.TokenLoss), TokenMean, TokenSum)
	}
	if o.BatchTokens < 1 || o.RetainSamples < 0 || o.Groups < 1 {
		return fmt.Errorf("guard: batch tokens %d, retain samples %d, groups %d: want at least 1, 0, 1", o.BatchTokens, o.RetainSamples, o.Groups)
	}
	known := make([]string, len(Scores))
	for i, s := range Scores {
		known[i] = s.Name
	}
	if !slices.Contains(known, o.Kind) {
		return fmt.Errorf("guard: score %q is not known; there are %s", o.Kind, strings.Join(known, ", "))
	}
	return o.StreamOptions.check()
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
// samples (engine.Dot); a gradient of one sample is never formed. Cost: 6·P flops a token, or
// 8·P where a stream does the same for some blocks at a time (engine.Stream).
//
// For a subset of n of n_r samples in K groups with means g_k and sizes n_k,
// a_i = Σ_k (n_k/n)·⟨g_k, g_i⟩ and its standard error is
//
//	√( (1/(K-1)) Σ_k (n_k/n)·(⟨g_k, g_i⟩ - a_i)² · (1 - n/n_r) )
//
// the unbiased variance of a mean from the means of groups, with the correction
// for drawing without replacement.
func innerProducts(ctx context.Context, m *engine.Model, retain, forget []engine.Sample, o ScoreOptions, p engine.Progress) (*Attribution, error) {
	plan, err := planAttribution(m, retain, forget, o)
	if err != nil {
		return nil, err
	}
	s := newScoring(m, retain, forget, o, plan.BatchTokens)
	a := &Attribution{
		Kind: o.Kind, Retain: len(retain), RetainUsed: len(s.retain), Plan: plan,
		Scores: make([]float64, len(forget)), ForgetLoss: make([]float64, len(forget)),
	}
	run := s.whole
	if plan.Streamed() {
		run = s.stream
	}
	parts, err := run(ctx, a, p)
	if err != nil {
		return nil, err
	}
	for i := range a.Scores {
		for k := range parts {
			a.Scores[i] += s.share[k] * parts[k][i]
		}
	}
	if len(parts) > 1 {
		a.StdErr = make([]float64, len(forget))
		rest := 1 - float64(len(s.retain))/float64(a.Retain)
		for i := range a.StdErr {
			v := 0.0
			for k := range parts {
				d := parts[k][i] - a.Scores[i]
				v += s.share[k] * d * d
			}
			a.StdErr[i] = math.Sqrt(v / float64(len(parts)-1) * rest)
		}
		half := len(parts) / 2
		rho := Spearman(weightedSum(parts[:half], s.share[:half]), weightedSum(parts[half:], s.share[half:]))
		if !math.IsNaN(rho) {
			a.HalfCorrelation = &rho
		}
	}
	return a, a.check()
}

// Some returns n of the numbers below total, chosen by the seed, in order; all of them if n is 0 or not less.
// It is for estimates: a score does not depend on which other samples are scored.
func Some(total, n int, seed uint64) []int {
	if n <= 0 || n > total {
		n = total
	}
	some := draw(streamSome, seed, 0, 0).Perm(total)[:n]
	slices.Sort(some)
	return some
}

// scoring is the work of innerProducts: the retain samples taken, in groups, and packed batches.
type scoring struct {
	m       *engine.Model
	o       ScoreOptions
	retain  []engine.Sample
	forget  []engine.Sample
	share   []float64 // n_k/n of each group
	batches []scoreBatch
}

// scoreBatch is some samples of a group of the retain set or, if the group is engine.Scored, of the forget
// set: samples first, first+1, …
type scoreBatch struct {
	samples      []engine.Sample
	group, first int
	scale        float64 // of the gradient
}

// newScoring draws the subset of the retain samples, divides it and packs batches.
func newScoring(m *engine.Model, retain, forget []engine.Sample, o ScoreOptions, batchTokens int) *scoring {
	s := &scoring{m: m, o: o, retain: retain, forget: forget}
	nGroups := 1
	if n := o.RetainSamples; n > 0 && n < len(retain) {
		nGroups = min(o.Groups, n)
		s.retain = make([]engine.Sample, n)
		for i, j := range draw(streamSubset, o.Seed, 0, 0).Perm(len(retain))[:n] {
			s.retain[i] = retain[j]
		}
	}
	n := len(s.retain)
	// The groups are runs of the subset, whose order is random already.
	for k := range nGroups {
		lo, hi := k*n/nGroups, (k+1)*n/nGroups
		s.share = append(s.share, float64(hi-lo)/float64(n))
		for _, run := range engine.Batches(s.retain[lo:hi], batchTokens) {
			s.batches = append(s.batches, scoreBatch{s.retain[lo+run[0] : lo+run[1]], k, lo + run[0], 1 / float64(hi-lo)})
		}
	}
	for _, run := range engine.Batches(forget, batchTokens) {
		s.batches = append(s.batches, scoreBatch{forget[run[0]:run[1]], engine.Scored, run[0], 1})
	}
	return s
}

// whole forms the gradients of all parameters at once, and returns ⟨g_k, g_i⟩ for each group k and
// forget sample i.
func (s *scoring) whole(ctx context.Context, a *Attribution, p engine.Progress) ([][]float64, error) {
	groups := make([]*engine.Grads, len(s.share))
	for k := range groups {
		groups[k] = engine.NewGrads(s.m)
	}
	parts := make([][]float64, len(groups))
	trace, done := s.m.NewTrace(), 0
	trace.Stop = func() bool { return ctx.Err() != nil }
	for _, b := range s.batches {
		if b.group != engine.Scored {
			a.addLosses(b, s.sampleLosses(trace, b, engine.NewAccumulate(groups[b.group])), len(s.retain))
		} else {
			sinks := make(engine.Tee, len(groups))
			for k, g := range groups {
				sinks[k] = engine.NewDot(g, len(b.samples))
			}
			a.addLosses(b, s.sampleLosses(trace, b, sinks), len(s.retain))
			for k, sink := range sinks {
				parts[k] = append(parts[k], sink.(*engine.Dot).Scores...)
			}
		}
		if err := ctx.Err(); err != nil { // the trace may have stopped
			return nil, err
		}
		done += len(b.samples)
		if p != nil {
			p(done, len(s.retain)+len(s.forget))
		}
	}
	total := groups[0] // g_r; the groups are not needed any more
	total.Scale(float32(s.share[0]))
	for k := 1; k < len(groups); k++ {
		for _, prm := range total.Params() {
			s.m.Ctx.K.Axpy(total.Of(prm), float32(s.share[k]), groups[k].Of(prm))
		}
	}
	a.GradNorm = total.Norm()
	return parts, nil
}

// addLosses takes over the losses of a batch's samples; n retain samples are taken in all.
func (a *Attribution) addLosses(b scoreBatch, losses []float64, n int) {
	if b.group == engine.Scored {
		copy(a.ForgetLoss[b.first:], losses)
		return
	}
	for _, l := range losses {
		a.RetainLoss += l / float64(n)
	}
}

// loss returns the rows and the loss function of a batch that a trace has packed.
func (s *scoring) loss(t *engine.Trace, b scoreBatch) ([]int, engine.LossFunc) {
	targets := t.Targets()
	coef := make([]float32, len(targets))
	for i, target := range targets {
		coef[i] = float32(b.scale * s.o.TokenLoss.coef(b.samples[target.Sample]))
	}
	return t.CrossEntropy(targets, coef)
}

// losses returns the loss of each sample of a batch from those of its targets.
func (s *scoring) losses(b scoreBatch, nll []float64) []float64 {
	out := make([]float64, len(b.samples))
	for i, smp := range b.samples {
		for range smp.NTargets() {
			out[i] += nll[0] * s.o.TokenLoss.coef(smp)
			nll = nll[1:]
		}
	}
	return out
}

// sampleLosses returns the loss of each sample of a batch, and delivers the gradient of scale times
// their sum to the sink.
func (s *scoring) sampleLosses(t *engine.Trace, b scoreBatch, sink nn.Sink) []float64 {
	t.Forward(b.samples)
	rows, f := s.loss(t, b)
	return s.losses(b, t.Backward(rows, f, sink))
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

package tofu

import (
	"fmt"
	"math"
	"slices"
)

// Sacrifice is GUARD's sacrifice rate in one metric: what the retain set lost for
// what the forget set lost. With K the metric turned so that larger is more
// knowledge (Metric.Knowledge times its value; the truth ratio of the forget set
// is turned),
//
//	rate = (K_before(retain) − K_after(retain)) / (K_before(forget) − K_after(forget))
//
// Smaller is better, and the rate is signed: below 0 the retain set gained. It is
// undefined where the forget set's drop cannot be told from zero: |drop| ≤ 2·SE,
// with SE the standard error of the mean paired difference over the items, or fewer
// than two items. A negative forget drop that is defined says that the model knows
// more of the forget set than before; then so does the sign of the rate, and
// the reader has to look at both drops.
type Sacrifice struct {
	Metric string `json:"metric"`

	// The values of the metric as it is, not turned: the absolute performance.
	RetainBefore float64 `json:"retain_before"`
	RetainAfter  float64 `json:"retain_after"`
	ForgetBefore float64 `json:"forget_before"`
	ForgetAfter  float64 `json:"forget_after"`

	// The turned differences, before − after, and their standard errors.
	RetainDrop   float64 `json:"retain_drop"`
	RetainDropSE float64 `json:"retain_drop_se"`
	ForgetDrop   float64 `json:"forget_drop"`
	ForgetDropSE float64 `json:"forget_drop_se"`

	// Rate is nil where it is undefined, and Reason says why. RateSE is its standard
	// error to first order, √(SE(retain)² + rate²·SE(forget)²) / |forget drop|, the
	// items of the two sets being drawn apart; nil too if the retain set has one item only.
	Rate   *float64 `json:"rate"`
	RateSE *float64 `json:"rate_se,omitempty"`
	Reason string   `json:"reason,omitempty"`
}

// sacrificeMetrics are those for which GUARD reports a rate.
var sacrificeMetrics = []string{"probability", "rougeL_recall", "truth_ratio"}

// SacrificeRate compares a model before and after unlearning, evaluated on the same
// items, in every metric that both sets have in both.
func SacrificeRate(before, after *Metrics) ([]Sacrifice, error) {
	var all []Sacrifice
	for _, name := range sacrificeMetrics {
		s := Sacrifice{Metric: name}
		retain, err := dropOf(before, after, Retain, name)
		if err != nil {
			return nil, err
		}
		forget, err := dropOf(before, after, Forget, name)
		if err != nil {
			return nil, err
		}
		if retain == nil || forget == nil {
			continue
		}
		s.RetainBefore, s.RetainAfter, s.RetainDrop, s.RetainDropSE = retain.before, retain.after, retain.mean, retain.se
		s.ForgetBefore, s.ForgetAfter, s.ForgetDrop, s.ForgetDropSE = forget.before, forget.after, forget.mean, forget.se
		switch {
		case forget.n < 2:
			s.Reason = "undefined: a single item in the forget set says nothing of its spread"
		case !(math.Abs(forget.mean) > 2*forget.se):
			s.Reason = fmt.Sprintf("undefined: the change on the forget set (%.3g ± %.2g) cannot be told from zero", -forget.mean, forget.se)
		default:
			rate := retain.mean / forget.mean
			s.Rate = &rate
			if retain.n > 1 {
				se := math.Hypot(retain.se, rate*forget.se) / math.Abs(forget.mean)
				s.RateSE = &se
			}
		}
		all = append(all, s)
	}
	return all, nil
}

// drop is the mean of the paired differences of a turned metric, before − after.
type drop struct {
	n             int
	before, after float64 // not turned
	mean, se      float64 // se is 0 for one item
}

// dropOf returns nil if one of the models has no such metric.
func dropOf(before, after *Metrics, set Set, name string) (*drop, error) {
	b, a := before.value(set, name), after.value(set, name)
	if b == nil || a == nil {
		return nil, nil
	}
	if !slices.Equal(b.Index, a.Index) {
		return nil, fmt.Errorf("tofu: %s of %s was measured on %d items before and %d after, not on the same ones", name, set, len(b.Index), len(a.Index))
	}
	d := &drop{n: len(b.Items), before: b.Mean, after: a.Mean}
	turn := float64(b.Metric.Knowledge)
	for i := range b.Items {
		d.mean += turn * (b.Items[i] - a.Items[i]) / float64(d.n)
	}
	if d.n > 1 {
		ss := 0.0
		for i := range b.Items {
			e := turn*(b.Items[i]-a.Items[i]) - d.mean
			ss += e * e
		}
		d.se = math.Sqrt(ss / float64(d.n-1) / float64(d.n))
	}
	return d, nil
}

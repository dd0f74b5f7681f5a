package guard

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Multipliers returns n·w_i for the weights of SampleWeights, n the number of
// scores:
//
//	n·w_i = exp(-(a_i-a_min)/τ) / mean_j exp(-(a_j-a_min)/τ)
//
// It is what an objective multiplies the loss of sample i by: the multipliers
// have mean 1, and at τ = +Inf each is exactly 1, so that the weighted objective
// is the plain one bit for bit.
// It is an error if there are no scores, a score is not finite, or τ is not in (0,+Inf].
func Multipliers(scores []float64, tau float64) ([]float64, error) {
	lo, err := lowest(scores)
	if err != nil {
		return nil, err
	}
	if !(tau > 0) {
		return nil, fmt.Errorf("guard: tau is %v, want a number above 0 or +Inf", tau)
	}
	mult := make([]float64, len(scores))
	sum := 0.0
	for i, a := range scores {
		mult[i] = math.Exp(-2 * ((a/2 - lo/2) / tau)) // halves: a-lo may overflow
		sum += mult[i]
	}
	mean := sum / float64(len(scores))
	for i := range mult {
		mult[i] /= mean
	}
	return mult, nil
}

// SampleWeights returns the weights of the forget samples, the softmax of their
// negated scores:
//
//	w_i = exp(-a_i/τ) / Σ_j exp(-a_j/τ)
//
// They are the minimiser over the simplex of Σ w_i·a_i + τ·Σ w_i·ln w_i: they sum
// to one, and Σ w_i·a_i is at most the mean score and falls with τ. τ = +Inf
// gives 1/n. Errors are those of Multipliers.
func SampleWeights(scores []float64, tau float64) ([]float64, error) {
	w, err := Multipliers(scores, tau)
	if err != nil {
		return nil, err
	}
	for i := range w {
		w[i] /= float64(len(w))
	}
	return w, nil
}

// lowest returns the smallest score, or an error that names the first score that
// is not finite.
func lowest(scores []float64) (float64, error) {
	if len(scores) == 0 {
		return 0, fmt.Errorf("guard: no scores to weigh")
	}
	lo := math.Inf(1)
	for i, a := range scores {
		if math.IsNaN(a) || math.IsInf(a, 0) {
			return 0, fmt.Errorf("guard: the score of forget sample %d is %v", i, a)
		}
		lo = min(lo, a)
	}
	return lo, nil
}

// EffectiveSize returns 1/Σ w_i² of weights that sum to one: the number of equal
// weights that would have the same Σ w_i².
func EffectiveSize(weights []float64) float64 {
	sum := 0.0
	for _, w := range weights {
		sum += w * w
	}
	return 1 / sum
}

// DefaultESSShare is the share of the forget set that the effective sample size
// has under Tau "auto".
const DefaultESSShare = 0.5

// AutoTau returns the τ at which the effective sample size 1/Σw² is share·n,
// n = len(scores). It exists and is unique: with β = 1/τ,
// d ln Σw²/dβ = 2(E_β[a] - E_2β[a]) ≥ 0, so the size grows with τ, from m, the number of
// scores equal to the smallest, to n. Two cases have no such τ:
//
//   - all scores equal: every τ gives uniform weights, and the result is +Inf;
//   - share·n ≤ m (two samples and a share of one half, say): the size aimed at
//     is m + share·(n-m), the same share of what τ can change.
//
// It is an error if share is not in (0,1), or for the scores as in Multipliers.
// The bisection runs on β in units of the score range to the last bit, so the
// result depends on nothing but its arguments.
func AutoTau(scores []float64, share float64) (float64, error) {
	lo, err := lowest(scores)
	if err != nil {
		return 0, err
	}
	if !(share > 0 && share < 1) {
		return 0, fmt.Errorf("guard: the share of the effective sample size is %v, want one between 0 and 1", share)
	}
	// x = (a-lo)/unit lies in [0,1]. Halves, so that the range cannot overflow.
	unit := 0.0
	for _, a := range scores {
		unit = max(unit, a/2-lo/2)
	}
	if unit == 0 {
		return math.Inf(1), nil
	}
	x := make([]float64, len(scores))
	ties := 0
	for i, a := range scores {
		if x[i] = (a/2 - lo/2) / unit; x[i] < 0x1p-1000 { // beyond what a finite β can tell from 0
			x[i] = 0
			ties++
		}
	}
	n, m := float64(len(x)), float64(ties)
	target := share * n
	if target <= m {
		target = m + share*(n-m)
	}
	size := func(beta float64) float64 {
		s1, s2 := 0.0, 0.0
		for _, x := range x {
			e := math.Exp(-beta * x)
			s1 += e
			s2 += e * e
		}
		return s1 * s1 / s2
	}
	below, above := 0.0, 1.0 // size(below) > target ≥ size(above)
	for size(above) > target {
		below, above = above, 2*above
	}
	for {
		mid := below + (above-below)/2
		if mid <= below || mid >= above {
			return unit / above * 2, nil
		}
		if size(mid) > target {
			below = mid
		} else {
			above = mid
		}
	}
}

// Tau says how the temperature is found. The zero value is auto with
// DefaultESSShare.
type Tau struct {
	// Value is the temperature itself, if it is above 0; +Inf gives uniform weights.
	Value float64
	// Std, if it is above 0, is the temperature in standard deviations of the scores.
	Std float64
	// Share is the share of AutoTau, 0 meaning DefaultESSShare.
	Share float64
}

// ParseTau reads a temperature: a number ("0.02", "inf"), a multiple of the
// standard deviation of the scores ("0.3std"), or the share of the effective
// sample size ("auto", "auto:0.25").
func ParseTau(s string) (Tau, error) {
	bad := func() (Tau, error) {
		return Tau{}, fmt.Errorf("guard: tau %q is not a number above 0, inf, a multiple of the scores' standard deviation such as 0.3std, auto, or auto:SHARE with a share between 0 and 1", s)
	}
	number := func(text string, limit float64) (float64, bool) {
		v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		return v, err == nil && v > 0 && v < limit
	}
	text := strings.ToLower(strings.TrimSpace(s))
	if text == "auto" {
		return Tau{}, nil
	}
	if text == "inf" || text == "+inf" {
		return Tau{Value: math.Inf(1)}, nil
	}
	if rest, ok := strings.CutPrefix(text, "auto:"); ok {
		v, ok := number(rest, 1)
		if !ok {
			return bad()
		}
		return Tau{Share: v}, nil
	}
	if rest, ok := strings.CutSuffix(text, "std"); ok {
		v, ok := number(strings.TrimRight(rest, "*×x "), math.Inf(1))
		if !ok {
			return bad()
		}
		return Tau{Std: v}, nil
	}
	v, ok := number(text, math.Inf(1))
	if !ok {
		return bad()
	}
	return Tau{Value: v}, nil
}

// String spells t as ParseTau reads it.
func (t Tau) String() string {
	num := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	switch {
	case math.IsInf(t.Value, 1):
		return "inf"
	case t.Value > 0:
		return num(t.Value)
	case t.Std > 0:
		return num(t.Std) + "std"
	case t.Share > 0:
		return "auto:" + num(t.Share)
	}
	return "auto"
}

// Resolve returns the temperature that t means for these scores. Scores without
// spread give +Inf for Std and Share: every temperature means the same weights.
func (t Tau) Resolve(scores []float64) (float64, error) {
	if _, err := lowest(scores); err != nil {
		return 0, err
	}
	switch {
	case t.Value > 0:
		return t.Value, nil
	case t.Std > 0:
		_, std := meanStd(scores)
		if std == 0 {
			return math.Inf(1), nil
		}
		return t.Std * std, nil
	case t.Share > 0:
		return AutoTau(scores, t.Share)
	}
	return AutoTau(scores, DefaultESSShare)
}

// meanStd returns the mean and the standard deviation (divided by n) of x.
func meanStd(x []float64) (mean, std float64) {
	n := float64(len(x))
	for _, v := range x {
		mean += v / n
	}
	for _, v := range x {
		std = math.Hypot(std, v-mean)
	}
	return mean, std / math.Sqrt(n)
}

// WeightSummary says what a temperature did to a set of scores.
type WeightSummary struct {
	Tau               float64 // may be +Inf
	Mean, Std         float64 // of the scores; Std divides by n
	Min, Max          float64 // of the scores
	WeightedMean      float64 // Σ w_i·a_i, at most Mean
	EffectiveSize     float64 // 1/Σ w_i²
	LargestMultiplier float64 // max n·w_i
	LargestSample     int     // the sample that has it
}

// Summarize returns the multipliers of the scores at τ and what they amount to.
// Errors are those of Multipliers.
func Summarize(scores []float64, tau float64) (mult []float64, s *WeightSummary, err error) {
	if mult, err = Multipliers(scores, tau); err != nil {
		return nil, nil, err
	}
	s = &WeightSummary{Tau: tau, Min: scores[0], Max: scores[0]}
	s.Mean, s.Std = meanStd(scores)
	weights := make([]float64, len(mult))
	for i, a := range scores {
		weights[i] = mult[i] / float64(len(mult))
		s.Min, s.Max = min(s.Min, a), max(s.Max, a)
		s.WeightedMean += weights[i] * a
		if mult[i] > s.LargestMultiplier {
			s.LargestMultiplier, s.LargestSample = mult[i], i
		}
	}
	s.EffectiveSize = EffectiveSize(weights)
	return mult, s, nil
}

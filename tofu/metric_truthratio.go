package tofu

import "math"

// logTruthRatio is ln c = (1/K) Σₖ ℓₖ − ℓ̃, with ℓ̃ the mean token loss of the
// paraphrased answer and ℓₖ those of the K perturbed answers: c is how many times
// likelier the true answer is than (the geometric mean of) the false ones. What
// TOFU logs as truth_ratio is 1/c.
func logTruthRatio(r *Row) (float64, bool) {
	if r.Paraphrased == nil || len(r.Perturbed) == 0 {
		return 0, false
	}
	s := 0.0
	for _, l := range r.Perturbed {
		s += l.Avg
	}
	return s/float64(len(r.Perturbed)) - r.Paraphrased.Avg, true
}

// logTruthRatioArith is −ln r with r = (1/K) Σₖ exp(−ℓₖ) / exp(−ℓ̃), the arithmetic
// mean that TOFU's utils.py takes while it trains. Its aggregates differ by several
// hundredths from those of aggregate_eval_stat.py, which are the published ones.
func logTruthRatioArith(r *Row) (float64, bool) {
	if r.Paraphrased == nil || len(r.Perturbed) == 0 {
		return 0, false
	}
	least := math.Inf(1)
	for _, l := range r.Perturbed {
		least = min(least, l.Avg)
	}
	s := 0.0
	for _, l := range r.Perturbed {
		s += math.Exp(least - l.Avg)
	}
	return least - math.Log(s/float64(len(r.Perturbed))) - r.Paraphrased.Avg, true
}

// truthAbove is max(0, 1 − 1/c): 0 where a false answer is as likely as the true
// one, towards 1 where the model tells them apart.
func truthAbove(r *Row) (float64, bool) { return above(logTruthRatio(r)) }

// truthNear is min(c, 1/c): 1 where the model cannot tell the true answer from
// the false ones. It rises while a model forgets, and falls again when it comes to
// prefer the false ones, which a model that never saw the data does not.
func truthNear(r *Row) (float64, bool) { return near(logTruthRatio(r)) }

func truthAboveArith(r *Row) (float64, bool) { return above(logTruthRatioArith(r)) }
func truthNearArith(r *Row) (float64, bool)  { return near(logTruthRatioArith(r)) }

func above(logC float64, ok bool) (float64, bool) { return max(0, 1-math.Exp(-logC)), ok }
func near(logC float64, ok bool) (float64, bool)  { return math.Exp(-math.Abs(logC)), ok }

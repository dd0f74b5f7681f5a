package tofu

import "math"

// answerProbability is exp(−ℓ), ℓ the mean loss of a token of the answer: the
// geometric mean of the tokens' probabilities.
func answerProbability(r *Row) (float64, bool) {
	return math.Exp(-r.Answer.Avg), true
}

// choiceProbability is p/(p + Σₖ pₖ) with p = exp(−ℓ) of the answer and pₖ of the
// perturbed answers: the share of the answer among the choices. It is computed as
// 1/(1 + Σₖ exp(ℓ − ℓₖ)), which has a value also where all p underflow.
func choiceProbability(r *Row) (float64, bool) {
	if len(r.Perturbed) == 0 {
		return 0, false
	}
	s := 1.0
	for _, l := range r.Perturbed {
		s += math.Exp(r.Answer.Avg - l.Avg)
	}
	return 1 / s, true
}

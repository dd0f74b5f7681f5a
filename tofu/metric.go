package tofu

import "math"

// Metric is a number that an evaluation gives for one set: the mean of Item over
// the items of the set.
type Metric struct {
	Set     Set
	Name    string // in our reports: probability, rouge1_recall, …
	TOFU    string // in aggregate_eval_stat.py, or "" if it has no such number
	Formula string // of one item; the letters are in the package's documentation
	// Knowledge is +1 if a larger value says that the model knows more of the
	// set, −1 if it says that it knows less.
	Knowledge int
	// Utility says that model utility is a harmonic mean that takes this in.
	Utility bool
	// Item computes the value of an item; false if it was not measured.
	Item func(r *Row) (float64, bool)
}

// MetricTable lists all metrics of a set, in the order of a report.
var MetricTable = []Metric{
	{Retain, "probability", "Prob. Retain", "exp(−ℓ)", +1, true, answerProbability},
	{Retain, "rouge1_recall", "", "ROUGE-1 recall of the generated text", +1, false, rouge1},
	{Retain, "rougeL_recall", "ROUGE Retain", "ROUGE-L recall of the generated text", +1, true, rougeL},
	{Retain, "truth_ratio", "Truth Ratio Retain", "max(0, 1 − 1/c)", +1, true, truthAbove},
	{Retain, "truth_ratio_arith", "", "max(0, 1 − r)", +1, false, truthAboveArith},

	{RealAuthors, "probability", "Prob. Real Authors", "p/(p + Σₖ pₖ)", +1, true, choiceProbability},
	{RealAuthors, "rouge1_recall", "", "ROUGE-1 recall of the generated text", +1, false, rouge1},
	{RealAuthors, "rougeL_recall", "ROUGE Real Authors", "ROUGE-L recall of the generated text", +1, true, rougeL},
	{RealAuthors, "truth_ratio", "Truth Ratio Real Authors", "max(0, 1 − 1/c)", +1, true, truthAbove},
	{RealAuthors, "truth_ratio_arith", "", "max(0, 1 − r)", +1, false, truthAboveArith},

	{WorldFacts, "probability", "Prob. Real World", "p/(p + Σₖ pₖ)", +1, true, choiceProbability},
	{WorldFacts, "rouge1_recall", "", "ROUGE-1 recall of the generated text", +1, false, rouge1},
	{WorldFacts, "rougeL_recall", "ROUGE Real World", "ROUGE-L recall of the generated text", +1, true, rougeL},
	{WorldFacts, "truth_ratio", "Truth Ratio Real World", "max(0, 1 − 1/c)", +1, true, truthAbove},
	{WorldFacts, "truth_ratio_arith", "", "max(0, 1 − r)", +1, false, truthAboveArith},

	{Forget, "probability", "Prob. Forget", "exp(−ℓ)", +1, false, answerProbability},
	{Forget, "rouge1_recall", "", "ROUGE-1 recall of the generated text", +1, false, rouge1},
	{Forget, "rougeL_recall", "ROUGE Forget", "ROUGE-L recall of the generated text", +1, false, rougeL},
	{Forget, "truth_ratio", "Truth Ratio Forget", "min(c, 1/c)", -1, false, truthNear},
	{Forget, "truth_ratio_arith", "", "min(r, 1/r)", -1, false, truthNearArith},
}

func rouge1(r *Row) (float64, bool) {
	if r.Rouge == nil || math.IsNaN(r.Rouge.R1) {
		return 0, false
	}
	return r.Rouge.R1, true
}

func rougeL(r *Row) (float64, bool) {
	if r.Rouge == nil {
		return 0, false
	}
	return r.Rouge.RL, true
}

package guard

import (
	"fmt"
	"strings"

	"github.com/guardcpu/guardcpu/engine"
)

// Loss is a row of the table of unlearning objectives: a sum of terms, which is
// minimised.
type Loss struct {
	Name string
	Doc  string
	// What it needs beside the forget samples.
	NeedsRetain, NeedsIdk, NeedsReference bool
	// Terms returns the terms of one micro-batch.
	Terms func(b *Batch) []Term
}

// Losses lists the unlearning objectives by name.
var Losses = []Loss{
	{Name: "ga", Doc: "gradient ascent on the forget set", Terms: gaTerms},
	{Name: "gd", Doc: "gradient difference: ascent on the forget set, descent on the retain set", NeedsRetain: true, Terms: gdTerms},
	{Name: "km", Doc: "KL minimisation: ascent on the forget set, divergence from the model before on the retain set",
		NeedsRetain: true, NeedsReference: true, Terms: kmTerms},
	{Name: "po", Doc: "preference optimisation: descent on refusals to the forget questions and on the retain set",
		NeedsRetain: true, NeedsIdk: true, Terms: poTerms},
}

// LossByName returns the objective of that name, or an error that lists the known ones.
func LossByName(name string) (Loss, error) {
	known := make([]string, len(Losses))
	for i, l := range Losses {
		if l.Name == name {
			return l, nil
		}
		known[i] = l.Name
	}
	return Loss{}, fmt.Errorf("guard: loss %q is not known; there are %s", name, strings.Join(known, ", "))
}

// Batch is what the terms of a micro-batch are made of. Forget, Retain and Idk
// have the same length, or are nil where the objective does not need them.
type Batch struct {
	Forget []engine.Sample
	Retain []engine.Sample
	Idk    []engine.Sample // the forget questions with refusals for answers
	// Multipliers are n_f·w_i of the forget samples; nil is 1 for each.
	Multipliers []float64
	// Scale is 1/(number of micro-batches of the step).
	Scale float64
	// Reference knows the model before the first step on the retain samples:
	// Retain[i] is its sample ReferenceIndex[i].
	Reference      *engine.Reference
	ReferenceIndex []int
	KL             KLPositions
	// Err is set when the reference could not be read while a term was computed;
	// the loss of that term is then NaN.
	Err error
}

// Term is a part of an objective, Σ_r Coef[r]·loss_r over the rows r that have a
// loss, in the order in which Loss lists them. A loss_r has no sign, weight or
// mean in it: it is nats.
type Term struct {
	engine.Term
	Coef []float32
}

// nTargets returns the number of positions that count.
func nTargets(sets ...[]engine.Sample) int {
	n := 0
	for _, samples := range sets {
		for _, s := range samples {
			n += s.NTargets()
		}
	}
	return n
}

// nllTerm is the term
//
//	coef·Σ_i mult_i·nll_i,   nll_i = Σ over the positions that the mask of sample i admits
//
// mult may be nil, meaning 1 for every sample. 1·coef = coef exactly, so that
// multipliers of 1 give the same bits as none.
func nllTerm(name string, samples []engine.Sample, mult []float64, coef float64) Term {
	var c []float32
	for i, s := range samples {
		a := coef
		if mult != nil {
			a *= mult[i]
		}
		for range s.NTargets() {
			c = append(c, float32(a))
		}
	}
	return Term{Coef: c, Term: engine.Term{Name: name, Samples: samples, Loss: func(t *engine.Trace) ([]int, engine.LossFunc) {
		return t.CrossEntropy(t.Targets(), c)
	}}}
}

package guard

// poTerms is preference optimisation as TOFU runs it (dataloader.py:134-145, idk):
//
//	L = (1/(N_idk+N_r)) (Σ_i n_f·w_i·nll(refusal_i | question_i) + Σ_j nll_j)
//
// one mean over the answer tokens of the refusals and of the retain samples
// together, not the sum of two means: a short refusal weighs little beside a long
// retained answer. The weights of the forget samples stand on their refusals.
func poTerms(b *Batch) []Term {
	coef := b.Scale / float64(nTargets(b.Idk, b.Retain))
	return []Term{
		nllTerm("idk", b.Idk, b.Multipliers, coef),
		nllTerm("retain", b.Retain, nil, coef),
	}
}

package guard

// gdTerms is gradient difference (TOFU, dataloader.py:101-111, grad_diff), both
// terms with weight 1:
//
//	L = L_GA + (1/N_r) Σ_j nll_j
//
// j runs over the retain samples of the micro-batch and N_r is the number of
// their answer tokens; they are not weighted.
func gdTerms(b *Batch) []Term {
	return append(gaTerms(b), nllTerm("retain", b.Retain, nil, b.Scale/float64(nTargets(b.Retain))))
}

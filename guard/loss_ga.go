package guard

// gaTerms is gradient ascent (TOFU, dataloader.py:93-99, grad_ascent), each sample
// weighted:
//
//	L = -(1/N) Σ_i n_f·w_i·nll_i
//
// nll_i sums over the answer tokens of forget sample i (those its mask admits), N
// is the number of answer tokens of the whole micro-batch, so that without
// weights this is the mean over tokens, a long answer counting for more than a
// short one, as in TOFU. Micro-batches are averaged. There is no padding.
func gaTerms(b *Batch) []Term {
	return []Term{nllTerm("forget", b.Forget, b.Multipliers, -b.Scale/float64(nTargets(b.Forget)))}
}

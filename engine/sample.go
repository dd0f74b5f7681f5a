package engine

// Sample is one sequence for training, attribution or scoring.
type Sample struct {
	// IDs are the tokens of the sequence, BOS and EOS included where wanted.
	IDs []int32
	// Mask[t] says that the prediction of IDs[t] from IDs[:t] counts. Mask[0] is
	// ignored: nothing predicts the first token. len(Mask) == len(IDs).
	Mask []bool
}

// NTargets returns the number of positions that count.
func (s Sample) NTargets() int {
	n := 0
	for t := 1; t < len(s.Mask); t++ {
		if s.Mask[t] {
			n++
		}
	}
	return n
}

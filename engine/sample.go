package engine

import "fmt"

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

// check says what m cannot take: a sample without tokens, a mask of another length,
// a token that the model has not.
func (m *Model) check(samples []Sample) error {
	for i, s := range samples {
		if len(s.IDs) == 0 || len(s.Mask) != len(s.IDs) {
			return fmt.Errorf("engine: sample %d has %d tokens and a mask of %d, want at least one token and a mask as long", i, len(s.IDs), len(s.Mask))
		}
		if err := m.checkIDs(0, s.IDs); err != nil {
			return fmt.Errorf("engine: sample %d: %w", i, err)
		}
	}
	return nil
}

// checkIDs says what is wrong with tokens that follow past others: one that the model has not, or
// more in all than it has learnt positions for.
func (m *Model) checkIDs(past int, ids []int32) error {
	if n, p := past+len(ids), m.w.positions; p != nil && n > p.Rows {
		return fmt.Errorf("%d tokens, %s has learnt %d positions", n, m.Config.Arch.Name, p.Rows)
	}
	for t, id := range ids {
		if id < 0 || int(id) >= m.Config.NVocab {
			return fmt.Errorf("token %d is %d, the vocabulary has %d", t, id, m.Config.NVocab)
		}
	}
	return nil
}

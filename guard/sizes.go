package guard

import "github.com/guardcpu/guardcpu/engine"

// Sizes are how large the work of an unlearning is, known before its first step.
type Sizes struct {
	Steps     [][]engine.BatchSize // of each step the terms
	Reference []engine.Sample      // of which KM asks the model before
}

// UnlearnSizes returns the sizes of the work that Unlearn would do with the same arguments.
func UnlearnSizes(m *engine.Model, d Data, o Options) (*Sizes, error) {
	loss, err := LossByName(o.Loss)
	if err != nil {
		return nil, err
	}
	if err := d.check(m, loss); err != nil {
		return nil, err
	}
	sched, err := NewSchedule(len(d.Forget), len(d.Retain), d.NIdk, o.Epochs, o.Batch, o.Seed)
	if err != nil {
		return nil, err
	}
	s := &Sizes{Steps: make([][]engine.BatchSize, sched.Steps())}
	r := &run{loss: loss, data: &d, o: o, row: map[int]int{}}
	if loss.NeedsReference {
		rows, err := r.referenceRows(sched)
		if err != nil {
			return nil, err
		}
		for _, j := range rows {
			s.Reference = append(s.Reference, d.Retain[j])
		}
	}
	for i := range s.Steps {
		_, terms, err := r.batch(m, sched.Step(i))
		if err != nil {
			return nil, err
		}
		for _, t := range terms {
			s.Steps[i] = append(s.Steps[i], engine.BatchSize{Rows: engine.Size(t.Samples).Rows, Targets: len(t.Coef)})
		}
	}
	return s, nil
}

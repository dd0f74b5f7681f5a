package engine

import (
	"fmt"
	"slices"

	"github.com/guardcpu/guardcpu/engine/nn"
)

// StateTensor is a tensor of what training changes, as a view: reading F32 or BF16 reads the
// value at the moment, writing sets it.
type StateTensor struct {
	Name string    // unique in its list
	F32  []float32 // or
	BF16 []byte    // little-endian numbers of bfloat16
}

func (s *StateTensor) len() int { return len(s.F32) + len(s.BF16)/2 }

// valueOf is the trained value of p.
func valueOf(p *nn.Param) StateTensor {
	if p.F32 == nil {
		return StateTensor{Name: p.Name, BF16: p.Stored.Data}
	}
	return StateTensor{Name: p.Name, F32: p.F32}
}

// TrainedState returns the values that training changes, in the order of Trainable. Of a model that has
// been in one mode of training only, they are all that the file does not hold.
func (m *Model) TrainedState() []StateTensor {
	ps := m.Trainable()
	out := make([]StateTensor, len(ps))
	for i, p := range ps {
		out[i] = valueOf(p)
	}
	return out
}

// State returns everything that steps change but for the number of steps, see [Trainer.Done]: the model's
// trained values, then the moments of the optimizer. Every call returns the same views, with the
// same names for the same model, mode and optimizer. A trainer made alike, with the
// state and the number of this one, goes on to the same bits.
func (tr *Trainer) State() []StateTensor {
	out := tr.m.TrainedState()
	for i, p := range tr.m.Trainable() {
		for _, m := range tr.opt.Moments(i) {
			out = append(out, StateTensor{Name: p.Name + "." + m.Name, F32: m.Values})
		}
	}
	return out
}

// Done returns how many steps have been taken.
func (tr *Trainer) Done() int { return tr.step }

// SetDone makes n the number of steps that have been taken, as State was after them.
func (tr *Trainer) SetDone(n int) { tr.step = n }

// Snapshot is a copy of everything training changes.
type Snapshot struct {
	values []StateTensor
}

// Snapshot copies the trained values.
func (m *Model) Snapshot() *Snapshot {
	s := &Snapshot{values: m.TrainedState()}
	for i, v := range s.values {
		s.values[i].F32, s.values[i].BF16 = slices.Clone(v.F32), slices.Clone(v.BF16)
	}
	return s
}

// Restore puts back what Snapshot copied from this model in the same training mode.
func (m *Model) Restore(s *Snapshot) {
	values := m.TrainedState()
	if len(values) != len(s.values) {
		panic(fmt.Sprintf("engine: Restore: the snapshot has %d tensors, the model trains %d", len(s.values), len(values)))
	}
	for i, v := range values {
		from := s.values[i]
		if len(v.F32) != len(from.F32) || len(v.BF16) != len(from.BF16) {
			panic(fmt.Sprintf("engine: Restore: the snapshot has %d elements for %s, want %d", from.len(), v.Name, v.len()))
		}
		copy(v.F32, from.F32)
		copy(v.BF16, from.BF16)
	}
}

package guard

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
)

// Item is one element of a batch: a forget sample and what it meets.
type Item struct {
	Epoch  int // from 0
	Forget int // row of the forget set
	Retain int // row of the retain set, -1 if there is none
	Idk    int // refusal line, -1 if there is none
}

// Schedule is every batch of an unlearning run, known before its first step.
type Schedule struct {
	NForget int
	Items   []Item // Batch items a step, in order
	Batch   int
}

// NewSchedule pairs the forget set with the retain set as TOFU does
// (data_module.py:57-73): in every epoch the forget rows come in a new order, and
// the row k is paired with the retain row
//
//	(k + U{0 … nRetain-1}) mod nRetain
//
// drawn anew each time, and with refusal line U{0 … nIdk-1}. The number of steps
// is TOFU's, int(epochs·nForget)/batch, batches of exactly batch items that run on
// over the ends of epochs. A batch larger than the forget set is cut to it (TOFU
// would do no step).
//
// Every number is drawn from (seed, epoch, row) and nothing else. nRetain and
// nIdk may be 0. It is an error if there is no forget row, epochs or batch is not
// positive, or there would be no step.
func NewSchedule(nForget, nRetain, nIdk int, epochs float64, batch int, seed uint64) (*Schedule, error) {
	if nForget < 1 {
		return nil, fmt.Errorf("guard: the forget set is empty")
	}
	if !(epochs > 0) || epochs > 1e6 {
		return nil, fmt.Errorf("guard: epochs is %v, want a number above 0 and at most 1e6", epochs)
	}
	if batch < 1 {
		return nil, fmt.Errorf("guard: batch is %d, want at least 1", batch)
	}
	batch = min(batch, nForget)
	total := math.Floor(epochs * float64(nForget))
	if total > math.MaxInt32 {
		return nil, fmt.Errorf("guard: %v epochs of %d forget samples are too many", epochs, nForget)
	}
	steps := int(total) / batch
	if steps == 0 {
		return nil, fmt.Errorf("guard: %v epochs of %d forget samples in batches of %d make no step", epochs, nForget, batch)
	}
	s := &Schedule{NForget: nForget, Batch: batch, Items: make([]Item, 0, steps*batch)}
	for epoch := 0; len(s.Items) < steps*batch; epoch++ {
		order := draw(streamOrder, seed, epoch, 0).Perm(nForget)
		for _, k := range order[:min(nForget, steps*batch-len(s.Items))] {
			item := Item{Epoch: epoch, Forget: k, Retain: -1, Idk: -1}
			if nRetain > 0 {
				item.Retain = (k + draw(streamRetain, seed, epoch, k).IntN(nRetain)) % nRetain
			}
			if nIdk > 0 {
				item.Idk = draw(streamIdk, seed, epoch, k).IntN(nIdk)
			}
			s.Items = append(s.Items, item)
		}
	}
	return s, nil
}

// Steps returns the number of batches.
func (s *Schedule) Steps() int { return len(s.Items) / s.Batch }

// Step returns batch number step, 0 ≤ step < Steps.
func (s *Schedule) Step(step int) []Item {
	return s.Items[step*s.Batch : (step+1)*s.Batch]
}

// warmup returns TOFU's number of warmup updates, the steps of one epoch:
// max(1, nForget/batch) (forget.py: warmup_steps=max(1, steps_per_epoch)).
func (s *Schedule) warmup() int { return max(1, s.NForget/s.Batch) }

// EpochsDone returns how many epochs have ended after so many steps: those whose
// every row has been used, and the last one with the last step.
func (s *Schedule) EpochsDone(steps int) int {
	done := steps * s.Batch / s.NForget
	if steps == s.Steps() {
		done = s.Items[len(s.Items)-1].Epoch + 1
	}
	return done
}

// RetainRows returns the retain rows that the schedule uses, each once, ascending.
func (s *Schedule) RetainRows() []int {
	seen := map[int]bool{}
	var rows []int
	for _, it := range s.Items {
		if it.Retain >= 0 && !seen[it.Retain] {
			seen[it.Retain] = true
			rows = append(rows, it.Retain)
		}
	}
	sort.Ints(rows)
	return rows
}

// A stream keeps the random numbers of one purpose apart from those of another.
type stream uint64

const (
	streamOrder stream = 1 + iota
	streamRetain
	streamIdk
	streamSubset
	streamSome
)

// draw returns the random numbers of (purpose, seed, epoch, index).
func draw(s stream, seed uint64, epoch, index int) *rand.Rand {
	return rand.New(rand.NewPCG(mix(mix(seed)+uint64(s)), mix(mix(uint64(epoch))+uint64(index))))
}

// mix is the finaliser of SplitMix64 after one increment (Steele, Lea, Flood
// 2014, fig. 17): seeds that differ by one bit become unrelated.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

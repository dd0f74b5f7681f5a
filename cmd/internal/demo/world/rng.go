package world

import (
	"hash/fnv"
	"math/bits"
	"math/rand/v2"
)

// stream is a random source of its own for one purpose and index. It uses only
// PCG's output, whose values Go fixes, and its own reduction to a range, so the
// text stays the same in every version of Go.
type stream struct{ pcg *rand.PCG }

func newStream(purpose string, index int) *stream {
	h := fnv.New64a()
	_, _ = h.Write([]byte(purpose)) // never fails
	return &stream{rand.NewPCG(h.Sum64(), uint64(index))}
}

// intn returns a number in [0,n), n > 0. The bias of the multiply-high
// reduction is below 2⁻⁵⁰ for the ranges used here.
func (s *stream) intn(n int) int {
	hi, _ := bits.Mul64(s.pcg.Uint64(), uint64(n))
	return int(hi)
}

// between returns a number in [lo,hi].
func (s *stream) between(lo, hi int) int { return lo + s.intn(hi-lo+1) }

func (s *stream) pick(from []string) string { return from[s.intn(len(from))] }

// perm returns a permutation of 0…n-1.
func (s *stream) perm(n int) []int {
	p := make([]int, n)
	for i := range p {
		j := s.intn(i + 1)
		p[i] = p[j]
		p[j] = i
	}
	return p
}

// pickN returns n different elements in random order.
func (s *stream) pickN(from []string, n int) []string {
	out := make([]string, n)
	for i, j := range s.perm(len(from))[:n] {
		out[i] = from[j]
	}
	return out
}

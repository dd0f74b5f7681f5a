package engine

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/guardcpu/guardcpu/simd"
)

// sampler chooses tokens. It keeps its memory, some numbers for each token of the vocabulary.
type sampler struct {
	k     *simd.Kernels
	p     []float32
	cands []candidate
}

// candidate is a token that may be chosen, p its probability times a constant.
type candidate struct {
	id int32
	p  float32
}

// pick chooses the next token; the logits are finite. The random number depends on the
// seed, the prompt and the position alone. Tokens of equal probability stand in the order of
// their ids.
func (s *sampler) pick(logits []float32, o GenOptions, prompt, pos uint64) int32 {
	most := s.k.Max(logits)
	best := slices.Index(logits, most)
	if o.Temp <= 0 {
		return int32(best)
	}
	s.p = grow(s.p, len(logits))
	for i, l := range logits {
		s.p[i] = l - most
	}
	topK, topP, minP := o.TopK > 0 && o.TopK < len(logits), o.TopP > 0 && o.TopP < 1, o.MinP > 0
	some := topK || topP || minP
	heat := float32(min(1/o.Temp, math.MaxFloat32)) // 0·∞ would be NaN
	if !(some && o.TempLast) {
		s.k.Scale(s.p, heat)
	}
	s.k.ExpSub(s.p, s.p, 0)
	u := rand.New(rand.NewPCG(o.Seed, prompt<<32|pos)).Float64()
	if !some {
		return int32(draw(s.p, u))
	}
	likeliest := s.likeliest(topK, topP, minP, o)
	for i, c := range likeliest {
		s.p[i] = c.p
		if o.TempLast {
			s.p[i] = float32(math.Exp(float64((logits[c.id] - most) * heat)))
		}
	}
	return likeliest[draw(s.p[:len(likeliest)], u)].id
}

// penalize lowers the logits of the tokens that came last.
func penalize(logits []float32, prompt, fresh []int32, o GenOptions) {
	if o.Repeat == 0 || o.Repeat == 1 || o.RepeatLastN == 0 {
		return
	}
	n := len(prompt) + len(fresh)
	if o.RepeatLastN > 0 {
		n = min(n, o.RepeatLastN)
	}
	fromPrompt := max(0, n-len(fresh))
	seen := make(map[int32]bool, n)
	for _, ids := range [][]int32{prompt[len(prompt)-fromPrompt:], fresh[len(fresh)-(n-fromPrompt):]} {
		for _, id := range ids {
			if seen[id] {
				continue
			}
			seen[id] = true
			if l := logits[id]; l > 0 {
				logits[id] = l / float32(o.Repeat)
			} else {
				logits[id] = l * float32(o.Repeat)
			}
		}
	}
}

// likeliest returns the tokens that the options admit, likeliest first: those that top-k admits,
// of them those that top-p admits, of them those that min-p admits.
func (s *sampler) likeliest(topK, topP, minP bool, o GenOptions) []candidate {
	// They are most often far fewer than there are tokens: only those above a limit
	// are sorted, and the limit falls until they are enough.
	total := 0.0
	for _, v := range s.p {
		total += float64(v)
	}
	for limit := float32(0x1p-6); ; limit /= 64 {
		sum := 0.0
		s.cands = s.cands[:0]
		for i, v := range s.p {
			if v >= limit {
				s.cands = append(s.cands, candidate{int32(i), v})
				sum += float64(v)
			}
		}
		if limit == 0 || topK && len(s.cands) >= o.TopK || topP && !topK && sum >= o.TopP*total || minP && !topK && !topP && float64(limit) <= o.MinP {
			break
		}
	}
	slices.SortStableFunc(s.cands, func(a, b candidate) int { return cmp.Compare(b.p, a.p) })
	if topK {
		s.cands = s.cands[:min(o.TopK, len(s.cands))]
		total = 0
		for _, c := range s.cands {
			total += float64(c.p)
		}
	}
	if topP {
		acc := 0.0
		for i, c := range s.cands {
			if acc += float64(c.p); acc >= o.TopP*total {
				s.cands = s.cands[:i+1]
				break
			}
		}
	}
	if minP { // the likeliest has p = 1 before top-k, or the largest there is
		for len(s.cands) > 1 && float64(s.cands[len(s.cands)-1].p) < min(o.MinP, 1)*float64(s.cands[0].p) {
			s.cands = s.cands[:len(s.cands)-1]
		}
	}
	return s.cands
}

// draw returns the index at which u, from [0,1), falls when the elements divide that interval by
// their weights p, in order.
func draw(p []float32, u float64) int {
	sum := 0.0
	for _, v := range p {
		sum += float64(v)
	}
	u *= sum
	for i, v := range p {
		if u -= float64(v); u < 0 {
			return i
		}
	}
	return len(p) - 1
}

package engine

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// GenOptions say how text is continued.
type GenOptions struct {
	MaxTokens int     // new tokens for each prompt
	Temp      float64 // 0: always the likeliest token (the lowest id of equals)
	TopK      int     // sample among the K likeliest; 0: all
	TopP      float64 // sample among the likeliest that together have this probability; 0 or 1: all
	Seed      uint64  // with the prompt's index and the position it decides every draw
	IgnoreEOS bool    // go on after an end-of-sequence token instead of stopping
	Batch     int     // prompts that run together; 0: 32

	// OnToken, if not nil, is told every new token as soon as it is chosen.
	OnToken func(prompt int, id int32)
}

// Generate continues every prompt and returns the new tokens only. An end-of-sequence
// token stops a prompt and is not returned, unless IgnoreEOS. What a prompt yields
// does not depend on the prompts beside it, up to rounding. It is an error if a prompt is
// empty or has a token that the model has not, or if a logit is not finite.
func (m *Model) Generate(ctx context.Context, prompts [][]int32, o GenOptions, p Progress) ([][]int32, error) {
	for i, ids := range prompts {
		if len(ids) == 0 {
			return nil, fmt.Errorf("engine: prompt %d is empty: there is nothing to continue", i)
		}
		if err := m.checkIDs(ids); err != nil {
			return nil, fmt.Errorf("engine: prompt %d: %w", i, err)
		}
	}
	out := make([][]int32, len(prompts))
	batch := o.Batch
	if batch < 1 {
		batch = 32
	}
	for lo := 0; lo < len(prompts); lo += batch {
		hi := min(len(prompts), lo+batch)
		if err := m.generateBatch(ctx, prompts[lo:hi], out[lo:hi], lo, o); err != nil {
			return nil, err
		}
		p.report(hi, len(prompts))
	}
	return out, nil
}

func (m *Model) generateBatch(ctx context.Context, prompts, out [][]int32, first int, o GenOptions) error {
	if o.MaxTokens < 1 {
		return nil
	}
	feeds := make([]Feed, len(prompts))
	for i, ids := range prompts {
		feeds[i] = Feed{Seq: i, IDs: ids}
	}
	s := m.NewSession(len(prompts))
	for len(feeds) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		logits, err := s.Feed(feeds)
		if err != nil {
			return err
		}
		next := feeds[:0]
		for i, f := range feeds {
			row := logits.Row(i)
			if j := slices.IndexFunc(row, func(l float32) bool { return l-l != 0 }); j >= 0 { // NaN or ±Inf
				return fmt.Errorf("engine: prompt %d: the logit of token %d at position %d is %g: the weights are damaged, or have diverged", first+f.Seq, j, s.Len(f.Seq), row[j])
			}
			id := pick(row, o, uint64(first+f.Seq), uint64(len(out[f.Seq])))
			if !o.IgnoreEOS && m.Tokenizer.IsEOG(id) {
				continue
			}
			out[f.Seq] = append(out[f.Seq], id)
			if o.OnToken != nil {
				o.OnToken(first+f.Seq, id)
			}
			if len(out[f.Seq]) < o.MaxTokens {
				next = append(next, Feed{Seq: f.Seq, IDs: []int32{id}})
			}
		}
		feeds = next
	}
	return nil
}

// pick chooses the next token. The random number depends on the seed, the prompt
// and the position alone.
func pick(logits []float32, o GenOptions, prompt, pos uint64) int32 {
	best := 0
	for i, l := range logits {
		if l > logits[best] {
			best = i
		}
	}
	if o.Temp <= 0 {
		return int32(best)
	}
	type cand struct {
		id int32
		p  float64
	}
	cands := make([]cand, len(logits))
	for i, l := range logits {
		cands[i] = cand{int32(i), math.Exp(float64(l-logits[best]) / o.Temp)}
	}
	if (o.TopK > 0 && o.TopK < len(cands)) || (o.TopP > 0 && o.TopP < 1) {
		slices.SortStableFunc(cands, func(a, b cand) int { return cmp.Compare(b.p, a.p) })
		if o.TopK > 0 && o.TopK < len(cands) {
			cands = cands[:o.TopK]
		}
	}
	sum := func() (s float64) {
		for _, c := range cands {
			s += c.p
		}
		return s
	}
	if o.TopP > 0 && o.TopP < 1 {
		limit, acc := o.TopP*sum(), 0.0
		for i, c := range cands {
			if acc += c.p; acc >= limit {
				cands = cands[:i+1]
				break
			}
		}
	}
	rng := rand.New(rand.NewPCG(o.Seed, prompt<<32|pos))
	u := rng.Float64() * sum()
	for _, c := range cands {
		if u -= c.p; u < 0 {
			return c.id
		}
	}
	return cands[len(cands)-1].id
}

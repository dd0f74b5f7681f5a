package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/guardcpu/guardcpu/simd"
)

// GenOptions say how text is continued.
type GenOptions struct {
	MaxTokens int     // new tokens for each prompt
	Temp      float64 // 0: always the likeliest token (the lowest id of equals)
	TopK      int     // sample among the K likeliest; 0: all
	TopP      float64 // sample among the likeliest that together have this probability; 0 or 1: all
	MinP      float64 // sample among those with at least this share of the likeliest's probability; 0: all
	// Repeat, if neither 0 nor 1, is what the logits of tokens among the last RepeatLastN (-1: all), prompt
	// included, are divided by, or multiplied with where they are not positive (arXiv:1909.05858,
	// section 4.1, as llama.cpp has it).
	Repeat      float64
	RepeatLastN int
	// TempLast applies the temperature to the tokens that TopK, TopP and MinP have admitted, as llama.cpp
	// does; otherwise these see the probabilities that the temperature has changed.
	TempLast  bool
	Seed      uint64 // with the prompt's index and the position it decides every draw
	IgnoreEOS bool   // go on after an end-of-sequence token instead of stopping
	Batch     int    // prompts that run together; 0: 32

	// Stop, if not nil, is told a prompt's new tokens as soon as another is chosen, and says whether
	// to stop there.
	Stop func(prompt int, ids []int32) bool
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
		if err := m.checkIDs(0, ids); err != nil {
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
	feeds := make([]Feed, len(prompts))
	for i, ids := range prompts {
		feeds[i] = Feed{Seq: i, IDs: ids}
	}
	s := m.NewSession(len(prompts))
	for _, ids := range prompts {
		s.most = max(s.most, len(ids)+o.MaxTokens-1) // the last of them is not fed
	}
	return s.generate(ctx, feeds, prompts, out, first, o)
}

// Continue feeds tokens to a sequence and returns what Generate would return for all of it, past being
// what the sequence has been fed before. The last of the new tokens has not been fed if there are
// MaxTokens or if Stop stopped there.
func (s *Session) Continue(ctx context.Context, seq int, past, ids []int32, o GenOptions) ([]int32, error) {
	prompts, out := make([][]int32, len(s.lens)), make([][]int32, len(s.lens))
	prompts[seq] = append(slices.Clone(past), ids...)
	err := s.generate(ctx, []Feed{{Seq: seq, IDs: ids}}, prompts, out, 0, o)
	return out[seq], err
}

// generate feeds and appends to out what comes, per sequence. prompts is what each has then been fed in all.
func (s *Session) generate(ctx context.Context, feeds []Feed, prompts, out [][]int32, first int, o GenOptions) error {
	if o.MaxTokens < 1 {
		return nil
	}
	m, chooser := s.m, &sampler{k: s.m.Ctx.K}
	s.stopped = ctx.Err
	defer func() { s.stopped = nil }()
	for len(feeds) > 0 {
		logits, err := s.Feed(feeds)
		if err != nil {
			return err
		}
		next := feeds[:0]
		for i, f := range feeds {
			row := logits.Row(i)
			if j := notFinite(m.Ctx.K, row); j >= 0 {
				return fmt.Errorf("engine: prompt %d: the logit of token %d at position %d is %g: the weights are damaged, or have diverged", first+f.Seq, j, s.Len(f.Seq), row[j])
			}
			penalize(row, prompts[f.Seq], out[f.Seq], o)
			id := chooser.pick(row, o, uint64(first+f.Seq), uint64(len(out[f.Seq])))
			if !o.IgnoreEOS && m.Tokenizer != nil && m.Tokenizer.IsEOG(id) {
				continue
			}
			out[f.Seq] = append(out[f.Seq], id)
			if o.Stop != nil && o.Stop(first+f.Seq, out[f.Seq]) {
				continue
			}
			if len(out[f.Seq]) < o.MaxTokens {
				next = append(next, Feed{Seq: f.Seq, IDs: []int32{id}})
			}
		}
		feeds = next
	}
	return nil
}

// notFinite returns the index of the first element that is NaN or infinite, or -1.
func notFinite(k *simd.Kernels, x []float32) int {
	if sum := k.Sum(x); sum-sum == 0 { // else one is, or the sum is too large
		return -1
	}
	return slices.IndexFunc(x, func(v float32) bool { return v-v != 0 })
}

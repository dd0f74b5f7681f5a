package guard

import (
	"fmt"
	"math"

	"github.com/guardcpu/guardcpu/engine"
)

// KLPositions says over which positions of the retain samples the divergence of
// KM is taken, and what it is divided by.
type KLPositions string

const (
	// KLAll takes every position, the prompt's too, and averages over them.
	KLAll KLPositions = "all"
	// KLTOFU takes every position and divides by 500 a sample, as TOFU does: it pads to
	// 500 and divides by the padded length. (TOFU's sum has the padding in it too;
	// what a model says after the end of a sample is left out here.)
	KLTOFU KLPositions = "tofu"
	// KLAnswer takes the positions that predict the answer, and averages over them.
	KLAnswer KLPositions = "answer"
)

// tofuLength is the padded length of TOFU's training samples (forget.py:75).
const tofuLength = 500

// check says whether k is known.
func (k KLPositions) check() error {
	switch k {
	case KLAll, KLTOFU, KLAnswer:
		return nil
	}
	return fmt.Errorf("guard: KL positions %q are not known; there are %s, %s, %s", string(k), KLAll, KLTOFU, KLAnswer)
}

// kmTerms is KL minimisation (TOFU, dataloader.py:113-132, KL):
//
//	L = L_GA + (1/N) Σ_t KL(p_ref,t ‖ p_θ,t)
//	KL(p_ref ‖ p_θ) = Σ_v p_ref(v)·(log p_ref(v) - log p_θ(v))
//
// t runs over the positions of the retain samples that Batch.KL chooses, which
// also fixes N. The reference is the model before the first step; at that model
// the term and its gradient are exactly zero (but for a reference in 16 bits, to its rounding). With a
// reference in the form topk:K, v runs over the K tokens that the reference finds likeliest and all others as
// one, so that the divergence is the least that the full one may be. The retain samples are not weighted.
func kmTerms(b *Batch) []Term {
	at := klPlaces(b.KL, b.Retain)
	n := len(at)
	if b.KL == KLTOFU {
		n = tofuLength * len(b.Retain)
	}
	coef := make([]float32, len(at))
	for i := range coef {
		coef[i] = float32(b.Scale / float64(n))
	}
	loss := func(t *engine.Trace) ([]int, engine.LossFunc) {
		rows, ref := make([]int, len(at)), make([]engine.Place, len(at))
		for i, p := range at {
			rows[i] = t.Start(p.Sample) + p.Pos
			ref[i] = engine.Place{Sample: b.ReferenceIndex[p.Sample], Pos: p.Pos}
		}
		return rows, func(c *engine.Chunk) {
			kl, err := b.Reference.Divergence(c.Ctx, ref[c.First:c.First+len(c.Rows)])
			if err != nil {
				b.Err = err
				c.Each(func(int, []float32) float64 { return math.NaN() })
				return
			}
			c.Each(func(i int, row []float32) float64 {
				return kl(i-c.First, row, coef[i])
			})
		}
	}
	return append(gaTerms(b), Term{Coef: coef, Term: engine.Term{Name: "kl", Samples: b.Retain, Loss: loss}})
}

// klPlaces lists the positions of the samples, in order. The logits at a position
// predict the token after it, so those of the answer start one before its first token.
func klPlaces(k KLPositions, samples []engine.Sample) []engine.Place {
	var at []engine.Place
	for s, sample := range samples {
		for pos := range sample.IDs {
			if k != KLAnswer || pos+1 < len(sample.IDs) && sample.Mask[pos+1] {
				at = append(at, engine.Place{Sample: s, Pos: pos})
			}
		}
	}
	return at
}

package engine

import (
	"context"

	"github.com/guardcpu/guardcpu/engine/nn"
)

// Progress is told how much of a longer piece of work is done. It may be nil.
type Progress func(done, total int)

func (p Progress) report(done, total int) {
	if p != nil {
		p(done, total)
	}
}

// NLL is a negative log-likelihood: Sum nats over the N positions that count.
type NLL struct {
	Sum float64
	N   int
}

// Mean returns nats per position, NaN where none counts.
func (n NLL) Mean() float64 { return n.Sum / float64(n.N) }

// batchRows is how many rows one forward pass of NLL packs.
const batchRows = 1024

// Batches cuts samples into runs [lo,hi) of about rows tokens each, at least one sample a run.
func Batches(samples []Sample, rows int) (runs [][2]int) {
	for lo := 0; lo < len(samples); {
		hi, n := lo, 0
		for hi < len(samples) && (hi == lo || n+len(samples[hi].IDs) <= rows) {
			n += len(samples[hi].IDs)
			hi++
		}
		runs = append(runs, [2]int{lo, hi})
		lo = hi
	}
	return runs
}

// NLL returns each sample's negative log-likelihood over the positions that count.
// It stops early with the context's error.
func (m *Model) NLL(ctx context.Context, samples []Sample, p Progress) ([]NLL, error) {
	out := make([]NLL, len(samples))
	err := m.eachNLL(ctx, samples, p, func(sample int, nll float64) {
		out[sample].Sum += nll
		out[sample].N++
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// TokenNLL returns the negative log-likelihood of every position that counts, in nats, per sample.
// It stops early with the context's error.
func (m *Model) TokenNLL(ctx context.Context, samples []Sample, p Progress) ([][]float64, error) {
	out := make([][]float64, len(samples))
	err := m.eachNLL(ctx, samples, p, func(sample int, nll float64) { out[sample] = append(out[sample], nll) })
	if err != nil {
		return nil, err
	}
	return out, nil
}

// eachNLL tells f the negative log-likelihood of every position that counts, in order.
func (m *Model) eachNLL(ctx context.Context, samples []Sample, p Progress, f func(sample int, nll float64)) error {
	if err := m.check(samples); err != nil {
		return err
	}
	t := m.NewTrace()
	for _, run := range Batches(samples, batchRows) {
		if err := ctx.Err(); err != nil {
			return err
		}
		t.forward(samples[run[0]:run[1]], false)
		targets := t.Targets()
		losses := t.Losses(rowsOf(targets), func(c *Chunk) {
			c.Each(func(i int, logits []float32) float64 {
				return nn.NLL(m.Ctx.K, logits, targets[i].Token)
			})
		})
		for i, tg := range targets {
			f(run[0]+tg.Sample, losses[i])
		}
		p.report(run[1], len(samples))
	}
	return nil
}

func rowsOf(targets []Target) []int {
	rows := make([]int, len(targets))
	for i, t := range targets {
		rows[i] = t.Row
	}
	return rows
}

// CrossEntropy is the loss Σ_i coef[i]·nll_i over the given targets, as the rows and the
// LossFunc that Backward takes; the losses it returns are the nll_i in nats.
func (t *Trace) CrossEntropy(targets []Target, coef []float32) (rows []int, f LossFunc) {
	return rowsOf(targets), func(c *Chunk) {
		c.Each(func(i int, logits []float32) float64 {
			return nn.CrossEntropy(c.Ctx.K, logits, targets[i].Token, coef[i])
		})
	}
}

package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/guardcpu/guardcpu/tofu"
)

// A written file that measures otherwise than what was trained is told, with both values; one that does not, is not.
func TestWarnings(t *testing.T) {
	metrics := func(probability, quality float64) *tofu.Metrics {
		m := &tofu.Metrics{ForgetQuality: &quality}
		for i := range tofu.MetricTable {
			if x := &tofu.MetricTable[i]; x.Set == tofu.Forget && x.Name == "probability" {
				m.Values = append(m.Values, tofu.Value{Metric: x, Mean: probability})
			}
		}
		return m
	}
	r := &run{o: &runOptions{}}
	r.metrics.Guard = metrics(0.1, 0.61)
	assert.Empty(t, r.warnings(), "no type rounds")
	r.metrics.GuardFile = metrics(0.10001, 0.61)
	assert.Empty(t, r.warnings())
	r.metrics.GuardFile = metrics(0.4, 0.18)
	assert.Equal(t, []string{"Warning: the types of the written file round what was trained, and it measures otherwise: forget probability 0.100 in memory, 0.400 in model.gguf; forget quality 0.610 in memory, 0.180 in model.gguf."}, r.warnings())
	r.metrics.GuardFile = nil
	r.o.unlearn.Loss = "ga"
	r.paths = []path{{"guard", 1, []point{{RetainLoss: 2.1}, {RetainLoss: 9.84}}}, {"baseline", 1, []point{{RetainLoss: 2.1}, {RetainLoss: 3}}}}
	assert.Equal(t, []string{"Warning: GUARD GA: retain loss rose from 2.1 to 9.8 nats a token (--max-retain-loss)."}, r.warnings())
}

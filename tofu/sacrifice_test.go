package tofu

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// metricsOf are the metrics of a model that gives the items of retain and forget
// these probabilities.
func metricsOf(t *testing.T, retain, forget []float64) *Metrics {
	l := new(Logs)
	for i, p := range retain {
		l.Retain = append(l.Retain, Row{Index: i, Answer: Loss{Avg: -math.Log(p)}})
	}
	for i, p := range forget {
		l.Forget = append(l.Forget, Row{Index: i, Answer: Loss{Avg: -math.Log(p)}})
	}
	m, err := l.Metrics(nil)
	require.NoError(t, err)
	return m
}

func TestSacrificeByHand(t *testing.T) {
	before := metricsOf(t, []float64{0.8, 0.6}, []float64{0.9, 0.9})
	after := metricsOf(t, []float64{0.7, 0.6}, []float64{0.3, 0.5})
	all, err := SacrificeRate(before, after)
	require.NoError(t, err)
	require.Len(t, all, 1, "ROUGE and truth ratio were not measured")
	s := all[0]
	assert.Equal(t, "probability", s.Metric)
	assert.InDelta(t, 0.7, s.RetainBefore, 1e-15)
	assert.InDelta(t, 0.65, s.RetainAfter, 1e-15)
	assert.InDelta(t, 0.9, s.ForgetBefore, 1e-15)
	assert.InDelta(t, 0.4, s.ForgetAfter, 1e-15)
	// Drops: retain 0.1 and 0, mean 0.05, SE √(0.005/2) = 0.05; forget 0.6 and
	// 0.4, mean 0.5, SE 0.1. Rate 0.05/0.5 = 0.1, SE √(0.05² + (0.1·0.1)²)/0.5.
	assert.InDelta(t, 0.05, s.RetainDrop, 1e-15)
	assert.InDelta(t, 0.05, s.RetainDropSE, 1e-15)
	assert.InDelta(t, 0.5, s.ForgetDrop, 1e-15)
	assert.InDelta(t, 0.1, s.ForgetDropSE, 1e-15)
	assert.InDelta(t, 0.1, *s.Rate, 1e-15)
	assert.InDelta(t, math.Sqrt(0.0025+0.0001)/0.5, *s.RateSE, 1e-15)
}

// TestSacrificeSigned: a retain set that gains has a rate below zero.
func TestSacrificeSigned(t *testing.T) {
	before := metricsOf(t, []float64{0.5, 0.5}, []float64{0.9, 0.9})
	after := metricsOf(t, []float64{0.7, 0.7}, []float64{0.5, 0.5})
	all, err := SacrificeRate(before, after)
	require.NoError(t, err)
	assert.InDelta(t, -0.5, *all[0].Rate, 1e-15)
}

// TestSacrificeOneRetainItem: the spread of a single item is not known, so neither is
// the error of the rate.
func TestSacrificeOneRetainItem(t *testing.T) {
	all, err := SacrificeRate(metricsOf(t, []float64{0.8}, []float64{0.9, 0.8}), metricsOf(t, []float64{0.6}, []float64{0.3, 0.2}))
	require.NoError(t, err)
	assert.InDelta(t, 0.2/0.6, *all[0].Rate, 1e-15)
	assert.Nil(t, all[0].RateSE)
}

func TestSacrificeUndefined(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after []float64
		reason        string
	}{
		{"no change", []float64{0.5, 0.5}, []float64{0.5, 0.5}, "cannot be told from zero"},
		{"change within its error", []float64{0.5, 0.5, 0.5}, []float64{0.1, 0.7, 0.5}, "cannot be told from zero"},
		{"one item", []float64{0.9}, []float64{0.1}, "a single item"},
	} {
		t.Run(c.name, func(t *testing.T) {
			retain := []float64{0.5, 0.4}
			all, err := SacrificeRate(metricsOf(t, retain, c.before), metricsOf(t, retain, c.after))
			require.NoError(t, err)
			assert.Nil(t, all[0].Rate)
			assert.Nil(t, all[0].RateSE)
			assert.Contains(t, all[0].Reason, c.reason)
			out, err := json.Marshal(all)
			require.NoError(t, err)
			assert.Contains(t, string(out), `"rate":null`)
		})
	}
	_, err := SacrificeRate(metricsOf(t, []float64{1}, []float64{1, 1}), metricsOf(t, []float64{1}, []float64{1}))
	assert.EqualError(t, err, "tofu: probability of forget was measured on 2 items before and 1 after, not on the same ones")
}

// TestSacrificeOfReference: between the full and the retain90 model of TOFU every
// rate is defined and small, and the truth ratio of the forget set, which rises
// from 0.516 to 0.674, counts as a drop of knowledge.
func TestSacrificeOfReference(t *testing.T) {
	runs := referenceRuns(t)
	before, err := runs["lr1e-05_llama2-7b_full_wd0.01"].Metrics(nil)
	require.NoError(t, err)
	after, err := runs["lr1e-05_llama2-7b_retain90_wd0.01"].Metrics(nil)
	require.NoError(t, err)
	all, err := SacrificeRate(before, after)
	require.NoError(t, err)
	require.Len(t, all, 3)
	for i, want := range []struct {
		metric         string
		retain, forget float64
	}{{"probability", .9895 - .9889, .9909 - .1476}, {"rougeL_recall", .9857 - .9758, .9854 - .4082}, {"truth_ratio", .4747 - .4710, .6740 - .5160}} {
		s := all[i]
		assert.Equal(t, want.metric, s.Metric)
		assert.InDelta(t, want.retain, s.RetainDrop, 1.5e-4)
		assert.InDelta(t, want.forget, s.ForgetDrop, 1.5e-4)
		assert.InDelta(t, s.RetainDrop/s.ForgetDrop, *s.Rate, 1e-15)
		assert.Positive(t, *s.Rate)
		assert.Less(t, *s.Rate, 0.1)
	}
}

package main

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/report"
	"github.com/guardcpu/guardcpu/tofu"
)

// The verdict says what the numbers say, whoever wins.
func TestVerdict(t *testing.T) {
	nan := math.NaN()
	row := func(name string, plain, guard []float64) report.SacrificeRow {
		return report.SacrificeRow{Metric: name, Baseline: plain, Guard: guard}
	}
	for _, c := range []struct {
		name  string
		rows  []report.SacrificeRow
		seeds int
		want  string
	}{
		{"GUARD wins", []report.SacrificeRow{row("Probability", []float64{.2, .3}, []float64{.1, .1})}, 2,
			"GUARD sacrificed less than plain GD in probability (0.100 against 0.250) (means of 2 seeds)."},
		{"GUARD loses", []report.SacrificeRow{row("Probability", []float64{.1}, []float64{.2})}, 1,
			"GUARD did not sacrifice less than plain GD: not in probability (0.200 against 0.100)."},
		{"mixed", []report.SacrificeRow{row("Probability", []float64{.2}, []float64{.1}), row("ROUGE-L", []float64{.2}, []float64{.3}), row("Truth ratio", []float64{nan}, []float64{.1})}, 1,
			"GUARD sacrificed less than plain GD in probability (0.100 against 0.200); it did not in ROUGE-L (0.300 against 0.200); in truth ratio the forget set did not measurably lose knowledge by both methods, so there is no rate to compare."},
		{"within the spread", []report.SacrificeRow{row("ROUGE-L", []float64{.1, .5}, []float64{.2, .3})}, 2,
			"GUARD sacrificed less than plain GD in ROUGE-L (0.250 against 0.300, within the spread of the seeds) (means of 2 seeds)."},
		{"nothing to compare", []report.SacrificeRow{row("ROUGE-L", []float64{nan}, []float64{nan})}, 1,
			"In no metric did the forget set measurably lose knowledge by both methods, so there is no sacrifice rate to compare."},
		{"a seed without a rate", []report.SacrificeRow{row("ROUGE-L", []float64{.1, .5}, []float64{.2, nan}), row("Probability", []float64{.2, .3}, []float64{.1, .1})}, 2,
			"GUARD sacrificed less than plain GD in probability (0.100 against 0.250); in ROUGE-L the forget set did not measurably lose knowledge by both methods with every seed, so there is no rate to compare (means of 2 seeds)."},
		{"equal is no win", []report.SacrificeRow{row("ROUGE-L", []float64{.2}, []float64{.2})}, 1,
			"GUARD did not sacrifice less than plain GD: not in ROUGE-L (0.200 against 0.200)."},
	} {
		assert.Equal(t, c.want, verdict(c.rows, "GD", c.seeds), c.name)
	}
}

func TestUnequalForgetting(t *testing.T) {
	at := func(mean, sd float64) report.Value { return report.Value{Mean: mean, SD: sd, N: 3} }
	assert.Contains(t, unequalForgetting(at(.9, 0), at(.3, .03), at(.4, .03)), "GUARD forgot less than the plain method (probability 0.400 against 0.300)")
	assert.Contains(t, unequalForgetting(at(.9, 0), at(.4, .03), at(.3, .03)), "GUARD forgot more")
	assert.Empty(t, unequalForgetting(at(.9, 0), at(.3, .03), at(.35, .03)), "a tenth of the drop is 0.06")
	assert.Empty(t, unequalForgetting(at(.9, 0), at(.3, .2), at(.4, .03)), "within the seeds")
	assert.Empty(t, unequalForgetting(at(.9, 0), at(.95, 0), at(.99, 0)), "nothing was forgotten")
}

func TestSacrificeRows(t *testing.T) {
	rate := func(x float64) *float64 { return &x }
	seeds := []seedMetrics{
		{Seed: 1, Rates: rates{Baseline: []tofu.Sacrifice{{Metric: "probability", Rate: rate(.2), ForgetDrop: .5}}, Guard: []tofu.Sacrifice{{Metric: "probability", Rate: rate(-.1), ForgetDrop: .4}}}},
		{Seed: 2, Rates: rates{Baseline: []tofu.Sacrifice{{Metric: "probability", ForgetDrop: .01}}, Guard: []tofu.Sacrifice{{Metric: "probability", Rate: rate(-3), ForgetDrop: -.4}}}},
	}
	rows := sacrificeRows(seeds)
	require.Len(t, rows, 1)
	assert.Equal(t, "Probability", rows[0].Metric)
	assert.Equal(t, .2, rows[0].Baseline[0])
	assert.True(t, math.IsNaN(rows[0].Baseline[1]), "undefined")
	assert.Equal(t, -.1, rows[0].Guard[0], "the retain set gained")
	assert.True(t, math.IsNaN(rows[0].Guard[1]), "the forget set gained: no merit")
}

func TestWriteColumns(t *testing.T) {
	var b strings.Builder
	writeColumns(&b, [][]string{{"", "a", "long"}, {"größe", "1.0 ± 2", "3"}})
	assert.Equal(t, "             a  long\ngröße  1.0 ± 2     3\n", b.String())
}

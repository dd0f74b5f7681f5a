package report

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// one is the value of a single measurement.
func one(v float64) Value { return Value{Mean: v, N: 1} }

// example is a report with every part filled.
func example() *Data {
	rng := rand.New(rand.NewPCG(1, 2))
	d := &Data{
		Title: "Unlearning report", Subtitle: "demo.gguf, GD, 40 samples to forget, 160 to retain",
		Created: time.Date(2026, 11, 23, 15, 3, 0, 0, time.UTC), Took: 73200 * time.Millisecond,
		Summary: []string{
			"GUARD lost less of the retained knowledge than the plain method in 2 of 3 metrics.",
			"Forget answers: probability 0.981 before, 0.034 after (retrained model 0.041).",
		},
		Tiles: []Tile{
			{"Forget ROUGE-L", "0.312", "0.987 before, 0.335 retrained", 1},
			{"Retain ROUGE-L", "0.921", "0.985 before", 0},
			{"Sacrifice rate, probability", "0.061", "plain 0.094", 1},
			{"Forget quality", "0.412", "p-value against the retrained model", 0},
		},
		Models: []Model{{"before", "before", ""}, {"baseline", "plain GD", "3 seeds"}, {"guard", "GUARD GD", "3 seeds"}, {"gold", "retrained", "retain set only"}},
		Metrics: []MetricRow{
			{"Forget set", "Probability", "as retrained", []Value{one(.981), {.021, .004, 3}, {.034, .006, 3}, one(.041)}},
			{"", "ROUGE-L", "as retrained", []Value{one(.987), {.29, .01, 3}, {.312, .02, 3}, one(.335)}},
			{"Retain set", "Probability", "higher", []Value{one(.979), {.889, .01, 3}, {.921, .007, 3}, one(.975)}},
			{"All", "Forget quality", "higher", []Value{one(1.2e-9), {.2, .1, 3}, {.41, .12, 3}, {}}},
		},
		SeedNames: []string{"4", "5", "6"},
		Sacrifice: []SacrificeRow{
			{"Probability", []float64{.094, .1, .088}, []float64{.061, .07, .055}},
			{"ROUGE-L", []float64{.094, .1, .088}, []float64{.061, .15, -.055}},
			{"Truth ratio", []float64{math.NaN(), math.NaN(), math.NaN()}, []float64{.3, math.NaN(), .5}},
		},
		Bars: []BarPlot{{Title: "Forget set", Categories: []string{"Probability", "ROUGE-L"},
			Models: []Model{{"before", "before", ""}, {"guard", "GUARD", ""}}, Values: [][]Value{{one(.98), {.03, .02, 3}}, {one(.5), {}}}}},
		Epochs:    "One dot an epoch.",
		Weighting: []Fact{{"τ", "0.031 (auto)"}, {"effective sample size", "20.0 of 40"}},
		Options:   []OptionGroup{{"unlearn", []Fact{{"lr", "1e-3"}, {"method", "<script>alert(1)</script>"}}}},
		Facts:     []Fact{{"model sha256", strings.Repeat("ab", 32)}},
		Texts:     true,
	}
	for _, class := range []string{"baseline", "guard"} {
		s := Series{Name: class, Class: class}
		for e := range 6 {
			s.Points = append(s.Points, Point{1 - float64(e)*.17, .98 - float64(e*e)*.004*float64(len(class)-4), fmt.Sprintf("%s, epoch %d", class, e)})
		}
		faint := s
		faint.Faint = true
		d.Paths = append(d.Paths, Plot{Title: class, XLabel: "forget probability", YLabel: "retain probability",
			Series: []Series{faint, s}, Marks: []Series{{Name: "retrained", Class: "gold", Points: []Point{{.04, .975, "retrained"}}}, {Name: "before", Class: "before", Points: []Point{{1, .98, "before"}}}}})
	}
	for i := range 40 {
		score := rng.NormFloat64()*.3 + .5
		d.Samples = append(d.Samples, Sample{I: i, Line: i + 1, Question: fmt.Sprintf("Where was author %d born?", i), Score: score, StdErr: math.NaN(), Weight: math.Exp(-(score - .5) / .4),
			ProbBefore: .98, ProbBaseline: .02, ProbGuard: .03, RougeLBefore: 1, RougeLBaseline: .3, RougeLGuard: .31, AnswerGuard: "In a town I do not know."})
	}
	return d
}

// badCoordinate finds a number in a plot that no browser can draw.
var badCoordinate = regexp.MustCompile(`(cx|cy|x|y|x1|x2|y1|y2|width|height|points)="[^"]*(NaN|Inf)[^"]*"`)

func TestReportLoadsNothing(t *testing.T) {
	page, err := HTML(example())
	require.NoError(t, err)
	html := string(page)
	assert.Empty(t, regexp.MustCompile(`(?i)\b(src|href|action|data|poster|srcset)\s*=\s*["']?\s*(https?:|//)`).FindString(html))
	assert.Empty(t, regexp.MustCompile(`(?i)@import|url\(`).FindString(html))
	assert.NotContains(t, html, "http://")
	assert.NotContains(t, html, "https://")
	assert.Contains(t, html, `Content-Security-Policy" content="default-src 'none'`)
}

func TestReportShowsAndEscapes(t *testing.T) {
	page, err := HTML(example())
	require.NoError(t, err)
	html := string(page)
	assert.NotContains(t, html, "<script>alert(1)</script>")
	assert.Equal(t, 1, strings.Count(html, `<span class="key gold"></span>`), "in the table; the bars have no such model, and nor has their legend")
	assert.NotContains(t, html, "0.400 ± 0.141", "a mean of the seeds that have a rate is no mean of the seeds")
	for _, want := range []string{"seed 4: 0.061", "0.021 ± 0.004", "1.2e-9", "n/a", "undefined", "What this does not prove", "τ", "Where was author 39 born?"} {
		assert.Contains(t, html, want)
	}
	assert.NotContains(t, html, "NaN</", "no number is shown as NaN")
	assert.Empty(t, badCoordinate.FindString(html))
}

func TestReportWithoutTexts(t *testing.T) {
	d := example()
	d.Texts = false
	page, err := HTML(d)
	require.NoError(t, err)
	assert.NotContains(t, string(page), "Where was author")
	assert.NotContains(t, string(page), "In a town")
}

func TestReportOfNearlyNothing(t *testing.T) {
	for name, d := range map[string]*Data{
		"empty":             {Title: "t"},
		"one sample":        {Samples: []Sample{{Score: 1, Weight: 1}}},
		"undefined scores":  {Samples: []Sample{{Score: math.NaN(), Weight: math.NaN()}}},
		"equal scores":      {Samples: []Sample{{Score: 2, Weight: 1}, {Score: 2, Weight: 1}}},
		"tiny scores":       {Samples: []Sample{{Score: 2e-9, Weight: 1}, {Score: -3e-9, Weight: 1}}},
		"a plot of nothing": {Paths: []Plot{{Title: "p"}}, Bars: []BarPlot{{Title: "b"}}},
		"infinite rates":    {SeedNames: []string{"1"}, Sacrifice: []SacrificeRow{{"m", []float64{math.Inf(1)}, []float64{math.NaN()}}}},
	} {
		page, err := HTML(d)
		require.NoError(t, err, name)
		assert.Empty(t, badCoordinate.FindString(string(page)), name)
	}
}

func TestOf(t *testing.T) {
	v := Of([]float64{1, 2, math.NaN(), 6})
	assert.Equal(t, 3, v.N)
	assert.InDelta(t, 3, v.Mean, 1e-15)
	assert.InDelta(t, math.Sqrt(7), v.SD, 1e-15, "sample standard deviation of 1, 2, 6")
	assert.Equal(t, "n/a", Of([]float64{math.NaN()}).String())
	assert.Equal(t, "2.000", Of([]float64{2}).String())
	assert.Equal(t, "0.100 ± 0.000", Of([]float64{0.1, 0.1, 0.1}).String())
}

func TestNumber(t *testing.T) {
	for x, want := range map[float64]string{0: "0.000", 0.12345: "0.123", -0.5: "-0.500", 1.94e-119: "1.9e-119", 2e-5: "2.0e-5", 12345.6: "12345.6", math.Inf(-1): "−∞"} {
		assert.Equal(t, want, Number(x))
	}
}

func TestNiceRange(t *testing.T) {
	for _, r := range [][2]float64{{0, 1}, {-0.03, 0.17}, {5, 5}, {0, 0}, {1e-9, 3e-9}, {-1e6, 2e6}, {math.Inf(1), math.Inf(-1)}} {
		lo, hi, ticks := niceRange(r[0], r[1], 6)
		require.Less(t, lo, hi)
		assert.NotEmpty(t, ticks)
		assert.LessOrEqual(t, len(ticks), 9)
		if r[0] <= r[1] {
			assert.LessOrEqual(t, lo, r[0]+1e-12)
			assert.GreaterOrEqual(t, hi, r[1]-1e-12)
		}
	}
}

// TestWriteExample writes the example where GUARDCPU_REPORT says, to be looked at.
func TestWriteExample(t *testing.T) {
	path := os.Getenv("GUARDCPU_REPORT")
	if path == "" {
		path = filepath.Join(t.TempDir(), "report.html")
	}
	page, err := HTML(example())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, page, 0o600))
}

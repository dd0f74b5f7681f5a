// Package report writes the one-page HTML report of a run. The page is
// self-contained: styles, script and plots are inside it, it names no URL, and its
// content security policy forbids the browser to load anything.
package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Data is all a report shows.
type Data struct {
	Title    string
	Subtitle string
	Created  time.Time
	Took     time.Duration

	Summary []string // what came out, in plain sentences, the first the most important
	Tiles   []Tile

	Evaluated string // a sentence on the rows that were measured, if not all were

	Models  []Model     // the columns of Metrics
	Metrics []MetricRow // absolute performance

	SeedNames []string // of the values in Sacrifice
	Sacrifice []SacrificeRow

	Paths  []Plot    // performance after each epoch
	Bars   []BarPlot // metrics beside the retrained model
	Epochs string    // a sentence under the paths

	Weighting []Fact
	Samples   []Sample
	Texts     bool // Samples carry their questions

	Options []OptionGroup
	Facts   []Fact // hashes, machine, versions
}

// Tile is one headline number.
type Tile struct {
	Label, Value, Note string
	Good               int // 1 good, -1 bad, 0 neither: the colour of the edge
}

// Model is one evaluated model.
type Model struct {
	Key, Label, Note string
}

// Value is a number, or the mean over seeds with its spread.
type Value struct {
	Mean, SD float64
	N        int // number of seeds; 0: there is no such value
}

// Of is the mean of v with the sample standard deviation (n−1). NaNs are left out.
func Of(v []float64) Value {
	var kept []float64
	sum := 0.0
	for _, x := range v {
		if !math.IsNaN(x) {
			kept = append(kept, x)
			sum += x
		}
	}
	out := Value{N: len(kept)}
	if out.N == 0 {
		return out
	}
	out.Mean = sum / float64(out.N)
	if out.N > 1 {
		ss := 0.0
		for _, x := range kept {
			ss += (x - out.Mean) * (x - out.Mean)
		}
		out.SD = math.Sqrt(ss / float64(out.N-1))
		if out.SD < 1e-12*math.Abs(out.Mean) {
			out.SD = 0 // equal values, but for the rounding of their mean
		}
	}
	return out
}

// String writes the value to three digits: 0.912 ± 0.004, or n/a.
func (v Value) String() string {
	if v.N == 0 || math.IsNaN(v.Mean) {
		return "n/a"
	}
	if v.N == 1 {
		return Number(v.Mean)
	}
	return Number(v.Mean) + " ± " + Number(v.SD)
}

// Number writes x to about three significant digits, as people read it.
func Number(x float64) string {
	switch a := math.Abs(x); {
	case math.IsNaN(x):
		return "n/a"
	case math.IsInf(x, 0):
		return map[bool]string{true: "∞", false: "−∞"}[x > 0]
	case a > 0 && a < 0.0005:
		return strings.Replace(strconv.FormatFloat(x, 'e', 1, 64), "e-0", "e-", 1)
	case a < 100:
		return strconv.FormatFloat(x, 'f', 3, 64)
	default:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
}

// MetricRow is one metric of every model.
type MetricRow struct {
	Group  string // set on the first row of a group
	Name   string
	Wanted string // what is better: "higher", "lower", "as retrained"
	Values []Value
}

// SacrificeRow is the sacrifice rate in one metric: knowledge lost on the retain set
// for each unit of knowledge lost on the forget set. Smaller is better.
type SacrificeRow struct {
	Metric          string
	Baseline, Guard []float64 // one a seed; NaN: undefined
}

// BaselineValue is the mean over the seeds; there is none unless every seed has a rate,
// for the means of the two methods are compared.
func (r SacrificeRow) BaselineValue() Value { return ofAll(r.Baseline) }

// GuardValue is BaselineValue of GUARD.
func (r SacrificeRow) GuardValue() Value { return ofAll(r.Guard) }

func ofAll(v []float64) Value {
	if slices.ContainsFunc(v, math.IsNaN) {
		return Value{}
	}
	return Of(v)
}

// WithinSpread says whether the means are no further apart than one standard deviation
// over the seeds.
func (r SacrificeRow) WithinSpread() bool {
	b, g := r.BaselineValue(), r.GuardValue()
	return b.N > 1 && math.Abs(b.Mean-g.Mean) <= math.Max(b.SD, g.SD)
}

// Verdict says whose mean is lower.
func (r SacrificeRow) Verdict() string {
	b, g := r.BaselineValue(), r.GuardValue()
	switch {
	case b.N == 0 || g.N == 0:
		return "undefined"
	case g.Mean < b.Mean:
		return "GUARD"
	case g.Mean > b.Mean:
		return "plain"
	default:
		return "equal"
	}
}

// Sample is one forget sample.
type Sample struct {
	I, Line                                   int
	Question                                  string
	Score, StdErr                             float64
	Weight                                    float64 // n·w: 1 is the weight of the plain method
	ProbBefore, ProbBaseline, ProbGuard       float64
	RougeLBefore, RougeLBaseline, RougeLGuard float64
	AnswerGuard                               string
}

// OptionGroup is a heading with the options under it.
type OptionGroup struct {
	Name    string
	Options []Fact
}

// Fact is a name with a value.
type Fact struct{ Name, Value string }

//go:embed report.html.tmpl
var page string

//go:embed report.css
var css string

//go:embed report.js
var script string

var tmpl = template.Must(template.New("report").Funcs(template.FuncMap{
	"num":      Number,
	"plot":     func(p Plot) template.HTML { return p.SVG() },
	"bars":     func(p BarPlot) template.HTML { return p.SVG() },
	"hist":     histogram,
	"weights":  weightScatter,
	"strip":    sacrificeStrip,
	"datetime": func(t time.Time) string { return t.Format("2006-01-02 15:04 MST") },
	"duration": func(d time.Duration) string { return d.Round(100 * time.Millisecond).String() },
	"css":      func() template.CSS { return template.CSS(css) },
	"script":   func() template.JS { return template.JS(script) },
	"sign": func(g int) string {
		return map[int]string{1: "good", -1: "bad"}[g]
	},
	"defined": func(x float64) bool { return !math.IsNaN(x) },
	"sig":     func(x float64) string { return strconv.FormatFloat(x, 'g', 3, 64) },
	"raw":     func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) },
}).Parse(page))

// HTML renders the report.
func HTML(d *Data) ([]byte, error) {
	var b bytes.Buffer
	if err := tmpl.Execute(&b, d); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return b.Bytes(), nil
}

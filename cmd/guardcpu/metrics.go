package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/report"
	"github.com/guardcpu/guardcpu/tofu"
)

// metricsFile is metrics.json: an object for each evaluated model, by the names of
// modelKeys, and what compares them.
type metricsFile struct {
	Before   *tofu.Metrics `json:"before,omitempty"`
	Baseline *tofu.Metrics `json:"baseline,omitempty"`
	Guard    *tofu.Metrics `json:"guard,omitempty"`
	Gold     *tofu.Metrics `json:"gold,omitempty"`

	// GuardFile is the written file, where its types round the weights that Guard is about.
	GuardFile *tofu.Metrics `json:"guard_file,omitempty"`
	// Rates are of Baseline and Guard against Before.
	Rates *rates `json:"sacrifice_rate,omitempty"`
	// Seeds are all repetitions; Baseline and Guard are those of the first.
	Seeds []seedMetrics `json:"seeds,omitempty"`
}

// rates are the sacrifice rates of the two unlearned models.
type rates struct {
	Baseline []tofu.Sacrifice `json:"baseline,omitempty"`
	Guard    []tofu.Sacrifice `json:"guard,omitempty"`
}

// seedMetrics is one repetition of the unlearning.
type seedMetrics struct {
	Seed     uint64        `json:"seed"`
	Baseline *tofu.Metrics `json:"baseline"`
	Guard    *tofu.Metrics `json:"guard"`
	Rates    rates         `json:"sacrifice_rate"`
}

func (f *metricsFile) set(key string, m *tofu.Metrics) {
	switch key {
	case "before":
		f.Before = m
	case "baseline":
		f.Baseline = m
	case "guard":
		f.Guard = m
	case "gold":
		f.Gold = m
	default:
		panic("guardcpu: no model is called " + key)
	}
}

// addRates computes the sacrifice rates of the models there are.
func (f *metricsFile) addRates() (err error) {
	if f.Before == nil || f.Baseline == nil && f.Guard == nil {
		return nil
	}
	f.Rates = &rates{}
	if f.Baseline != nil {
		if f.Rates.Baseline, err = tofu.SacrificeRate(f.Before, f.Baseline); err != nil {
			return err
		}
	}
	if f.Guard != nil {
		f.Rates.Guard, err = tofu.SacrificeRate(f.Before, f.Guard)
	}
	return err
}

// modelLabel is what people read for a key of modelKeys; method may be empty.
func modelLabel(key, method string) string {
	label := map[string]string{"before": "before", "baseline": "plain", "guard": "GUARD", "gold": "retrained"}[key]
	if method != "" && (key == "baseline" || key == "guard") {
		label += " " + strings.ToUpper(method)
	}
	return label
}

// column is one model of a table, measured once or for several seeds.
type column struct {
	report.Model
	metrics []*tofu.Metrics
}

// tableRow is one line of the summary, in the terminal and in the report.
type tableRow struct {
	group, name, wanted string
	set                 tofu.Set
	metric              string
	value               func(*tofu.Metrics) *float64 // in place of set and metric
}

// tableRows are the lines of the summary in order.
var tableRows = []tableRow{
	{group: "Forget set", name: "Probability", wanted: "as retrained", set: tofu.Forget, metric: "probability"},
	{group: "Forget set", name: "ROUGE-L", wanted: "as retrained", set: tofu.Forget, metric: "rougeL_recall"},
	{group: "Forget set", name: "Truth ratio", wanted: "as retrained", set: tofu.Forget, metric: "truth_ratio"},
	{group: "Retain set", name: "Probability", wanted: "higher", set: tofu.Retain, metric: "probability"},
	{group: "Retain set", name: "ROUGE-L", wanted: "higher", set: tofu.Retain, metric: "rougeL_recall"},
	{group: "Retain set", name: "Truth ratio", wanted: "higher", set: tofu.Retain, metric: "truth_ratio"},
	{group: "Real authors", name: "Probability", wanted: "higher", set: tofu.RealAuthors, metric: "probability"},
	{group: "Real authors", name: "ROUGE-L", wanted: "higher", set: tofu.RealAuthors, metric: "rougeL_recall"},
	{group: "Real authors", name: "Truth ratio", wanted: "higher", set: tofu.RealAuthors, metric: "truth_ratio"},
	{group: "World facts", name: "Probability", wanted: "higher", set: tofu.WorldFacts, metric: "probability"},
	{group: "World facts", name: "ROUGE-L", wanted: "higher", set: tofu.WorldFacts, metric: "rougeL_recall"},
	{group: "World facts", name: "Truth ratio", wanted: "higher", set: tofu.WorldFacts, metric: "truth_ratio"},
	{group: "Overall", name: "Model utility", wanted: "higher", value: func(m *tofu.Metrics) *float64 { return m.ModelUtility }},
	{group: "Overall", name: "Forget quality", wanted: "higher", value: func(m *tofu.Metrics) *float64 { return m.ForgetQuality }},
}

// of returns the row's value of a column.
func (r tableRow) of(c column) report.Value {
	var v []float64
	for _, m := range c.metrics {
		if r.value != nil {
			if x := r.value(m); x != nil {
				v = append(v, *x)
			}
		} else if x, ok := m.Get(r.set, r.metric); ok {
			v = append(v, x)
		}
	}
	return report.Of(v)
}

// metricRows returns the rows that any column has a value for.
func metricRows(columns []column) (rows []report.MetricRow) {
	group := ""
	for _, r := range tableRows {
		row := report.MetricRow{Name: r.name, Wanted: r.wanted}
		any := false
		for _, c := range columns {
			v := r.of(c)
			row.Values = append(row.Values, v)
			any = any || v.N > 0
		}
		if !any {
			continue
		}
		if r.group != group {
			group, row.Group = r.group, r.group
		}
		rows = append(rows, row)
	}
	return rows
}

// printTable writes the summary for a terminal.
func printTable(w io.Writer, columns []column) {
	lines := [][]string{{""}}
	for _, c := range columns {
		lines[0] = append(lines[0], c.Label)
	}
	group := ""
	for _, r := range metricRows(columns) {
		if r.Group != "" {
			group = r.Group
		}
		line := []string{group + ", " + strings.ToLower(r.Name[:1]) + r.Name[1:]}
		if group == "Overall" {
			line[0] = r.Name
		}
		line[0] = strings.Replace(line[0], "rOUGE", "ROUGE", 1)
		for _, v := range r.Values {
			line = append(line, v.String())
		}
		lines = append(lines, line)
	}
	writeColumns(w, lines)
}

// writeColumns aligns cells: the first column to the left, the others to the right.
func writeColumns(w io.Writer, lines [][]string) {
	var width []int
	for _, line := range lines {
		for i, cell := range line {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range lines {
		var b strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString(cell + pad)
			} else {
				b.WriteString("  " + pad + cell)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// sacrificeRows puts the rates of the seeds side by side. A rate is NaN where the
// forget set did not measurably lose knowledge: where it is undefined, and where that
// set gained, for then a small or negative rate is no merit.
func sacrificeRows(seeds []seedMetrics) (rows []report.SacrificeRow) {
	names := map[string]string{"probability": "Probability", "rougeL_recall": "ROUGE-L", "truth_ratio": "Truth ratio"}
	index := map[string]int{}
	row := func(metric string) *report.SacrificeRow {
		k, ok := index[metric]
		if !ok {
			k = len(rows)
			index[metric] = k
			rows = append(rows, report.SacrificeRow{Metric: names[metric]})
		}
		return &rows[k]
	}
	value := func(s tofu.Sacrifice) float64 {
		if s.Rate == nil || s.ForgetDrop < 0 {
			return math.NaN()
		}
		return *s.Rate
	}
	for _, s := range seeds {
		for _, r := range s.Rates.Baseline {
			row(r.Metric).Baseline = append(row(r.Metric).Baseline, value(r))
		}
		for _, r := range s.Rates.Guard {
			row(r.Metric).Guard = append(row(r.Metric).Guard, value(r))
		}
	}
	return rows
}

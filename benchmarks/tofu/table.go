package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/guardcpu/guardcpu/tofu"
)

// table returns the results as Markdown: a line a model, mean ± standard deviation over
// the seeds, and under it the difference GUARD makes to each objective, paired by seed.
func (b *bench) table() string {
	var order []string
	byModel := map[string][]result{}
	for _, r := range b.results {
		if byModel[r.Model] == nil {
			order = append(order, r.Model)
		}
		byModel[r.Model] = append(byModel[r.Model], r)
	}
	columns := []struct {
		name string
		of   func(r result) float64
	}{
		{"forget P", metric(tofu.Forget, "probability")},
		{"forget R", metric(tofu.Forget, "rougeL_recall")},
		{"forget T", metric(tofu.Forget, "truth_ratio")},
		{"retain P", metric(tofu.Retain, "probability")},
		{"retain R", metric(tofu.Retain, "rougeL_recall")},
		{"retain T", metric(tofu.Retain, "truth_ratio")},
		{"utility", func(r result) float64 { return deref(r.Metrics.ModelUtility) }},
		{"log10 forget quality", func(r result) float64 { return math.Log10(deref(r.Metrics.ForgetQuality)) }},
		{"SR P", sacrifice("probability")},
		{"SR R", sacrifice("rougeL_recall")},
		{"SR T", sacrifice("truth_ratio")},
	}
	var s strings.Builder
	s.WriteString("| model | runs |")
	for _, c := range columns {
		fmt.Fprintf(&s, " %s |", c.name)
	}
	s.WriteString("\n|---|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, name := range order {
		var runs []result
		for _, r := range byModel[name] {
			if r.Metrics != nil {
				runs = append(runs, r)
			}
		}
		fmt.Fprintf(&s, "| %s | %d of %d |", name, len(runs), len(byModel[name]))
		for _, c := range columns {
			var x []float64
			for _, r := range runs {
				x = append(x, c.of(r))
			}
			s.WriteString(" " + meanSpread(x) + " |")
		}
		s.WriteString("\n")
	}
	s.WriteString("\nGUARD minus plain, by seed:\n\n| objective | seed |")
	for _, c := range columns {
		fmt.Fprintf(&s, " %s |", c.name)
	}
	s.WriteString("\n|---|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, name := range order {
		method, ok := strings.CutSuffix(name, "/plain")
		if !ok {
			continue
		}
		for i, plain := range byModel[name] {
			if weighted := byModel[method+"/guard"]; i < len(weighted) && plain.Metrics != nil && weighted[i].Metrics != nil {
				fmt.Fprintf(&s, "| %s | %d |", method, plain.Seed)
				for _, c := range columns {
					s.WriteString(" " + signed(c.of(weighted[i])-c.of(plain)) + " |")
				}
				s.WriteString("\n")
			}
		}
	}
	return s.String()
}

func metric(set tofu.Set, name string) func(result) float64 {
	return func(r result) float64 {
		if v, ok := r.Metrics.Get(set, name); ok {
			return v
		}
		return math.NaN()
	}
}

// sacrifice is the rate in one metric, NaN where the forget set did not measurably lose
// knowledge: where it is undefined, and where that set gained, for then a small or
// negative rate is no merit.
func sacrifice(name string) func(result) float64 {
	return func(r result) float64 {
		for _, s := range r.Sacrifice {
			if s.Metric == name && s.ForgetDrop > 0 {
				return deref(s.Rate)
			}
		}
		return math.NaN()
	}
}

func deref(p *float64) float64 {
	if p == nil {
		return math.NaN()
	}
	return *p
}

// signed spells a difference or a rate.
func signed(x float64) string {
	if math.IsNaN(x) {
		return "-"
	}
	return fmt.Sprintf("%+.3f", x)
}

// meanSpread spells the mean and standard deviation (n-1) of the values that are
// numbers, and how many are, if not all.
func meanSpread(x []float64) string {
	var mean, ss float64
	n := 0
	for _, v := range x {
		if !math.IsNaN(v) {
			n++
			d := v - mean
			mean += d / float64(n)
			ss += d * (v - mean)
		}
	}
	if n == 0 {
		return "-"
	}
	text := fmt.Sprintf("%.3f", mean)
	if n > 1 {
		text += fmt.Sprintf(" ± %.3f", math.Sqrt(ss/float64(n-1)))
	}
	if n < len(x) {
		text += fmt.Sprintf(" (%d of %d)", n, len(x))
	}
	return text
}

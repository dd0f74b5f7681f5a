package bench

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Benchstat writes the results in the format of Go's benchmarks, a line for each round:
//
//	BenchmarkMatmul/op=Y/shape=512x768x768/type=F32/compute=f32/set=avx2/workers=2  90  3310000 ns/op  182.4 GFLOP/s
//
// config is the head: goos, cpu and so on.
func (r *Run) Benchstat(w io.Writer, config []Key) error {
	var b strings.Builder
	for _, k := range config {
		fmt.Fprintf(&b, "%s: %s\n", k.Name, k.Value)
	}
	for _, m := range r.Results {
		for _, t := range m.Timings {
			fmt.Fprintf(&b, "Benchmark%s\t%d\t%s ns/op", m.Case, t.Calls, number(1e9*t.Median))
			for i, a := range m.Work {
				fmt.Fprintf(&b, "\t%s %s", number(m.Rate(i, t.Median)), a.Unit)
			}
			b.WriteByte('\n')
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Table writes the results for people: a table for each name, a row for each thing measured,
// a column for each kernel set and number of workers. Shares of the peak are percentages.
func (r *Run) Table(w io.Writer) error {
	peaks := r.Peaks()
	var names []string
	for _, m := range r.Results {
		if !slices.Contains(names, m.Name) {
			names = append(names, m.Name)
		}
	}
	for i, name := range names {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := table(w, name, r.Results, peaks); err != nil {
			return err
		}
	}
	return nil
}

// cell is where a result stands in a table.
type cell struct{ row, column string }

func table(w io.Writer, name string, results []*Measured, peaks map[string]map[string]float64) error {
	var head []string
	var rows, columns []string
	cells := map[cell]string{}
	for _, m := range results {
		if m.Name != name {
			continue
		}
		own := m.Keys[:len(m.Keys)-2]
		head = head[:0]
		var row []string
		for _, k := range own {
			head, row = append(head, k.Name), append(row, k.Value)
		}
		head, row = append(head, ""), append(row, m.Work[0].Unit)
		c := cell{strings.Join(row, "\t"), m.Key("set") + " ×" + m.Key("workers")}
		if !slices.Contains(rows, c.row) {
			rows = append(rows, c.row)
		}
		if !slices.Contains(columns, c.column) {
			columns = append(columns, c.column)
		}
		text := number(m.Rate(0, m.Median()))
		if share, ok := m.Share(peaks); ok {
			text += fmt.Sprintf(" (%.0f%%)", 100*share)
		}
		cells[c] = text
	}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(tw, "%s\n  %s", name, strings.Join(head, "\t"))
	for _, c := range columns {
		fmt.Fprintf(tw, "\t%s", c)
	}
	fmt.Fprintln(tw)
	for _, row := range rows {
		fmt.Fprintf(tw, "  %s", row)
		for _, c := range columns {
			fmt.Fprintf(tw, "\t%s", cells[cell{row, c}])
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}

// Share is what the case reaches of the peak it is compared with, if that was measured.
func (m *Measured) Share(peaks map[string]map[string]float64) (float64, bool) {
	for i, a := range m.Work {
		if peak := peaks[m.Peak][a.Unit]; peak > 0 {
			return m.Rate(i, m.Median()) / peak, true
		}
	}
	return 0, false
}

// number writes a figure with at least three significant digits, and never with an exponent.
func number(x float64) string {
	digits := 0
	for least := 99.95; x < least && digits < 6; least /= 10 { // 99.95 is written as 100
		digits++
	}
	return strconv.FormatFloat(x, 'f', digits, 64)
}

// Report is a run as JSON has it.
type Report struct {
	Results []Entry        `json:"results"`
	Skipped []SkippedEntry `json:"skipped,omitempty"`
}

// Entry is one result.
type Entry struct {
	Name    string             `json:"name"`
	Keys    map[string]string  `json:"keys"`
	Calls   int                `json:"calls"`
	Seconds float64            `json:"seconds"`      // of a call, the median
	Best    float64            `json:"best_seconds"` // the shortest
	Rounds  []float64          `json:"rounds"`       // the median seconds of each round
	Rates   map[string]float64 `json:"rates"`        // by unit, at the median
	Share   float64            `json:"share,omitempty"`
}

// SkippedEntry is a case that was not measured.
type SkippedEntry struct {
	Name string            `json:"name"`
	Keys map[string]string `json:"keys"`
	Why  string            `json:"why"`
}

// Report returns the results for JSON.
func (r *Run) Report() Report {
	peaks := r.Peaks()
	out := Report{Results: []Entry{}}
	for _, m := range r.Results {
		e := Entry{Name: m.Name, Keys: keyMap(m.Keys), Seconds: m.Median(), Best: m.Best(), Rates: map[string]float64{}}
		for i, a := range m.Work {
			e.Rates[a.Unit] = m.Rate(i, m.Median())
		}
		for _, t := range m.Timings {
			e.Calls += t.Calls
			e.Rounds = append(e.Rounds, t.Median)
		}
		e.Share, _ = m.Share(peaks)
		out.Results = append(out.Results, e)
	}
	for _, s := range r.Skipped {
		out.Skipped = append(out.Skipped, SkippedEntry{s.Name, keyMap(s.Keys), s.Why})
	}
	return out
}

func keyMap(keys []Key) map[string]string {
	m := map[string]string{}
	for _, k := range keys {
		m[k.Name] = k.Value
	}
	return m
}

// Estimate is how long a run takes at least.
func (r *Run) Estimate() time.Duration { return time.Duration(len(r.Cases)*r.Rounds) * r.Time }

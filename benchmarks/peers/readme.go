package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The tables stand between these lines of README.md.
const (
	beginMark = "<!-- tables by go run ./benchmarks/peers -readme -->"
	endMark   = "<!-- end of tables -->"
)

// writeReadme puts the tables of all results into the file.
func writeReadme(path, results string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	tables, err := readmeTables(results)
	if err != nil {
		return err
	}
	changed, err := replaceTables(string(text), tables)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(changed), 0o644)
}

// replaceTables replaces what stands between the marks.
func replaceTables(text, tables string) (string, error) {
	before, rest, ok := strings.Cut(text, beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return "", fmt.Errorf("no lines %q and %q", beginMark, endMark)
	}
	return before + beginMark + "\n" + tables + endMark + after, nil
}

// readmeTables makes the tables of every machine and suite in the folder of results.
func readmeTables(results string) (string, error) {
	var b strings.Builder
	for _, suite := range []struct {
		name  string
		table func(*Result) string
	}{{"matmul", matmulTable}, {"train", trainTable}, {"llama", llamaTable}} {
		paths, err := filepath.Glob(filepath.Join(results, "*", "peers-"+suite.name+".json"))
		if err != nil {
			return "", err
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			var r Result
			if err := json.Unmarshal(data, &r); err != nil {
				return "", fmt.Errorf("%s: %w", path, err)
			}
			var versions []string
			for _, name := range slices.Sorted(mapKeys(r.Versions)) {
				versions = append(versions, name+" "+r.Versions[name])
			}
			fmt.Fprintf(&b, "\n%s, %d threads, %s, commit %s; %s; medians of %d runs in turn, others used at most %.0f %% of the CPUs:\n\n%s",
				r.CPU, r.Threads, r.Date, r.Commit, strings.Join(versions, ", "), r.Rounds, 100*r.Foreign, suite.table(&r))
		}
	}
	if b.Len() == 0 {
		return "\nNo comparison has been recorded yet.\n\n", nil
	}
	return b.String() + "\n", nil
}

// row returns the row of that name, nil if there is none.
func (r *Result) row(name string) *Row {
	for _, x := range r.Rows {
		if x.Name == name {
			return x
		}
	}
	return nil
}

// cell is "ours / theirs = ratio".
func cell(ours, theirs float64) string {
	switch {
	case ours == 0 && theirs == 0:
		return ""
	case theirs == 0:
		return figures(ours)
	}
	return fmt.Sprintf("%s / %s = **%.2f**", figures(ours), figures(theirs), ours/theirs)
}

// figures writes three significant digits.
func figures(x float64) string {
	digits := 0
	for least := 99.95; x < least && digits < 4; least /= 10 {
		digits++
	}
	return fmt.Sprintf("%.*f", digits, x)
}

// matmulTable is the geometric means over the shapes of W, and the worst ratio among them.
func matmulTable(r *Result) string {
	var b strings.Builder
	b.WriteString("| GFLOP/s, mean of six shapes of W | guardcpu | oneDNN | oneDNN, W packed ahead | OpenBLAS | guardcpu / oneDNN packed: mean (worst) |\n|---|---|---|---|---|---|\n")
	type key struct {
		compute, op string
		t           int
	}
	var keys []key
	groups := map[key][]*Row{}
	for _, row := range r.Rows {
		f := strings.Fields(row.Name) // f32 Y 64x768x768
		if len(f) != 3 {
			continue
		}
		shape, _, _ := strings.Cut(f[2], "x")
		t, err := strconv.Atoi(shape)
		if err != nil {
			continue
		}
		k := key{f[0], f[1], t}
		if groups[k] == nil {
			keys = append(keys, k)
		}
		groups[k] = append(groups[k], row)
	}
	slices.SortStableFunc(keys, func(a, b key) int {
		rank := func(k key) int { return slices.Index([]string{"Y", "dX", "dW"}, k.op) }
		if a.compute != b.compute {
			return -strings.Compare(a.compute, b.compute) // f32 first
		}
		return cmp.Or(rank(a)-rank(b), a.t-b.t)
	})
	for _, k := range keys {
		mean := func(f func(*Row) float64) (mean, worst float64) {
			sum, n := 0.0, 0
			worst = math.Inf(1)
			for _, row := range groups[k] {
				if x := f(row); x > 0 {
					sum, n, worst = sum+math.Log(x), n+1, min(worst, x)
				}
			}
			if n == 0 {
				return 0, 0
			}
			return math.Exp(sum / float64(n)), worst
		}
		fmt.Fprintf(&b, "| %s, %s, T = %d", map[string]string{"Y": "Y = X·Wᵀ", "dX": "dX = dY·W", "dW": "dW = dYᵀ·X"}[k.op], k.compute, k.t)
		for _, side := range []string{"guardcpu", "oneDNN", "oneDNN packed", "OpenBLAS"} {
			m, _ := mean(func(row *Row) float64 { return row.Median(side) })
			if m == 0 {
				b.WriteString(" | ")
				continue
			}
			fmt.Fprintf(&b, " | %s", figures(m))
		}
		m, worst := mean(func(row *Row) float64 {
			if theirs := row.Median("oneDNN packed"); theirs > 0 {
				return row.Median("guardcpu") / theirs
			}
			return 0
		})
		fmt.Fprintf(&b, " | **%.2f** (%.2f) |\n", m, worst)
	}
	return b.String()
}

// trainTable has a row for each thing, a column for each shape and number format.
func trainTable(r *Result) string {
	var shapes []string
	for _, row := range r.Rows {
		f := strings.Fields(row.Name) // 110m f32 step
		if s := f[0] + " " + f[1]; !slices.Contains(shapes, s) {
			shapes = append(shapes, s)
		}
	}
	var b strings.Builder
	b.WriteString("| 8 samples of 64 tokens, guardcpu / PyTorch |")
	for _, s := range shapes {
		fmt.Fprintf(&b, " %s |", s)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(shapes)) + "\n")
	for _, x := range [][2]string{{"forward", "forward, tokens/s"}, {"forward+backward", "forward and backward, tokens/s"}, {"step", "step of AdamW, tokens/s"}, {"attribution", "attribution, samples/s"}} {
		fmt.Fprintf(&b, "| %s |", x[1])
		for _, s := range shapes {
			row := r.row(s + " " + x[0])
			if row == nil {
				row = &Row{}
			}
			fmt.Fprintf(&b, " %s |", cell(row.Median("guardcpu"), row.Median("PyTorch")))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// llamaTable has a row for each shape and test, a column for each type.
func llamaTable(r *Result) string {
	var types, tests []string
	for _, row := range r.Rows {
		f := strings.Fields(row.Name) // 110m Q8_0 pp128
		if !slices.Contains(types, f[1]) {
			types = append(types, f[1])
		}
		if t := f[0] + " " + f[2]; !slices.Contains(tests, t) {
			tests = append(tests, t)
		}
	}
	var b strings.Builder
	b.WriteString("| tokens/s, guardcpu / llama.cpp |")
	for _, t := range types {
		fmt.Fprintf(&b, " %s |", t)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(types)) + "\n")
	for _, test := range tests {
		shape, t, _ := strings.Cut(test, " ")
		words := strings.NewReplacer("pp", "prompt of ", "tg", "generation of ").Replace(t)
		fmt.Fprintf(&b, "| %s, %s |", shape, words)
		for _, typ := range types {
			row := r.row(shape + " " + typ + " " + t)
			if row == nil {
				row = &Row{}
			}
			fmt.Fprintf(&b, " %s |", cell(row.Median("guardcpu"), row.Median("llama.cpp")))
		}
		b.WriteString("\n")
	}
	return b.String()
}

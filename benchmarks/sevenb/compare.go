package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/guardcpu/guardcpu/guard"
	"github.com/guardcpu/guardcpu/tofu"
)

// forms are the ways of attribution that are compared, the first with the others: the gradient of the
// whole model in memory, and streams with the gradient of one block at a time.
var forms = []struct {
	name string
	args []string
}{
	{"whole", nil},
	{"stream-f32", []string{"--chunk", "1", "--spill", "f32"}},
	{"stream-bf16", []string{"--chunk", "1", "--spill", "bf16"}},
}

// outcome is what a run of one form found.
type outcome struct {
	scores, multipliers []float64
	metrics             struct{ Before, Baseline, Guard metrics }
}

// metrics is a model's object in metrics.json: an object for each set and, besides, numbers.
type metrics map[string]any

// get returns a metric of a set, or false if it was not measured.
func (m metrics) get(set tofu.Set, name string) (float64, bool) {
	of, _ := m[string(set)].(map[string]any)
	v, ok := of[name].(float64)
	return v, ok
}

func compareCommand(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("sevenb compare", flag.ExitOnError)
	program := f.String("guardcpu", "guardcpu", "`path` of guardcpu")
	dir := f.String("dir", "", "`folder` of the run directories; runs that are unfinished go on")
	out := f.String("out", "", "`file` for the table (default: standard output)")
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "sevenb compare -dir FOLDER [FLAGS] [-- OPTIONS of guardcpu run]\nWithout options of guardcpu run it works on its embedded model.\n")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		return fmt.Errorf("compare wants -dir FOLDER")
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	outcomes := make([]*outcome, len(forms))
	for i, form := range forms {
		run := filepath.Join(*dir, form.name)
		c, err := runChild(ctx, slices.Concat([]string{*program, "run", "--run-dir", run}, form.args, f.Args()))
		if err != nil {
			return err
		}
		if c.Exit != 0 && c.Exit != isComplete {
			return fmt.Errorf("%s: exit %d: %s", form.name, c.Exit, c.Stderr)
		}
		log.Printf("%s: %.0f s", form.name, c.Seconds)
		if outcomes[i], err = readOutcome(run); err != nil {
			return err
		}
	}
	text := comparison(f.Args(), outcomes)
	if *out == "" {
		fmt.Print(text)
		return nil
	}
	return os.WriteFile(*out, []byte(text), 0o644)
}

// isComplete is guardcpu's exit status for a run directory that is complete.
const isComplete = 12

// readOutcome reads scores.jsonl and metrics.json of a run directory.
func readOutcome(dir string) (*outcome, error) {
	o := &outcome{}
	file, err := os.Open(filepath.Join(dir, "scores.jsonl"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for s := bufio.NewScanner(file); s.Scan(); {
		var line struct{ Score, Multiplier float64 }
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("%s: %w", file.Name(), err)
		}
		o.scores, o.multipliers = append(o.scores, line.Score), append(o.multipliers, line.Multiplier)
	}
	data, err := os.ReadFile(filepath.Join(dir, "metrics.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &o.metrics); err != nil {
		return nil, fmt.Errorf("%s: metrics.json: %w", dir, err)
	}
	return o, nil
}

// comparison makes markdown of the outcomes of the forms.
func comparison(args []string, outcomes []*outcome) string {
	var b strings.Builder
	what := "without options, on its embedded model"
	if len(args) > 0 {
		names := make([]string, len(args)) // of files, without where they lie
		for i, a := range args {
			names[i] = filepath.Base(a)
		}
		what = "with `" + strings.Join(names, " ") + "`"
	}
	fmt.Fprintf(&b, "# Attribution with the whole gradient and streamed\n\nMade by `go run ./benchmarks/sevenb compare`: `guardcpu run` %s, %d samples to forget. "+
		"A stream has the gradient of one block in memory; between blocks it keeps activations and their gradients in the type named. Differences are relative to the largest score, or multiplier.\n\n", what, len(outcomes[0].scores))
	b.WriteString("| | rank correlation of scores | largest difference of scores | of multipliers |\n|---|---|---|---|\n")
	whole := outcomes[0]
	for i, o := range outcomes[1:] {
		fmt.Fprintf(&b, "| %s | %.6f | %.1e | %.1e |\n", forms[i+1].name, guard.Spearman(whole.scores, o.scores), difference(whole.scores, o.scores), difference(whole.multipliers, o.multipliers))
	}
	b.WriteString("\n| after GUARD |")
	for i := range outcomes {
		fmt.Fprintf(&b, " %s |", forms[i].name)
	}
	b.WriteString(" before | plain |\n|---|" + strings.Repeat("---|", len(outcomes)+2) + "\n")
	for _, set := range []tofu.Set{tofu.Forget, tofu.Retain, tofu.RealAuthors, tofu.WorldFacts} {
		for _, name := range []string{"probability", "rougeL_recall", "truth_ratio"} {
			if _, ok := whole.metrics.Guard.get(set, name); !ok {
				continue
			}
			fmt.Fprintf(&b, "| %s, %s |", set, name)
			for _, o := range outcomes {
				b.WriteString(metricCell(o.metrics.Guard, set, name))
			}
			b.WriteString(metricCell(whole.metrics.Before, set, name) + metricCell(whole.metrics.Baseline, set, name) + "\n")
		}
	}
	return b.String()
}

func metricCell(m metrics, set tofu.Set, name string) string {
	v, ok := m.get(set, name)
	if !ok {
		return " |"
	}
	return fmt.Sprintf(" %.5f |", v)
}

// difference is the largest difference of two lists, relative to the largest number of the first; NaN
// if there is one, or they have not as many.
func difference(a, b []float64) float64 {
	if len(a) != len(b) {
		return math.NaN()
	}
	var most, scale float64
	for i := range a {
		most, scale = max(most, math.Abs(a[i]-b[i])), max(scale, math.Abs(a[i])) // NaN stays
	}
	return most / scale
}

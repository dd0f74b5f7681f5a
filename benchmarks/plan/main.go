// Command plan compares what guardcpu plan says with what then happens, on models of several sizes:
// the time of attribution, with the whole gradient and streamed, of training in each mode, and of an evaluation, and
// the peak of resident memory of each.
//
//	go run ./benchmarks/plan -models stories260K-f32.gguf,15m.gguf -data full.jsonl
//
// Each plan and each run is a process of its own, the plan just before the run. The rows are the first and the last of
// the data; -operations says about how many operations a run has. The table is printed and, with -out, written.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// work is something that is planned and done.
type work struct {
	name string
	plan []string // options of plan, besides model and data
	run  []string // the command with its options, likewise
	mode string   // of training, whose line of the plan is meant
	data bool     // finetune has --data in place of --forget and --retain
}

// works lists what is compared; optimizer is that of full training.
func works(optimizer, evalLength string) []work {
	list := []work{
		{name: "attribute", plan: []string{"--for", "attribute"}, run: []string{"attribute", "--out", "scores"}},
		{name: "attribute, streamed", plan: []string{"--for", "attribute", "--chunk", "1"}, run: []string{"attribute", "--chunk", "1", "--out", "scores"}},
	}
	for _, mode := range []string{"full", "fused", "lora"} {
		o := "adamw"
		switch mode {
		case "full":
			o = optimizer
		case "fused":
			o = "adafactor"
		}
		list = append(list, work{name: "finetune, " + mode + ", " + o, mode: mode, data: true,
			plan: []string{"--for", "finetune", "--mode", mode, "--finetune-epochs", "1", "--finetune-batch", "8", "--finetune-optimizer", o},
			run:  []string{"finetune", "--mode", mode, "--epochs", "1", "--batch", "8", "--optimizer", o, "--out", "out.gguf"}})
	}
	return append(list, work{name: "eval",
		plan: []string{"--for", "eval", "--ignore-eos", "--eval-length", evalLength},
		run:  []string{"eval", "--ignore-eos", "--eval-length", evalLength}})
}

// outcome is one line of the table.
type outcome struct {
	Model       string  `json:"model"`
	Work        string  `json:"work"`
	Rows        int     `json:"rows"` // of the data, half of them to forget
	Planned     float64 `json:"planned_seconds"`
	Took        float64 `json:"seconds"`
	PlannedPeak uint64  `json:"planned_peak_bytes"`
	Peak        uint64  `json:"peak_bytes"`
	Planning    float64 `json:"planning_seconds"` // of the plan itself, its measurements among it
}

// options are the command line.
type options struct {
	guardcpu, models, data, out, memory string
	only, evalLength                    string
	tokens                              float64
	ctx                                 context.Context
	dir                                 string
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("plan: ")
	var o options
	flag.StringVar(&o.guardcpu, "guardcpu", "", "`path` of the binary; built if empty")
	flag.StringVar(&o.models, "models", "", "GGUF `files`, by commas")
	flag.StringVar(&o.data, "data", "", "`file` of question-answer rows")
	flag.StringVar(&o.only, "only", "", "`text` in the names of what is compared")
	flag.StringVar(&o.evalLength, "eval-length", "120", "`tokens` of a prompt with what is generated")
	flag.StringVar(&o.memory, "memory", "18GiB", "budget of both")
	flag.Float64Var(&o.tokens, "operations", 6e11, "about how many `operations` a run takes")
	flag.StringVar(&o.out, "out", "", "`file` for the outcomes as JSON lines, which are added")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o.ctx = ctx
	if err := o.all(); err != nil {
		log.Fatal(err)
	}
}

func (o *options) all() (err error) {
	if o.models == "" || o.data == "" {
		return errors.New("want -models and -data")
	}
	if o.dir, err = os.MkdirTemp("", "plan-*"); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)
	if o.guardcpu == "" {
		o.guardcpu = filepath.Join(o.dir, "guardcpu")
		if out, err := exec.CommandContext(o.ctx, "go", "build", "-o", o.guardcpu, "./cmd/guardcpu").CombinedOutput(); err != nil {
			return fmt.Errorf("go build: %w: %s", err, out)
		}
	}
	tw := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintf(tw, "model\twork\trows\tplanned\ttook\t\tplanned peak\tpeak\t\n")
	defer tw.Flush()
	for _, model := range strings.Split(o.models, ",") {
		optimizer := "adamw"
		if info, err := os.Stat(model); err == nil && info.Size() > 1<<29 {
			optimizer = "adafactor" // masters, gradients and moments would not fit
		}
		for _, w := range works(optimizer, o.evalLength) {
			if !strings.Contains(w.name, o.only) {
				continue
			}
			x, err := o.compare(model, w)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", model, w.name, err)
			}
			fmt.Fprintf(tw, "%s\t%s\t%d\t%.2f s\t%.2f s\t%+.0f %%\t%d MiB\t%d MiB\t%+.0f %%\n", x.Model, x.Work, x.Rows,
				x.Planned, x.Took, 100*(x.Planned/x.Took-1), x.PlannedPeak>>20, x.Peak>>20, 100*(float64(x.PlannedPeak)/float64(x.Peak)-1))
			if err := o.keep(x); err != nil {
				return err
			}
		}
	}
	return nil
}

// keep adds an outcome to the file.
func (o *options) keep(x *outcome) error {
	if o.out == "" {
		return nil
	}
	f, err := os.OpenFile(o.out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(json.NewEncoder(f).Encode(x), f.Close())
}

// planOf is the part of plan --json that is compared.
type planOf struct {
	Work []struct {
		Work    string  `json:"work"`
		Mode    string  `json:"mode"`
		Peak    uint64  `json:"peak_bytes"`
		Seconds float64 `json:"seconds"`
		Flops   float64 `json:"flops"`
	} `json:"work"`
}

// line returns what a plan says of the work.
func (p *planOf) line(mode string) (peak uint64, seconds, flops float64, err error) {
	for _, w := range p.Work {
		if w.Mode == mode {
			return w.Peak, w.Seconds, w.Flops, nil
		}
	}
	return 0, 0, 0, fmt.Errorf("the plan has no line for mode %q", mode)
}

// compare plans and does a piece of work, with as many rows as make about the operations asked for.
func (o *options) compare(model string, w work) (*outcome, error) {
	x := &outcome{Model: strings.TrimSuffix(filepath.Base(model), ".gguf"), Work: w.name, Rows: 16}
	common := []string{"--model", model, "--memory", o.memory}
	plan := func(more ...string) (flops float64, err error) {
		if err := o.rows(x.Rows); err != nil {
			return 0, err
		}
		args := slices.Concat([]string{"plan", "--forget", "f.jsonl", "--retain", "r.jsonl", "--json"}, common, w.plan, more)
		out, _, took, err := o.guard(args)
		if err != nil {
			return 0, err
		}
		var p planOf
		if err := json.Unmarshal(out, &p); err != nil {
			return 0, err
		}
		x.Planning = took
		x.PlannedPeak, x.Planned, flops, err = p.line(w.mode)
		return flops, err
	}
	flops, err := plan("--time=false")
	if err != nil {
		return nil, err
	}
	x.Rows = min(800, max(8, int(float64(x.Rows)*o.tokens/flops)/8*8))
	if _, err := plan(); err != nil {
		return nil, err
	}
	data := []string{"--forget", "f.jsonl", "--retain", "r.jsonl"}
	if w.data {
		data = []string{"--data", "r.jsonl", "--data", "f.jsonl"}
	}
	args := slices.Concat(w.run, common, data, []string{"--json"})
	if w.run[0] != "eval" {
		args = append(args, "--force")
	}
	out, peak, took, err := o.guard(args)
	if err != nil {
		return nil, err
	}
	var result struct{ Seconds float64 }
	if err := json.Unmarshal(out, &result); err != nil {
		return nil, err
	}
	x.Peak, x.Took = peak, result.Seconds
	if x.Took == 0 {
		x.Took = took
	}
	return x, nil
}

// rows writes the data: half of n rows to retain, half to forget.
func (o *options) rows(n int) error {
	data, err := os.ReadFile(o.data)
	if err != nil {
		return err
	}
	lines := bytes.SplitAfter(bytes.TrimSpace(data), []byte("\n"))
	if len(lines) < n {
		return fmt.Errorf("%s has %d rows, want %d", o.data, len(lines), n)
	}
	retain, forget := bytes.Join(lines[:n/2], nil), bytes.Join(lines[len(lines)-n/2:], nil)
	return errors.Join(os.WriteFile(filepath.Join(o.dir, "r.jsonl"), retain, 0o644), os.WriteFile(filepath.Join(o.dir, "f.jsonl"), append(forget, '\n'), 0o644))
}

// guard runs guardcpu and returns what it printed, its peak of resident memory, and the seconds it took.
func (o *options) guard(args []string) (out []byte, peak uint64, took float64, err error) {
	for i, a := range args {
		if i > 0 && args[i-1] == "--model" {
			if args[i], err = filepath.Abs(a); err != nil {
				return nil, 0, 0, err
			}
		}
	}
	cmd := exec.CommandContext(o.ctx, o.guardcpu, args...)
	cmd.Dir = o.dir
	var stderr bytes.Buffer
	cmd.Stderr = io.Writer(&stderr)
	start := time.Now()
	out, err = cmd.Output()
	took = time.Since(start).Seconds()
	if err != nil {
		return nil, 0, 0, fmt.Errorf("guardcpu %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return nil, 0, 0, errors.New("this system does not say what memory a process took")
	}
	return out, uint64(usage.Maxrss) << 10, took, nil
}

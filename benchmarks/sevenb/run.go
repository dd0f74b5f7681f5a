package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/klauspost/cpuid/v2"

	"github.com/guardcpu/guardcpu/benchmarks/internal/machine"
	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/tofu"
)

// Report is what all runs on a machine found; report.json.
type Report struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Limits Limits `json:"limits"`
	Runs   []*Run `json:"runs"`
}

// Run is what one part found.
type Run struct {
	Name   string   `json:"name"`
	Task   string   `json:"task"`
	Type   string   `json:"type"`
	Memory string   `json:"memory"`
	Date   string   `json:"date"`
	Commit string   `json:"commit"`
	Args   []string `json:"args"`
	Bytes  int64    `json:"bytes"` // of the model's file
	Length int      `json:"length"`
	Forget int      `json:"forget"`
	Retain int      `json:"retain"`
	Work   work     `json:"work"`
	GFLOP  float64  `json:"gflop"`
	*Child
	Reported map[string]any `json:"reported"` // what guardcpu printed
}

// seconds are those that guardcpu reports of its work; opening and checking the model and its data are not among them.
func (r *Run) seconds() float64 {
	s, _ := r.Reported["seconds"].(float64)
	return cmp.Or(s, r.Seconds)
}

// runOptions are the command line of sevenb run.
type runOptions struct {
	dir, guardcpu, parts, data, shape, machine, results string
	blocks, length                                      int
	limits                                              bool
}

func runCommand(ctx context.Context, args []string) error {
	var o runOptions
	f := flag.NewFlagSet("sevenb run", flag.ExitOnError)
	f.StringVar(&o.dir, "dir", "", "`folder` of the models, 7b-Q8_0.gguf and so on, and of what the runs write; models that are not there are made")
	f.StringVar(&o.guardcpu, "guardcpu", "", "`path` of the guardcpu to run (default: built from this tree)")
	f.StringVar(&o.parts, "parts", "", "`list` of what to run: words in whose name one is found (default: all)")
	f.StringVar(&o.data, "data", "", "TOFU's full.jsonl; its `file` (default: the fictitious authors of guardcpu run)")
	f.StringVar(&o.shape, "shape", "7b", "`name` of the shape: 7b or small")
	f.IntVar(&o.blocks, "blocks", 0, "`number` of blocks (default: the shape's)")
	f.BoolVar(&o.limits, "limits", true, "measure first what the machine can do; without it, what was measured before counts")
	f.IntVar(&o.length, "length", 64, "`tokens` of a sample")
	f.StringVar(&o.machine, "machine", machine.Name(), "`name` of this machine in the results")
	f.StringVar(&o.results, "results", "benchmarks/results/sevenb", "`folder` of the results")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.dir == "" || f.NArg() > 0 {
		return fmt.Errorf("run wants -dir FOLDER, and no arguments besides")
	}
	chosen, err := selectParts(o.parts)
	if err != nil {
		return err
	}
	if o.guardcpu == "" {
		o.guardcpu = filepath.Join(o.dir, "guardcpu")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", o.guardcpu, "./cmd/guardcpu")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	out := filepath.Join(o.results, o.machine)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	report, err := readReport(filepath.Join(out, "report.json"))
	if err != nil {
		return err
	}
	report.CPU, report.Cores = cpuid.CPU.BrandName, runtime.NumCPU()
	if !o.limits && report.Limits == (Limits{}) {
		return fmt.Errorf("-limits=false: %s has no limits of this machine yet", out)
	}
	began := time.Now()
	for i, p := range chosen {
		model, err := o.model(p.typ)
		if err != nil {
			return err
		}
		if i == 0 && o.limits {
			if report.Limits, err = measureLimits(ctx, o.guardcpu, model); err != nil {
				return err
			}
			log.Printf("%s: %.0f GFLOP/s in products, %.0f at most, memory %.0f GB/s, disk %.2f GB/s", report.CPU, report.Limits.Matmul, report.Limits.Peak, report.Limits.Memory, report.Limits.Disk)
		}
		log.Printf("%s: part %d of %d", p.name(), i+1, len(chosen))
		r, err := o.run(ctx, p, model)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name(), err)
		}
		if err := o.keep(out, r); err != nil {
			return err
		}
		report.add(r)
		if err := report.write(out); err != nil {
			return err
		}
		log.Printf("%s: exit %d, %.0f s, peak %s, %.1f tokens/s, %.0f GFLOP/s; %.0f s since the start", r.Name, r.Exit, r.Seconds, gib(r.PeakRSS), float64(r.Work.Tokens)/r.seconds(), r.GFLOP/r.seconds(), time.Since(began).Seconds())
	}
	fmt.Print(report.tables())
	return nil
}

// model returns the path of the model of a weight type, which it makes if it is not there.
func (o *runOptions) model(typ string) (string, error) {
	s, ok := shapes[o.shape]
	if !ok {
		return "", fmt.Errorf("shape %q is not known; there are 7b, small", o.shape)
	}
	name := o.shape
	if o.blocks > 0 {
		name += fmt.Sprintf("-%dblocks", o.blocks)
	}
	path := filepath.Join(o.dir, name+"-"+typ+".gguf")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	s.NLayers, s.Seed = cmp.Or(o.blocks, s.NLayers), 1
	text := []string{o.data}
	if o.data == "" {
		text = demoFiles
	}
	texts, err := readTexts(text)
	if err != nil {
		return "", err
	}
	log.Printf("making %s", path)
	r := recipe{shape: s, typ: typ, learnt: defaultLearnt, poolRows: defaultPool}
	return path, r.write(path, texts)
}

// run runs a part.
func (o *runOptions) run(ctx context.Context, p part, model string) (*Run, error) {
	dir, err := os.MkdirTemp(o.dir, "work")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s, err := o.samples(model, p)
	if err != nil {
		return nil, err
	}
	forget, retain := filepath.Join(dir, "forget.jsonl"), filepath.Join(dir, "retain.jsonl")
	if err := errors.Join(writeRows(forget, s.forget), writeRows(retain, s.retain)); err != nil {
		return nil, err
	}
	info, err := os.Stat(model)
	if err != nil {
		return nil, err
	}
	commit, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return nil, fmt.Errorf("git describe: %w", err)
	}
	r := &Run{
		Name: p.name(), Task: p.task, Type: p.typ, Memory: p.memory, Date: time.Now().UTC().Format("2006-01-02"), Commit: strings.TrimSpace(string(commit)),
		Bytes: info.Size(), Length: o.length, Forget: p.forget, Retain: p.retain, Work: s.work,
		Args: append([]string{o.guardcpu}, p.args(model, forget, retain, dir, o.length)...),
	}
	r.GFLOP = flops(p.task, r.Work, s.weights) / 1e9
	if r.Child, err = runChild(ctx, r.Args); err != nil {
		return nil, err
	}
	plain := strings.NewReplacer(dir, "WORK", o.dir, "DIR") // for others than this machine
	for i, a := range r.Args {
		r.Args[i] = plain.Replace(a)
	}
	r.Args[0] = "guardcpu"
	r.Stdout, r.Stderr = []byte(plain.Replace(string(r.Stdout))), []byte(plain.Replace(string(r.Stderr)))
	if r.Exit == 0 {
		if err := json.Unmarshal(r.Stdout, &r.Reported); err != nil {
			return nil, fmt.Errorf("what it printed: %w: %s", err, r.Stdout)
		}
	}
	return r, nil
}

// samples are the rows of a part and what has to be computed of them.
type samples struct {
	forget, retain []tofu.Item
	work           work
	weights        weights
}

// samples takes the first rows of TOFU's forget10 and retain90, or of the fictitious authors. All have
// o.length tokens or more, so that the number of tokens is known whatever rows a step draws.
func (o *runOptions) samples(model string, p part) (*samples, error) {
	f, err := gguf.Open(model)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tok, err := tokenizer.FromGGUF(f)
	if err != nil {
		return nil, err
	}
	var forget, retain []tofu.Item
	if o.data == "" {
		if retain, _, err = tofu.Load(demoFiles[0]); err == nil {
			forget, _, err = tofu.Load(demoFiles[1])
		}
	} else {
		var all []tofu.Item
		if all, _, err = tofu.Load(o.data); err == nil {
			if forget, err = tofu.Split(all, "forget10"); err == nil {
				retain, err = tofu.Split(all, "retain90")
			}
		}
	}
	if err != nil {
		return nil, err
	}
	s := &samples{weights: weightsOf(f)}
	var answers [2]int
	if s.forget, answers[0], err = long(tok, forget, p.forget, o.length); err == nil {
		s.retain, answers[1], err = long(tok, retain, p.retain, o.length)
	}
	if err != nil {
		return nil, err
	}
	s.work = work{Tokens: (p.forget + p.retain) * o.length, Answers: answers[0] + answers[1]}
	return s, nil
}

// long returns n items that have length tokens or more, and how many tokens of their answers are among the
// first of so many. An item that is shorter goes on with the answers of those behind it.
func long(tok *tokenizer.Tokenizer, items []tofu.Item, n, length int) (chosen []tofu.Item, answers int, err error) {
	format, err := tofu.ParseFormat("llama2")
	if err != nil {
		return nil, 0, err
	}
	for len(items) > 0 && len(chosen) < n {
		it := items[0]
		for items = items[1:]; ; items = items[1:] {
			s, err := format.SampleOf(tok, &it, it.Answer, math.MaxInt32)
			if err != nil {
				return nil, 0, err
			}
			if len(s.IDs) >= length {
				first := engine.Sample{IDs: s.IDs[:length], Mask: s.Mask[:length]}
				if t := first.NTargets(); t > 0 {
					chosen, answers = append(chosen, it), answers+t
				}
				break
			}
			if len(items) == 0 {
				break
			}
			it.Answer += " " + items[0].Answer
		}
	}
	if len(chosen) < n {
		return nil, 0, fmt.Errorf("the rows make %d of %d tokens, want %d", len(chosen), length, n)
	}
	return chosen, answers, nil
}

// weightsOf counts the weights that take part in products.
func weightsOf(f *gguf.File) (p weights) {
	for i := range f.Tensors {
		t := &f.Tensors[i]
		if len(t.Dims) < 2 || t.Name == "token_embd.weight" {
			continue
		}
		n := float64(t.Dims[0]) * float64(t.Dims[1])
		if t.Name == "output.weight" {
			p.output = n
		} else {
			p.blocks += n
		}
	}
	return p
}

// writeRows writes questions and answers as JSON Lines.
func writeRows(path string, items []tofu.Item) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	for _, it := range items {
		err = errors.Join(err, enc.Encode(map[string]string{"question": it.Question, "answer": it.Answer}))
	}
	return errors.Join(err, w.Flush(), f.Close())
}

// keep writes what a part printed.
func (o *runOptions) keep(dir string, r *Run) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s, %s, others used %.1f%% of the CPUs\n# %s\n# exit %d after %.1f s, peak resident memory %d bytes\n", r.Date, r.Commit, 100*r.Foreign, strings.Join(r.Args, " "), r.Exit, r.Seconds, r.PeakRSS)
	b.Write(r.Stdout)
	for line := range strings.Lines(string(r.Stderr)) {
		b.WriteString("# " + line)
	}
	return os.WriteFile(filepath.Join(dir, r.Name+".txt"), []byte(b.String()), 0o644)
}

// readReport reads the report of earlier runs, if there is one.
func readReport(path string) (*Report, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &Report{}, nil
	}
	if err != nil {
		return nil, err
	}
	r := &Report{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// add puts a run in the place of an earlier one of the same name; they stay in the order of parts.
func (r *Report) add(run *Run) {
	var runs []*Run
	for _, p := range parts {
		if p.name() == run.Name {
			runs = append(runs, run)
			continue
		}
		for _, old := range r.Runs {
			if old.Name == p.name() {
				runs = append(runs, old)
			}
		}
	}
	r.Runs = runs
}

// write writes report.json and the tables made of it.
func (r *Report) write(dir string) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "report.json"), append(data, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "README.md"), []byte(r.tables()), 0o644))
}

func gib(n int64) string { return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30)) }

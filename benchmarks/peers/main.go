// Command peers compares guardcpu with other programs on this machine, one after another
// and in turn: A B A B …
//
//	go run ./benchmarks/peers -llama-lib DIR        all suites that can run here
//	go run ./benchmarks/peers -suite matmul,train
//	go run ./benchmarks/peers -readme               the tables in README.md, from the results
//
//	suite   compares                       with
//	llama   prompts and generation         llama.cpp (-llama-bench, or -llama-lib with the C compiler)
//	train   training and attribution       PyTorch (-python)
//	matmul  the three products of a layer  oneDNN and OpenBLAS (the C and C++ compilers)
//
// Every run of a program is a process of its own, at raised priority if we may. What other
// processes use of the CPUs meanwhile is read from /proc/stat, and a run with more than
// -foreign of it is repeated, up to three times in all; the results say how much there was.
// results/<cpu>/peers-<suite>.json has every figure, .txt what the programs printed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/cpuid/v2"

	"github.com/guardcpu/guardcpu/benchmarks/internal/machine"
)

// options are the command line.
type options struct {
	suites, shapes, types, cpu   string
	llamaBench, llamaLib, python string
	guardcpu, cache, results     string
	rounds, threads              int
	foreign                      float64
	readme                       bool
	milliseconds                 int
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("peers: ")
	var o options
	flag.StringVar(&o.suites, "suite", "matmul,train,llama", "`suites` to run")
	flag.StringVar(&o.shapes, "shapes", "15m,110m,1.1b", "`models` of llama and train (PyTorch: up to 110m)")
	flag.StringVar(&o.types, "types", "F32,F16,BF16,Q8_0,Q4_0", "weight `types` of llama, any that bench --type has")
	flag.StringVar(&o.llamaBench, "llama-bench", "", "`path` of a llama-bench to compare with")
	flag.StringVar(&o.llamaLib, "llama-lib", "", "`folder` of llama.cpp's shared libraries, such as bins/linux-x64 of npm's @node-llama-cpp/linux-x64")
	flag.StringVar(&o.python, "python", "/usr/bin/python3", "`path` of a Python with PyTorch")
	flag.StringVar(&o.guardcpu, "guardcpu", "", "`path` of the guardcpu to measure (default: built from this tree)")
	flag.StringVar(&o.cache, "cache", "", "`folder` for programs and models, 9 GB (default: the user's cache folder)")
	flag.StringVar(&o.results, "results", "benchmarks/results", "`folder` of the results")
	flag.StringVar(&o.cpu, "cpu", machine.Name(), "`name` of this machine in the results")
	flag.IntVar(&o.rounds, "rounds", 5, "`times` that every program runs")
	flag.IntVar(&o.threads, "threads", runtime.NumCPU(), "`number` of threads of everything")
	flag.IntVar(&o.milliseconds, "ms", 60, "`milliseconds` of each product of matmul in a round")
	flag.Float64Var(&o.foreign, "foreign", 0.06, "largest `share` of the CPUs that others may use during a run")
	flag.BoolVar(&o.readme, "readme", false, "write the tables into README.md and do nothing else")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if o.readme {
		err = writeReadme("README.md", o.results)
	} else {
		err = o.run(ctx)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// group is programs that do the same work; the first is ours.
type group struct {
	name  string
	sides []side
}

// side is one of the programs of a group.
type side struct {
	name string // guardcpu, llama.cpp, …
	args []string
	env  []string
	// parse returns the figures in what the program printed, by row.
	parse func(stdout []byte) (map[string]figure, error)
}

type figure struct {
	Value float64
	Unit  string
}

// Result is a file of results.
type Result struct {
	Suite    string            `json:"suite"`
	CPU      string            `json:"cpu"`
	Date     string            `json:"date"`
	Commit   string            `json:"commit"`
	Threads  int               `json:"threads"`
	Rounds   int               `json:"rounds"`
	Versions map[string]string `json:"versions"`
	// Foreign is the largest share of the CPUs that other processes used during a run.
	Foreign float64 `json:"foreign"`
	Rows    []*Row  `json:"rows"`
}

// Row is one thing that was measured, with the figures of every program, round by round.
type Row struct {
	Name string               `json:"name"` // 110m Q8_0 pp128
	Unit string               `json:"unit"`
	Runs map[string][]float64 `json:"runs"`
}

// Median returns the median of a program's figures, 0 if it has none.
func (r *Row) Median(side string) float64 {
	x := slices.Sorted(slices.Values(r.Runs[side]))
	if len(x) == 0 {
		return 0
	}
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

func (o *options) run(ctx context.Context) error {
	renice()
	if o.cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		o.cache = filepath.Join(dir, "guardcpu-peers")
	}
	if err := os.MkdirAll(o.cache, 0o755); err != nil {
		return err
	}
	if o.guardcpu == "" {
		o.guardcpu = filepath.Join(o.cache, "guardcpu")
		if err := o.build(ctx, "go", "build", "-o", o.guardcpu, "./cmd/guardcpu"); err != nil {
			return err
		}
	}
	all := map[string]func(context.Context) ([]group, map[string]string, error){"matmul": o.matmul, "train": o.train, "llama": o.llama}
	for name := range strings.SplitSeq(o.suites, ",") {
		suite := all[name]
		if suite == nil {
			return fmt.Errorf("suite %q is not known; there are matmul, train, llama", name)
		}
		groups, versions, err := suite(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := o.compare(ctx, name, groups, versions); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// build runs a command that makes a program.
func (o *options) build(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// compare runs the groups round by round and writes the results after each group.
func (o *options) compare(ctx context.Context, suite string, groups []group, versions map[string]string) error {
	dir := filepath.Join(o.results, o.cpu)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	raw, err := os.Create(filepath.Join(dir, "peers-"+suite+".txt"))
	if err != nil {
		return err
	}
	defer raw.Close()
	commit, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return fmt.Errorf("git describe: %w", err)
	}
	res := &Result{Suite: suite, CPU: cpuid.CPU.BrandName, Date: time.Now().UTC().Format("2006-01-02"), Commit: strings.TrimSpace(string(commit)),
		Threads: o.threads, Rounds: o.rounds, Versions: versions}
	start := time.Now()
	for i, g := range groups {
		rows := map[string]*Row{}
		for round := range o.rounds {
			for _, s := range g.sides {
				out, foreign, err := o.quietly(ctx, s)
				fmt.Fprintf(raw, "# %s, %s, round %d, others %.1f%%: %s %s\n%s\n", g.name, s.name, round+1, 100*foreign, strings.Join(s.env, " "), strings.ReplaceAll(strings.Join(s.args, " "), o.cache, "$CACHE"), out)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", g.name, s.name, err)
				}
				res.Foreign = max(res.Foreign, foreign)
				figures, err := s.parse(out)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", g.name, s.name, err)
				}
				for _, name := range slices.Sorted(mapKeys(figures)) {
					if rows[name] == nil {
						rows[name] = &Row{Name: name, Unit: figures[name].Unit, Runs: map[string][]float64{}}
						res.Rows = append(res.Rows, rows[name])
					}
					rows[name].Runs[s.name] = append(rows[name].Runs[s.name], figures[name].Value)
				}
			}
		}
		for _, name := range slices.Sorted(mapKeys(rows)) {
			log.Print(rows[name].line(g))
		}
		data, err := json.MarshalIndent(res, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "peers-"+suite+".json"), append(data, '\n'), 0o644); err != nil {
			return err
		}
		elapsed := time.Since(start)
		log.Printf("%s: %d of %d groups, %v, about %v left", suite, i+1, len(groups), elapsed.Round(time.Second), (elapsed / time.Duration(i+1) * time.Duration(len(groups)-i-1)).Round(time.Second))
	}
	return nil
}

func mapKeys[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// line is a row in words.
func (r *Row) line(g group) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-32s", r.Name)
	ours := r.Median(g.sides[0].name)
	for i, s := range g.sides {
		if m := r.Median(s.name); m > 0 {
			fmt.Fprintf(&b, "  %s %.4g", s.name, m)
			if i > 0 && ours > 0 {
				fmt.Fprintf(&b, " (%.2f)", ours/m)
			}
		}
	}
	return b.String() + " " + r.Unit
}

// quietly runs a program, again if others used too much of the CPUs, and returns what the
// quietest run printed and the share that the others had of it.
func (o *options) quietly(ctx context.Context, s side) (stdout []byte, foreign float64, err error) {
	for try := range 3 {
		if try > 0 {
			log.Printf("%s: others used %.0f%% of the CPUs; again", s.name, 100*foreign)
			time.Sleep(2 * time.Second)
		}
		out, f, err := o.once(ctx, s)
		if err != nil {
			return out, f, err
		}
		if try == 0 || f < foreign {
			stdout, foreign = out, f
		}
		if foreign <= o.foreign {
			break
		}
	}
	return stdout, foreign, nil
}

func (o *options) once(ctx context.Context, s side) (stdout []byte, foreign float64, err error) {
	cmd := exec.CommandContext(ctx, s.args[0], s.args[1:]...)
	cmd.Env = append(os.Environ(), s.env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	before, start := machine.Busy(), time.Now()
	stdout, err = cmd.Output()
	if err != nil {
		return stdout, 0, fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	own := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if before > 0 {
		all := time.Since(start) * time.Duration(runtime.NumCPU())
		foreign = max(0, float64(machine.Busy()-before-own)/float64(all))
	}
	return stdout, foreign, nil
}

// entry is a measurement as guardcpu bench --json and the programs here print it.
type entry struct {
	Name  string             `json:"name"`
	Test  string             `json:"test"` // llama.c
	Keys  map[string]any     `json:"keys"`
	Value float64            `json:"value"`
	Unit  string             `json:"unit"`
	Rates map[string]float64 `json:"rates"` // guardcpu
}

// lines parses a line of JSON a measurement; row names it.
func lines(row func(e entry) string) func([]byte) (map[string]figure, error) {
	return func(stdout []byte) (map[string]figure, error) {
		all := map[string]figure{}
		for line := range strings.Lines(string(stdout)) {
			if strings.TrimSpace(line) == "" {
				continue
			}
			var e entry
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				return nil, fmt.Errorf("%s: %w", strings.TrimSpace(line), err)
			}
			if err := add(all, row(e), figure{e.Value, e.Unit}); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
}

// ours parses what guardcpu bench --json printed. unit says which rate of a measurement counts.
func ours(unit string, row func(e entry) string) func([]byte) (map[string]figure, error) {
	return func(stdout []byte) (map[string]figure, error) {
		var report struct{ Results []entry }
		if err := json.Unmarshal(stdout, &report); err != nil {
			return nil, err
		}
		all := map[string]figure{}
		for _, e := range report.Results {
			for u, v := range e.Rates {
				if u == unit || unit == "" && u != "GFLOP/s" {
					if err := add(all, row(e), figure{v, u}); err != nil {
						return nil, err
					}
				}
			}
		}
		return all, nil
	}
}

// add adds a figure to a row, the better one if there are several, and none if the row has no name.
func add(all map[string]figure, row string, f figure) error {
	if row == "" {
		return nil
	}
	if !(f.Value > 0) {
		return fmt.Errorf("%s: %v %s", row, f.Value, f.Unit)
	}
	if f.Value > all[row].Value {
		all[row] = f
	}
	return nil
}

// need is an error unless a file is there.
func need(path, what string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is not there: %s", path, what)
	} else if err != nil {
		return err
	}
	return nil
}

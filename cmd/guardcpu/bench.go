package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/cpuid/v2"
	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/bench"
	"github.com/guardcpu/guardcpu/cmd/internal/demo"
	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/simd"
)

// whats are the values of --what, in the order things are measured in.
var whats = []string{"peak", "matmul", "rows", "decode", bench.Prompt, bench.Generate, bench.Train, bench.Attribute}

// benchOptions are the options of bench.
type benchOptions struct {
	what, sets, threads, compute, types string
	model, shape, format                string
	products, tokens, prompts, batch    string
	generate, row, count                int
	time                                time.Duration
	write                               string
	force                               bool
}

// benchReport is what bench --json prints.
type benchReport struct {
	Build buildInfo `json:"build"`
	CPU   cpuReport `json:"cpu"`
	bench.Report
	Stopped bool `json:"stopped,omitempty"` // by a signal, before everything was measured
}

func benchCommand(e *env) *cli.Command {
	o := benchOptions{}
	var shapes, types []string
	for _, s := range bench.Shapes {
		shapes = append(shapes, s.Name)
	}
	for _, t := range quant.Types {
		types = append(types, t.Name)
	}
	return &cli.Command{
		Name:      "bench",
		Usage:     "measure how fast this machine computes",
		ArgsUsage: " ",
		Description: `Measures, with every kernel set and number of workers:
  peak       multiplications and additions by the micro-kernel alone, and reading memory:
             the machine's own limits, of which other figures are a share
  matmul     the products of a layer, Y = X·Wᵀ, dX = dY·W, dW = dYᵀ·X, in GFLOP/s
  rows       the functions on rows, in cache, on one thread, in GB/s
  decode     products of one row with weights of each type, from memory, in GB/s; of
             quantised weights with activations of 32 and of 8 bits
  prompt     tokens/s of reading a prompt, and
  generate   of generating text, one token after another
  train      tokens/s of the loss, of loss and gradient, and of a step of AdamW
  attribute  samples/s of scoring against a gradient
The last four run on the embedded model, on a model file, or on random weights of a
well-known shape. Every figure is the median of the calls within --time.

GUARDCPU_SIMD=NAME leaves one set. Sets without products of their own are left out where
a call would take seconds, unless --sets names them. Run it on a machine that does nothing else.

Examples:
  guardcpu bench
  guardcpu bench --what matmul --products 768x768,5632x2048 --tokens 64,512 --threads 1,2
  guardcpu bench --shape 1.1b --type Q4_0 --what prompt,generate --sets avx2
  guardcpu bench --model model.gguf --what train,attribute --batch 8x64 --json
  guardcpu bench --count 10 --format benchstat > new.txt; benchstat -col /set new.txt`,
		Flags: []cli.Flag{
			modelFlag(&o.model),
			&cli.StringFlag{Name: "shape", Usage: "run on random weights of `SHAPE` " + strings.Join(shapes, ", ") + " (llama2.c, TinyLlama, Llama 2)", Destination: &o.shape},
			&cli.StringFlag{Name: "type", Usage: "`TYPES` of the weights: " + strings.Join(types, ", ") + ", separated by commas (default: F32; decode: all)", Destination: &o.types},
			&cli.StringFlag{Name: "what", Usage: "`LIST` of what to measure: " + strings.Join(whats, ", "), Value: strings.Join(whats, ","), Destination: &o.what},
			&cli.StringFlag{Name: "sets", Usage: "`NAMES` of kernel sets; best is the one other commands take (default: all this CPU runs)", Destination: &o.sets},
			&cli.StringFlag{Name: "threads", Aliases: []string{"t"}, Usage: "`LIST` of numbers of workers (default: 1 and every CPU)", Destination: &o.threads},
			&cli.StringFlag{Name: "compute", Usage: "`LIST` of the number formats of products: f32, bf16, auto (as --compute of other commands: prompts and texts of quantised weights take activations of 8 bits, unless f32)", Value: "f32", Destination: &o.compute},
			&cli.DurationFlag{Name: "time", Usage: "`DURATION` of each measurement", Value: 200 * time.Millisecond, Destination: &o.time, Validator: positiveDuration},
			&cli.IntFlag{Name: "count", Usage: "measure everything `N` times, in turn", Value: 1, Destination: &o.count, Validator: atLeast(1)},
			&cli.StringFlag{Name: "format", Usage: "`FORMAT` of the output: table or benchstat", Value: "table", Destination: &o.format, Validator: oneOf("table", "benchstat")},
			&cli.StringFlag{Name: "products", Usage: "`LIST` of matrices W, rows×columns, for matmul and decode (default: those of --shape, else two)", Destination: &o.products, Category: "sizes"},
			&cli.StringFlag{Name: "tokens", Usage: "`LIST` of numbers of rows of X for matmul", Value: "64,512", Destination: &o.tokens, Category: "sizes"},
			&cli.IntFlag{Name: "row", Usage: "`N` numbers a row for rows", Value: 1024, Destination: &o.row, Category: "sizes", Validator: size},
			&cli.StringFlag{Name: "prompts", Usage: "`LIST` of lengths of prompts", Value: "128", Destination: &o.prompts, Category: "sizes"},
			&cli.IntFlag{Name: "generate-tokens", Usage: "`N` tokens to generate", Value: 64, Destination: &o.generate, Category: "sizes", Validator: size},
			&cli.StringFlag{Name: "batch", Usage: "`BxT`: B samples of T tokens for train and attribute", Value: "8x64", Destination: &o.batch, Category: "sizes"},
			&cli.StringFlag{Name: "write", Usage: "measure nothing, write the random model of --shape and --type to a GGUF `FILE`", Destination: &o.write, TakesFile: true},
			forceFlag(&o.force),
		},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if err := noArguments(cmd); err != nil {
				return err
			}
			return e.bench(ctx, cmd, &o)
		},
	}
}

func positiveDuration(d time.Duration) error {
	if d <= 0 {
		return errors.New("want a positive duration")
	}
	return nil
}

// largest is the largest size that is measured: a row of 64 MiB.
const largest = 1 << 24

// size validates one of the sizes.
func size(n int) error {
	if n < 1 || n > largest {
		return errors.New("want 1 to " + itoa(largest))
	}
	return nil
}

// words divides text at commas and leaves out what is there already.
func words(text string) []string {
	var all []string
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" && !slices.Contains(all, word) {
			all = append(all, word)
		}
	}
	return all
}

// numbers reads numbers from 1 to most that sep separates.
func numbers(option, text, sep string, most int) ([]int, error) {
	var all []int
	for word := range strings.SplitSeq(text, sep) {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < 1 || n > most {
			return nil, usageError("--%s: %q: want whole numbers from 1 to %d", option, text, most)
		}
		all = append(all, n)
	}
	return all, nil
}

// pair reads RxC.
func pair(option, text string) (rows, cols int, err error) {
	n, err := numbers(option, strings.ReplaceAll(text, "×", "x"), "x", largest)
	if err == nil && len(n) != 2 {
		err = usageError("--%s: %q: want two numbers, as 8x64", option, text)
	}
	if err != nil {
		return 0, 0, err
	}
	return n[0], n[1], nil
}

// setting reads --sets, --threads and --compute.
func (o *benchOptions) setting() (*bench.Setting, error) {
	s := &bench.Setting{}
	names := words(o.sets)
	s.Patient = len(names) > 0
	if forced := os.Getenv(simd.EnvName); forced != "" && len(names) == 0 {
		names = []string{forced}
	}
	for _, name := range names {
		k, err := simd.Select()
		if name != "best" {
			k, err = simd.ByName(name)
		}
		if err != nil {
			return nil, &statusError{status: exitUsage, err: err}
		}
		if !slices.Contains(s.Sets, k) {
			s.Sets = append(s.Sets, k)
		}
	}
	if len(s.Sets) == 0 {
		s.Sets = simd.All()
	}
	for _, c := range words(o.compute) {
		if _, err := nn.ParseCompute(c); err != nil {
			return nil, usageError("--compute: %v", trimPackage(err))
		}
		s.Compute = append(s.Compute, c)
	}
	if o.threads == "" {
		s.Workers = []int{1}
		if n := runtime.GOMAXPROCS(0); n > 1 {
			s.Workers = append(s.Workers, n)
		}
		return s, nil
	}
	var err error
	s.Workers, err = numbers("threads", o.threads, ",", mostThreads)
	return s, err
}

// benchPlan is everything that one invocation measures.
func (e *env) benchPlan(o *benchOptions) ([]*bench.Case, func(), error) {
	close := func() {}
	s, err := o.setting()
	if err != nil {
		return nil, close, err
	}
	what := words(o.what)
	for _, w := range what {
		if !slices.Contains(whats, w) {
			return nil, close, usageError("--what: %q is not known; %s", w, suggest(w, whats))
		}
	}
	types, err := o.typeList()
	if err != nil {
		return nil, close, err
	}
	shapes, err := o.productList()
	if err != nil {
		return nil, close, err
	}
	tokens, err := numbers("tokens", o.tokens, ",", largest)
	if err != nil {
		return nil, close, err
	}
	prompts, err := numbers("prompts", o.prompts, ",", largest)
	if err != nil {
		return nil, close, err
	}
	batch, length, err := pair("batch", o.batch)
	if err != nil {
		return nil, close, err
	}
	if length < 2 {
		return nil, close, usageError("--batch: a sample of one token predicts nothing; want at least 8x2")
	}
	if batch*length > largest {
		return nil, close, usageError("--batch: %q: want at most %d tokens", o.batch, largest)
	}
	if slices.Contains(what, "matmul") || slices.Contains(what, "decode") {
		if err := checkProducts(shapes, types, slices.Max(tokens)); err != nil {
			return nil, close, err
		}
	}

	var cases []*bench.Case
	if slices.Contains(what, "peak") {
		cases = append(cases, s.Peaks()...)
	}
	if slices.Contains(what, "matmul") {
		var all []bench.Product
		for _, p := range shapes {
			for _, t := range tokens {
				all = append(all, bench.Product{T: t, N: p.N, K: p.K})
			}
		}
		for _, typ := range cmpOr(types, quant.Types[:1]) {
			cases = append(cases, s.Matmul(all, typ)...)
		}
	}
	if slices.Contains(what, "rows") {
		cases = append(cases, s.Rows(o.row)...)
	}
	if slices.Contains(what, "decode") {
		cases = append(cases, s.Decode(shapes, cmpOr(types, quant.Types))...)
	}
	if slices.ContainsFunc(what, func(w string) bool { return slices.Index(whats, w) >= slices.Index(whats, bench.Prompt) }) {
		files, err := o.models(types)
		if err != nil {
			return nil, close, err
		}
		close = func() {
			for _, f := range files {
				f.file.Close()
			}
		}
		for _, f := range files {
			cases = append(cases, s.Model(&bench.Model{Name: f.name, Type: f.typ, File: f.file, Batch: batch, Length: length, Prompts: prompts, Generate: o.generate, Fits: fits}, what)...)
		}
	}
	return cases, close, nil
}

// checkProducts refuses matrices that the weight types cannot have, and those without
// memory for them and t rows of their inputs and outputs.
func checkProducts(shapes []bench.Product, types []*quant.Type, t int) error {
	for _, p := range shapes {
		for _, typ := range types {
			if p.K%typ.BlockLen != 0 {
				return usageError("--products: %dx%d: rows of %s are multiples of %d", p.N, p.K, typ.Name, typ.BlockLen)
			}
		}
		need := 4 * (uint64(p.N)*uint64(p.K) + uint64(t)*uint64(p.N+p.K))
		if free := usableMemory(); free > 0 && need > free {
			return ioError(fmt.Errorf("a product of %dx%d takes %s of memory, %s are free", p.N, p.K, bytesText(need), bytesText(free)), "choose smaller --products")
		}
	}
	return nil
}

// cmpOr is a, or b if a is empty.
func cmpOr[T any](a, b []T) []T {
	if len(a) > 0 {
		return a
	}
	return b
}

func (o *benchOptions) typeList() ([]*quant.Type, error) {
	var types []*quant.Type
	for _, name := range words(o.types) {
		t, err := quant.ByName(name)
		if err != nil {
			return nil, &statusError{status: exitUsage, err: err}
		}
		types = append(types, t)
	}
	return types, nil
}

// productList is --products, else the matrices of --shape, else two.
func (o *benchOptions) productList() ([]bench.Product, error) {
	var shapes []bench.Product
	for _, text := range words(o.products) {
		n, k, err := pair("products", text)
		if err != nil {
			return nil, err
		}
		shapes = append(shapes, bench.Product{T: 1, N: n, K: k})
	}
	if len(shapes) > 0 {
		return shapes, nil
	}
	if o.shape != "" {
		s, err := bench.ShapeByName(o.shape)
		if err != nil {
			return nil, &statusError{status: exitUsage, err: err}
		}
		return s.Matrices(1), nil
	}
	return []bench.Product{{T: 1, N: 768, K: 768}, {T: 1, N: 5632, K: 2048}}, nil
}

// benchFile is a model to measure.
type benchFile struct {
	name, typ string
	file      *gguf.File
}

// models opens --model, or makes --shape in memory, once for each type, or takes the embedded model.
func (o *benchOptions) models(types []*quant.Type) ([]benchFile, error) {
	switch {
	case o.model != "" && o.shape != "":
		return nil, usageError("--model and --shape exclude each other")
	case o.model != "":
		f, err := openGGUF(o.model)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(filepath.Base(o.model), ".gguf")
		return []benchFile{{strings.NewReplacer("/", "_", " ", "_", "=", "_").Replace(name), mainType(f), f}}, nil
	case o.shape == "":
		f, err := demo.Model()
		if err != nil {
			return nil, err
		}
		return []benchFile{{"embedded", mainType(f), f}}, nil
	}
	s, err := bench.ShapeByName(o.shape)
	if err != nil {
		return nil, &statusError{status: exitUsage, err: err}
	}
	var files []benchFile
	for _, t := range cmpOr(types, quant.Types[:1]) {
		plan := benchQuantPlan(t)
		if need, free := s.Bytes(plan), usableMemory(); free > 0 && need > free {
			return nil, ioError(fmt.Errorf("a model of shape %s in %s takes %s of memory, %s are free", s.Name, t.Name, bytesText(need), bytesText(free)), "choose a smaller --shape or --type")
		}
		f, err := s.Memory(plan, benchFileType(t))
		if err != nil {
			return nil, err
		}
		files = append(files, benchFile{s.Name, t.Name, f})
	}
	return files, nil
}

// benchQuantPlan gives every matrix the type t, but Q8_0 to the embedding and the output
// where t is Q4_0, and F16 to rows that t does not divide. The results in benchmarks/ are of
// such models.
func benchQuantPlan(t *quant.Type) func(name string, cols int) *quant.Type {
	named := func(name string) *quant.Type {
		typ, err := quant.ByName(name)
		if err != nil {
			panic(err) // the table of types has it
		}
		return typ
	}
	return func(name string, cols int) *quant.Type {
		typ := t
		if t.GGUF == gguf.Q4_0 && (name == "token_embd.weight" || name == "output.weight") {
			typ = named("Q8_0")
		}
		if cols%typ.BlockLen != 0 {
			return named("F16")
		}
		return typ
	}
}

// benchFileType is general.file_type of a model of type t: of the first mixture that is most of it.
func benchFileType(t *quant.Type) uint32 {
	for _, m := range quant.Mixtures {
		if m.Base == t.GGUF {
			return m.FileType
		}
	}
	return 0
}

// mainType is the type of most of the blocks' weights, which the embedding and the output may
// differ from.
func mainType(f *gguf.File) string {
	count, best := map[gguf.TensorType]uint64{}, gguf.F32
	for i := range f.Tensors {
		t := &f.Tensors[i]
		if strings.HasPrefix(t.Name, "blk.") {
			count[t.Type] += t.Size
			if count[t.Type] > count[best] {
				best = t.Type
			}
		}
	}
	return best.String()
}

// fits is an error if training the model in full would need more memory than there is.
func fits(m *engine.Model, train bool) error {
	need := uint64(m.NParams()) * 16
	if free := usableMemory(); train && free > 0 && need > free {
		return fmt.Errorf("float32 masters, gradients and moments of %s parameters need %s of memory, %s are free", countText(uint64(m.NParams())), bytesText(need), bytesText(free))
	}
	return nil
}

// bench measures.
func (e *env) bench(ctx context.Context, cmd *cli.Command, o *benchOptions) error {
	if o.write != "" {
		return e.writeRandom(cmd, o)
	}
	cases, close, err := e.benchPlan(o)
	defer func() { close() }()
	if err != nil {
		return err
	}
	if len(cases) == 0 {
		return usageError("nothing is left to measure: see --what, --compute and --sets")
	}
	task := e.bars.Start("bench")
	run := &bench.Run{Cases: cases, Time: o.time, Rounds: o.count, Progress: func(done, total int, c *bench.Case) {
		task.Note("%s", c)
		task.Set(done, total)
	}}
	e.bars.Printf("guardcpu: %s, at least %s", plural(len(cases)*o.count, "measurement"), run.Estimate())
	err = run.Do(ctx)
	if err == nil {
		task.Done()
	}
	e.bars.Stop()
	for _, s := range run.Skipped {
		e.bars.Printf("guardcpu: not measured: %s: %s", s, s.Why)
	}
	if printed := e.benchPrint(cmd, o, run, err != nil); printed != nil {
		return printed
	}
	return err
}

func (e *env) benchPrint(cmd *cli.Command, o *benchOptions, run *bench.Run, stopped bool) error {
	build, cpu := readBuild(), cpuInfo()
	switch {
	case cmd.Bool("json"):
		return e.json(benchReport{build, cpu, run.Report(), stopped})
	case o.format == "benchstat":
		return run.Benchstat(e.stdout, []bench.Key{{Name: "goos", Value: build.OS}, {Name: "goarch", Value: build.Arch}, {Name: "pkg", Value: "github.com/guardcpu/guardcpu/cmd/guardcpu"}, {Name: "cpu", Value: cpuid.CPU.BrandName}})
	default:
		fmt.Fprintf(e.stdout, "%s, %d CPUs, L2 %s, L3 %s, %s, %s\n", cpu.Name, cpu.Usable, bytesText(uint64(cpu.L2)), bytesText(uint64(cpu.L3)), build.Go, build.Version)
		fmt.Fprintf(e.stdout, "medians; ×N: N workers; percentages are of the machine's peak for as many\n\n")
		return run.Table(e.stdout)
	}
}

// randomModel is what bench --write --json prints.
type randomModel struct {
	Out        string `json:"out"`
	Parameters int    `json:"parameters"`
	Bytes      uint64 `json:"bytes"`
}

// writeRandom writes the random model of --shape and --type, for other programs to measure.
func (e *env) writeRandom(cmd *cli.Command, o *benchOptions) error {
	types, err := o.typeList()
	if err != nil {
		return err
	}
	types = cmpOr(types, quant.Types[:1])
	if o.shape == "" || len(types) != 1 {
		return usageError("--write wants a --shape and one --type")
	}
	s, err := bench.ShapeByName(o.shape)
	if err != nil {
		return &statusError{status: exitUsage, err: err}
	}
	if err := checkOutput(o.write, o.force); err != nil {
		return err
	}
	kvs, tensors := s.File(benchQuantPlan(types[0]), benchFileType(types[0]))
	if err := gguf.Write(o.write, kvs, tensors); err != nil {
		return writeError(o.write, err)
	}
	size, err := readBack([]string{o.write})
	if err != nil {
		return err
	}
	if cmd.Bool("json") {
		return e.json(randomModel{o.write, s.NParams(), size})
	}
	fmt.Fprintf(e.stdout, "%s: %s parameters, %s\n", o.write, countText(uint64(s.NParams())), bytesText(size))
	return nil
}

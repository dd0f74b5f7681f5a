package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/rundir"
	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/guard"
	"github.com/guardcpu/guardcpu/tofu"
)

// scoreOptions are those of attribution and weighting with their flags.
type scoreOptions struct {
	guard.ScoreOptions
	forgetSamples int // of attribute only
	tokenLoss     string
	tauText       string
	tau           guard.Tau
}

func newScoreOptions() scoreOptions {
	return scoreOptions{ScoreOptions: guard.DefaultScoreOptions()}
}

func (o *scoreOptions) flags() []cli.Flag {
	var kinds []string
	for _, s := range guard.Scores {
		kinds = append(kinds, s.Name)
	}
	return []cli.Flag{
		&cli.StringFlag{Name: "tau", Usage: "`TAU` of the weights softmax(-score/TAU): a number, inf (plain), 0.3std, auto or auto:SHARE (effective sample size over the forget set; auto is auto:0.5)", Value: "auto", Destination: &o.tauText, Category: "attribution",
			Validator: func(s string) error {
				_, err := guard.ParseTau(s)
				return trimPackage(err)
			}},
		&cli.StringFlag{Name: "score", Usage: "`NAME` of the score: " + strings.Join(kinds, ", "), Value: o.Kind, Destination: &o.Kind, Category: "attribution", Validator: oneOf(kinds...)},
		&cli.StringFlag{Name: "score-loss", Usage: "`LOSS` of a sample: mean or sum over its answer tokens", Value: string(o.TokenLoss), Destination: &o.tokenLoss, Category: "attribution", Validator: oneOf(string(guard.TokenMean), string(guard.TokenSum))},
		&cli.IntFlag{Name: "retain-samples", Usage: "take the mean gradient of `N` random retain samples and give standard errors; 0 takes all", Destination: &o.RetainSamples, Category: "attribution", Validator: atLeast(0)},
		&cli.IntFlag{Name: "score-groups", Usage: "`N` groups of retain samples for the standard errors", Value: o.Groups, Destination: &o.Groups, Category: "attribution", Validator: atLeast(1)},
		&cli.IntFlag{Name: "score-batch-tokens", Usage: "pack about `N` tokens into a batch; changes scores by rounding only", Value: o.BatchTokens, Destination: &o.BatchTokens, Category: "attribution", Validator: atLeast(1)},
		&cli.IntFlag{Name: "chunk", Usage: "hold the gradient of `N` blocks at a time; 0: of as many as --memory allows, best of all", Destination: &o.ChunkBlocks, Category: "attribution", Validator: atLeast(0)},
		&cli.StringFlag{Name: "spill", Usage: "`TYPE` in which activations and their gradients are kept between chunks: bf16 or f32", Value: string(o.Spill), Destination: (*string)(&o.Spill), Category: "attribution", Validator: oneOf(string(engine.SpillBF16), string(engine.SpillF32))},
	}
}

// streamFlags are those of commands that attribute and do nothing else.
func (o *scoreOptions) streamFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "forget-samples", Usage: "score `N` random samples to forget, for an estimate; 0 scores all", Destination: &o.forgetSamples, Category: "attribution", Validator: atLeast(0)},
		&cli.StringFlag{Name: "spill-dir", Usage: "`DIR` for what is kept between chunks (default: attribution in the output directory)", Destination: &o.SpillDir, TakesFile: true, Category: "attribution"},
	}
}

// resolve takes over what flags hold as text.
func (o *scoreOptions) resolve(seed uint64) (err error) {
	o.TokenLoss, o.Seed = guard.TokenLoss(o.tokenLoss), seed
	if o.tau, err = guard.ParseTau(o.tauText); err != nil {
		return &statusError{status: exitUsage, err: err}
	}
	return nil
}

// weighted is an attribution with the weights made of it.
type weighted struct {
	*guard.Attribution
	which   []int     // the forget samples that were scored; nil: all
	mult    []float64 // n·w
	summary *guard.WeightSummary
}

// attribute scores and weighs the forget samples.
func (e *env) attribute(ctx context.Context, m *engine.Model, retain, forget []engine.Sample, o scoreOptions) (*weighted, error) {
	a, err := e.scores(ctx, m, retain, forget, o)
	if err != nil {
		return nil, err
	}
	return o.weigh(a)
}

// scores scores the forget samples.
func (e *env) scores(ctx context.Context, m *engine.Model, retain, forget []engine.Sample, o scoreOptions) (*guard.Attribution, error) {
	task := e.bars.Start("attribute")
	o.Note = func(text string) { e.bars.Printf("%s.", text) }
	a, err := guard.Attribute(ctx, m, retain, forget, o.ScoreOptions, task.Set)
	if err != nil {
		return nil, attributionError(ctx, err, o)
	}
	task.Done()
	return a, nil
}

// weigh makes weights of scores.
func (o *scoreOptions) weigh(a *guard.Attribution) (*weighted, error) {
	tau, err := o.tau.Resolve(a.Scores)
	if err != nil {
		return nil, trainError(err)
	}
	w := &weighted{Attribution: a}
	if w.mult, w.summary, err = guard.Summarize(a.Scores, tau); err != nil {
		return nil, trainError(err)
	}
	return w, nil
}

// attributionError gives an error of attribution its exit status.
func attributionError(ctx context.Context, err error, o scoreOptions) error {
	var memory *guard.MemoryError
	var file *fs.PathError
	switch {
	case errors.As(err, &memory):
		return &statusError{status: exitIO, err: err, remedy: fmt.Sprintf("use --memory %s, --mode lora, or fewer --score-groups", sizeText(memory.Needed))}
	case errors.As(err, &file):
		return ioError(err, "")
	case isStopped(err) && ctx.Err() != nil && o.SpillKey != "":
		if _, err := os.Stat(o.SpillDir); err == nil { // a stage is done
			return &statusError{status: exitStopped, err: errStopped, remedy: "run the same command to go on"}
		}
	}
	return trainError(err)
}

// plan says how attribution will work, aloud where it is streamed, and that there is space on the disk.
func (e *env) planAttribution(m *engine.Model, retain, forget []engine.Sample, o scoreOptions) (*guard.AttributionPlan, error) {
	plan, err := guard.PlanAttribution(m, retain, forget, o.ScoreOptions)
	if err != nil {
		return nil, attributionError(context.Background(), err, o)
	}
	if !plan.Streamed() {
		return plan, nil
	}
	if free, ok := rundir.FreeSpace(o.SpillDir); ok && free+engine.StreamSize(o.SpillDir) < plan.Spill {
		return nil, ioError(fmt.Errorf("%s: attribution keeps %s there, %s are free", o.SpillDir, bytesText(plan.Spill), bytesText(free)), "use --spill-dir for another place")
	}
	e.bars.Printf("Attribution in %s of up to %s: %s of memory, %s in %s.", plural(len(plan.Chunks), "chunk"), plural(plan.ChunkBlocks, "block"), bytesText(plan.Peak), bytesText(plan.Spill), o.SpillDir)
	return plan, nil
}

// scoreLine is one line of scores.jsonl.
type scoreLine struct {
	I          int      `json:"i"` // of the forget sample, from 0
	Score      float64  `json:"score"`
	Weight     float64  `json:"weight"`     // w, all of them sum to 1
	Multiplier float64  `json:"multiplier"` // n·w, their mean is 1
	StdErr     *float64 `json:"se,omitempty"`
	Loss       float64  `json:"loss"` // before unlearning, nats
	Line       int      `json:"line"` // of the row in its file
}

// write writes scores.jsonl.
func (w *weighted) write(path string, items []tofu.Item) error {
	return rundir.Create(path, func(out io.Writer) error {
		enc := json.NewEncoder(out)
		for k, s := range w.Scores {
			i := k
			if w.which != nil {
				i = w.which[k]
			}
			line := scoreLine{I: i, Score: s, Weight: w.mult[k] / float64(len(w.mult)), Multiplier: w.mult[k], Loss: w.ForgetLoss[k], Line: items[i].Line}
			if w.StdErr != nil {
				line.StdErr = &w.StdErr[k]
			}
			if err := enc.Encode(line); err != nil {
				return err
			}
		}
		return nil
	})
}

// attributionResult is what attribute --json prints.
type attributionResult struct {
	Scores            string   `json:"scores"` // the file
	Samples           int      `json:"samples"`
	RetainUsed        int      `json:"retain_used"`
	Tau               *float64 `json:"tau"` // null: infinite
	EffectiveSize     float64  `json:"effective_size"`
	LargestMultiplier float64  `json:"largest_multiplier"`
	ScoreMin          float64  `json:"score_min"`
	ScoreMean         float64  `json:"score_mean"`
	ScoreMax          float64  `json:"score_max"`
	ScoreStd          float64  `json:"score_std"`
	WeightedMean      float64  `json:"weighted_mean"`
	RetainGradNorm    float64  `json:"retain_gradient_norm"`
	HalfCorrelation   *float64 `json:"half_correlation,omitempty"` // of the scores by two halves of a retain subset
	Chunks            int      `json:"chunks"`                     // 0: the gradient of the whole model was in memory
	PlannedMemory     uint64   `json:"planned_memory"`             // bytes at most
	PeakMemory        uint64   `json:"peak_memory"`                // bytes resident at most; 0: not known
	Spill             uint64   `json:"spill"`                      // bytes of files at most at once
	Seconds           float64  `json:"seconds"`
}

func (w *weighted) result(path string, took time.Duration) attributionResult {
	s := w.summary
	r := attributionResult{Scores: path, Samples: len(w.Scores), RetainUsed: w.RetainUsed, EffectiveSize: s.EffectiveSize, LargestMultiplier: s.LargestMultiplier,
		ScoreMin: s.Min, ScoreMean: s.Mean, ScoreMax: s.Max, ScoreStd: s.Std, WeightedMean: s.WeightedMean, RetainGradNorm: w.GradNorm,
		HalfCorrelation: w.HalfCorrelation, Chunks: len(w.Plan.Chunks),
		PlannedMemory: w.Plan.Peak, PeakMemory: peakMemory(), Spill: w.Plan.Spill, Seconds: seconds(took)}
	if !math.IsInf(s.Tau, 0) {
		r.Tau = &s.Tau
	}
	return r
}

func attributeCommand(e *env) *cli.Command {
	var model, out string
	var force bool
	var how computing
	var seed uint64
	d := dataOptions{}
	mode := modeOptions{}
	o := newScoreOptions()
	flags := []cli.Flag{
		modelFlag(&model),
		&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "`DIR` to write scores.jsonl into", Destination: &out, TakesFile: true},
		forceFlag(&force),
		seedFlag(&seed, 42),
		threadsFlag(&how.threads),
		computeFlag(&how.compute, nn.ComputeF32),
		memoryFlag(&how.memory),
	}
	flags = append(flags, d.flags()...)
	flags = append(flags, o.flags()...)
	flags = append(flags, o.streamFlags()...)
	flags = append(flags, mode.flags()...)
	return &cli.Command{
		Name:      "attribute",
		Usage:     "score and weigh the samples to forget",
		ArgsUsage: " ",
		Description: `The score of a sample is the inner product of its loss gradient with the mean gradient of
the retain set, at the model as it is. DIR/scores.jsonl has a line a sample:
{"i":0,"score":…,"weight":…,"multiplier":…,"loss":…,"line":…}; weights sum to one, a
multiplier is the weight times the number of samples.

Where the gradient of the whole model does not fit into --memory, attribution works through the model in
chunks of blocks, for all samples together. What passes from one chunk to the next is kept in --spill-dir
until the scores are written: run again, a command that was stopped goes on with the stage it was in.

Examples:
  guardcpu attribute --model tuned.gguf --forget forget.jsonl --retain retain.jsonl --out scores
  guardcpu attribute --model tuned.gguf --data full.jsonl --split forget05 --tau 0.3std --out scores
  guardcpu attribute --model tuned.gguf --forget f.jsonl --retain r.jsonl --retain-samples 500 --out scores --json
  guardcpu attribute --model 7b-Q8_0.gguf --forget f.jsonl --retain r.jsonl --memory 8GiB --out scores`,
		Flags: flags,
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if err := noArguments(cmd); err != nil {
				return err
			}
			how.memory.take()
			if out == "" {
				return usageError("no output is given; use --out DIR")
			}
			if err := o.resolve(seed); err != nil {
				return err
			}
			x, err := e.openMaterial(model, how, &d, true)
			if err != nil {
				return err
			}
			defer x.close()
			inputs := append(d.inputs(), model, cmd.String("config"))
			if err := outputStatus(rundir.CheckIn(out, rundir.Scores, force, inputs...), "give another directory, or --force to replace it"); err != nil {
				return err
			}
			some := guard.Some(len(x.forget), o.forgetSamples, seed)
			forget := make([]engine.Sample, len(some))
			for k, i := range some {
				forget[k] = x.forget[i]
			}
			start := time.Now()
			w, err := e.attributeFile(ctx, x, forget, &how.memory, &mode, seed, out, &o)
			if err != nil {
				return err
			}
			w.which = some
			path := filepath.Join(out, rundir.Scores)
			if err := makeDir(out); err != nil {
				return err
			}
			if err := w.write(path, x.sets.forget); err != nil {
				return ioError(fmt.Errorf("%s: %w", path, pathCause(err)), "")
			}
			if w.Plan.Streamed() {
				if err := engine.RemoveStream(o.SpillDir); err != nil {
					return ioError(err, "")
				}
			}
			r := w.result(path, time.Since(start))
			if cmd.Bool("json") {
				return e.json(r)
			}
			fmt.Fprintf(e.stdout, "%s: %s against %d of %d retained, %s\n", path, plural(r.Samples, "sample"), r.RetainUsed, w.Retain, durationText(time.Since(start)))
			fmt.Fprintf(e.stdout, "scores %.3g to %.3g, mean %.3g, standard deviation %.3g\n", r.ScoreMin, r.ScoreMax, r.ScoreMean, r.ScoreStd)
			if r.HalfCorrelation != nil {
				fmt.Fprintf(e.stdout, "rank correlation of the scores by two halves of the retain subset: %.3f\n", *r.HalfCorrelation)
			}
			fmt.Fprintf(e.stdout, "tau %s: effective sample size %.1f of %d, largest weight %.2f times the plain one\n", tauText(w.summary.Tau), r.EffectiveSize, r.Samples, r.LargestMultiplier)
			return nil
		},
	}
}

// attributeFile scores samples by the weights of a file as it is.
func (e *env) attributeFile(ctx context.Context, x *material, forget []engine.Sample, memory *budget, mode *modeOptions, seed uint64, out string, o *scoreOptions) (*weighted, error) {
	if err := e.checkWeights(ctx, x.m); err != nil {
		return nil, err
	}
	if err := mode.differentiate(x.m, seed); err != nil {
		return nil, err
	}
	o.Memory = memory.bytes
	if o.SpillDir == "" {
		o.SpillDir = filepath.Join(out, "attribution")
	}
	plan, err := e.planAttribution(x.m, x.retain, forget, *o)
	if err != nil {
		return nil, err
	}
	memory.forPlan(plan.Heap())
	if plan.Streamed() {
		in := fileInput("model", x.file.Paths()...)
		if err := in.hashFile(ctx); err != nil {
			return nil, err
		}
		o.SpillKey = fmt.Sprintln(in.SHA256, mode.mode, seed, mode.rank, mode.alpha, mode.loraTargets)
	}
	return e.attribute(ctx, x.m, x.retain, forget, *o)
}

// tauText writes a temperature as --tau takes it.
func tauText(tau float64) string {
	if math.IsInf(tau, 1) {
		return "inf"
	}
	return strconv.FormatFloat(tau, 'g', 3, 64)
}

// makeDir makes a directory for outputs, if it is not there. What is in it tells of
// the data, so only the owner may read it.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return ioError(fmt.Errorf("%s: %w", dir, pathCause(err)), "")
	}
	return nil
}

// readMultipliers reads the multipliers of n samples from a scores.jsonl.
func readMultipliers(path string, n int) ([]float64, error) {
	data, err := readFile(path)
	var mult []float64
	if err == nil {
		mult, err = parseMultipliers(data, n)
	}
	if err != nil {
		return nil, dataError(fmt.Errorf("%s: %w", path, err), "")
	}
	return mult, nil
}

// parseMultipliers is readMultipliers of the file's content.
func parseMultipliers(data []byte, n int) (mult []float64, err error) {
	bad := func(format string, args ...any) ([]float64, error) { return nil, fmt.Errorf(format, args...) }
	sum := 0.0
	for text := range bytes.Lines(data) {
		var line struct {
			I      *int     `json:"i"`
			Weight *float64 `json:"weight"`
		}
		number := len(mult) + 1
		if err := json.Unmarshal(text, &line); err != nil {
			return bad("line %d: %w", number, err)
		}
		if line.I == nil || line.Weight == nil {
			return bad(`line %d: want {"i":…,"weight":…}`, number)
		}
		if *line.I != len(mult) {
			return bad("line %d: i is %d, want %d", number, *line.I, len(mult))
		}
		if w := *line.Weight; !(w >= 0) || math.IsInf(w, 0) {
			return bad("line %d: weight is %v, want a number that is not negative", number, w)
		}
		mult = append(mult, *line.Weight)
		sum += *line.Weight
	}
	if len(mult) != n {
		return bad("%d lines for %d samples to forget", len(mult), n)
	}
	scale := float64(n) / sum
	if !(scale > 0) || math.IsInf(scale, 0) {
		return bad("the weights sum to %v", sum)
	}
	for i := range mult {
		mult[i] *= scale
	}
	return mult, nil
}

// trimPackage removes the package from the front of an error that a flag shows.
func trimPackage(err error) error {
	if err == nil {
		return nil
	}
	_, rest, ok := strings.Cut(err.Error(), ": ")
	if !ok {
		return err
	}
	return errors.New(rest)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/checkpoint"
	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/rundir"
	"github.com/guardcpu/guardcpu/cmd/internal/demo"
	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/guard"
	"github.com/guardcpu/guardcpu/tofu"
)

// runOptions are all options of run.
type runOptions struct {
	model, out, dir, runs  string
	force, texts, noTuning bool
	computing
	seeds             int
	seed              uint64
	gold, epochScores string
	tuning            string
	known             float64
	maxRetainLoss     float64

	every                       cadence // of checkpoints
	keep, restart, otherKernels bool

	data     dataOptions
	mode     modeOptions
	finetune finetuneOptions
	score    scoreOptions
	unlearn  unlearnOptions
	eval     evalOptions
	split    gguf.Split // of out
}

func runCommand(e *env) *cli.Command {
	o := &runOptions{finetune: newFinetuneOptions(), score: newScoreOptions(), unlearn: newUnlearnOptions()}
	flags := []cli.Flag{
		modelFlag(&o.model),
		&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "GGUF `FILE` to write the unlearned model to; it is in the run directory in any case", Destination: &o.out, TakesFile: true},
		&cli.StringFlag{Name: "run-dir", Usage: "`DIR` of this run; if it holds the same run, unfinished, that goes on", Destination: &o.dir, TakesFile: true},
		&cli.StringFlag{Name: "runs", Usage: "without --run-dir: `DIR` in which a directory is made, named after the time, or the newest unfinished one of the same run goes on", Value: "runs", Destination: &o.runs, TakesFile: true},
		&cli.StringFlag{Name: "resume", Usage: "go on with the unfinished run in `DIR`, with its options", TakesFile: true, Category: "resuming"},
		&cli.BoolFlag{Name: "restart", Usage: "begin anew: what an earlier run left in --run-dir is removed", Destination: &o.restart, Category: "resuming"},
		&cli.StringFlag{Name: "checkpoint-every", Usage: "write a checkpoint of a training every `N` steps, or at most as often as a time such as 5m", Value: "1m", Category: "resuming",
			Validator: func(s string) (err error) {
				o.every, err = parseCadence(s)
				return err
			}},
		&cli.BoolFlag{Name: "keep-checkpoints", Usage: "leave the checkpoints, which hold old weights, when the run is complete", Destination: &o.keep, Category: "resuming"},
		&cli.BoolFlag{Name: "allow-other-kernels", Usage: "go on with other kernels than the run began with: its bits are then those of no other run", Destination: &o.otherKernels, Category: "resuming"},
		forceFlag(&o.force),
		seedFlag(&o.seed, 42),
		&cli.IntFlag{Name: "seeds", Usage: "unlearn `N` times, with seed, seed+1, …; the model of the first is written", Value: 1, Destination: &o.seeds, Validator: atLeast(1)},
		threadsFlag(&o.threads),
		computeFlag(&o.compute, nn.ComputeF32),
		memoryFlag(&o.memory),
		&cli.BoolFlag{Name: "report-texts", Usage: "show questions and answers of the forget set in the report", Destination: &o.texts},

		&cli.StringFlag{Name: "retain-eval", Usage: "data `FILE` to evaluate the retain set on, such as TOFU's retain_perturbed; without it the retain set", Destination: &o.eval.retain, TakesFile: true, Category: "evaluation"},
		&cli.StringFlag{Name: "forget-eval", Usage: "data `FILE` to evaluate the forget set on, such as TOFU's forget10_perturbed; without it the forget set", Destination: &o.eval.forget, TakesFile: true, Category: "evaluation"},
		&cli.StringFlag{Name: "gold", Usage: "the model that never saw the forget set: a GGUF `FILE`, or train to make it from --model and the retain set", Destination: &o.gold, TakesFile: true, Category: "evaluation"},
		&cli.StringFlag{Name: "epoch-scores", Usage: "`WHAT` is measured after each epoch of unlearning: probability, none", Value: "probability", Destination: &o.epochScores, Category: "evaluation", Validator: oneOf("probability", "none")},

		&cli.FloatFlag{Name: "max-retain-loss", Usage: "stop with status 7 when the mean loss of the retain set is above `X` nats a token after an epoch; 0: only warn when it has risen by more than 1", Destination: &o.maxRetainLoss, Category: "unlearning", Validator: nonNegative},

		&cli.StringFlag{Name: "finetune", Usage: "`WHEN` to teach the model both sets first: yes, no, or auto (unless it knows the forget set, see --known)", Value: "auto", Destination: &o.tuning, Category: "fine-tuning", Validator: oneOf("auto", "yes", "no")},
		&cli.BoolFlag{Name: "no-finetune", Usage: "the same as --finetune no", Destination: &o.noTuning, Category: "fine-tuning"},
		&cli.FloatFlag{Name: "known", Usage: "the model knows the forget set if the mean probability of its answers, a token, is at least `P`; answers of regular wording may have 0.5 where nothing of them is known", Value: 0.8, Destination: &o.known, Category: "fine-tuning", Validator: nonNegative},
	}
	flags = append(flags, o.data.flags()...)
	flags = append(flags, o.finetune.flags("finetune-", "fine-tuning")...)
	flags = append(flags, o.score.flags()...)
	flags = append(flags, o.unlearn.flags()...)
	flags = append(flags, o.mode.flags()...)
	flags = append(flags, o.mode.typeFlag(), o.mode.loraOutFlag())
	flags = append(flags, o.eval.flags()...)
	flags = append(flags, splitFlags(&o.split)...)
	return &cli.Command{
		Name:      "run",
		Usage:     "the whole path: fine-tune, attribute, weigh, unlearn, evaluate, report",
		ArgsUsage: " ",
		Description: `Without --model it works on an embedded model and embedded fictitious authors and shows in
about a minute what this is. With --model, --forget and --retain it

  1. fine-tunes the model on both sets, unless it knows the forget set,
  2. scores every forget sample by its effect on the retain set (GUARD),
  3. makes weights of the scores,
  4. unlearns by the plain method and by GUARD, for every seed,

and evaluates the model before, after the plain method, after GUARD, and the one that never
saw the forget set (--gold). The run directory holds model.gguf (GUARD, first seed),
report.html, metrics.json, scores.jsonl, TOFU's logs, manifest.json with all hashes,
progress.jsonl and config.yaml, with which the run can be done again.

A run that was stopped by anything at any time goes on with the same command, or --resume DIR,
and ends with the very bytes it would have had. A signal makes it write a checkpoint and end with status 75.
Checkpoints are removed when the run is complete.

Texts of the data are in logs/, as TOFU's files have them, and nowhere else unless
--report-texts is given; only the owner can open the directory.

Examples:
  guardcpu run
  guardcpu run --model base.gguf --forget forget.jsonl --retain retain.jsonl --gold train --out unlearned.gguf
  guardcpu run --model tuned.gguf --no-finetune --forget f.jsonl --retain r.jsonl --method km --seeds 3
  guardcpu run --config runs/2026-11-23-1503/config.yaml
  guardcpu run --resume runs/2026-11-23-1503
  guardcpu run --model base.gguf --data full.jsonl --split forget10 --forget-eval forget10_perturbed.jsonl \
      --retain-eval retain_perturbed.jsonl --real-authors real_authors.jsonl --world-facts world_facts.jsonl --gold train`,
		Flags: flags,
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if err := noArguments(cmd); err != nil {
				return err
			}
			o.memory.take()
			r, err := newRun(ctx, e, cmd, o)
			var done *completeError
			if errors.As(err, &done) {
				return done.tell(e, cmd, o.keep)
			}
			if err != nil {
				return err
			}
			defer r.close()
			if err := r.do(ctx); err != nil {
				return r.failed(ctx, err)
			}
			return nil
		},
	}
}

// demoSettings sets every option that was not given to what suits the embedded model.
func demoSettings(cmd *cli.Command) error {
	d := demo.Defaults
	for name, value := range map[string]any{
		"format": d.Format, "max-length": d.MaxLength,
		"finetune": "yes", "finetune-epochs": d.FinetuneEpochs, "finetune-batch": d.FinetuneBatch,
		"finetune-warmup": d.FinetuneWarmup, "finetune-lr": d.FinetuneLR,
		"method": d.Loss, "epochs": d.UnlearnEpochs, "batch": d.UnlearnBatch, "lr": d.UnlearnLR,
		"tau":  fmt.Sprintf("auto:%g", d.EffectiveShare),
		"seed": d.Seeds[0], "seeds": len(d.Seeds),
		"eval-items": d.EvalItems, "eval-length": d.MaxLength,
		"gold": "train", "report-texts": true,
	} {
		if cmd.IsSet(name) {
			continue
		}
		if err := cmd.Set(name, fmt.Sprint(value)); err != nil {
			return fmt.Errorf("guardcpu: setting %s of the embedded default: %w", name, err)
		}
	}
	return nil
}

// run is one run from its options to its report.
type run struct {
	e   *env
	o   *runOptions
	cmd *cli.Command

	start    time.Time
	file     *gguf.File
	gold     *subject   // nil: none, or to be trained
	goldFile *gguf.File // of gold
	m        *engine.Model
	written  engine.ExportOptions
	enc      *encoder
	dir      *rundir.Dir // nil until a new run begins
	manifest *manifest

	options     []option // that make it this run
	config      []byte   // of config.yaml
	record      *record  // nil until a new run begins
	checkpoints *checkpoint.Store
	saved       saved
	at          *training // whose end the model is at; nil: another state
	pristine    bool      // the model is as its file holds it
	spill       uint64    // bytes that attribution keeps on the disk at most

	sets      *sets
	eval      tofu.Sets
	refusals  []string
	forget    []engine.Sample
	retain    []engine.Sample
	encoded   [2]*tofu.Encoded // of forget and retain
	epochSets [2][]engine.Sample
	inputs    []input

	// What comes out.
	tuned   bool    // the model was fine-tuned here
	knew    float64 // mean probability of the forget answers in the given model
	weights *weighted
	logs    map[string]*tofu.Logs
	metrics metricsFile
	first   [2]*tofu.Logs // baseline and guard of the first seed
	paths   []path
}

// path is what was measured after each epoch of one unlearning.
type path struct {
	key    string
	seed   uint64
	points []point // from epoch 0
}

// newRun opens and checks everything, so that what cannot work is said before work starts.
func newRun(ctx context.Context, e *env, cmd *cli.Command, o *runOptions) (r *run, err error) {
	r = &run{e: e, o: o, cmd: cmd, start: time.Now(), logs: map[string]*tofu.Logs{}}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	embedded := o.model == ""
	if embedded {
		if o.data.forget != "" || o.data.retain != "" || o.data.data != "" {
			return r, usageError("data is given and no model; use --model FILE (or none of them for the embedded default)")
		}
		if err := demoSettings(cmd); err != nil {
			return r, err
		}
	}
	if o.noTuning {
		if cmd.IsSet("finetune") && o.tuning != "no" && !embedded {
			return r, usageError("--no-finetune and --finetune %s contradict each other", o.tuning)
		}
		o.tuning = "no"
	}
	if o.tuning == "no" && o.gold == "train" {
		return r, goldNeedsBase()
	}
	if o.maxRetainLoss > 0 && o.epochScores == "none" {
		return r, usageError("--max-retain-loss needs what --epoch-scores none leaves out")
	}
	o.unlearn.resolve()
	if err := o.score.resolve(o.seed); err != nil {
		return r, err
	}
	if o.out != "" && o.dir != "" && filepath.Clean(o.out) == filepath.Clean(o.dir) {
		return r, usageError("--out and --run-dir are the same path")
	}
	if embedded {
		err = r.openDemo()
	} else {
		err = r.openFiles()
	}
	if err != nil {
		return r, err
	}
	if o.gold != "" && o.gold != "train" {
		if r.goldFile, err = openGGUF(o.gold); err != nil {
			return r, err
		}
		r.inputs = append(r.inputs, fileInput("gold", r.goldFile.Paths()...))
	}
	if err := e.hash(ctx, r.inputs); err != nil {
		return r, err
	}
	r.options = identityOptions(cmd)
	if r.config, err = configYAML(cmd, "run-dir", "runs", "out", "lora-out", "no-finetune"); err != nil { // before auto becomes a mode
		return r, err
	}
	if err := r.locate(); err != nil {
		return r, err
	}
	if err := r.checkOutputs(); err != nil {
		return r, err
	}
	if r.m, err = loadModel(r.file, o.computing); err != nil {
		return r, err
	}
	if err := r.encode(); err != nil {
		return r, err
	}
	if r.goldFile != nil {
		if r.gold, err = newSubject(r.goldFile, o.computing, &o.data); err != nil {
			return r, err
		}
		if err := e.checkWeights(ctx, r.gold.m); err != nil {
			return r, err
		}
	}
	o.unlearn.ReferenceFile = referenceFile
	work, evaluated, err := r.work()
	if err != nil {
		return r, err
	}
	if err := e.prepare(ctx, r.m, &o.memory, &o.mode, o.seed, work, evaluated); err != nil {
		return r, err
	}
	if evaluated.batch < o.eval.batch {
		o.eval.together = evaluated.batch
	}
	if err := r.planScores(); err != nil {
		return r, err
	}
	r.pristine = true
	if err := r.checkSpace(); err != nil {
		return r, err
	}
	r.written, err = o.mode.writes(r.m, rundir.Model, o.split)
	return r, err
}

// goldNeedsBase refuses to make a retrained model from one that knows the forget set.
func goldNeedsBase() error {
	return usageError("--gold train makes the retrained model from --model before its fine-tuning, and here there is none; give a retrained model with --gold FILE, or the model from before its fine-tuning")
}

// openDemo takes the embedded model and data.
func (r *run) openDemo() error {
	f, err := demo.Model()
	if err != nil {
		return err
	}
	data, err := demo.Data()
	if err != nil {
		return err
	}
	r.file = f
	r.sets = &sets{forget: data.Forget, retain: data.Retain}
	r.eval = tofu.Sets{Forget: data.Forget, Retain: data.Retain, RealAuthors: data.RealAuthors, WorldFacts: data.WorldFacts}
	r.refusals = data.IDK
	r.inputs, err = demoInputs(f)
	return err
}

// openFiles reads the files the options name.
func (r *run) openFiles() (err error) {
	o := r.o
	if r.file, err = openGGUF(o.model); err != nil {
		return err
	}
	r.inputs = append(r.inputs, fileInput("model", r.file.Paths()...))
	if r.sets, err = o.data.load(true); err != nil {
		return err
	}
	r.e.overlapNote(r.sets)
	r.eval = tofu.Sets{Forget: r.sets.forget, Retain: r.sets.retain}
	if err := o.eval.load(&r.eval); err != nil {
		return err
	}
	if r.refusals, err = refusals(o.unlearn.refusals); err != nil {
		return err
	}
	for _, f := range [][2]string{
		{"forget", o.data.forget}, {"retain", o.data.retain}, {"data", o.data.data},
		{"forget-eval", o.eval.forget}, {"retain-eval", o.eval.retain},
		{"real-authors", o.eval.realAuthors}, {"world-facts", o.eval.worldFacts}, {"refusals", o.unlearn.refusals},
	} {
		if f[1] != "" {
			r.inputs = append(r.inputs, fileInput(f[0], f[1]))
		}
	}
	return nil
}

// checkOutputs refuses what cannot be written.
func (r *run) checkOutputs() error {
	o := r.o
	inputs := []string{r.cmd.String("config")}
	for _, in := range r.inputs {
		inputs = append(inputs, in.Path)
	}
	if o.gold != "" && o.gold != "train" {
		inputs = append(inputs, o.gold)
	}
	ours := r.record != nil && r.record.Writing // what is there may be of this run
	if err := o.mode.checkOutputs(o.out, o.force || ours, o.split, r.file, inputs...); err != nil {
		return err
	}
	if r.dir != nil {
		return outputStatus(rundir.CheckWritable(r.dir.Path), "")
	}
	dir := o.runs
	if o.dir != "" {
		dir = o.dir
		if err := rundir.CheckNewDir(dir); err != nil {
			return outputStatus(err, "give another directory")
		}
		return nil
	}
	return outputStatus(rundir.CheckDir(dir), "use --run-dir or --runs for another place")
}

// encode turns the rows into samples.
func (r *run) encode() (err error) {
	if r.enc, err = r.o.data.encoder(r.m); err != nil {
		return err
	}
	if r.forget, r.encoded[0], err = r.enc.samples("forget", r.sets.forget); err != nil {
		return err
	}
	if r.retain, r.encoded[1], err = r.enc.samples("retain", r.sets.retain); err != nil {
		return err
	}
	limit := func(items []tofu.Item) []tofu.Item {
		if n := r.o.eval.items; n > 0 && len(items) > n {
			return items[:n]
		}
		return items
	}
	for i, set := range []struct {
		role  string
		items []tofu.Item
	}{{"forget-eval", r.eval.Forget}, {"retain-eval", r.eval.Retain}} {
		if r.epochSets[i], _, err = r.enc.samples(set.role, limit(set.items)); err != nil {
			return err
		}
	}
	if l, _ := guard.LossByName(r.o.unlearn.Loss); l.NeedsIdk {
		for i := range r.sets.forget {
			if r.sets.forget[i].Shape == tofu.ShapeText {
				return dataError(fmt.Errorf("line %d of the forget set: a row of {text} has no question to refuse", r.sets.forget[i].Line), "use another --method than po")
			}
		}
	}
	return nil
}

func (r *run) close() {
	if r.file != nil {
		r.file.Close()
	}
	if r.goldFile != nil {
		r.goldFile.Close()
	}
	if r.dir != nil {
		r.dir.Close()
	}
}

// failed tells what a run that did not end well has left.
func (r *run) failed(ctx context.Context, err error) error {
	if r.dir == nil {
		return err
	}
	entries, readErr := os.ReadDir(r.dir.Path)
	if readErr != nil {
		return err
	}
	var names []string
	for _, f := range entries {
		if f.Name() != rundir.Lock {
			names = append(names, f.Name())
		}
	}
	r.event("failed", rundir.Field{Name: "error", Value: oneLine(err.Error())})
	if r.manifest != nil && !r.manifest.Complete {
		r.manifest.Failed = oneLine(err.Error())
		_ = r.writeManifest() // the error that there is says more
	}
	has := fmt.Sprintf("%s holds %s", r.dir.Path, strings.Join(names, ", "))
	if isStopped(err) && ctx.Err() != nil {
		return &statusError{status: exitStopped, err: fmt.Errorf("%s: %s", r.dir.Path, r.stoppedAt()), remedy: ""}
	}
	var s *statusError
	status, remedy := exitIO, ""
	switch {
	case isDiverged(err):
		status = exitDiverged
		if r.saved.step > 0 {
			remedy = r.safe()
		}
	case errors.As(err, &s):
		status, remedy = s.status, s.remedy
		err = s.err
	}
	if remedy != "" && remedy != nothingWritten {
		remedy += "; "
	} else {
		remedy = ""
	}
	return &statusError{status: status, err: err, remedy: fmt.Sprintf("%sthis was in the step %q, no model was written; %s", remedy, r.step(), has)}
}

// seedsOf returns the seeds of the repetitions.
func (o *runOptions) seedsOf() []uint64 {
	s := make([]uint64, o.seeds)
	for i := range s {
		s[i] = o.seed + uint64(i)
	}
	return s
}

// goal says in words what is going to happen, and is printed before anything does.
func (r *run) goal() []string {
	o, m := r.o, r.m
	name := o.model
	if name == "" {
		name = "embedded model"
	}
	lines := []string{
		fmt.Sprintf("Model    %s: %v, %s parameters", name, m.Config, countText(uint64(m.NParams()))),
		fmt.Sprintf("Forget   %s, %s tokens", plural(len(r.forget), "sample"), countText(uint64(r.encoded[0].Tokens))),
		fmt.Sprintf("Retain   %s, %s tokens", plural(len(r.retain), "sample"), countText(uint64(r.encoded[1].Tokens))),
	}
	if n := r.encoded[0].Truncated + r.encoded[1].Truncated; n > 0 {
		lines = append(lines, fmt.Sprintf("         %d of them are cut at %d tokens (--max-length)", n, o.data.maxLength))
	}
	for _, l := range r.sets.reports {
		if l.Duplicates > 0 {
			lines = append(lines, fmt.Sprintf("         %s: %d of %s say the same as an earlier one, and are kept", l.File, l.Duplicates, plural(l.Rows, "row")))
		}
	}
	if s := r.evaluated(); s != "" {
		lines = append(lines, "         "+s)
	}
	var steps []string
	switch o.tuning {
	case "yes":
		steps = append(steps, fmt.Sprintf("fine-tune on both sets, %s", plural(o.finetune.Epochs, "epoch")))
	case "auto":
		steps = append(steps, fmt.Sprintf("fine-tune on both sets, %s, unless the forget answers have a mean probability of %g already", plural(o.finetune.Epochs, "epoch"), o.known))
	}
	steps = append(steps, "evaluate the model before")
	if o.gold == "train" {
		steps = append(steps, "train a model on the retain set alone, to compare with")
	} else if o.gold != "" {
		steps = append(steps, "evaluate "+o.gold+", to compare with")
	}
	steps = append(steps, "score and weigh the forget samples (GUARD), tau "+o.score.tauText)
	seeds := "once"
	if o.seeds > 1 {
		seeds = fmt.Sprintf("%d times", o.seeds)
	}
	steps = append(steps, fmt.Sprintf("unlearn by %s, plain and with GUARD's weights, %s, %g epochs, and evaluate", strings.ToUpper(o.unlearn.Loss), seeds, o.unlearn.Epochs))
	steps = append(steps, "write model, metrics and report")
	for i, s := range steps {
		lines = append(lines, fmt.Sprintf("Step %d   %s", i+1, s))
	}
	lines = append(lines,
		fmt.Sprintf("With     %s, %s kernels, %s, %s", plural(m.Ctx.Par.Workers(), "thread"), m.Ctx.K.Name, productsText(m.Ctx.Compute.On(m.Ctx.K).String(), m.Int8()), seedText(o.seedsOf())),
		fmt.Sprintf("Memory   %s, %v", o.mode.planned, &o.memory),
		fmt.Sprintf("Into     %s", r.dir.Path))
	return lines
}

// evaluated says that not all rows are measured, if so.
func (r *run) evaluated() string {
	var parts []string
	for _, s := range []struct {
		name string
		rows int
	}{{"forget", len(r.eval.Forget)}, {"retain", len(r.eval.Retain)}, {"real-author", len(r.eval.RealAuthors)}, {"world-fact", len(r.eval.WorldFacts)}} {
		if n := r.o.eval.items; n > 0 && s.rows > n {
			parts = append(parts, fmt.Sprintf("the first %d of %d %s rows", n, s.rows, s.name))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "Measured are " + list(parts) + " (--eval-items)."
}

// productsText says how products with weights are computed.
func productsText(compute string, int8 bool) string {
	if int8 {
		return compute + " products (8-bit activations for text from quantised weights)"
	}
	return compute + " products"
}

func seedText(seeds []uint64) string {
	parts := make([]string, len(seeds))
	for i, s := range seeds {
		parts[i] = strconv.FormatUint(s, 10)
	}
	if len(parts) == 1 {
		return "seed " + parts[0]
	}
	return "seeds " + strings.Join(parts, ", ")
}

// event writes to the journal; a journal that cannot be written is no reason to lose the run.
func (r *run) event(name string, fields ...rundir.Field) {
	if err := r.dir.Event(name, fields...); err != nil {
		r.e.bars.Printf("guardcpu: %s: %v", rundir.Progress, pathCause(err))
	}
}

// step names what the run is doing now, for messages.
func (r *run) step() string {
	if r.manifest == nil || r.manifest.Step == "" {
		return "start"
	}
	return r.manifest.Step
}

func (r *run) begin(step string) {
	r.manifest.Step = step
	r.event("begin", rundir.Field{Name: "step", Value: step})
}

// indexByQuestion finds the evaluated row of each forget item, -1 where there is none.
func indexByQuestion(items, evaluated []tofu.Item) []int {
	first := map[string]int{}
	for i := len(evaluated) - 1; i >= 0; i-- {
		first[evaluated[i].Question+"\x00"+evaluated[i].Target()] = i
	}
	index := make([]int, len(items))
	for i := range items {
		k, ok := first[items[i].Question+"\x00"+items[i].Target()]
		if !ok {
			k = -1
		}
		index[i] = k
	}
	return index
}

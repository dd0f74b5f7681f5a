package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/report"
	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/rundir"
	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/guard"
	"github.com/guardcpu/guardcpu/tofu"
)

// do works through the steps. Every file it leaves is whole, and a step that was done before the run
// was stopped is not done again.
func (r *run) do(ctx context.Context) (err error) {
	if err := r.enter(ctx); err != nil {
		return err
	}
	for _, line := range r.goal() {
		fmt.Fprintln(r.e.stderr, line)
	}
	fmt.Fprintln(r.e.stderr)
	tuned, err := r.finetune(ctx)
	if err != nil {
		return err
	}
	if err := r.before(ctx, tuned); err != nil {
		return err
	}
	if err := r.goldModel(ctx); err != nil {
		return err
	}
	if err := r.score(ctx, tuned); err != nil {
		return err
	}
	var chosen *training
	for i, seed := range r.o.seedsOf() {
		var s seedMetrics
		s.Seed = seed
		for k, key := range []string{"baseline", "guard"} {
			t := r.unlearning(key, seed, tuned)
			if i == 0 && key == "guard" {
				chosen = t
			}
			m, logs, err := r.unlearnAndEvaluate(ctx, t, key, seed)
			if err != nil {
				return err
			}
			rate, err := tofu.SacrificeRate(r.metrics.Before, m)
			if err != nil {
				return dataError(err, "")
			}
			if key == "baseline" {
				s.Baseline, s.Rates.Baseline = m, rate
			} else {
				s.Guard, s.Rates.Guard = m, rate
			}
			if i == 0 {
				r.metrics.set(key, m)
				r.first[k] = logs
			}
			if t != chosen {
				r.discard(t)
			}
		}
		r.metrics.Seeds = append(r.metrics.Seeds, s)
	}
	return r.finish(ctx, chosen)
}

// enter makes the run directory and writes into it what the run will do, or says what was done there.
func (r *run) enter(ctx context.Context) (err error) {
	resumed := r.record != nil
	if r.dir == nil {
		if r.o.dir != "" {
			r.dir, err = rundir.Make(r.o.dir)
		} else {
			r.dir, err = rundir.New(r.o.runs, r.start)
		}
		if err != nil {
			return dirError(err)
		}
	}
	if r.o.restart {
		if err := r.dir.Clear(); err != nil {
			return ioError(fmt.Errorf("%s: %w", r.dir.Path, pathCause(err)), "")
		}
	}
	r.checkpoints = r.store(r.dir.Path)
	r.checkpoints.Kernels, r.checkpoints.Compute = r.m.Ctx.K.Name, r.m.Ctx.Compute.On(r.m.Ctx.K).String()
	if resumed {
		r.record.Resumed = append(r.record.Resumed, resumption{At: time.Now().UTC(), Seconds: seconds(r.dir.Elapsed()), Done: len(r.record.Done),
			Version: r.checkpoints.Version, Kernels: r.checkpoints.Kernels, Threads: r.m.Ctx.Par.Workers()})
		r.e.bars.Printf("Resuming %s: %s done, %s worked", r.dir.Path, plural(len(r.record.Done), "step"), durationText(r.dir.Elapsed()))
		err = r.saveRecord()
	} else {
		if err := rundir.WriteFile(r.dir.File(rundir.Config), r.config); err != nil {
			return ioError(err, "")
		}
		err = r.begun()
	}
	if err != nil {
		return err
	}
	if r.manifest, err = r.newManifest(ctx); err != nil {
		return err
	}
	host, _ := os.Hostname()
	r.event("start", rundir.Field{Name: "command", Value: r.e.args}, rundir.Field{Name: "pid", Value: os.Getpid()}, rundir.Field{Name: "host", Value: host})
	return r.writeManifest()
}

func (r *run) writeManifest() error {
	if err := rundir.WriteJSON(r.dir.File(rundir.Manifest), r.manifest); err != nil {
		return ioError(err, "")
	}
	return nil
}

// finetune teaches the model both sets, if that is asked for or it does not know them. It returns the
// training, nil for none.
func (r *run) finetune(ctx context.Context) (tuned *training, err error) {
	r.knew, err = once(r, "known", func() (float64, error) {
		if err := r.reach(ctx, nil); err != nil {
			return 0, err
		}
		task := r.e.bars.Start("does it know the data?")
		p, err := r.probabilities(ctx, r.forget, task.Set)
		if err != nil {
			return 0, err
		}
		task.Done()
		r.event("known", rundir.Field{Name: "forget_probability", Value: p.probability})
		return p.probability, nil
	})
	if err != nil {
		return nil, err
	}
	r.tuned = r.o.tuning == "yes" || r.o.tuning == "auto" && r.knew < r.o.known
	if !r.tuned {
		why := "as asked"
		if r.o.tuning == "auto" {
			why = fmt.Sprintf("the model knows the forget set: mean probability of its answers %.3f, at least %g", r.knew, r.o.known)
		}
		r.e.bars.Printf("No fine-tuning: %s.", why)
		if r.o.gold == "train" {
			return nil, goldNeedsBase()
		}
		return nil, nil
	}
	samples := r.taught()
	tuned = r.teaching(samples, "fine-tune")
	_, err = once(r, tuned.name, func() (struct{}, error) { return struct{}{}, r.reach(ctx, tuned) })
	return tuned, err
}

// taught are the samples of fine-tuning: both sets.
func (r *run) taught() []engine.Sample { return slices.Concat(r.retain, r.forget) }

// teaching fine-tunes the given model on samples.
func (r *run) teaching(samples []engine.Sample, name string) *training {
	t := &training{name: name}
	t.run = func(ctx context.Context, h trainingHooks) error {
		_, err := r.e.finetune(ctx, r.m, samples, r.o.finetune.forSamples(len(samples), r.o.seed), name, engine.FinetuneHooks{
			Start: h.start,
			Step: func(s engine.FinetuneStep) error {
				h.step(s.Step, s.Steps)
				r.event("finetune", rundir.Field{Name: "what", Value: name}, rundir.Field{Name: "step", Value: s.Step}, rundir.Field{Name: "steps", Value: s.Steps},
					rundir.Field{Name: "loss", Value: s.Loss}, rundir.Field{Name: "lr", Value: s.LR}, rundir.Field{Name: "grad_norm", Value: s.GradNorm})
				return nil
			},
			Save: h.save,
		})
		return err
	}
	return t
}

// known is how far a model knows samples.
type known struct {
	probability float64 // mean over samples of exp(−mean loss of a token)
	loss        float64 // mean over samples of the mean loss of a token, nats
}

// probabilities returns how far the model as it is now knows samples.
func (r *run) probabilities(ctx context.Context, samples []engine.Sample, p engine.Progress) (k known, err error) {
	nll, err := r.m.NLL(ctx, samples, p)
	if err != nil {
		return k, err
	}
	for _, n := range nll {
		k.probability += math.Exp(-n.Mean())
		k.loss += n.Mean()
	}
	k.probability /= float64(len(nll))
	k.loss /= float64(len(nll))
	return k, nil
}

// examine evaluates the model that get returns, set by set, and keeps its logs. What is returned is read
// from the files, as after a run that was stopped.
func (r *run) examine(ctx context.Context, key, name string, get func() (*engine.Model, error)) (*tofu.Logs, error) {
	dir := r.dir.File(rundir.Logs, key)
	whole := r.wholeSets(dir, key)
	if _, done := r.record.Done[name]; done && len(whole) < len(r.record.Sets[key]) {
		r.again(name, dir+" is not what was written")
	}
	r.record.Sets[key] = whole
	if _, err := once(r, name, func() (struct{}, error) { return struct{}{}, r.measure(ctx, key, name, get) }); err != nil {
		return nil, err
	}
	logs, err := tofu.ReadLogs(dir)
	if err != nil {
		return nil, ioError(err, "")
	}
	r.logs[key] = logs
	return logs, nil
}

// wholeSets returns the hashes of the sets' logs that are in the directory as they were written.
func (r *run) wholeSets(dir, key string) map[tofu.Set]string {
	whole := map[tofu.Set]string{}
	for set, sum := range r.record.Sets[key] {
		if is, err := fileSum(filepath.Join(dir, tofu.LogFile(set))); err == nil && is == sum {
			whole[set] = sum
		}
	}
	return whole
}

// measure evaluates what examine has not got yet.
func (r *run) measure(ctx context.Context, key, name string, get func() (*engine.Model, error)) error {
	m, err := get()
	if err != nil {
		return err
	}
	dir := r.dir.File(rundir.Logs, key)
	o := r.o.eval.options(r.enc.format)
	if sets := r.record.Sets[key]; len(sets) > 0 {
		if err := keepLogs(dir, sets); err != nil {
			return ioError(err, "")
		}
		have, err := tofu.ReadLogs(dir)
		if err != nil {
			return ioError(err, "")
		}
		o.Have = &tofu.Logs{}
		for set := range sets {
			*o.Have.Rows(set) = *have.Rows(set)
		}
	}
	o.Each = func(l *tofu.Logs, set tofu.Set) error {
		if err := l.WriteSet(dir, set); err != nil {
			return ioError(err, "")
		}
		sum, err := fileSum(filepath.Join(dir, tofu.LogFile(set)))
		if err != nil {
			return ioError(err, "")
		}
		r.record.Sets[key][set] = sum
		return r.saveRecord()
	}
	logs, err := r.e.evaluate(ctx, m, r.eval, o, name)
	if err != nil {
		return err
	}
	if err := logs.Write(dir); err != nil {
		return ioError(err, "")
	}
	return nil
}

// keepLogs removes from a directory of logs all but those of the sets, which are whole.
func keepLogs(dir string, sets map[tofu.Set]string) error {
	whole := map[string]bool{}
	for set := range sets {
		whole[tofu.LogFile(set)] = true
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if !whole[e.Name()] {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// reached is a get of examine for the end of a training.
func (r *run) reached(ctx context.Context, t *training) func() (*engine.Model, error) {
	return func() (*engine.Model, error) {
		err := r.reach(ctx, t)
		return r.m, err
	}
}

// before evaluates the model that knows everything.
func (r *run) before(ctx context.Context, tuned *training) error {
	logs, err := r.examine(ctx, "before", "evaluate before", r.reached(ctx, tuned))
	if err != nil {
		return err
	}
	// Its forget quality needs the retrained model, which comes next; goldModel computes it.
	r.metrics.Before, err = logs.Metrics(nil)
	if err != nil {
		return dataError(err, "")
	}
	return nil
}

// goldModel evaluates the model that never saw the forget set, if there is one.
func (r *run) goldModel(ctx context.Context) (err error) {
	if r.o.gold == "" {
		return nil
	}
	get := func() (*engine.Model, error) { return r.gold.m, nil }
	var retrain *training
	if r.gold == nil {
		retrain = r.teaching(r.retain, "retrain")
		get = r.reached(ctx, retrain)
		if _, err := once(r, retrain.name, func() (struct{}, error) { return struct{}{}, r.reach(ctx, retrain) }); err != nil {
			return err
		}
	}
	logs, err := r.examine(ctx, "gold", "evaluate retrained", get)
	if err != nil {
		return err
	}
	if retrain != nil {
		r.discard(retrain)
	}
	for key, dst := range map[string]**tofu.Metrics{"before": &r.metrics.Before, "gold": &r.metrics.Gold} {
		if *dst, err = r.logs[key].Metrics(logs); err != nil {
			return dataError(err, "")
		}
	}
	return nil
}

// discard removes the checkpoints of a training that nothing begins from any more.
func (r *run) discard(t *training) {
	if r.o.keep {
		return
	}
	if err := r.checkpoints.Remove(t.name); err != nil {
		r.e.bars.Printf("guardcpu: %v", err)
	}
}

// spillDir is the directory, among the checkpoints, of what attribution keeps between two chunks.
const spillDir = "attribution"

// scoring are the options of attribution, whose spills are in dir.
func (r *run) scoring(dir string) scoreOptions {
	o := r.o.score
	o.SpillDir, o.Memory = dir, r.o.memory.bytes
	return o
}

// planScores refuses attribution that does not fit before work starts, and finds what it needs of the disk.
func (r *run) planScores() error {
	if r.record != nil && r.record.Done["attribute"] != nil {
		return nil
	}
	o := r.scoring(spillDir)
	plan, err := guard.PlanAttribution(r.m, r.retain, r.forget, o.ScoreOptions)
	if err != nil {
		return attributionError(context.Background(), err, o)
	}
	r.spill = plan.Spill
	return nil
}

// score attributes and weighs.
func (r *run) score(ctx context.Context, tuned *training) (err error) {
	spill := r.dir.File(rundir.Checkpoints, spillDir)
	a, err := once(r, "attribute", func() (*guard.Attribution, error) {
		if err := r.reach(ctx, tuned); err != nil {
			return nil, err
		}
		o := r.scoring(spill)
		o.SpillKey = r.spillKey()
		defer r.m.LimitWeights(r.o.mode.weightLimit) // again, for attribution has its own
		return r.e.scores(ctx, r.m, r.retain, r.forget, o)
	})
	if err != nil {
		return err
	}
	if err := engine.RemoveStream(spill); err != nil {
		return ioError(err, "")
	}
	if r.weights, err = r.o.score.weigh(a); err != nil {
		return err
	}
	if err := r.weights.write(r.dir.File(rundir.Scores), r.sets.forget); err != nil {
		return ioError(err, "")
	}
	s := r.weights.summary
	r.event("weights", rundir.Field{Name: "tau", Value: s.Tau}, rundir.Field{Name: "effective_size", Value: s.EffectiveSize}, rundir.Field{Name: "largest_multiplier", Value: s.LargestMultiplier})
	return nil
}

// label names a training of unlearning in messages.
func (r *run) label(key string, seed uint64) string {
	label := modelLabel(key, r.o.unlearn.Loss)
	if r.o.seeds > 1 {
		label += fmt.Sprintf(", seed %d", seed)
	}
	return label
}

// referenceFile is the name of what KM keeps of the model before, among the checkpoints.
const referenceFile = "reference"

// unlearning unlearns by one method with one seed, measuring after each epoch.
func (r *run) unlearning(key string, seed uint64, tuned *training) *training {
	t := &training{name: fmt.Sprintf("unlearn-%s-%d", key, seed), from: tuned}
	t.run = func(ctx context.Context, h trainingHooks) error {
		d := r.o.unlearn.data(r.enc, r.sets.forget, r.forget, r.retain, r.refusals)
		if key == "guard" {
			d.Multipliers = r.weights.mult
		}
		o := r.o.unlearn.Options
		o.Seed = seed
		o.ReferenceFile, o.ReferenceSeeds = r.dir.File(rundir.Checkpoints, referenceFile), r.o.seedsOf()
		o.ReferenceKey = r.spillKey()
		measure := func(epoch int) error {
			if r.o.epochScores == "none" || epoch < len(t.points) { // which was measured before the run was stopped
				return nil
			}
			p, err := r.point(ctx)
			if err != nil {
				return err
			}
			t.points = append(t.points, p)
			r.event("epoch", rundir.Field{Name: "model", Value: key}, rundir.Field{Name: "seed", Value: seed}, rundir.Field{Name: "epoch", Value: epoch},
				rundir.Field{Name: "forget_probability", Value: p.Forget}, rundir.Field{Name: "retain_probability", Value: p.Retain},
				rundir.Field{Name: "forget_loss", Value: p.ForgetLoss}, rundir.Field{Name: "retain_loss", Value: p.RetainLoss})
			if most := r.o.maxRetainLoss; most > 0 && p.RetainLoss > most {
				return &statusError{status: exitDiverged, err: errors.New(retainRose(t.points) + fmt.Sprintf(": --max-retain-loss %g", most)), remedy: "try a lower --lr or fewer --epochs"}
			}
			return nil
		}
		t.points = nil
		_, err := r.e.unlearn(ctx, r.m, d, o, "unlearn "+r.label(key, seed), guard.Hooks{
			Start: func(tr *engine.Trainer) error {
				if err := h.start(tr); err != nil || tr.Done() > 0 {
					return err
				}
				return measure(0)
			},
			Epoch: measure,
			Step: func(s guard.StepInfo) error {
				h.step(s.Step, s.Steps)
				fields := []rundir.Field{{Name: "model", Value: key}, {Name: "seed", Value: seed}, {Name: "step", Value: s.Step}, {Name: "steps", Value: s.Steps},
					{Name: "lr", Value: s.LR}, {Name: "grad_norm", Value: s.GradNorm}, {Name: "objective", Value: s.Objective}, {Name: "tokens_per_second", Value: math.Round(s.TokensPerSecond())}}
				for _, t := range s.Terms {
					fields = append(fields, rundir.Field{Name: t.Name, Value: t.Mean})
				}
				r.event("unlearn", fields...)
				return nil
			},
			Save: h.save,
		})
		return err
	}
	return t
}

// point measures what the model knows of the sets that are evaluated.
func (r *run) point(ctx context.Context) (p point, err error) {
	for i, to := range [][2]*float64{{&p.Forget, &p.ForgetLoss}, {&p.Retain, &p.RetainLoss}} {
		k, err := r.probabilities(ctx, r.epochSets[i], nil)
		if err != nil {
			return p, err
		}
		*to[0], *to[1] = k.probability, k.loss
	}
	return p, nil
}

// retainRose says how the retain set has fared.
func retainRose(points []point) string {
	return fmt.Sprintf("retain loss rose from %.1f to %.1f nats a token", points[0].RetainLoss, points[len(points)-1].RetainLoss)
}

// collapsed says whether what was to be retained has become e times less likely, a token.
func collapsed(points []point) bool {
	return points[len(points)-1].RetainLoss > points[0].RetainLoss+1
}

// unlearnAndEvaluate unlearns, if that is not done yet, and evaluates.
func (r *run) unlearnAndEvaluate(ctx context.Context, t *training, key string, seed uint64) (*tofu.Metrics, *tofu.Logs, error) {
	points, err := once(r, t.name, func() ([]point, error) {
		err := r.reach(ctx, t)
		return t.points, err
	})
	if err != nil {
		return nil, nil, err
	}
	if r.o.epochScores != "none" {
		r.paths = append(r.paths, path{key, seed, points})
		if collapsed(points) {
			r.e.bars.Printf("%s: %s: --max-retain-loss", r.label(key, seed), retainRose(points))
		}
	}
	logKey := key
	if seed != r.o.seed {
		logKey = fmt.Sprintf("%s-seed%d", key, seed)
	}
	logs, err := r.examine(ctx, logKey, "evaluate "+r.label(key, seed), r.reached(ctx, t))
	var s *statusError
	if err != nil {
		if isStopped(err) || errors.As(err, &s) && s.status != exitData {
			return nil, nil, err
		}
		// The same data passed before: what is broken now is the model.
		return nil, nil, &statusError{status: exitDiverged, err: err, remedy: "try a lower --lr or fewer --epochs"}
	}
	m, err := logs.Metrics(r.logs["gold"])
	if err != nil {
		return nil, nil, &statusError{status: exitDiverged, err: err, remedy: "try a lower --lr or fewer --epochs"}
	}
	return m, logs, nil
}

// finish writes the model, the metrics, the report and the manifest, and says what came out.
func (r *run) finish(ctx context.Context, chosen *training) error {
	r.written.Set = append(provenance("run", r.o.seed),
		gguf.KV{Key: "guardcpu.method", Value: r.o.unlearn.Loss},
		gguf.KV{Key: "guardcpu.tau", Value: r.weights.summary.Tau},
		gguf.KV{Key: "guardcpu.model_sha256", Value: r.inputs[0].SHA256},
	)
	model := r.dir.File(rundir.Model)
	if err := r.writeModel(ctx, chosen, model); err != nil {
		return err
	}
	if err := r.examineFile(ctx); err != nil {
		return err
	}
	out, err := r.writeOut(ctx, chosen)
	if err != nil {
		return err
	}
	if out != nil {
		ctx = context.WithoutCancel(ctx) // who finds the output finds what describes it, too
	}
	r.begin("report")
	if err := r.metrics.addRates(); err != nil {
		return dataError(err, "")
	}
	if err := rundir.WriteJSON(r.dir.File(rundir.Metrics), r.metrics); err != nil {
		return ioError(err, "")
	}
	if err := r.manifest.addOutput(ctx, rundir.Model, model); err != nil {
		return err
	}
	if out != nil {
		if err := r.manifest.addOutput(ctx, "out", out...); err != nil {
			return err
		}
	}
	if adapter := r.o.mode.loraOut; adapter != "" {
		if err := r.manifest.addOutput(ctx, "lora-out", adapter); err != nil {
			return err
		}
	}
	for _, name := range []string{rundir.Config, rundir.Scores, rundir.Metrics} {
		if err := r.manifest.addOutput(ctx, name, r.dir.File(name)); err != nil {
			return err
		}
	}
	took := r.dir.Elapsed()
	page, err := report.HTML(r.report(took))
	if err != nil {
		return err
	}
	if err := rundir.WriteFile(r.dir.File(rundir.Report), page); err != nil {
		return ioError(err, "")
	}
	if err := r.manifest.addOutput(ctx, rundir.Report, r.dir.File(rundir.Report)); err != nil {
		return err
	}
	r.manifest.Complete, r.manifest.Step, r.manifest.Finished = true, "", time.Now().UTC()
	r.event("done", rundir.Field{Name: "seconds", Value: seconds(took)})
	if err := r.writeManifest(); err != nil {
		return err
	}
	if err := r.dir.Finish(r.o.keep); err != nil {
		return ioError(err, "")
	}
	return r.print(took)
}

// writeModel writes the model of the run directory, unless it is there.
func (r *run) writeModel(ctx context.Context, chosen *training, path string) error {
	const name = "write model"
	if data, done := r.record.Done[name]; done {
		var sum string
		is, err := fileSum(path)
		if json.Unmarshal(data, &sum) != nil || err != nil || is != sum {
			r.again(name, path+" is not what was written")
		}
	}
	_, err := once(r, name, func() (string, error) {
		if err := r.reach(ctx, chosen); err != nil {
			return "", err
		}
		whole := r.written
		whole.Split = gguf.Split{}
		if _, err := r.e.export(r.m, path, whole); err != nil {
			return "", err
		}
		return fileSum(path)
	})
	return err
}

// writeOut writes the files outside of the run directory, and returns those of --out. That they are going to be there is
// in the record before they are: a run that goes on may replace them.
func (r *run) writeOut(ctx context.Context, chosen *training) (out []string, err error) {
	if r.o.out == "" && r.o.mode.loraOut == "" {
		return nil, nil
	}
	r.begin("write output")
	if err := r.reach(ctx, chosen); err != nil {
		return nil, err
	}
	if r.record.Writing {
		rundir.SweepOutput(r.o.out)
		rundir.SweepOutput(r.o.mode.loraOut)
	} else {
		r.record.Writing = true
		if err := r.saveRecord(); err != nil {
			return nil, err
		}
	}
	if r.o.out != "" {
		if out, err = r.e.export(r.m, r.o.out, r.written); err != nil {
			return nil, err
		}
		r.o.out = out[0]
	}
	return out, r.o.mode.writeAdapter(r.m, r.written.Set)
}

// examineFile evaluates the written file where its types round the trained weights:
// rounding can bring back what was unlearned.
func (r *run) examineFile(ctx context.Context) error {
	rounds := r.written.Type != nil
	for _, p := range r.m.Params() {
		rounds = rounds || r.m.Source(p).Type.Name != "F32"
	}
	if !rounds {
		return nil
	}
	var f *gguf.File
	logs, err := r.examine(ctx, "guard-file", "evaluate written file", func() (m *engine.Model, err error) {
		if f, err = openGGUF(r.dir.File(rundir.Model)); err != nil {
			return nil, err
		}
		return loadModel(f, r.o.computing)
	})
	if f != nil {
		defer f.Close()
	}
	if err != nil {
		return err
	}
	r.metrics.GuardFile, err = logs.Metrics(r.logs["gold"])
	if err != nil {
		return dataError(err, "")
	}
	return nil
}

// print writes the table, the summary and where everything is.
func (r *run) print(took time.Duration) error {
	if r.cmd.Bool("json") {
		return r.e.json(struct {
			Dir     string      `json:"run_dir"`
			Model   string      `json:"model"`
			Report  string      `json:"report"`
			Seconds float64     `json:"seconds"`
			Summary []string    `json:"summary"`
			Metrics metricsFile `json:"metrics"`
		}{r.dir.Path, r.dir.File(rundir.Model), r.dir.File(rundir.Report), seconds(took), r.summary(), r.metrics})
	}
	w := r.e.stdout
	printTable(w, r.columns())
	if r.o.seeds > 1 {
		fmt.Fprintf(w, "(± is the standard deviation over %d seeds)\n", r.o.seeds)
	}
	fmt.Fprintf(w, "\nSacrifice rate: retained knowledge lost for each unit forgotten; smaller is better\n")
	lines := [][]string{{"", "plain", "GUARD", "lower"}}
	for _, row := range sacrificeRows(r.metrics.Seeds) {
		lines = append(lines, []string{row.Metric, row.BaselineValue().String(), row.GuardValue().String(), row.Verdict()})
	}
	writeColumns(w, lines)
	fmt.Fprintln(w)
	for _, s := range r.summary() {
		fmt.Fprintln(w, s)
	}
	if r.o.texts {
		r.printExample(w)
	}
	fmt.Fprintf(w, "\nmodel   %s\nreport  %s\ntook    %s\n", r.dir.File(rundir.Model), r.dir.File(rundir.Report), durationText(took))
	return nil
}

// printExample shows what the models say to one question of the forget set: the one in
// the middle by what GUARD left of its answer (ROUGE-L), neither the best nor the worst.
func (r *run) printExample(w io.Writer) {
	var rows []*tofu.Row
	for i := range r.first[1].Forget {
		if row := &r.first[1].Forget[i]; row.Rouge != nil {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return
	}
	slices.SortStableFunc(rows, func(a, b *tofu.Row) int { return cmp.Compare(a.Rouge.RL, b.Rouge.RL) })
	index := rows[len(rows)/2].Index
	fmt.Fprintf(w, "\nForget question %d, the middle one by ROUGE-L after GUARD: %s\n", index, oneLine(r.eval.Forget[index].Question))
	lines := [][]string{{"  truth", oneLine(r.eval.Forget[index].Answer)}}
	for _, m := range []struct {
		name string
		logs *tofu.Logs
	}{{"before", r.logs["before"]}, {"plain", r.first[0]}, {"GUARD", r.first[1]}, {"retrained", r.logs["gold"]}} {
		if m.logs == nil {
			continue
		}
		for i := range m.logs.Forget {
			if m.logs.Forget[i].Index == index {
				lines = append(lines, []string{"  " + m.name, oneLine(m.logs.Forget[i].Generated)})
			}
		}
	}
	for _, l := range lines {
		fmt.Fprintf(w, "%-12s %s\n", l[0], l[1])
	}
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/report"
	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/rundir"
	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/guard"
	"github.com/guardcpu/guardcpu/tofu"
)

// do works through the steps. Every file it leaves is whole.
func (r *run) do(ctx context.Context) (err error) {
	if err := r.makeDir(ctx); err != nil {
		return err
	}
	for _, line := range r.goal() {
		fmt.Fprintln(r.e.stderr, line)
	}
	fmt.Fprintln(r.e.stderr)
	var base *engine.Snapshot // the given model, if a retrained one is to start from it
	if r.o.gold == "train" {
		base = r.m.Snapshot()
	}
	if err := r.finetune(ctx); err != nil {
		return err
	}
	tuned := r.m.Snapshot()
	if err := r.before(ctx); err != nil {
		return err
	}
	if err := r.goldModel(ctx, base); err != nil {
		return err
	}
	base = nil
	r.m.Restore(tuned)
	if err := r.score(ctx); err != nil {
		return err
	}
	var chosen *engine.Snapshot
	for i, seed := range r.o.seedsOf() {
		var s seedMetrics
		s.Seed = seed
		for k, key := range []string{"baseline", "guard"} {
			r.m.Restore(tuned)
			m, logs, err := r.unlearnAndEvaluate(ctx, key, seed)
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
				if key == "guard" {
					chosen = r.m.Snapshot()
				}
			}
		}
		r.metrics.Seeds = append(r.metrics.Seeds, s)
	}
	r.m.Restore(chosen)
	return r.finish(ctx)
}

// makeDir makes the run directory and writes into it what the run will do.
func (r *run) makeDir(ctx context.Context) (err error) {
	if r.o.dir != "" {
		r.dir, err = rundir.Make(r.o.dir, r.start)
	} else {
		r.dir, err = rundir.New(r.o.runs, r.start)
	}
	if err != nil {
		return ioError(fmt.Errorf("run directory: %w", err), "use --run-dir or --runs for another place")
	}
	config, err := configYAML(r.cmd, "run-dir", "runs", "out", "lora-out", "no-finetune")
	if err != nil {
		return err
	}
	if err := rundir.WriteFile(r.dir.File(rundir.Config), config); err != nil {
		return ioError(err, "")
	}
	if r.manifest, err = r.newManifest(ctx); err != nil {
		return err
	}
	r.event("start", rundir.Field{Name: "command", Value: r.e.args})
	return r.writeManifest()
}

func (r *run) writeManifest() error {
	if err := rundir.WriteJSON(r.dir.File(rundir.Manifest), r.manifest); err != nil {
		return ioError(err, "")
	}
	return nil
}

// finetune teaches the model both sets, if that is asked for or it does not know them.
func (r *run) finetune(ctx context.Context) error {
	r.begin("fine-tune")
	task := r.e.bars.Start("does it know the data?")
	p, err := r.probabilities(ctx, r.forget, task.Set)
	if err != nil {
		return err
	}
	task.Done()
	r.knew = p
	r.event("known", rundir.Field{Name: "forget_probability", Value: p})
	r.tuned = r.o.tuning == "yes" || r.o.tuning == "auto" && p < r.o.known
	if !r.tuned {
		why := "as asked"
		if r.o.tuning == "auto" {
			why = fmt.Sprintf("the model knows the forget set: mean probability of its answers %.3f, at least %g", p, r.o.known)
		}
		r.e.bars.Printf("No fine-tuning: %s.", why)
		if r.o.gold == "train" {
			return goldNeedsBase()
		}
		return nil
	}
	samples := append(append([]engine.Sample{}, r.retain...), r.forget...)
	return r.teach(ctx, samples, "fine-tune")
}

// teach fine-tunes the model on samples.
func (r *run) teach(ctx context.Context, samples []engine.Sample, name string) error {
	_, err := r.e.finetune(ctx, r.m, samples, r.o.finetune.forSamples(len(samples), r.o.seed), name, func(s engine.FinetuneStep) {
		r.event("finetune", rundir.Field{Name: "what", Value: name}, rundir.Field{Name: "step", Value: s.Step}, rundir.Field{Name: "steps", Value: s.Steps},
			rundir.Field{Name: "loss", Value: s.Loss}, rundir.Field{Name: "lr", Value: s.LR}, rundir.Field{Name: "grad_norm", Value: s.GradNorm})
	})
	return err
}

// probabilities returns the mean over samples of exp(−mean loss of a token).
func (r *run) probabilities(ctx context.Context, samples []engine.Sample, p engine.Progress) (float64, error) {
	nll, err := r.m.NLL(ctx, samples, p)
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for _, n := range nll {
		sum += math.Exp(-n.Mean())
	}
	return sum / float64(len(nll)), nil
}

// examine evaluates the model as it is now and keeps its logs.
func (r *run) examine(ctx context.Context, m *engine.Model, key, name string) (*tofu.Logs, error) {
	logs, err := r.e.evaluate(ctx, m, r.eval, r.o.eval.options(r.enc.format), name)
	if err != nil {
		return nil, err
	}
	r.logs[key] = logs
	if err := logs.Write(r.dir.File(rundir.Logs, key)); err != nil {
		return nil, ioError(err, "")
	}
	return logs, nil
}

// before evaluates the model that knows everything.
func (r *run) before(ctx context.Context) error {
	r.begin("evaluate before")
	logs, err := r.examine(ctx, r.m, "before", "evaluate before")
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
func (r *run) goldModel(ctx context.Context, base *engine.Snapshot) (err error) {
	if r.o.gold == "" {
		return nil
	}
	r.begin("retrained model")
	m := r.m
	if r.gold != nil {
		m = r.gold.m
	} else {
		r.m.Restore(base)
		if err := r.teach(ctx, r.retain, "retrain without forget"); err != nil {
			return err
		}
	}
	logs, err := r.examine(ctx, m, "gold", "evaluate retrained")
	if err != nil {
		return err
	}
	for key, dst := range map[string]**tofu.Metrics{"before": &r.metrics.Before, "gold": &r.metrics.Gold} {
		if *dst, err = r.logs[key].Metrics(logs); err != nil {
			return dataError(err, "")
		}
	}
	return nil
}

// score attributes and weighs.
func (r *run) score(ctx context.Context) (err error) {
	r.begin("attribute")
	if r.weights, err = r.e.attribute(ctx, r.m, r.retain, r.forget, r.o.score); err != nil {
		return err
	}
	path := r.dir.File(rundir.Scores)
	if err := r.weights.write(path, r.sets.forget); err != nil {
		return ioError(err, "")
	}
	s := r.weights.summary
	r.event("weights", rundir.Field{Name: "tau", Value: s.Tau}, rundir.Field{Name: "effective_size", Value: s.EffectiveSize}, rundir.Field{Name: "largest_multiplier", Value: s.LargestMultiplier})
	return nil
}

// unlearnAndEvaluate unlearns by one method with one seed, measuring after each epoch.
func (r *run) unlearnAndEvaluate(ctx context.Context, key string, seed uint64) (*tofu.Metrics, *tofu.Logs, error) {
	label := modelLabel(key, r.o.unlearn.Loss)
	if r.o.seeds > 1 {
		label += fmt.Sprintf(", seed %d", seed)
	}
	r.begin("unlearn " + label)
	d := r.o.unlearn.data(r.enc, r.sets.forget, r.forget, r.retain, r.refusals)
	if key == "guard" {
		d.Multipliers = r.weights.mult
	}
	o := r.o.unlearn.Options
	o.Seed = seed
	p := path{key: key, seed: seed}
	measure := func(epoch int) error {
		if r.o.epochScores == "none" {
			return nil
		}
		var point [2]float64
		for i := range point {
			v, err := r.probabilities(ctx, r.epochSets[i], nil)
			if err != nil {
				return err
			}
			point[i] = v
		}
		p.points = append(p.points, point)
		r.event("epoch", rundir.Field{Name: "model", Value: key}, rundir.Field{Name: "seed", Value: seed}, rundir.Field{Name: "epoch", Value: epoch},
			rundir.Field{Name: "forget_probability", Value: point[0]}, rundir.Field{Name: "retain_probability", Value: point[1]})
		return nil
	}
	if err := measure(0); err != nil {
		return nil, nil, err
	}
	_, err := r.e.unlearn(ctx, r.m, d, o, label, guard.Hooks{
		Epoch: measure,
		Step: func(s guard.StepInfo) error {
			fields := []rundir.Field{{Name: "model", Value: key}, {Name: "seed", Value: seed}, {Name: "step", Value: s.Step}, {Name: "steps", Value: s.Steps},
				{Name: "lr", Value: s.LR}, {Name: "grad_norm", Value: s.GradNorm}, {Name: "objective", Value: s.Objective}, {Name: "tokens_per_second", Value: math.Round(s.TokensPerSecond())}}
			for _, t := range s.Terms {
				fields = append(fields, rundir.Field{Name: t.Name, Value: t.Mean})
			}
			r.event("unlearn", fields...)
			return nil
		},
	})
	if err != nil {
		return nil, nil, err
	}
	if r.o.epochScores != "none" {
		r.paths = append(r.paths, p)
	}
	logKey := key
	if seed != r.o.seed {
		logKey = fmt.Sprintf("%s-seed%d", key, seed)
	}
	logs, err := r.examine(ctx, r.m, logKey, "evaluate "+label)
	if err != nil {
		if isStopped(err) {
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
func (r *run) finish(ctx context.Context) error {
	r.begin("write")
	r.written.Set = append(provenance("run", r.o.seed),
		gguf.KV{Key: "guardcpu.method", Value: r.o.unlearn.Loss},
		gguf.KV{Key: "guardcpu.tau", Value: r.weights.summary.Tau},
		gguf.KV{Key: "guardcpu.model_sha256", Value: r.manifest.Inputs[0].SHA256},
	)
	whole := r.written
	whole.Split = gguf.Split{}
	model, err := r.e.export(r.m, r.dir.File(rundir.Model), whole)
	if err != nil {
		return err
	}
	if err := r.examineFile(ctx); err != nil {
		return err
	}
	var out []string
	if r.o.out != "" {
		if out, err = r.e.export(r.m, r.o.out, r.written); err != nil {
			return err
		}
		r.o.out = out[0]
		ctx = context.WithoutCancel(ctx) // who finds the output finds what describes it, too
	}
	if err := r.o.mode.writeAdapter(r.m, r.written.Set); err != nil {
		return err
	}
	if err := r.metrics.addRates(); err != nil {
		return dataError(err, "")
	}
	if err := rundir.WriteJSON(r.dir.File(rundir.Metrics), r.metrics); err != nil {
		return ioError(err, "")
	}
	if err := r.manifest.addOutput(ctx, rundir.Model, model...); err != nil {
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
	took := time.Since(r.start)
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
	return r.print(took)
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
	f, err := openGGUF(r.dir.File(rundir.Model))
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := loadModel(f, r.o.computing)
	if err != nil {
		return err
	}
	logs, err := r.examine(ctx, m, "guard-file", "evaluate written file")
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

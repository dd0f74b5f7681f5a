package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/report"
	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/rundir"
	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/tofu"
)

// modelKeys are the names evaluated models have in metrics.json, in order.
var modelKeys = []string{"before", "baseline", "guard", "gold"}

// evalOptions say what is measured.
type evalOptions struct {
	forget, retain          string // files in place of the sets themselves
	realAuthors, worldFacts string
	items, length, batch    int
	together                int // of a batch at once in memory; 0: all
	ignoreEOS               bool
}

func (o *evalOptions) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "real-authors", Usage: "data `FILE` of questions about real authors, with wrong answers", Destination: &o.realAuthors, TakesFile: true, Category: "evaluation"},
		&cli.StringFlag{Name: "world-facts", Usage: "data `FILE` of questions about the world, with wrong answers", Destination: &o.worldFacts, TakesFile: true, Category: "evaluation"},
		&cli.IntFlag{Name: "eval-items", Usage: "the first `N` rows of each set; 0: all", Value: 300, Destination: &o.items, Category: "evaluation", Validator: atLeast(0)},
		&cli.IntFlag{Name: "eval-length", Usage: "tokens `N` of a prompt with its answer", Value: 200, Destination: &o.length, Category: "evaluation", Validator: atLeast(2)},
		&cli.IntFlag{Name: "eval-batch", Usage: "answers `N` that are generated together", Value: 30, Destination: &o.batch, Category: "evaluation", Validator: atLeast(1)},
		&cli.BoolFlag{Name: "ignore-eos", Usage: "generate on after the end of an answer, as TOFU's Phi runs did", Destination: &o.ignoreEOS, Category: "evaluation"},
	}
}

func (o *evalOptions) inputs() []string {
	return slices.DeleteFunc([]string{o.realAuthors, o.worldFacts}, func(s string) bool { return s == "" })
}

// options are what tofu.Evaluate takes.
func (o *evalOptions) options(f *tofu.Format) tofu.EvalOptions {
	items := o.items
	if items == 0 {
		items = -1
	}
	return tofu.EvalOptions{Format: f, MaxLength: o.length, MaxItems: items, Batch: o.batch, Together: o.together, IgnoreEOS: o.ignoreEOS}
}

// load reads the files that are for evaluation alone into s: in place of the sets to forget and to retain, and the two
// others.
func (o *evalOptions) load(s *tofu.Sets) error {
	for _, f := range []struct {
		role, path string
		items      *[]tofu.Item
	}{{"forget-eval", o.forget, &s.Forget}, {"retain-eval", o.retain, &s.Retain}, {"real-authors", o.realAuthors, &s.RealAuthors}, {"world-facts", o.worldFacts, &s.WorldFacts}} {
		if f.path == "" {
			continue
		}
		items, _, err := loadItems(f.role, f.path)
		if err != nil {
			return err
		}
		*f.items = items
	}
	return nil
}

// evaluate measures one model, with progress.
func (e *env) evaluate(ctx context.Context, m *engine.Model, s tofu.Sets, o tofu.EvalOptions, name string) (*tofu.Logs, error) {
	task := e.bars.Start(name)
	logs, err := tofu.Evaluate(ctx, m, s, o, task.Set)
	if err != nil {
		if isStopped(err) {
			return nil, err
		}
		return nil, dataError(err, "")
	}
	task.Done()
	return logs, nil
}

func evalCommand(e *env) *cli.Command {
	var model, as, out, logs, retainLogs, forget, retain string
	var files [4]string // of modelKeys
	var force bool
	var how computing
	var seed uint64
	d := dataOptions{}
	o := evalOptions{}
	flags := []cli.Flag{
		modelFlag(&model),
		loraFlag(&how),
		&cli.StringFlag{Name: "as", Usage: "`NAME` of --model or --logs in metrics.json: before, baseline, guard, gold", Value: "before", Destination: &as, Validator: oneOf(modelKeys...)},
		&cli.StringFlag{Name: "before", Usage: "GGUF `FILE` of the model before unlearning", Destination: &files[0], TakesFile: true},
		&cli.StringFlag{Name: "baseline", Usage: "GGUF `FILE` of the model unlearned by the plain method", Destination: &files[1], TakesFile: true},
		&cli.StringFlag{Name: "guard", Usage: "GGUF `FILE` of the model unlearned by GUARD", Destination: &files[2], TakesFile: true},
		&cli.StringFlag{Name: "gold", Usage: "GGUF `FILE` of a model that never saw the forget set", Destination: &files[3], TakesFile: true},
		&cli.StringFlag{Name: "forget", Usage: "data `FILE` of the forget set, with paraphrased and wrong answers for the truth ratio", Destination: &forget, TakesFile: true, Category: "data"},
		&cli.StringFlag{Name: "retain", Usage: "data `FILE` of the retain set, with paraphrased and wrong answers for the truth ratio", Destination: &retain, TakesFile: true, Category: "data"},
		&cli.StringFlag{Name: "logs", Usage: "compute the metrics from a `DIR` of TOFU's log files, without a model", Destination: &logs, TakesFile: true},
		&cli.StringFlag{Name: "retain-logs", Usage: "`DIR` of the logs of a model that never saw the forget set, for forget quality", Destination: &retainLogs, TakesFile: true},
		&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "`DIR` to write metrics.json and the logs into", Destination: &out, TakesFile: true},
		forceFlag(&force),
		seedFlag(&seed, 42),
		threadsFlag(&how.threads),
		computeFlag(&how.compute, nn.ComputeF32),
		memoryFlag(&how.memory),
	}
	flags = append(flags, d.formatFlags()...)
	flags = append(flags, o.flags()...)
	return &cli.Command{
		Name:      "eval",
		Usage:     "measure what models know of the sets, with TOFU's metrics",
		ArgsUsage: " ",
		Description: `Any of four models may be given; forget quality compares with gold (or --retain-logs),
sacrifice rates compare baseline and guard with before. Nothing here is random: --seed is
accepted for scripts and changes nothing.

DIR/metrics.json has one object for each model, with TOFU's names; DIR/logs/NAME has TOFU's
log files. With --logs no model is needed: model utility, forget quality and every
aggregate are computed from log files, ours or TOFU's.

Examples:
  guardcpu eval --model tuned.gguf --forget forget10_perturbed.jsonl --retain retain_perturbed.jsonl --out eval
  guardcpu eval --before tuned.gguf --guard unlearned.gguf --gold retrained.gguf --forget f.jsonl --retain r.jsonl \
      --real-authors real_authors.jsonl --world-facts world_facts.jsonl --out eval
  guardcpu eval --logs eval/logs/guard --retain-logs eval/logs/gold --json`,
		Flags: flags,
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if err := noArguments(cmd); err != nil {
				return err
			}
			how.memory.take()
			if model != "" {
				k := slices.Index(modelKeys, as)
				if files[k] != "" {
					return usageError("--model and --%s both give the model %s", as, as)
				}
				files[k] = model
			}
			if how.lora != "" && model == "" {
				return usageError("--lora is the adapter of --model, and there is none")
			}
			var goldLogs *tofu.Logs
			if retainLogs != "" {
				var err error
				if goldLogs, err = readLogs(retainLogs, "retain-logs"); err != nil {
					return err
				}
			}
			if logs != "" {
				if files != [4]string{} || forget != "" || retain != "" || o.realAuthors != "" || o.worldFacts != "" {
					return usageError("--logs stands in for models and data; give one or the other")
				}
				if err := checkEvalOutput(out, force, cmd.String("config")); err != nil {
					return err
				}
				return e.evalLogs(cmd, logs, goldLogs, as, out)
			}
			if files == [4]string{} {
				return usageError("no model is given; use --model FILE, or --logs DIR")
			}
			if files[3] != "" && goldLogs != nil {
				return usageError("--gold and --retain-logs both give the model to compare with")
			}
			if forget == "" && retain == "" && o.realAuthors == "" && o.worldFacts == "" {
				return usageError("no data is given; use --forget, --retain, --real-authors, --world-facts")
			}
			var s tofu.Sets
			var err error
			inputs := append(o.inputs(), append(files[:], how.lora, cmd.String("config"))...)
			for _, f := range []struct {
				role, path string
				items      *[]tofu.Item
			}{{"forget", forget, &s.Forget}, {"retain", retain, &s.Retain}} {
				if f.path == "" {
					continue
				}
				inputs = append(inputs, f.path)
				if *f.items, _, err = loadItems(f.role, f.path); err != nil {
					return err
				}
			}
			if err := o.load(&s); err != nil {
				return err
			}
			if err := checkEvalOutput(out, force, inputs...); err != nil {
				return err
			}
			subjects := map[string]*subject{} // all are checked before the first is evaluated
			options := map[string]tofu.EvalOptions{}
			for i, key := range modelKeys {
				if files[i] == "" {
					continue
				}
				how := how
				if key != as {
					how.lora = "" // which is --model's
				}
				x, err := openSubject(files[i], how, &d)
				if err != nil {
					return err
				}
				defer x.close()
				if err := e.checkWeights(ctx, x.m); err != nil {
					return err
				}
				subjects[key] = x
				fit := o.options(x.enc.format)
				if err := e.fitEvaluation(x.m, &how.memory, s, &fit); err != nil {
					return err
				}
				options[key] = fit
			}
			collectOften()
			all := map[string]*tofu.Logs{}
			for _, key := range modelKeys {
				x := subjects[key]
				if x == nil {
					continue
				}
				if all[key], err = e.evaluate(ctx, x.m, s, options[key], "evaluate "+key); err != nil {
					return err
				}
				x.file.Forget() // before the next one
				if out != "" {
					if err := makeDir(filepath.Join(out, rundir.Logs)); err != nil {
						return err
					}
					if err := all[key].Write(filepath.Join(out, rundir.Logs, key)); err != nil {
						return ioError(err, "")
					}
				}
			}
			if goldLogs == nil {
				goldLogs = all["gold"]
			}
			result := metricsFile{}
			var columns []column
			for _, key := range modelKeys {
				if all[key] == nil {
					continue
				}
				m, err := all[key].Metrics(goldLogs)
				if err != nil {
					return dataError(err, "")
				}
				result.set(key, m)
				columns = append(columns, column{report.Model{Key: key, Label: modelLabel(key, "")}, []*tofu.Metrics{m}})
			}
			if err := result.addRates(); err != nil {
				return dataError(err, "")
			}
			if out != "" {
				if err := rundir.WriteJSON(filepath.Join(out, rundir.Metrics), result); err != nil {
					return ioError(err, "")
				}
			}
			if cmd.Bool("json") {
				return e.json(result)
			}
			printTable(e.stdout, columns)
			if out != "" {
				fmt.Fprintf(e.stdout, "\n%s\n", filepath.Join(out, rundir.Metrics))
			}
			return nil
		},
	}
}

// checkEvalOutput says whether metrics.json can be written into the directory out; empty
// stands for none.
func checkEvalOutput(out string, force bool, inputs ...string) error {
	if out == "" {
		return nil
	}
	return outputStatus(rundir.CheckIn(out, rundir.Metrics, force, inputs...), "give another directory, or --force to replace it")
}

// evalLogs prints the metrics of a folder of logs, and writes them into the directory out
// if there is one.
func (e *env) evalLogs(cmd *cli.Command, dir string, gold *tofu.Logs, as, out string) error {
	l, err := readLogs(dir, "logs")
	if err != nil {
		return err
	}
	m, err := l.Metrics(gold)
	if err != nil {
		return dataError(fmt.Errorf("%s: %w", dir, err), "")
	}
	if out != "" {
		if err := makeDir(out); err != nil {
			return err
		}
		result := metricsFile{}
		result.set(as, m)
		if err := rundir.WriteJSON(filepath.Join(out, rundir.Metrics), result); err != nil {
			return ioError(err, "")
		}
	}
	if cmd.Bool("json") {
		return e.json(m)
	}
	printTable(e.stdout, []column{{report.Model{Key: "guard", Label: filepath.Base(dir)}, []*tofu.Metrics{m}}})
	for _, reason := range []string{m.ModelUtilityReason, m.ForgetQualityReason} {
		if reason != "" {
			fmt.Fprintf(e.stdout, "\nn/a: %s", reason)
		}
	}
	fmt.Fprintln(e.stdout)
	return nil
}

func readLogs(dir, role string) (*tofu.Logs, error) {
	l, err := tofu.ReadLogs(dir)
	if err != nil {
		return nil, dataError(fmt.Errorf("%w (--%s)", err, role), "")
	}
	return l, nil
}

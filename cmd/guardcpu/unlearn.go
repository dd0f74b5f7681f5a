package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/guard"
	"github.com/guardcpu/guardcpu/tofu"
)

// unlearnOptions are those of guard.Unlearn with their flags.
type unlearnOptions struct {
	guard.Options
	kl       string
	form     string
	refusals string
}

func newUnlearnOptions() unlearnOptions {
	return unlearnOptions{Options: guard.DefaultOptions()}
}

func (o *unlearnOptions) flags() []cli.Flag {
	var names, docs []string
	for _, l := range guard.Losses {
		names = append(names, l.Name)
		docs = append(docs, l.Name+" ("+l.Doc+")")
	}
	return append([]cli.Flag{
		&cli.StringFlag{Name: "method", Usage: "`METHOD`: " + strings.Join(docs, "; "), Value: o.Loss, Destination: &o.Loss, Category: "unlearning", Validator: oneOf(names...)},
		&cli.FloatFlag{Name: "epochs", Usage: "passes `N` over the forget set", Value: o.Epochs, Destination: &o.Epochs, Category: "unlearning", Validator: positive},
		&cli.IntFlag{Name: "batch", Usage: "forget samples `N` a step", Value: o.Batch, Destination: &o.Batch, Category: "unlearning", Validator: atLeast(1)},
		&cli.IntFlag{Name: "micro-batch", Usage: "samples `N` over which tokens are averaged; 0: the whole batch, 4: as TOFU's runs", Destination: &o.MicroBatch, Category: "unlearning", Validator: atLeast(0)},
		&cli.StringFlag{Name: "kl", Usage: "`POSITIONS` of km's divergence: all, answer, or tofu (all, divided by TOFU's padded length)", Value: string(o.KL), Destination: &o.kl, Category: "unlearning",
			Validator: oneOf(string(guard.KLAll), string(guard.KLTOFU), string(guard.KLAnswer))},
		&cli.StringFlag{Name: "km-reference", Usage: "`FORM` in which km remembers what the model said before: hidden (hidden states, exact), hidden16 (half as large), or topk:K (the K likeliest tokens, all others as one)",
			Value: string(engine.ReferenceHidden), Destination: &o.form, Category: "unlearning", Validator: func(name string) error {
				_, err := engine.ParseReferenceForm(name)
				if err != nil {
					return errors.New("want hidden, hidden16, or topk:K with a number K")
				}
				return nil
			}},
		&cli.StringFlag{Name: "refusals", Usage: "`FILE` of po's refusing answers, one a line; some are built in", Destination: &o.refusals, TakesFile: true, Category: "unlearning"},
	}, trainFlags("", "unlearning", &o.TrainOptions)...)
}

// resolve takes over what flags hold as text.
func (o *unlearnOptions) resolve() {
	o.KL, o.Reference = guard.KLPositions(o.kl), engine.ReferenceForm(o.form)
}

// needsRetain says whether the objective has a retain term.
func (o *unlearnOptions) needsRetain() bool {
	l, err := guard.LossByName(o.Loss)
	return err != nil || l.NeedsRetain // the name was checked with the flag
}

// data is what guard.Unlearn works on, without weights.
func (o *unlearnOptions) data(enc *encoder, items []tofu.Item, forget, retain []engine.Sample, refusals []string) guard.Data {
	d := guard.Data{Forget: forget}
	l, err := guard.LossByName(o.Loss)
	if err == nil && l.NeedsRetain {
		d.Retain = retain
	}
	if err == nil && l.NeedsIdk {
		d.NIdk = len(refusals)
		d.Idk = func(i, k int) (engine.Sample, error) {
			return enc.format.SampleOf(enc.tok, &items[i], refusals[k], enc.maxLen)
		}
	}
	return d
}

// unlearn changes m, with progress. The hooks may be empty.
func (e *env) unlearn(ctx context.Context, m *engine.Model, d guard.Data, o guard.Options, name string, h guard.Hooks) (*guard.History, error) {
	task := e.bars.Start(name)
	h.Reference = task.Set
	h.Note = func(text string) { e.bars.Printf("guardcpu: note: %s", text) }
	step := h.Step
	h.Step = func(s guard.StepInfo) error {
		var parts []string
		for _, t := range s.Terms {
			parts = append(parts, fmt.Sprintf("%s %.3f", t.Name, t.Mean))
		}
		task.Note("%s", strings.Join(parts, ", "))
		task.Set(s.Step, s.Steps)
		if step != nil {
			return step(s)
		}
		return nil
	}
	hist, err := guard.Unlearn(ctx, m, d, o, h)
	if err != nil {
		return nil, trainError(err)
	}
	task.Done()
	return hist, nil
}

func unlearnCommand(e *env) *cli.Command {
	var model, out, scores string
	var plain, force bool
	var how computing
	var seed uint64
	d := dataOptions{}
	mode := modeOptions{}
	so := newScoreOptions()
	o := newUnlearnOptions()
	var split gguf.Split
	flags := []cli.Flag{
		modelFlag(&model),
		&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "GGUF `FILE` to write", Destination: &out, TakesFile: true},
		&cli.BoolFlag{Name: "plain", Usage: "no weights: the method without GUARD", Destination: &plain, Category: "attribution"},
		&cli.StringFlag{Name: "scores", Usage: "take the weights from a scores.jsonl `FILE` of attribute", Destination: &scores, TakesFile: true, Category: "attribution"},
		forceFlag(&force),
		seedFlag(&seed, 42),
		threadsFlag(&how.threads),
		computeFlag(&how.compute, nn.ComputeF32),
		memoryFlag(&how.memory),
	}
	flags = append(flags, d.flags()...)
	flags = append(flags, so.flags()...)
	flags = append(flags, o.flags()...)
	flags = append(flags, mode.flags()...)
	flags = append(flags, mode.typeFlag(), mode.loraOutFlag())
	flags = append(flags, splitFlags(&split)...)
	return &cli.Command{
		Name:      "unlearn",
		Usage:     "remove the samples to forget from a model",
		ArgsUsage: " ",
		Description: `The model must know the data: see finetune. Without --plain and --scores the samples are
scored and weighed first. Defaults are TOFU's recipe; watch the retained knowledge with
eval, or use run, which does all of it and compares.

Examples:
  guardcpu unlearn --model tuned.gguf --forget forget.jsonl --retain retain.jsonl --out unlearned.gguf
  guardcpu unlearn --model tuned.gguf --forget f.jsonl --retain r.jsonl --method km --lr 1e-4 --out unlearned.gguf
  guardcpu unlearn --model tuned.gguf --forget f.jsonl --retain r.jsonl --scores scores/scores.jsonl --out unlearned.gguf
  guardcpu unlearn --model tuned.gguf --forget f.jsonl --method ga --plain --out unlearned.gguf`,
		Flags: flags,
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if err := noArguments(cmd); err != nil {
				return err
			}
			how.memory.take()
			if err := mode.needsOutput(out); err != nil {
				return err
			}
			if plain && scores != "" {
				return usageError("--plain takes no weights, --scores gives some; use one of them")
			}
			o.resolve()
			o.Seed = seed
			if err := so.resolve(seed); err != nil {
				return err
			}
			weigh := !plain && scores == ""
			x, err := e.openMaterial(model, how, &d, weigh || o.needsRetain())
			if err != nil {
				return err
			}
			defer x.close()
			m := x.m
			inputs := append(d.inputs(), model, scores, o.refusals, cmd.String("config"))
			if err := mode.checkOutputs(out, force, split, x.file, inputs...); err != nil {
				return err
			}
			lines, err := refusals(o.refusals)
			if err != nil {
				return err
			}
			data := o.data(x.enc, x.sets.forget, x.forget, x.retain, lines)
			if scores != "" {
				if data.Multipliers, err = readMultipliers(scores, len(x.forget)); err != nil {
					return err
				}
			}
			work, err := unlearning("unlearning", m, data, &o.Options)
			if err != nil {
				return err
			}
			if err := e.prepare(ctx, m, &how.memory, &mode, seed, []*trainWork{work}, nil); err != nil {
				return err
			}
			written, err := mode.writes(m, out, split)
			if err != nil {
				return err
			}
			start := time.Now()
			written.Set = append(provenance("unlearn", seed), gguf.KV{Key: "guardcpu.method", Value: o.Loss})
			if weigh {
				so.Memory = how.memory.bytes
				w, err := e.attribute(ctx, m, x.retain, x.forget, so)
				if err != nil {
					return err
				}
				m.LimitWeights(mode.weightLimit) // again, for attribution has its own
				data.Multipliers = w.mult
				written.Set = append(written.Set, gguf.KV{Key: "guardcpu.tau", Value: w.summary.Tau})
			}
			hist, err := e.unlearn(ctx, m, data, o.Options, "unlearn", guard.Hooks{})
			if err != nil {
				return err
			}
			if out, err = e.write(m, &mode, out, written); err != nil {
				return err
			}
			last := hist.Steps[len(hist.Steps)-1]
			if cmd.Bool("json") {
				terms := map[string]float64{}
				for _, t := range last.Terms {
					terms[t.Name] = t.Mean
				}
				return e.json(struct {
					Out        string             `json:"out"`
					LoRAOut    string             `json:"lora_out,omitempty"`
					Method     string             `json:"method"`
					Steps      int                `json:"steps"`
					Terms      map[string]float64 `json:"terms"`       // of the last step, nats a position
					PeakMemory uint64             `json:"peak_memory"` // bytes resident at most; 0: not known
					Seconds    float64            `json:"seconds"`
				}{out, mode.loraOut, o.Loss, last.Steps, terms, peakMemory(), seconds(time.Since(start))})
			}
			fmt.Fprintf(e.stdout, "%s: %s, %s", mode.names(out), o.Loss, plural(last.Steps, "step"))
			for _, t := range last.Terms {
				fmt.Fprintf(e.stdout, ", %s %.3f nats", t.Name, t.Mean)
			}
			fmt.Fprintf(e.stdout, ", %s\n", durationText(time.Since(start)))
			return nil
		},
	}
}

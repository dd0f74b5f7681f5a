package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/guard"
	"github.com/guardcpu/guardcpu/tofu"
)

// result is one evaluated model of the table.
type result struct {
	Model     string           `json:"model"` // before, gold, or objective and learning rate /plain, /guard
	Seed      uint64           `json:"seed,omitempty"`
	Metrics   *tofu.Metrics    `json:"metrics"`
	Sacrifice []tofu.Sacrifice `json:"sacrifice,omitempty"`
	Diverged  string           `json:"diverged,omitempty"`
	Seconds   float64          `json:"seconds"`
}

// bench holds what all runs share.
type bench struct {
	d       *data
	out     string
	items   int
	epochs  float64
	threads int
	model   *engine.Model // full.gguf, differentiable
	gold    *tofu.Logs    // nil: forget quality is not known
	before  *tofu.Metrics
	mult    []float64
	results []result
}

// saved returns the logs of a model that the output folder holds already, or nil. They
// are there once Write has come to its end, which is the file with all of them.
func (b *bench) saved(name string) (*tofu.Logs, error) {
	l, err := tofu.ReadLogs(filepath.Join(b.out, "logs", name, "eval_log_aggregated.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return l, err
}

// evaluate returns the logs of a model, those saved if there are any.
func (b *bench) evaluate(ctx context.Context, m *engine.Model, name string) (*tofu.Logs, error) {
	if l, err := b.saved(name); l != nil || err != nil {
		return l, err
	}
	l, err := tofu.Evaluate(ctx, m, tofu.Sets{
		Retain: b.d.retainEval, Forget: b.d.forgetEval, RealAuthors: b.d.realAuthors, WorldFacts: b.d.worldFacts,
	}, tofu.EvalOptions{Format: b.d.format, MaxItems: b.items}, nil)
	if err != nil {
		return nil, err
	}
	return l, l.Write(filepath.Join(b.out, "logs", name))
}

func (b *bench) open(name string) (*engine.Model, error) {
	return engine.Open(filepath.Join(b.out, name), engine.Options{Threads: b.threads})
}

// evaluateGold evaluates the model that was trained without the forget set.
func (b *bench) evaluateGold(ctx context.Context) error {
	gold, err := b.open("retain90.gguf")
	if err != nil {
		return err
	}
	defer gold.Close()
	if b.gold, err = b.evaluate(ctx, gold, "gold"); err != nil {
		return err
	}
	m, err := b.gold.Metrics(b.gold)
	if err != nil {
		return err
	}
	r := result{Model: "gold", Metrics: m}
	print(r)
	return b.add(r)
}

// prepare evaluates the model before unlearning.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.model, err = b.open("full.gguf"); err != nil {
		return err
	}
	b.model.TrainFull()
	logs, err := b.evaluate(ctx, b.model, "before")
	if err != nil {
		return err
	}
	if b.before, err = logs.Metrics(b.gold); err != nil {
		return err
	}
	r := result{Model: "before", Metrics: b.before}
	print(r)
	return b.add(r)
}

// samples formats the forget and the retain set as training does: only the answer counts.
func (b *bench) samples() (forget, retain []engine.Sample, err error) {
	if forget, _, err = b.d.format.Samples(b.model.Tokenizer, b.d.forget, 500); err != nil {
		return nil, nil, err
	}
	retain, _, err = b.d.format.Samples(b.model.Tokenizer, b.d.retain, 500)
	return forget, retain, err
}

// attribute scores the forget samples against the whole retain set and weighs them.
func (b *bench) attribute(ctx context.Context, tau guard.Tau) error {
	forget, retain, err := b.samples()
	if err != nil {
		return err
	}
	began := time.Now()
	a, err := guard.Attribute(ctx, b.model, retain, forget, guard.DefaultScoreOptions(), nil)
	if err != nil {
		return err
	}
	t, err := tau.Resolve(a.Scores)
	if err != nil {
		return err
	}
	mult, s, err := guard.Summarize(a.Scores, t)
	if err != nil {
		return err
	}
	b.mult = mult
	log.Printf("attribution: %d forget samples against %d in %.0f s; scores %.4g ± %.4g (%.4g to %.4g), tau %s = %.4g, effective sample size %.0f, largest multiplier %.2f",
		len(forget), len(retain), time.Since(began).Seconds(), s.Mean, s.Std, s.Min, s.Max, tau, s.Tau, s.EffectiveSize, s.LargestMultiplier)
	return writeJSON(filepath.Join(b.out, "scores.json"), a)
}

// run unlearns with one objective, plain or weighted, and evaluates.
func (b *bench) run(ctx context.Context, me method, weighted bool, seed uint64) error {
	kind := "plain"
	if weighted {
		kind = "guard"
	}
	r := result{Model: me.label(" ") + "/" + kind, Seed: seed}
	name := fmt.Sprintf("%s-%s-%d", me.label("-"), kind, seed)
	began := time.Now()
	saved, err := b.saved(name)
	if err != nil {
		return err
	}
	m := b.model
	if saved == nil {
		if m, err = b.open("full.gguf"); err != nil {
			return err
		}
		defer m.Close()
		if err := me.mode.train(m, seed); err != nil {
			return err
		}
		forget, retain, err := b.samples()
		if err != nil {
			return err
		}
		o := guard.DefaultOptions()
		o.Loss, o.LR, o.Seed, o.Epochs, o.Optimizer = me.name, me.lr, seed, b.epochs, me.mode.optimizer
		data := guard.Data{Forget: forget, Retain: retain, NIdk: len(b.d.refusals), Idk: func(i, k int) (engine.Sample, error) {
			return b.d.format.Sample(b.model.Tokenizer, b.d.forget[i].Question, b.d.refusals[k], 500)
		}}
		if weighted {
			data.Multipliers = b.mult
		}
		var diverged *engine.DivergedError
		if _, err := guard.Unlearn(ctx, m, data, o, guard.Hooks{}); errors.As(err, &diverged) {
			r.Diverged = err.Error()
			log.Printf("%s: %v", name, err)
			return b.add(r)
		} else if err != nil {
			return err
		}
	}
	logs, err := b.evaluate(ctx, m, name)
	if err != nil {
		return err
	}
	if r.Metrics, err = logs.Metrics(b.gold); err != nil {
		return err
	}
	if r.Sacrifice, err = tofu.SacrificeRate(b.before, r.Metrics); err != nil {
		return err
	}
	r.Seconds = time.Since(began).Seconds()
	print(r)
	return b.add(r)
}

// add keeps a result, in the file too.
func (b *bench) add(r result) error {
	b.results = append(b.results, r)
	return writeJSON(filepath.Join(b.out, "results.json"), b.results)
}

func print(r result) {
	rates := ""
	for _, s := range r.Sacrifice {
		rates += " " + s.Metric + " " + signed(sacrifice(s.Metric)(r))
	}
	log.Printf("%-16s seed %d: forget P %.3f R %.3f T %.3f | retain P %.3f R %.3f T %.3f | MU %.3f FQ %.2e | sacrifice%s | %.0f s", r.Model, r.Seed,
		metric(tofu.Forget, "probability")(r), metric(tofu.Forget, "rougeL_recall")(r), metric(tofu.Forget, "truth_ratio")(r),
		metric(tofu.Retain, "probability")(r), metric(tofu.Retain, "rougeL_recall")(r), metric(tofu.Retain, "truth_ratio")(r),
		deref(r.Metrics.ModelUtility), deref(r.Metrics.ForgetQuality), rates, r.Seconds)
}

func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}

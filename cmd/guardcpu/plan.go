package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/guard"
	"github.com/guardcpu/guardcpu/tofu"
)

// planParts are what can be planned, in the order of a run.
var planParts = []string{"finetune", "attribute", "unlearn", "eval"}

func planCommand(e *env) *cli.Command {
	var model string
	var parts []string
	var measure bool
	var how computing
	var seed uint64
	d, mode, score, unlearn, finetune, eval := dataOptions{}, modeOptions{}, newScoreOptions(), newUnlearnOptions(), newFinetuneOptions(), evalOptions{}
	flags := []cli.Flag{
		modelFlag(&model),
		&cli.StringSliceFlag{Name: "for", Usage: "`WORK` to plan, all if none is given: " + strings.Join(planParts, ", ") + "; may be given several times", Destination: &parts, Validator: func(list []string) error {
			for _, p := range list {
				if err := oneOf(planParts...)(p); err != nil {
					return err
				}
			}
			return nil
		}},
		&cli.BoolFlag{Name: "time", Usage: "measure for some seconds how fast this machine is, and say how long it would take", Value: true, Destination: &measure},
		seedFlag(&seed, 42),
		threadsFlag(&how.threads),
		computeFlag(&how.compute, nn.ComputeF32),
		memoryFlag(&how.memory),
		&cli.StringFlag{Name: "retain-eval", Usage: "data `FILE` to evaluate the retain set on; without it the retain set", Destination: &eval.retain, TakesFile: true, Category: "evaluation"},
		&cli.StringFlag{Name: "forget-eval", Usage: "data `FILE` to evaluate the forget set on; without it the forget set", Destination: &eval.forget, TakesFile: true, Category: "evaluation"},
	}
	flags = append(flags, d.flags()...)
	flags = append(flags, finetune.flags("finetune-", "fine-tuning")...)
	flags = append(flags, score.flags()...)
	flags = append(flags, score.streamFlags()...)
	flags = append(flags, unlearn.flags()...)
	flags = append(flags, mode.flags()...)
	flags = append(flags, eval.flags()...)
	return &cli.Command{
		Name:      "plan",
		Usage:     "say what a run would take: memory, disk, operations, time",
		ArgsUsage: " ",
		Description: `Nothing is trained and nothing is kept. The options are those of run, and what is
planned is each step once: a run evaluates several models and unlearns twice for each seed.
Training is planned in every mode of training; --mode auto would take the first that fits.

Memory is the sum of what is there at the peak, tensor by tensor; the smallest budget is
that in which weights of the file are given back and read again. Time is what the first few
blocks take on some of the samples, times what there is to do. Where an answer ends is not known
before: texts are taken to be as long as the answers, or with --ignore-eos as --eval-length.

Exit status is 5 if something cannot fit into --memory; the line names the smallest budget.

Examples:
  guardcpu plan --model tuned.gguf --forget forget.jsonl --retain retain.jsonl --memory 12GiB
  guardcpu plan --model 7b-Q8_0.gguf --forget f.jsonl --retain r.jsonl --for attribute --retain-samples 200 --time=false
  guardcpu plan --model tuned.gguf --forget f.jsonl --retain r.jsonl --method km --json`,
		Flags: flags,
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if err := noArguments(cmd); err != nil {
				return err
			}
			how.memory.take()
			unlearn.resolve()
			if err := score.resolve(seed); err != nil {
				return err
			}
			if len(parts) == 0 {
				parts = planParts
			}
			x, err := e.openMaterial(model, how, &d, true)
			if err != nil {
				return err
			}
			defer x.close()
			p := &planner{e: e, ctx: ctx, x: x, memory: &how.memory, mode: mode, dir: cmp.Or(score.SpillDir, ".")}
			if measure {
				p.clock = &calibration{ctx: ctx, m: x.m, samples: slices.Concat(x.forget, x.retain), forwards: map[int]speed{}}
			}
			if err := p.plan(parts, &score, &unlearn, &finetune, &eval, seed); err != nil {
				return err
			}
			return p.print(cmd.Bool("json"))
		},
	}
}

// planned is what plan says of one piece of work.
type planned struct {
	Work     string       `json:"work"`
	Mode     string       `json:"mode,omitempty"` // of training
	Fits     bool         `json:"fits"`
	Smallest uint64       `json:"smallest_bytes"` // budget that would do
	Peak     uint64       `json:"peak_bytes"`     // of resident memory within this one
	Buffers  []planBuffer `json:"buffers"`
	Chunks   [][2]int     `json:"chunks,omitempty"` // of blocks; none: the whole gradient in memory
	Phases   []planPhase  `json:"phases,omitempty"`
	Disk     uint64       `json:"disk_bytes"` // at most at once: spills, checkpoints, outputs
	Tokens   int          `json:"tokens"`
	Flops    float64      `json:"flops"` // of products with weights
	Seconds  *float64     `json:"seconds,omitempty"`
	Note     string       `json:"note,omitempty"`
}

type planBuffer struct {
	Name  string `json:"name"`
	Bytes uint64 `json:"bytes"`
}

type planPhase struct {
	Name    string  `json:"name"`
	Flops   float64 `json:"flops"`
	Weights uint64  `json:"weight_bytes"`
	Read    uint64  `json:"spill_read_bytes"`
	Written uint64  `json:"spill_written_bytes"`
}

// planner plans pieces of work.
type planner struct {
	e      *env
	ctx    context.Context
	x      *material
	memory *budget
	mode   modeOptions
	dir    string       // in which it may measure how fast the disk is
	clock  *calibration // nil: times are not asked for
	out    []planned
}

// plan plans the parts.
func (p *planner) plan(parts []string, score *scoreOptions, unlearn *unlearnOptions, finetune *finetuneOptions, eval *evalOptions, seed uint64) error {
	x := p.x
	has := func(part string) bool { return slices.Contains(parts, part) }
	if has("finetune") {
		samples := slices.Concat(x.retain, x.forget)
		options := finetune.forSamples(len(samples), seed)
		if err := p.training("fine-tune", finetuning("fine-tuning", &options, samples)); err != nil {
			return err
		}
	}
	if has("attribute") {
		if err := p.attribution(score); err != nil {
			return err
		}
	}
	if has("unlearn") {
		lines, err := refusals(unlearn.refusals)
		if err != nil {
			return err
		}
		o := unlearn.Options
		o.Seed = seed
		work, err := unlearning("unlearning", x.m, unlearn.data(x.enc, x.sets.forget, x.forget, x.retain, lines), &o)
		if err != nil {
			return err
		}
		if err := p.training("unlearn by "+unlearn.Loss, work); err != nil {
			return err
		}
	}
	if !has("eval") {
		return nil
	}
	sets := tofu.Sets{Forget: x.sets.forget, Retain: x.sets.retain}
	if err := eval.load(&sets); err != nil {
		return err
	}
	return p.evaluation(sets, eval.options(x.enc.format))
}

// add appends a piece of work that needs memory: n as it would be done, and least at least.
func (p *planner) add(w planned, n, least need) *planned {
	w.Smallest, w.Peak = least.smallest(), n.within(p.memory)
	w.Fits = p.memory.bytes == 0 || w.Smallest <= p.memory.bytes
	for _, b := range n.buffers {
		w.Buffers = append(w.Buffers, planBuffer(b))
	}
	if n.weights > 0 {
		w.Buffers = append(w.Buffers, planBuffer{"weights", min(n.weights, w.Peak-min(w.Peak, engine.Sum(n.buffers)))})
	}
	p.out = append(p.out, w)
	return &p.out[len(p.out)-1]
}

// training plans a training in every mode.
func (p *planner) training(name string, t *trainWork) error {
	m := p.x.m
	for _, mode := range trainModes {
		o := p.mode
		o.mode = mode
		least, err := t.need(m, mode, &o, 0)
		if err != nil {
			return err
		}
		keep := p.memory.keep(m, &least)
		n, err := t.need(m, mode, &o, keep)
		if err != nil {
			return err
		}
		w := p.add(planned{Work: name, Mode: mode}, n, least)
		w.Disk = p.x.file.Size()
		batches := 0
		var all engine.BatchSize
		again := 0.0 // rows times blocks whose insides are computed once more
		for _, terms := range t.steps {
			var step engine.BatchSize
			for _, b := range terms {
				step = step.Add(b)
				if mode != "fused" {
					again += float64(b.Rows * m.Recomputed(keep, b.Rows))
				}
			}
			if mode == "fused" {
				again += float64(step.Rows * m.Recomputed(keep, step.Rows))
			}
			batches += len(terms)
			all = all.Add(step)
		}
		w.Tokens = all.Rows
		perRow := 6.0
		if mode == "lora" {
			perRow = 4
		}
		perBlock := m.BlockWeights() / float64(m.Config.NLayers)
		w.Flops = perRow*(float64(all.Rows)*m.BlockWeights()+float64(all.Targets)*float64(m.OutputWeights())) + 2*perBlock*again
		if p.clock == nil || !w.Fits {
			continue
		}
		speed, err := p.clock.training(o, t)
		if err != nil {
			return err
		}
		forward, err := p.clock.forward(t.largest(false).Rows)
		if err != nil {
			return err
		}
		seconds := speed.seconds(m.Config.NLayers, float64(len(t.steps)), float64(all.Rows)) + again*forward.block
		if len(t.reference) > 0 {
			rows := float64(engine.Size(t.reference).Rows)
			seconds += rows*float64(m.Config.NLayers)*forward.block + rows*forward.ends
		}
		written, err := p.clock.writing(p.dir)
		if err != nil {
			return err
		}
		seconds += written + p.clock.newMemory(engine.Sum(n.buffers[1:]))
		w.Seconds = &seconds
	}
	return nil
}

// attribution plans attribution.
func (p *planner) attribution(score *scoreOptions) error {
	o := score.ScoreOptions
	o.Memory, o.SpillDir = p.memory.bytes, p.dir
	some := guard.Some(len(p.x.forget), score.forgetSamples, o.Seed)
	forget := make([]engine.Sample, len(some))
	for k, i := range some {
		forget[k] = p.x.forget[i]
	}
	m, err := p.x.m.First(p.x.m.Config.NLayers) // which may be marked
	if err != nil {
		return err
	}
	if err := p.mode.differentiate(m, 0); err != nil {
		return err
	}
	plan, err := guard.PlanAttribution(m, p.x.retain, forget, o)
	var memory *guard.MemoryError
	if errors.As(err, &memory) {
		p.out = append(p.out, planned{Work: "attribute", Smallest: memory.Needed, Peak: memory.Needed, Buffers: []planBuffer{}})
		return nil
	}
	if err != nil {
		return trainError(err)
	}
	w := planned{Work: "attribute", Fits: true, Smallest: plan.Smallest, Peak: plan.Peak, Chunks: plan.Chunks, Disk: plan.Spill, Flops: plan.Flops()}
	for _, b := range plan.Buffers {
		w.Buffers = append(w.Buffers, planBuffer(b))
	}
	for _, ph := range plan.Phases {
		w.Phases = append(w.Phases, planPhase(ph))
	}
	w.Tokens = engine.Size(forget).Rows + engine.Size(p.x.retain).Rows*plan.Retain/max(1, len(p.x.retain))
	if plan.Streamed() {
		w.Note = fmt.Sprintf("streamed in %s of up to %s, batches of %d tokens", plural(len(plan.Chunks), "chunk"), plural(plan.ChunkBlocks, "block"), plan.BatchTokens)
	}
	if p.clock != nil {
		seconds, err := p.clock.attribution(p.mode, o, plan)
		if err != nil {
			return trainError(err)
		}
		seconds += p.clock.newMemory(plan.Peak)
		w.Seconds = &seconds
	}
	p.out = append(p.out, w)
	return nil
}

// evaluation plans the evaluation of a model in a file.
func (p *planner) evaluation(sets tofu.Sets, o tofu.EvalOptions) error {
	m := p.x.m
	sizes, err := tofu.EvalSizes(m.Tokenizer, sets, o)
	if err != nil {
		return dataError(err, "")
	}
	v := &evaluation{sizes: sizes, batch: o.Batch}
	v.fit(m, p.memory, nil, true)
	one := evaluation{sizes: sizes, batch: 1}
	w := p.add(planned{Work: "evaluate one model"}, v.need(m, nil, true), one.need(m, nil, true))
	if v.batch < o.Batch {
		w.Note = fmt.Sprintf("%d texts at once in place of %d", v.batch, o.Batch)
	}
	var scored engine.BatchSize
	prompts, steps, decoded, past := 0, 0, 0, 0 // rows of prompts; batches of one token each, their rows, and what came before
	most := 0
	for _, s := range sizes {
		size := engine.Size(s.Samples)
		scored = scored.Add(size)
		for _, b := range s.Batches {
			longest := slices.Max(b.Prompts)
			for lo := 0; lo < len(b.Prompts); lo += v.batch {
				part := b.Prompts[lo:min(len(b.Prompts), lo+v.batch)]
				n := 0
				for i, prompt := range part {
					length := b.Most - longest
					if !o.IgnoreEOS {
						length = min(length, b.Answers[lo+i]+1)
					}
					prompts, decoded, n = prompts+prompt, decoded+length-1, max(n, length-1)
					past += (length - 1) * (prompt + length/2)
				}
				steps, most = steps+n, max(most, len(part))
			}
		}
	}
	w.Tokens = scored.Rows + prompts + decoded
	w.Flops = 2 * (float64(w.Tokens)*m.BlockWeights() + float64(scored.Targets+decoded)*float64(m.OutputWeights()))
	if p.clock == nil || !w.Fits {
		return nil
	}
	forward, err := p.clock.forward(1024)
	if err != nil {
		return err
	}
	l := m.Config.NLayers
	seconds := float64(scored.Rows)*(float64(l)*forward.block+forward.ends) + float64(prompts)*float64(l)*forward.block
	if steps > 0 {
		mean := max(1, decoded/steps)
		speed, err := p.clock.decoding(min(mean, most), past/max(1, decoded))
		if err != nil {
			return err
		}
		seconds += float64(decoded) * (float64(l)*speed.block + speed.ends)
	}
	seconds += p.clock.newMemory(w.Peak)
	w.Seconds = &seconds
	return nil
}

// planResult is what plan --json prints.
type planResult struct {
	Model      string    `json:"model"`
	Parameters int       `json:"parameters"`
	Memory     uint64    `json:"memory_bytes"` // allowed; 0: no limit is known
	From       string    `json:"memory_from,omitempty"`
	Threads    int       `json:"threads"`
	Work       []planned `json:"work"`
}

// print shows the plan, and says what does not fit.
func (p *planner) print(asJSON bool) error {
	m := p.x.m
	r := planResult{m.File.Name, m.NParams(), p.memory.bytes, p.memory.from, m.Ctx.Par.Workers(), p.out}
	if asJSON {
		if err := p.e.json(r); err != nil {
			return err
		}
	} else {
		r.write(p.e.stdout, p.memory)
	}
	return p.refusal()
}

// refusal is the error of what cannot fit: of training only if no mode that may be taken does.
func (p *planner) refusal() error {
	best := map[string]*planned{}
	var order []string
	for i := range p.out {
		w := &p.out[i]
		if w.Mode != "" && p.mode.mode != "auto" && w.Mode != p.mode.mode {
			continue
		}
		if b := best[w.Work]; b == nil {
			best[w.Work] = w
			order = append(order, w.Work)
		} else if !b.Fits && (w.Fits || w.Smallest < b.Smallest) {
			best[w.Work] = w
		}
	}
	var worst *planned
	for _, name := range order {
		if w := best[name]; !w.Fits && (worst == nil || w.Smallest > worst.Smallest) {
			worst = w
		}
	}
	if worst == nil {
		return nil
	}
	name := worst.Work
	if worst.Mode != "" {
		name += " (" + worst.Mode + ")"
	}
	return p.memory.refusal(name, worst.Smallest, "use --memory "+sizeText(worst.Smallest))
}

// write prints the plan for a person.
func (r *planResult) write(w io.Writer, b *budget) {
	fmt.Fprintf(w, "%s: %s parameters, %s, %v\n\n", oneLine(r.Model), countText(uint64(r.Parameters)), plural(r.Threads, "thread"), b)
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(tw, "\tfits\tpeak\tsmallest budget\tdisk\ttokens\toperations\ttime\n")
	for _, x := range r.Work {
		fits, seconds := "no", "-"
		if x.Fits {
			fits = "yes"
		}
		if x.Seconds != nil {
			seconds = durationText(time.Duration(*x.Seconds * float64(time.Second)))
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%.3g\t%s\n", x.name(), fits, bytesText(x.Peak), bytesText(x.Smallest), bytesText(x.Disk), countText(uint64(x.Tokens)), x.Flops, seconds)
	}
	tw.Flush()
	for _, x := range r.Work {
		fmt.Fprintf(w, "\n%s", x.name())
		if x.Note != "" {
			fmt.Fprintf(w, ": %s", x.Note)
		}
		fmt.Fprintln(w)
		for _, b := range x.Buffers {
			fmt.Fprintf(w, "  %10s  %s\n", bytesText(b.Bytes), b.Name)
		}
	}
}

// name is the work with its mode.
func (p *planned) name() string {
	if p.Mode == "" {
		return p.Work
	}
	return p.Work + ", " + p.Mode
}

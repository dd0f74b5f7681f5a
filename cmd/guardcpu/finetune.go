package main

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/gguf"
)

func finetuneCommand(e *env) *cli.Command {
	var model, out string
	var data []string
	var force bool
	var how computing
	var seed uint64
	d := dataOptions{}
	mode := modeOptions{}
	o := newFinetuneOptions()
	var split gguf.Split
	flags := []cli.Flag{
		modelFlag(&model),
		&cli.StringSliceFlag{Name: "data", Usage: "data `FILE` to learn (JSON Lines); may be given several times", Destination: &data, TakesFile: true, Category: "data"},
		&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "GGUF `FILE` to write", Destination: &out, TakesFile: true},
		forceFlag(&force),
		seedFlag(&seed, 42),
		threadsFlag(&how.threads),
		computeFlag(&how.compute, nn.ComputeF32),
		memoryFlag(&how.memory),
	}
	flags = append(flags, d.formatFlags()...)
	flags = append(flags, o.flags("", "training")...)
	flags = append(flags, mode.flags()...)
	flags = append(flags, mode.typeFlag(), mode.loraOutFlag())
	flags = append(flags, splitFlags(&split)...)
	return &cli.Command{
		Name:      "finetune",
		Usage:     "teach a model question-answer data",
		ArgsUsage: " ",
		Description: `The loss is the mean negative log-likelihood of the answer tokens of a batch. Defaults are
TOFU's recipe. The written file has the types of the source, or for what has changed --type: a
quantised model is packed again.

Examples:
  guardcpu finetune --model base.gguf --data full.jsonl --out tuned.gguf
  guardcpu finetune --model base.gguf --data retain.jsonl --data forget.jsonl --lr 1e-3 --epochs 10 --out tuned.gguf
  guardcpu finetune --model base-q8_0.gguf --data full.jsonl --mode lora --lora-rank 16 --out tuned.gguf`,
		Flags: flags,
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if err := noArguments(cmd); err != nil {
				return err
			}
			how.memory.take()
			if len(data) == 0 {
				return usageError("no data is given; use --data FILE")
			}
			if err := mode.needsOutput(out); err != nil {
				return err
			}
			x, err := openSubject(model, how, &d)
			if err != nil {
				return err
			}
			defer x.close()
			if err := mode.checkOutputs(out, force, split, x.file, append(data, model, cmd.String("config"))...); err != nil {
				return err
			}
			m := x.m
			var samples []engine.Sample
			for _, path := range data {
				items, _, err := loadItems("data", path)
				if err != nil {
					return err
				}
				s, err := e.samples(x.enc, path, items)
				if err != nil {
					return err
				}
				samples = append(samples, s...)
			}
			options := o.forSamples(len(samples), seed)
			work := []*trainWork{finetuning("fine-tuning", &options, samples)}
			if err := e.prepare(ctx, m, &how.memory, &mode, seed, work, nil); err != nil {
				return err
			}
			written, err := mode.writes(m, out, split)
			if err != nil {
				return err
			}
			written.Set = provenance("finetune", seed)
			start := time.Now()
			last, err := e.finetune(ctx, m, samples, options, "fine-tune", engine.FinetuneHooks{})
			if err != nil {
				return err
			}
			if out, err = e.write(m, &mode, out, written); err != nil {
				return err
			}
			result := struct {
				Out        string  `json:"out"`
				LoRAOut    string  `json:"lora_out,omitempty"`
				Steps      int     `json:"steps"`
				Loss       float64 `json:"loss"` // of the last step
				Samples    int     `json:"samples"`
				PeakMemory uint64  `json:"peak_memory"` // bytes resident at most; 0: not known
				Seconds    float64 `json:"seconds"`
			}{out, mode.loraOut, last.Steps, last.Loss, len(samples), peakMemory(), seconds(time.Since(start))}
			if cmd.Bool("json") {
				return e.json(result)
			}
			fmt.Fprintf(e.stdout, "%s: %s, %s, last loss %.4f, %s\n", mode.names(out), plural(len(samples), "sample"), plural(last.Steps, "step"), last.Loss, durationText(time.Since(start)))
			return nil
		},
	}
}

// noArguments refuses arguments where only options are meant.
func noArguments(cmd *cli.Command) error {
	if cmd.NArg() > 0 {
		return usageError("%s takes no argument, found %q; see guardcpu %s --help", cmd.Name, cmd.Args().First(), cmd.Name)
	}
	return nil
}

// finetune trains m with progress, and returns the last step. The hooks may be empty.
func (e *env) finetune(ctx context.Context, m *engine.Model, samples []engine.Sample, o engine.FinetuneOptions, name string, h engine.FinetuneHooks) (last engine.FinetuneStep, err error) {
	task := e.bars.Start(name)
	step := h.Step
	h.Step = func(s engine.FinetuneStep) error {
		last = s
		task.Note("loss %.3f", s.Loss)
		task.Set(s.Step, s.Steps)
		if step != nil {
			return step(s)
		}
		return nil
	}
	err = engine.Finetune(ctx, m, samples, o, h)
	if err != nil {
		return last, trainError(err)
	}
	if math.IsNaN(last.Loss) {
		return last, &engine.DivergedError{Step: last.Step - 1, What: "loss", Got: last.Loss}
	}
	task.Done()
	return last, nil
}

// provenance are the keys a written model carries besides those of its source.
func provenance(what string, seed uint64) []gguf.KV {
	b := readBuild()
	return []gguf.KV{
		{Key: "guardcpu.version", Value: b.Version},
		{Key: "guardcpu.command", Value: what},
		{Key: "guardcpu.seed", Value: seed},
	}
}

// export writes the model and reads it back with the strict reader. It returns the
// names of the files.
func (e *env) export(m *engine.Model, path string, o engine.ExportOptions) ([]string, error) {
	debug.FreeOSMemory() // what training has held is not needed any more, and packing takes memory
	paths, err := m.ExportParts(path, o)
	if err != nil {
		return nil, writeError(path, err)
	}
	_, err = readBack(paths)
	return paths, err
}

package main

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/optim"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
)

// trainModes are the modes of training, in the order in which auto tries them.
var trainModes = []string{"full", "fused", "lora"}

// modeOptions say which parameters training changes.
type modeOptions struct {
	mode        string
	rank        int
	alpha       float64
	loraTargets []string
	typeName    string
	loraOut     string
	weightLimit uint64 // of Model.LimitWeights, once the mode is settled
	planned     string // what the work takes in it
}

func (o *modeOptions) flags() []cli.Flag {
	d := engine.DefaultLoRAOptions()
	return []cli.Flag{
		&cli.StringFlag{Name: "mode", Usage: "`MODE` of training: full (float32 masters of every weight), fused (weights of bfloat16, each updated as soon as its gradient is there; adafactor or sgd), lora (adapters, merged when a model is written), or auto (the first of them that fits into --memory)", Value: "full", Destination: &o.mode, Category: "training",
			Validator: oneOf(append(trainModes, "auto")...)},
		&cli.IntFlag{Name: "lora-rank", Usage: "rank `R` of the adapters", Value: d.Rank, Destination: &o.rank, Category: "training", Validator: atLeast(1)},
		&cli.FloatFlag{Name: "lora-alpha", Usage: "`ALPHA`: an adapter is scaled by ALPHA/R", Value: d.Alpha, Destination: &o.alpha, Category: "training", Validator: positive},
		&cli.StringSliceFlag{Name: "lora-targets", Usage: "`PATTERN` of the tensors that get an adapter; may be given several times", Value: d.Targets, Destination: &o.loraTargets, Category: "training"},
	}
}

// lora are the options of adapters.
func (o *modeOptions) lora(seed uint64) engine.LoRAOptions {
	return engine.LoRAOptions{Rank: o.rank, Alpha: o.alpha, Targets: o.loraTargets, Seed: seed}
}

// differentiate makes gradients be taken with respect to what the mode trains, without masters of the weights.
func (o *modeOptions) differentiate(m *engine.Model, seed uint64) error {
	if o.mode == "lora" {
		return o.prepare(m, seed)
	}
	m.DifferentiateAll()
	return nil
}

// typeFlag is the flag of commands that write what they have trained.
func (o *modeOptions) typeFlag() cli.Flag {
	return &cli.StringFlag{Name: "type", Usage: "`TYPE` in which changed matrices are written, which types that are only read need, such as IQ4_XS and MXFP4 (default: the type they have)", Destination: &o.typeName, Category: "training"}
}

// export returns the options of writing m, which has been prepared, after checking that
// what is trained can be written.
func (o *modeOptions) export(m *engine.Model, split gguf.Split) (engine.ExportOptions, error) {
	x := engine.ExportOptions{Split: split}
	if o.typeName != "" {
		var err error
		if x.Type, err = quant.PackingByName(o.typeName); err != nil {
			return x, &statusError{status: exitUsage, err: err}
		}
	}
	if err := m.CheckExport(x); err != nil {
		return x, modelError(err, "name another type for changed matrices with --type, such as Q8_0 or F16")
	}
	return x, nil
}

// trainFlags are the options of an optimizer. prefix begins their names.
func trainFlags(prefix, category string, o *engine.TrainOptions) []cli.Flag {
	var optimizers, schedules []string
	for _, k := range optim.Optimizers {
		optimizers = append(optimizers, k.Name)
	}
	for _, s := range optim.Schedules {
		schedules = append(schedules, s.Name)
	}
	return []cli.Flag{
		&cli.FloatFlag{Name: prefix + "lr", Usage: "peak learning rate `LR`", Value: o.LR, Destination: &o.LR, Category: category, Validator: nonNegative},
		&cli.StringFlag{Name: prefix + "schedule", Usage: "`SCHEDULE` of the learning rate: " + strings.Join(schedules, ", "), Value: o.Schedule, Destination: &o.Schedule, Category: category, Validator: oneOf(schedules...)},
		&cli.IntFlag{Name: prefix + "warmup", Usage: "updates `N` over which the learning rate rises; -1: those of one epoch", Value: -1, Destination: &o.Warmup, Category: category, Validator: atLeast(-1)},
		&cli.StringFlag{Name: prefix + "optimizer", Usage: "`NAME` of the optimizer: " + strings.Join(optimizers, ", "), Value: o.Optimizer, Destination: &o.Optimizer, Category: category, Validator: oneOf(optimizers...)},
		&cli.FloatFlag{Name: prefix + "weight-decay", Usage: "decoupled weight decay `D`, not on norms and biases", Value: o.WeightDecay, Destination: &o.WeightDecay, Category: category, Validator: nonNegative},
		&cli.FloatFlag{Name: prefix + "clip", Usage: "largest gradient norm `C`; 0 clips nothing", Value: o.Clip, Destination: &o.Clip, Category: category, Validator: nonNegative},
		&cli.FloatFlag{Name: prefix + "beta1", Usage: "AdamW's decay `B` of the first moment", Value: o.Beta1, Destination: &o.Beta1, Category: category, Validator: share},
		&cli.FloatFlag{Name: prefix + "beta2", Usage: "AdamW's decay `B` of the second moment", Value: o.Beta2, Destination: &o.Beta2, Category: category, Validator: share},
		&cli.FloatFlag{Name: prefix + "eps", Usage: "AdamW's `EPS`, added to the root of the second moment", Value: o.Eps, Destination: &o.Eps, Category: category, Validator: positive},
		&cli.FloatFlag{Name: prefix + "momentum", Usage: "SGD's momentum `M`", Value: o.Momentum, Destination: &o.Momentum, Category: category, Validator: share},
	}
}

// finetuneOptions are those of engine.Finetune with their flags.
type finetuneOptions struct{ engine.FinetuneOptions }

func newFinetuneOptions() finetuneOptions {
	return finetuneOptions{engine.DefaultFinetuneOptions()}
}

func (o *finetuneOptions) flags(prefix, category string) []cli.Flag {
	return append([]cli.Flag{
		&cli.IntFlag{Name: prefix + "epochs", Usage: "passes `N` over the data", Value: o.Epochs, Destination: &o.Epochs, Category: category, Validator: atLeast(1)},
		&cli.IntFlag{Name: prefix + "batch", Usage: "samples `N` a step", Value: o.Batch, Destination: &o.Batch, Category: category, Validator: atLeast(1)},
	}, trainFlags(prefix, category, &o.TrainOptions)...)
}

// forSamples returns the options for n samples: a warmup of -1 is that of one epoch.
func (o finetuneOptions) forSamples(n int, seed uint64) engine.FinetuneOptions {
	f := o.FinetuneOptions
	f.Seed = seed
	if f.Warmup < 0 {
		f.Warmup = (n + f.Batch - 1) / f.Batch
	}
	return f
}

func oneOf(names ...string) func(string) error {
	return func(s string) error {
		for _, n := range names {
			if s == n {
				return nil
			}
		}
		return errors.New("want " + strings.Join(names, ", "))
	}
}

// share accepts 0 ≤ x < 1.
func share(x float64) error {
	if !(x >= 0 && x < 1) {
		return errors.New("want a number from 0 to less than 1")
	}
	return nil
}

// trainError gives an error of training its exit status.
func trainError(err error) error {
	var s *statusError
	if errors.As(err, &s) || isDiverged(err) || isStopped(err) {
		return err
	}
	if errors.As(err, new(*fs.PathError)) { // of the file that keeps KM's reference
		return ioError(err, "")
	}
	return &statusError{status: exitData, err: err}
}

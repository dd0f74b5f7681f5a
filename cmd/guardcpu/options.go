package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/simd"
)

// asError is errors.As under a name that reads in a condition.
func asError[T error](err error, target *T) bool { return errors.As(err, target) }

// pathCause is the reason in an error that repeats the path: "no such file or directory".
func pathCause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// modelFlag is --model.
func modelFlag(dest *string) cli.Flag {
	return &cli.StringFlag{Name: "model", Aliases: []string{"m"}, Usage: "GGUF `FILE` of the model", Destination: dest, TakesFile: true}
}

// mostThreads is the largest value of --threads.
const mostThreads = 1 << 14

// threadsFlag is --threads.
func threadsFlag(dest *int) cli.Flag {
	return &cli.IntFlag{Name: "threads", Aliases: []string{"t"}, Usage: "`N` workers; 0 takes every CPU. Results do not depend on it", Destination: dest, Category: "common", Validator: between(0, mostThreads)}
}

// computing is how a model computes: --threads, --compute and, where it may take much, --memory.
type computing struct {
	threads int
	compute string
	memory  budget
	kernels *simd.Kernels // nil: those that suit the CPU
	lora    string        // file of an adapter, or empty
}

// computeFlag is --compute. Scores, losses and metrics are computed in float32 unless
// something else is asked for: rounding to bfloat16 moves them more than anything else here.
func computeFlag(dest *string, value nn.Compute) cli.Flag {
	return &cli.StringFlag{Name: "compute", Usage: "`NUMBERS` that products with weights multiply: f32, bf16 (rounded; sums stay float32), or auto (bf16 where the CPU has instructions for it); text is generated with activations of 8 bits where weights are quantised, unless f32",
		Value: value.String(), Destination: dest, Category: "common", Validator: oneOf(nn.Computes()...)}
}

// seedFlag is --seed.
func seedFlag(dest *uint64, value uint64) cli.Flag {
	return &cli.Uint64Flag{Name: "seed", Usage: "`N` that decides everything random", Value: value, Destination: dest, Category: "common"}
}

// forceFlag is --force.
func forceFlag(dest *bool) cli.Flag {
	return &cli.BoolFlag{Name: "force", Usage: "replace outputs that exist (never an input)", Destination: dest}
}

// positive and nonNegative check numbers of options; neither accepts NaN or infinities.
func positive(x float64) error {
	if !(x > 0) || math.IsInf(x, 0) {
		return errors.New("want a positive number")
	}
	return nil
}

func nonNegative(x float64) error {
	if !(x >= 0) || math.IsInf(x, 0) {
		return errors.New("want a number that is not negative")
	}
	return nil
}

// mostContext is the longest context that a file may name (engine's bound).
const mostContext = 1 << 30

func between(least, most int) func(int) error {
	return func(n int) error {
		if n < least || n > most {
			return errors.New("want " + itoa(least) + " to " + itoa(most))
		}
		return nil
	}
}

func atLeast(least int) func(int) error {
	return func(n int) error {
		if n < least {
			return errors.New("want at least " + itoa(least))
		}
		return nil
	}
}

// openGGUF opens a model file for reading its header and tensors.
func openGGUF(path string) (*gguf.File, error) {
	if path == "" {
		return nil, usageError("no model is given; use --model FILE")
	}
	f, err := gguf.Open(path)
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = fmt.Errorf("%s: %w", path, p.Err)
	}
	if err != nil {
		return nil, modelError(err, "")
	}
	return f, nil
}

// selectKernels is simd.Select for a command.
func selectKernels() (*simd.Kernels, error) {
	k, err := simd.Select()
	if err != nil {
		return nil, &statusError{status: exitUsage, err: err}
	}
	return k, nil
}

// loadModel opens the model of a file that has a vocabulary.
func loadModel(f *gguf.File, how computing) (*engine.Model, error) {
	m, err := loadIDsModel(f, how)
	if err == nil && m.Tokenizer == nil {
		_, err := tokenizer.FromGGUF(f)
		return nil, modelError(err, "")
	}
	return m, err
}

// loadIDsModel opens the model of a file for a use that needs no vocabulary.
func loadIDsModel(f *gguf.File, how computing) (*engine.Model, error) {
	k, err := how.kernels, error(nil)
	if k == nil {
		if k, err = selectKernels(); err != nil {
			return nil, err
		}
	}
	compute, err := nn.ParseCompute(how.compute)
	if err != nil {
		return nil, usageError("--compute: %v", err)
	}
	m, err := engine.Load(f, engine.Options{Threads: how.threads, Kernels: k, Compute: compute})
	if err != nil {
		return nil, modelError(err, "")
	}
	if how.lora != "" {
		if err := loadAdapter(m, how.lora); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// subject is an open model with what turns rows into its samples.
type subject struct {
	file *gguf.File
	m    *engine.Model
	enc  *encoder
}

// openSubject opens the model in a file.
func openSubject(path string, how computing, o *dataOptions) (*subject, error) {
	f, err := openGGUF(path)
	if err != nil {
		return nil, err
	}
	x, err := newSubject(f, how, o)
	if err != nil {
		f.Close()
	}
	return x, err
}

// newSubject loads the model of a file, which stays the caller's to close after an error.
func newSubject(f *gguf.File, how computing, o *dataOptions) (x *subject, err error) {
	x = &subject{file: f}
	if x.m, err = loadModel(f, how); err != nil {
		return nil, err
	}
	x.enc, err = o.encoder(x.m)
	return x, err
}

func (x *subject) close() { x.file.Close() }

// material is a subject with the rows to forget and to retain, and the samples of them.
type material struct {
	*subject
	sets           *sets
	forget, retain []engine.Sample
}

// openMaterial opens a model and both sets, and says aloud what of them is not used.
func (e *env) openMaterial(path string, how computing, o *dataOptions, needRetain bool) (x *material, err error) {
	x = &material{}
	if x.subject, err = openSubject(path, how, o); err != nil {
		return nil, err
	}
	if x.sets, err = o.load(needRetain); err == nil {
		e.overlapNote(x.sets)
		if x.forget, err = e.samples(x.enc, "forget", x.sets.forget); err == nil {
			x.retain, err = e.samples(x.enc, "retain", x.sets.retain)
		}
	}
	if err != nil {
		x.close()
		return nil, err
	}
	return x, nil
}

// prepare makes m ready for the work: there is memory for it, and for the evaluation between, if there is one; its
// weights are finite; what the mode trains is trainable.
func (e *env) prepare(ctx context.Context, m *engine.Model, b *budget, mode *modeOptions, seed uint64, work []*trainWork, evaluated *evaluation) error {
	if err := e.choose(m, b, mode, work, evaluated); err != nil {
		return err
	}
	collectOften()
	if err := e.checkWeights(ctx, m); err != nil {
		return err
	}
	return mode.prepare(m, seed)
}

// checkWeights refuses a model with a weight that is NaN or infinite, naming it.
func (e *env) checkWeights(ctx context.Context, m *engine.Model) error {
	task := e.bars.Start("check weights")
	params := m.Params()
	for i, p := range params {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.Stored.CheckFinite(m.Ctx.K); err != nil {
			return modelError(fmt.Errorf("%s: %s: %w", m.File.Name, p.Name, trimPackage(err)), "")
		}
		m.Forget(p)
		task.Set(i+1, len(params))
	}
	task.Done()
	return nil
}

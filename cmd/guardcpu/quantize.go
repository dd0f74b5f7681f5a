package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/rundir"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
)

func quantizeCommand(e *env) *cli.Command {
	var in, out, typeName, outputType, embeddingType string
	var types []string
	var force, pure, leaveOutput bool
	var threads int
	var split gguf.Split
	return &cli.Command{
		Name:      "quantize",
		Usage:     "write a GGUF file with its weights in another type",
		ArgsUsage: "IN OUT",
		Description: `Types are llama-quantize's, and so is what each tensor becomes: of Q4_K_M most matrices are
Q4_K and those that lose most Q6_K. There are
  F32, BF16, F16, Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q5_1, Q5_0, Q4_K_M, Q4_K_S, Q4_1, Q4_0,
  Q3_K_L, Q3_K_M, Q3_K_S, Q2_K, Q2_K_S; Q3_K, Q4_K and Q5_K are those with _M; and
  COPY, which changes no type: to divide a model into several files, or make one of them.
Vectors (norms, biases) and the routers of experts keep their type. Rows that are no multiple
of 256 long become Q8_0, Q5_1, Q5_0 or Q4_0 in place of a K type, and those that are no
multiple of 32 F16; a note says so. Importance matrices (--imatrix) are not taken; llama.cpp
writes Q2_K_S with one only.
Metadata stays, but for general.file_type and general.quantization_version. A value that
does not fit the type, or is not finite, is an error.

Examples:
  guardcpu quantize --type Q4_K_M model-f16.gguf model-q4_k_m.gguf
  guardcpu quantize --type Q4_0 --output-tensor-type F16 --tensor-type 'blk\.0\.=Q8_0' model-f32.gguf small.gguf
  guardcpu quantize --type COPY --split-max-size 2G large.gguf parts.gguf
  guardcpu quantize --type COPY parts-00001-of-00004.gguf whole.gguf`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Aliases: []string{"m"}, Usage: "GGUF `FILE` to read, in place of IN", Destination: &in, TakesFile: true},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "GGUF `FILE` to write, in place of OUT", Destination: &out, TakesFile: true},
			&cli.StringFlag{Name: "type", Usage: "`TYPE` of the file", Value: "Q8_0", Destination: &typeName},
			&cli.BoolFlag{Name: "pure", Usage: "one type for all matrices", Destination: &pure},
			&cli.BoolFlag{Name: "leave-output-tensor", Usage: "output.weight keeps its type", Destination: &leaveOutput},
			&cli.StringFlag{Name: "output-tensor-type", Usage: "`TYPE` of output.weight, and of token_embd.weight where that is the output too", Destination: &outputType},
			&cli.StringFlag{Name: "token-embedding-type", Usage: "`TYPE` of token_embd.weight", Destination: &embeddingType},
			&cli.StringSliceFlag{Name: "tensor-type", Usage: "type of the matrices in whose name a regular expression is found: `NAME=TYPE`; may be given several times, the first that fits decides", Destination: &types},
			forceFlag(&force),
			threadsFlag(&threads),
		}, splitFlags(&split)...),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			args := cmd.Args().Slice()
			if in != "" {
				args = append([]string{in}, args...)
			}
			if out != "" {
				args = append(args, out)
			}
			if len(args) != 2 {
				return usageError("%s wants an input and an output file, got %d; see guardcpu %s --help", cmd.Name, len(args), cmd.Name)
			}
			in, out := args[0], args[1]
			if in == "" || out == "" {
				return usageError("%s wants an input and an output file, got an empty name", cmd.Name)
			}
			plan := quantPlan{MixtureOptions: quant.MixtureOptions{Pure: pure, LeaveOutput: leaveOutput}}
			var err error
			if !strings.EqualFold(typeName, "COPY") {
				if plan.mixture, err = quant.MixtureByName(typeName); err != nil {
					return usageError("%w, COPY", trimPackage(err))
				}
			}
			if plan.Output, err = packingType("output-tensor-type", outputType); err != nil {
				return err
			}
			if plan.TokenEmbedding, err = packingType("token-embedding-type", embeddingType); err != nil {
				return err
			}
			if plan.Types, err = tensorOverrides(types); err != nil {
				return err
			}
			f, err := openGGUF(in)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := checkModelOutput(out, force, split, f, in, cmd.String("config")); err != nil {
				return err
			}
			result, err := e.quantize(ctx, f, out, plan, split, threads)
			if err != nil {
				return err
			}
			if cmd.Bool("json") {
				return e.json(result)
			}
			for _, n := range result.Notes {
				fmt.Fprintln(e.stdout, n)
			}
			fmt.Fprintf(e.stdout, "%s: %s, was %s\n", result.Out, bytesText(result.Bytes), bytesText(result.BytesBefore))
			return nil
		},
	}
}

// packingType reads the type that an option gives, if it is there.
func packingType(option, name string) (*gguf.TensorType, error) {
	if name == "" {
		return nil, nil
	}
	t, err := quant.PackingByName(name)
	if err != nil {
		return nil, usageError("--%s: %w", option, trimPackage(err))
	}
	return &t.GGUF, nil
}

// tensorOverrides reads the values of --tensor-type.
func tensorOverrides(values []string) (list []quant.TensorOverride, err error) {
	for _, v := range values {
		i := strings.LastIndexByte(v, '=')
		if i < 1 || i == len(v)-1 {
			return nil, usageError("--tensor-type: %q: want NAME=TYPE", v)
		}
		var o quant.TensorOverride
		if o.Pattern, err = regexp.Compile(v[:i]); err != nil {
			return nil, usageError("--tensor-type: %w", err)
		}
		t, err := packingType("tensor-type", v[i+1:])
		if err != nil {
			return nil, err
		}
		o.Type = *t
		list = append(list, o)
	}
	return list, nil
}

// quantPlan says which type each tensor becomes; without a mixture that which it has.
type quantPlan struct {
	mixture *quant.Mixture
	quant.MixtureOptions
}

// unused returns the first of --tensor-type that is found in the name of no tensor, or nil.
func (p *quantPlan) unused(tensors []gguf.Tensor) *quant.TensorOverride {
	for i, o := range p.Types {
		if !slices.ContainsFunc(tensors, func(t gguf.Tensor) bool { return o.Pattern.MatchString(t.Name) }) {
			return &p.Types[i]
		}
	}
	return nil
}

// quantizeResult is what quantize --json prints.
type quantizeResult struct {
	Out         string            `json:"out"` // the first file, if there are several
	Bytes       uint64            `json:"bytes"`
	BytesBefore uint64            `json:"bytes_before"`
	Types       map[string]string `json:"types"` // of each tensor
	Notes       []string          `json:"notes"`
}

func (e *env) quantize(ctx context.Context, f *gguf.File, out string, plan quantPlan, split gguf.Split, threads int) (*quantizeResult, error) {
	k, err := selectKernels()
	if err != nil {
		return nil, err
	}
	res := &quantizeResult{BytesBefore: f.Size(), Types: map[string]string{}, Notes: []string{}}
	var set []gguf.KV
	var changes []change
	if plan.mixture != nil {
		model, err := quant.ReadMixtureModel(f)
		if err != nil {
			return nil, modelError(err, "")
		}
		if o := plan.unused(f.Tensors); o != nil {
			return nil, usageError("--tensor-type: no tensor of %s has %q in its name", f.Name, o.Pattern)
		}
		chosen := plan.mixture.Types(model, f.Tensors, plan.MixtureOptions)
		if changes, err = changesOf(f, chosen); err != nil {
			return nil, err
		}
		res.Notes = append(res.Notes, quantNotes(f, chosen)...)
		set = []gguf.KV{
			{Key: "general.file_type", Value: plan.mixture.FileType},
			{Key: "general.quantization_version", Value: quant.Version},
		}
	}
	for i := range f.Tensors {
		res.Types[f.Tensors[i].Name] = f.Tensors[i].Type.String()
	}
	task := e.bars.Start("quantize")
	nnCtx := nn.NewCtx(k, threads)
	done := 0
	var replace []gguf.TensorData
	for _, c := range changes {
		res.Types[c.tensor.Name] = c.to.Name
		replace = append(replace, gguf.TensorData{Name: c.tensor.Name, Type: c.to.GGUF, Bytes: func() ([]byte, error) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			packed, err := repack(nnCtx, f, c)
			f.Forget()
			done++
			task.Set(done, len(changes))
			return packed, err
		}})
	}
	paths, err := gguf.RewriteSplit(out, f, set, replace, split)
	if err != nil {
		return nil, writeError(out, err)
	}
	task.Done()
	res.Out = paths[0]
	res.Bytes, err = readBack(paths)
	return res, err
}

// change is a tensor that becomes another type, or is looked through if it stays the same.
type change struct {
	tensor   *gguf.Tensor
	from, to *quant.Type
}

// changesOf returns what of f is to be packed anew, or looked through for what is not finite.
func changesOf(f *gguf.File, chosen []quant.Chosen) ([]change, error) {
	var list []change
	for i, c := range chosen {
		t := &f.Tensors[i]
		from, err := quant.ByGGUF(t.Type)
		if err != nil {
			if c.Type == t.Type {
				continue // it is copied
			}
			return nil, modelError(fmt.Errorf("%s: tensor %q: %w", f.Name, t.Name, err), "")
		}
		to := from
		if c.Type != t.Type {
			if to, err = quant.PackingByName(c.Type.String()); err != nil {
				return nil, &statusError{status: exitUsage, err: fmt.Errorf("%s: %w", t.Name, err)}
			}
		}
		list = append(list, change{t, from, to})
	}
	return list, nil
}

// quantNotes says which tensors could not have the type they were to have, those of a
// kind together, and whether weights are packed that were packed coarsely already.
func quantNotes(f *gguf.File, chosen []quant.Chosen) (notes []string) {
	type kind struct {
		cols uint64
		quant.Chosen
	}
	counts, names := map[kind]int{}, map[kind]string{}
	var order []kind
	again := 0
	for i, c := range chosen {
		t := &f.Tensors[i]
		if length, _, _ := t.Type.Block(); length > 1 && c.Type != t.Type {
			if length, _, _ = c.Type.Block(); length > 1 {
				again++
			}
		}
		if c.Type == c.Wanted {
			continue
		}
		k := kind{t.Dims[0], c}
		if counts[k]++; counts[k] == 1 {
			names[k] = t.Name
			order = append(order, k)
		}
	}
	for _, k := range order {
		length, _, _ := k.Wanted.Block()
		and := ""
		if n := counts[k] - 1; n > 0 {
			and = fmt.Sprintf(" and %d more", n)
		}
		notes = append(notes, fmt.Sprintf("%s%s: rows of %d are no multiple of %d: %s in place of %s", names[k], and, k.cols, length, k.Type, k.Wanted))
	}
	if again > 0 {
		notes = append(notes, fmt.Sprintf("quantised before: %s; from the original file less would be lost", plural(again, "tensor")))
	}
	return notes
}

// readBack reads the files of a model that has been written with the strict reader, and
// removes what does not read.
func readBack(paths []string) (bytes uint64, err error) {
	f, err := gguf.Open(paths[0])
	if err != nil {
		for _, path := range paths {
			os.Remove(path)
		}
		return 0, ioError(fmt.Errorf("output verification failed: %w", err), "the file has been removed")
	}
	defer f.Close()
	return f.Size(), nil
}

// repack packs a tensor anew, its rows divided among the workers.
func repack(ctx *nn.Ctx, f *gguf.File, c change) ([]byte, error) {
	t, from, to := c.tensor, c.from, c.to
	data, cols := f.Data(t), int(t.Dims[0])
	rowIn, rowOut := from.RowBytes(cols), to.RowBytes(cols)
	rows := len(data) / rowIn
	if from == to {
		w, err := quant.NewMatrix(from, rows, cols, data)
		if err == nil {
			err = w.CheckFinite(ctx.K)
		}
		if err != nil {
			return nil, modelError(fmt.Errorf("%s: %s: %w", f.Name, t.Name, trimPackage(err)), "")
		}
		return data, nil
	}
	packed := make([]byte, rows*rowOut)
	buffers := make([][]float32, ctx.Par.Workers())
	errs := make([]error, rows)
	ctx.Par.ForWorker(rows, func(worker, r int) {
		if buffers[worker] == nil {
			buffers[worker] = make([]float32, cols)
		}
		from.Unpack(ctx.K, buffers[worker], data[r*rowIn:][:rowIn])
		errs[r] = to.Pack(packed[r*rowOut:][:rowOut], buffers[worker])
	})
	for r, err := range errs {
		var v *quant.ValueError
		if errors.As(err, &v) {
			return nil, modelError(fmt.Errorf("%s: %s[%d,%d]: %s", f.Name, t.Name, r, v.Index, v.Problem()), "")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", f.Name, t.Name, err)
		}
	}
	return packed, nil
}

// nothingWritten is the remedy of an output that could not be completed.
const nothingWritten = "nothing has been written"

// writeError gives an error of writing the model path its exit status.
func writeError(path string, err error) error {
	var s *statusError
	var v *quant.ValueError
	switch {
	case errors.As(err, &s) || errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &v): // a weight that training has made too large, or NaN
		return &statusError{status: exitDiverged, err: err, remedy: nothingWritten}
	case errors.Is(err, gguf.ErrOverwrite):
		return outputError("", "%w", err)
	default:
		return ioError(fmt.Errorf("%s: %w", path, pathCause(err)), nothingWritten)
	}
}

// checkOutput refuses an output that exists, is an input, or cannot be written.
func checkOutput(path string, force bool, inputs ...string) error {
	return outputStatus(rundir.CheckOutput(path, force, inputs...), "give another name, or --force to replace it")
}

// outputStatus gives an error of the checks in rundir its exit status; remedy is for
// an output that exists.
func outputStatus(err error, remedy string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rundir.ErrIsInput), errors.Is(err, rundir.ErrInTheWay):
		return outputError("give another name", "%w", err)
	case errors.Is(err, rundir.ErrExists):
		return outputError(remedy, "%w", err)
	default:
		return ioError(err, "")
	}
}

// checkModelOutput is checkOutput for a model about as large as f, which is an input, too: it
// also looks at the free space.
func checkModelOutput(path string, force bool, split gguf.Split, f *gguf.File, inputs ...string) error {
	if err := checkSplitOutput(path, force, split, append(inputs, f.Paths()...)...); err != nil {
		return err
	}
	return checkSpace(filepath.Dir(path), f)
}

// checkSpace says whether there is room for a copy of f in dir, which need not exist yet.
func checkSpace(dir string, f *gguf.File) error {
	need := f.Size()
	if free, ok := rundir.FreeSpace(dir); ok && free < need {
		return ioError(fmt.Errorf("%s: %s are free, the model needs %s", dir, bytesText(free), bytesText(need)), "make room or write elsewhere")
	}
	return nil
}

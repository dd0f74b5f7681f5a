package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/rundir"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/simd"
)

func quantizeCommand(e *env) *cli.Command {
	var in, out, typeName, outputType string
	var force bool
	var split gguf.Split
	return &cli.Command{
		Name:      "quantize",
		Usage:     "write a GGUF file with its weights in another type",
		ArgsUsage: "IN OUT",
		Description: `Types are F32, F16, BF16, Q8_0 and Q4_0. These rules decide each tensor's type:
  vectors (norms, biases)             stay F32, or become F32
  the token embedding and the output  --output-type; Q8_0 when --type is Q4_0, else --type
  rows no multiple of 32 long         F16 in place of Q8_0 and Q4_0, with a note
  other matrices                      --type
Metadata stays, but for general.file_type and general.quantization_version. A value that
does not fit the type, or is not finite, is an error.

Examples:
  guardcpu quantize --type Q8_0 model-f32.gguf model-q8_0.gguf
  guardcpu quantize --type Q4_0 --output-type F16 model-f32.gguf small.gguf`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Aliases: []string{"m"}, Usage: "GGUF `FILE` to read, in place of IN", Destination: &in, TakesFile: true},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "GGUF `FILE` to write, in place of OUT", Destination: &out, TakesFile: true},
			&cli.StringFlag{Name: "type", Usage: "`TYPE` of the matrices", Value: "Q8_0", Destination: &typeName},
			&cli.StringFlag{Name: "output-type", Usage: "`TYPE` of token_embd.weight and output.weight; empty: the rule above", Destination: &outputType},
			forceFlag(&force),
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
			typ, err := quant.PackingByName(typeName)
			if err != nil {
				return &statusError{status: exitUsage, err: err}
			}
			plan := newQuantPlan(typ)
			if outputType != "" {
				if plan.output, err = quant.PackingByName(outputType); err != nil {
					return &statusError{status: exitUsage, err: err}
				}
			}
			f, err := openGGUF(in)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := checkModelOutput(out, force, split, f, in, cmd.String("config")); err != nil {
				return err
			}
			result, err := e.quantize(ctx, f, out, plan, split)
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

// quantPlan says which type each tensor becomes.
type quantPlan struct{ matrix, output *quant.Type }

// newQuantPlan is the plan of --type alone.
func newQuantPlan(matrix *quant.Type) quantPlan {
	p := quantPlan{matrix, matrix}
	if matrix.GGUF == gguf.Q4_0 {
		p.output, _ = quant.ByGGUF(gguf.Q8_0)
	}
	return p
}

// of returns the type of a tensor, and a note where the plan could not be kept.
func (p quantPlan) of(t *gguf.Tensor) (typ *quant.Type, note string) {
	if len(t.Dims) == 1 {
		return quant.Types[0], ""
	}
	typ = p.matrix
	if t.Name == "token_embd.weight" || t.Name == "output.weight" {
		typ = p.output
	}
	if cols := t.Dims[0]; cols%uint64(typ.BlockLen) != 0 {
		f16, err := quant.ByGGUF(gguf.F16)
		if err != nil {
			panic(err) // the table of types has F16
		}
		return f16, fmt.Sprintf("%s: rows of %d are no multiple of %d: F16 in place of %s", t.Name, cols, typ.BlockLen, typ.Name)
	}
	return typ, ""
}

// quantizeResult is what quantize --json prints.
type quantizeResult struct {
	Out         string            `json:"out"`
	Bytes       uint64            `json:"bytes"`
	BytesBefore uint64            `json:"bytes_before"`
	Types       map[string]string `json:"types"` // of each tensor
	Notes       []string          `json:"notes"`
}

// fileTypes are the values of general.file_type (llama.cpp's llama_ftype): what most matrices are.
var fileTypes = map[string]uint32{"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "BF16": 32}

func (e *env) quantize(ctx context.Context, f *gguf.File, out string, plan quantPlan, split gguf.Split) (*quantizeResult, error) {
	k, err := simd.Select()
	if err != nil {
		return nil, &statusError{status: exitUsage, err: err}
	}
	res := &quantizeResult{BytesBefore: f.Size(), Types: map[string]string{}, Notes: []string{}}
	task := e.bars.Start("quantize")
	done := 0
	var replace []gguf.TensorData
	for i := range f.Tensors {
		t := &f.Tensors[i]
		from, err := quant.ByGGUF(t.Type)
		if err != nil {
			return nil, modelError(fmt.Errorf("%s: tensor %q: %w", f.Name, t.Name, err), "")
		}
		to, note := plan.of(t)
		if note != "" {
			res.Notes = append(res.Notes, note)
		}
		res.Types[t.Name] = to.Name
		replace = append(replace, gguf.TensorData{Name: t.Name, Type: to.GGUF, Bytes: func() ([]byte, error) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			packed, err := repack(k, f, t, from, to)
			done++
			task.Set(done, len(f.Tensors))
			return packed, err
		}})
	}
	set := []gguf.KV{{Key: "general.file_type", Value: fileTypes[plan.matrix.Name]}}
	if strings.HasPrefix(plan.matrix.Name, "Q") {
		set = append(set, gguf.KV{Key: "general.quantization_version", Value: uint32(2)}) // ggml's GGML_QNT_VERSION
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

// repack changes the type of one tensor, row by row.
func repack(k *simd.Kernels, f *gguf.File, t *gguf.Tensor, from, to *quant.Type) ([]byte, error) {
	data, cols := f.Data(t), int(t.Dims[0])
	rowIn, rowOut := from.RowBytes(cols), to.RowBytes(cols)
	rows := len(data) / rowIn
	if from == to {
		w, err := quant.NewMatrix(from, rows, cols, data)
		if err == nil {
			err = w.CheckFinite(k)
		}
		if err != nil {
			return nil, modelError(fmt.Errorf("%s: %s: %w", f.Name, t.Name, trimPackage(err)), "")
		}
		return data, nil
	}
	packed := make([]byte, rows*rowOut)
	x := make([]float32, cols)
	for r := range rows {
		from.Unpack(k, x, data[r*rowIn:][:rowIn])
		if err := to.Pack(packed[r*rowOut:][:rowOut], x); err != nil {
			var v *quant.ValueError
			if errors.As(err, &v) {
				return nil, modelError(fmt.Errorf("%s: %s[%d,%d]: %s", f.Name, t.Name, r, v.Index, v.Problem()), "")
			}
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
	inputs = append(inputs, f.Paths()...)
	if err := checkOutput(path, force, inputs...); err != nil {
		return err
	}
	if split != (gguf.Split{}) {
		parts, err := partsOf(path)
		if err != nil {
			return ioError(err, "")
		}
		for _, part := range parts {
			if err := checkOutput(part, force, inputs...); err != nil {
				return err
			}
		}
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

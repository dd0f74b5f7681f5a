package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/rundir"
	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/hf"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
)

func convertCommand(e *env) *cli.Command {
	var out, to, typeName, name, like, shardSize string
	var force bool
	var threads int
	var split gguf.Split
	return &cli.Command{
		Name:      "convert",
		Usage:     "turn a Hugging Face checkpoint into a GGUF file, or back",
		ArgsUsage: "IN",
		Description: `IN is a directory with config.json, tokenizer.json or tokenizer.model, and model.safetensors or
model.safetensors.index.json with its files, and becomes the GGUF file OUT; or it is a GGUF
file and becomes, with --to hf, such a directory, which AutoModelForCausalLM.from_pretrained reads.
Classes are ` + strings.Join(hf.Classes(), ", ") + `.

To GGUF, matrices have the --type that is given, or that of the first; vectors, norms, learned
positions and the routers of experts are F32, as with llama.cpp's convert_hf_to_gguf.py, whose
keys and names these are. For other types, run guardcpu quantize next.

To Hugging Face, matrices keep F32, F16 or BF16, and quantised ones become BF16, unless --type
says otherwise; vectors keep their type. Configuration and tokenizer are made from the GGUF
file, or, with --like, copied from the checkpoint that the model came from: then shapes and
configuration are compared, and tensors have the dtypes they have there.

Examples:
  guardcpu convert --out model.gguf Llama-3.2-1B-Instruct
  guardcpu convert --to hf --like Llama-3.2-1B-Instruct --out unlearned-hf unlearned.gguf`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "GGUF file or directory to write: `OUT`", Destination: &out, TakesFile: true},
			&cli.StringFlag{Name: "to", Usage: "`FORMAT` of OUT: gguf or hf", Value: "gguf", Destination: &to, Validator: oneOf("gguf", "hf")},
			&cli.StringFlag{Name: "type", Usage: "`TYPE` of matrices: F32, F16, BF16, or, of a GGUF file, Q8_0", Destination: &typeName},
			&cli.StringFlag{Name: "name", Usage: "general.name of the GGUF file: `NAME`; empty: the directory's", Destination: &name},
			&cli.StringFlag{Name: "like", Usage: "checkpoint whose configuration and tokenizer are copied: `DIR`", Destination: &like, TakesFile: true},
			&cli.StringFlag{Name: "shard-size", Usage: "`SIZE` of weights in one safetensors file, such as 500M or 5G", Value: "5G", Destination: &shardSize},
			forceFlag(&force),
			threadsFlag(&threads),
		}, splitFlags(&split)...),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if cmd.Args().Len() != 1 {
				return usageError("%s wants one input, got %d; see guardcpu %s --help", cmd.Name, cmd.Args().Len(), cmd.Name)
			}
			if out == "" {
				return usageError("no output is given; use --out")
			}
			in := cmd.Args().First()
			var res *convertResult
			var err error
			switch info, statErr := os.Stat(in); {
			case statErr != nil:
				return ioError(fmt.Errorf("%s: %w", in, pathCause(statErr)), "")
			case to == "gguf" && !info.IsDir():
				return usageError("%s is no directory; to turn a GGUF file into a checkpoint, use --to hf", in)
			case to == "gguf":
				res, err = e.importHF(ctx, in, out, hf.ImportOptions{Type: typeName, Name: name}, split, force, threads)
			case info.IsDir():
				return usageError("%s is a directory, want a GGUF file for --to hf", in)
			default:
				o := hf.ExportOptions{Type: typeName, Like: like}
				if o.MaxBytes, err = parseSplitSize(shardSize); err != nil {
					return usageError("--shard-size: %v", err)
				}
				res, err = e.exportHF(ctx, in, out, o, force, threads)
			}
			if err != nil {
				return err
			}
			if cmd.Bool("json") {
				return e.json(res)
			}
			fmt.Fprintf(e.stdout, "%s: %s of %s, was %s\n", res.Out, bytesText(res.Bytes), res.Arch, bytesText(res.BytesBefore))
			return nil
		},
	}
}

// convertResult is what convert --json prints.
type convertResult struct {
	Out         string `json:"out"`
	Arch        string `json:"arch"`
	Bytes       uint64 `json:"bytes"`
	BytesBefore uint64 `json:"bytes_before"`
}

func (e *env) importHF(ctx context.Context, dir, out string, o hf.ImportOptions, split gguf.Split, force bool, threads int) (*convertResult, error) {
	k, err := selectKernels()
	if err != nil {
		return nil, err
	}
	nnCtx := nn.NewCtx(k, threads)
	c, err := hf.Open(dir)
	if err != nil {
		return nil, convertError(err)
	}
	defer c.Close()
	inputs, err := checkpointFiles(dir)
	if err != nil {
		return nil, err
	}
	if err := checkSplitOutput(out, force, split, inputs...); err != nil {
		return nil, err
	}
	if free, ok := rundir.FreeSpace(filepath.Dir(out)); ok && free < c.Bytes()/4 {
		return nil, ioError(fmt.Errorf("%s: %s are free, the checkpoint has %s", filepath.Dir(out), bytesText(free), bytesText(c.Bytes())), "make room or write elsewhere")
	}
	kvs, tensors, err := c.Import(nnCtx, o)
	if err != nil {
		return nil, modelError(err, "")
	}
	task := e.bars.Start("convert")
	for i := range tensors {
		pack := tensors[i].Bytes
		tensors[i].Bytes = func() ([]byte, error) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			b, err := pack()
			c.Forget()
			task.Set(i+1, len(tensors))
			return b, err
		}
	}
	paths, err := gguf.WriteSplit(out, kvs, tensors, split)
	if err != nil {
		return nil, writeError(out, err)
	}
	task.Done()
	res := &convertResult{Out: paths[0], Arch: c.Arch(), BytesBefore: c.Bytes()}
	res.Bytes, err = readBack(paths)
	return res, err
}

// checkpointFiles returns what an output must not replace: the files of dir, but for GGUF files,
// which may have been made of it before.
func checkpointFiles(dir string) (paths []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, ioError(fmt.Errorf("%s: %w", dir, pathCause(err)), "")
	}
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != ".gguf" {
			paths = append(paths, filepath.Join(dir, entry.Name()))
		}
	}
	return paths, nil
}

func (e *env) exportHF(ctx context.Context, in, dir string, o hf.ExportOptions, force bool, threads int) (*convertResult, error) {
	k, err := selectKernels()
	if err != nil {
		return nil, err
	}
	nnCtx := nn.NewCtx(k, threads)
	f, err := openGGUF(in)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Where the shapes of tensors contradict the keys, the checkpoint could not be read.
	if _, err := engine.Load(f, engine.Options{Threads: threads, Kernels: nnCtx.K}); err != nil {
		return nil, modelError(err, "")
	}
	for _, path := range append(f.Paths(), o.Like) {
		if path != "" && sameDir(path, dir) {
			return nil, outputError("give another name", "%s would be written into the directory of the input %s", dir, path)
		}
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 && !force {
		return nil, outputError("give another name, or --force to write into it", "%s exists and is not empty", dir)
	}
	_, err = os.Stat(dir)
	made := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, ioError(fmt.Errorf("%s: %w", dir, pathCause(err)), "")
	}
	task := e.bars.Start("convert")
	o.Step = func(i, n int) error {
		f.Forget()
		task.Set(i, n)
		return ctx.Err()
	}
	paths, err := hf.Export(nnCtx, f, dir, o)
	if err != nil {
		if made {
			_ = os.Remove(dir) // which leaves what is not empty
		}
		return nil, convertError(err)
	}
	task.Done()
	res := &convertResult{Out: dir, BytesBefore: f.Size()}
	res.Arch, _, _ = f.String("general.architecture") // Export has read it
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, ioError(err, "")
		}
		res.Bytes += uint64(info.Size())
	}
	return res, nil
}

// sameDir says whether path is dir or lies directly in it.
func sameDir(path, dir string) bool {
	d, err := os.Stat(dir)
	if err != nil {
		return false
	}
	for _, p := range []string{path, filepath.Dir(path)} {
		if info, err := os.Stat(p); err == nil && os.SameFile(info, d) {
			return true
		}
	}
	return false
}

// convertError gives an error of converting its exit status.
func convertError(err error) error {
	var v *quant.ValueError
	var p *fs.PathError
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &v):
		return modelError(err, nothingWritten)
	case errors.As(err, &p):
		return ioError(err, nothingWritten)
	}
	return modelError(err, "")
}

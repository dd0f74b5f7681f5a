package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/klauspost/cpuid/v2"

	"github.com/guardcpu/guardcpu/cmd/internal/demo"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/tofu"
)

// manifest is manifest.json: what went in, what made it, what came out.
type manifest struct {
	Complete bool         `json:"complete"` // false: the run has not ended, or not well
	Step     string       `json:"step,omitempty"`
	Started  time.Time    `json:"started"`
	Finished time.Time    `json:"finished,omitzero"`
	Command  []string     `json:"command"`
	Resumed  []resumption `json:"resumed,omitempty"` // each time the run was gone on with
	Failed   string       `json:"failed,omitempty"`  // why it has not ended
	Options  []option     `json:"options"`           // that make it this run
	Seeds    []uint64     `json:"seeds"`
	Threads  int          `json:"threads"`
	Kernels  string       `json:"kernels"`
	Compute  string       `json:"compute"` // of products with weights: f32 or bf16
	Int8     bool         `json:"int8"`    // text is generated with activations of 8 bits where weights are quantised
	CPU      string       `json:"cpu"`
	Build    buildInfo    `json:"build"`
	Inputs   []input      `json:"inputs"`

	// What was made of the rows of the forget and the retain set.
	Rows    []*tofu.LoadReport       `json:"rows,omitempty"` // as read
	Samples map[string]*tofu.Encoded `json:"samples"`        // as used
	Dropped int                      `json:"dropped"`        // retain rows that are to be forgotten

	Outputs []input `json:"outputs,omitempty"`
}

// input is a file by its hash, or a model in several files by that of all their bytes.
type input struct {
	Role   string   `json:"role"` // the option that names it
	Path   string   `json:"path,omitempty"`
	Parts  []string `json:"parts,omitempty"` // the files after the first
	Bytes  int64    `json:"bytes"`
	SHA256 string   `json:"sha256"`
}

// fileInput is an input that is hashed later.
func fileInput(role string, paths ...string) input {
	return input{Role: role, Path: paths[0], Parts: paths[1:]}
}

// hashFile completes an input.
func (in *input) hashFile(ctx context.Context) error {
	if in.SHA256 != "" {
		return nil
	}
	h := sha256.New()
	for _, path := range append([]string{in.Path}, in.Parts...) {
		f, err := os.Open(path)
		if err != nil {
			return ioError(fmt.Errorf("%s: %w", path, pathCause(err)), "")
		}
		n, err := io.Copy(h, contextReader{ctx, f})
		f.Close()
		if err != nil {
			return err
		}
		in.Bytes += n
	}
	in.SHA256 = hex.EncodeToString(h.Sum(nil))
	return nil
}

// contextReader stops reading when the context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// demoInputs are the embedded files.
func demoInputs(model *gguf.File) ([]input, error) {
	sum := func(role string, data []byte) input {
		h := sha256.Sum256(data)
		return input{Role: role, Bytes: int64(len(data)), SHA256: hex.EncodeToString(h[:])}
	}
	in := []input{sum("embedded model", model.Bytes())}
	for _, name := range []string{"forget.jsonl", "retain.jsonl", "real_authors.jsonl", "world_facts.jsonl", "idontknow.txt"} {
		data, err := fs.ReadFile(demo.Files(), name)
		if err != nil {
			return nil, err
		}
		in = append(in, sum("embedded "+name, data))
	}
	return in, nil
}

// newManifest describes the run before it begins.
func (r *run) newManifest(ctx context.Context) (*manifest, error) {
	m := &manifest{
		Started: r.start.UTC(), Command: r.e.args, Seeds: r.o.seedsOf(), Threads: r.m.Ctx.Par.Workers(), Kernels: r.m.Ctx.K.Name, Compute: r.m.Ctx.Compute.On(r.m.Ctx.K).String(), Int8: r.m.Int8(),
		CPU: cpuid.CPU.BrandName, Build: readBuild(), Inputs: r.inputs, Options: r.options, Resumed: r.record.Resumed,
		Rows: r.sets.reports, Samples: map[string]*tofu.Encoded{"forget": r.encoded[0], "retain": r.encoded[1]}, Dropped: r.sets.dropped,
	}
	if m.CPU == "" {
		m.CPU = runtime.GOARCH
	}
	if exe, err := os.Executable(); err == nil {
		m.Inputs = append(slices.Clone(m.Inputs), fileInput(programRole, exe))
	}
	return m, r.e.hash(ctx, m.Inputs)
}

// programRole is the role of the binary among the inputs.
const programRole = "program"

// hash completes inputs, with progress.
func (e *env) hash(ctx context.Context, inputs []input) error {
	task := e.bars.Start("hash inputs")
	for i := range inputs {
		if err := inputs[i].hashFile(ctx); err != nil {
			return err
		}
		task.Set(i+1, len(inputs))
	}
	task.Done()
	return nil
}

// addOutput hashes a file, or a model in several, that has been written.
func (m *manifest) addOutput(ctx context.Context, role string, paths ...string) error {
	out := fileInput(role, paths...)
	if err := out.hashFile(ctx); err != nil {
		return err
	}
	if role != "out" && role != "lora-out" {
		out.Path = filepath.Base(out.Path) // a run directory can be moved
	}
	m.Outputs = append(m.Outputs, out)
	return nil
}

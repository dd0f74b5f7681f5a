package main

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/gguf"
)

// loraFlag is --lora.
func loraFlag(how *computing) cli.Flag {
	return &cli.StringFlag{Name: "lora", Usage: "GGUF `FILE` of a LoRA adapter that the model computes with", Destination: &how.lora, TakesFile: true}
}

// loadAdapter gives m the adapter in a file.
func loadAdapter(m *engine.Model, path string) error {
	f, err := openGGUF(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := m.LoadAdapter(f); err != nil {
		return modelError(err, "")
	}
	return nil
}

// adapterInfo is what inspect says of an adapter that fits a model.
type adapterInfo struct {
	File       string `json:"file"`
	Adapted    int    `json:"adapted"` // matrices, every expert one
	LeastRank  int    `json:"min_rank"`
	MostRank   int    `json:"max_rank"`
	Parameters int    `json:"parameters"`
}

// describeAdapter loads the model in f with the adapter in a file.
func describeAdapter(f *gguf.File, path string) (*adapterInfo, error) {
	m, err := loadIDsModel(f, computing{threads: 1, compute: nn.ComputeF32.String(), lora: path})
	if err != nil {
		return nil, err
	}
	info := &adapterInfo{File: path, LeastRank: math.MaxInt}
	for _, p := range m.Params() {
		if ad := p.Adapter; ad != nil {
			info.Adapted++
			info.LeastRank, info.MostRank = min(info.LeastRank, ad.A.Rows), max(info.MostRank, ad.A.Rows)
			info.Parameters += ad.A.Len() + ad.B.Len()
		}
	}
	return info, nil
}

// ranks is the rank, or the range of them.
func (a *adapterInfo) ranks() string {
	if a.LeastRank == a.MostRank {
		return itoa(a.MostRank)
	}
	return itoa(a.LeastRank) + " to " + itoa(a.MostRank)
}

// loraOutFlag is --lora-out.
func (o *modeOptions) loraOutFlag() cli.Flag {
	return &cli.StringFlag{Name: "lora-out", Usage: "GGUF `FILE` to write the adapters of --mode lora to, as llama.cpp's --lora takes it", Destination: &o.loraOut, TakesFile: true}
}

// needsOutput refuses to train for nothing; out is where the model goes.
func (o *modeOptions) needsOutput(out string) error {
	if out == "" && o.loraOut == "" {
		return usageError("no output is given; use --out FILE")
	}
	return nil
}

// checkOutputs refuses files that cannot be written: those that are given of the model, about as
// large as f, and its adapter.
func (o *modeOptions) checkOutputs(out string, force bool, split gguf.Split, f *gguf.File, inputs ...string) error {
	if out != "" {
		if err := checkModelOutput(out, force, split, f, inputs...); err != nil {
			return err
		}
	}
	if o.loraOut == "" {
		return nil
	}
	if out != "" && filepath.Clean(out) == filepath.Clean(o.loraOut) {
		return usageError("--out and --lora-out are the same path")
	}
	return checkOutput(o.loraOut, force, append(inputs, f.Paths()...)...)
}

// writes returns the options of writing m, which has been prepared, to out, after checking that
// what is trained can be written there and to --lora-out.
func (o *modeOptions) writes(m *engine.Model, out string, split gguf.Split) (x engine.ExportOptions, err error) {
	if err = o.checkAdapter(m); err == nil && out != "" {
		x, err = o.export(m, split)
	}
	return x, err
}

// checkAdapter says whether what m trains can be written to --lora-out, if that is given.
func (o *modeOptions) checkAdapter(m *engine.Model) error {
	if o.loraOut == "" {
		return nil
	}
	if err := m.CheckAdapter(); err != nil {
		return &statusError{status: exitUsage, err: fmt.Errorf("--lora-out: %w", trimPackage(err)), remedy: "it takes --mode lora, and --lora-targets without that tensor"}
	}
	return nil
}

// write writes m to out and its adapters to --lora-out, those of them that are given, and
// reads them back. It returns the name that out got.
func (e *env) write(m *engine.Model, o *modeOptions, out string, x engine.ExportOptions) (string, error) {
	if out != "" {
		paths, err := e.export(m, out, x)
		if err != nil {
			return "", err
		}
		out = paths[0]
	}
	return out, o.writeAdapter(m, x.Set)
}

// writeAdapter writes the adapters of m to --lora-out, if that is given, and reads them back.
func (o *modeOptions) writeAdapter(m *engine.Model, set []gguf.KV) error {
	if o.loraOut == "" {
		return nil
	}
	if err := m.WriteAdapter(o.loraOut, set); err != nil {
		return writeError(o.loraOut, err)
	}
	_, err := readBack([]string{o.loraOut})
	return err
}

// names are those of the files that write has written.
func (o *modeOptions) names(out string) string {
	names := slices.DeleteFunc([]string{out, o.loraOut}, func(s string) bool { return s == "" })
	return strings.Join(names, ", ")
}

package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/gguf"
)

// shownElements is how many elements of an array inspect prints; --json prints all.
const shownElements = 6

func inspectCommand(e *env) *cli.Command {
	var model, lora string
	var tensors bool
	var nCtx int
	return &cli.Command{
		Name:      "inspect",
		Usage:     "show header, metadata and tensors of a GGUF file",
		ArgsUsage: "[FILE]",
		Description: `The file is checked as strictly as for a run, its weights are not read.
Long arrays are shortened; --json holds everything. The memory of each mode is what it holds
besides the file, which is mapped, and besides activations, which depend on the data: plan adds
those. --ctx says for how many tokens keys and values are kept. With --lora it says whether an
adapter fits the model.

Examples:
  guardcpu inspect model.gguf
  guardcpu inspect --tensors=false model.gguf
  guardcpu inspect --lora adapter.gguf model.gguf
  guardcpu inspect --json model.gguf | jq '.tensors[] | select(.type=="Q8_0") | .name'`,
		Flags: []cli.Flag{
			modelFlag(&model),
			&cli.StringFlag{Name: "lora", Usage: "GGUF `FILE` of a LoRA adapter for the model", Destination: &lora, TakesFile: true},
			&cli.BoolFlag{Name: "tensors", Usage: "list the tensors", Value: true, Destination: &tensors},
			&cli.IntFlag{Name: "ctx", Usage: "memory of a context of `N` tokens; 0: what the model is made for", Destination: &nCtx, Validator: between(0, mostContext)},
		},
		Action: func(_ context.Context, cmd *cli.Command) error {
			path, err := fileArgument(cmd, model)
			if err != nil {
				return err
			}
			f, err := openGGUF(path)
			if err != nil {
				return err
			}
			defer f.Close()
			info := describeFile(f)
			info.Model = describeModel(f, nCtx)
			if lora != "" {
				if info.Adapter, err = describeAdapter(f, lora); err != nil {
					return err
				}
			}
			if cmd.Bool("json") {
				return e.json(info)
			}
			printFile(e.stdout, f, info, tensors)
			return nil
		},
	}
}

// fileArgument is the file given by --model or as the one argument.
func fileArgument(cmd *cli.Command, flag string) (string, error) {
	args := cmd.Args().Slice()
	if flag != "" {
		args = append(args, flag)
	}
	if len(args) != 1 {
		return "", usageError("%s wants one file, got %d; see guardcpu %s --help", cmd.Name, len(args), cmd.Name)
	}
	return args[0], nil
}

// fileInfo is what inspect --json prints.
type fileInfo struct {
	File       string       `json:"file"`
	Parts      []string     `json:"parts,omitempty"` // the files after the first
	Bytes      uint64       `json:"bytes"`
	Version    uint32       `json:"version"`
	ByteOrder  string       `json:"byte_order"`
	Alignment  uint64       `json:"alignment"`
	DataOffset uint64       `json:"data_offset"`
	Parameters uint64       `json:"parameters"`
	Types      []typeCount  `json:"types"`
	Model      modelInfo    `json:"model"`
	Adapter    *adapterInfo `json:"adapter,omitempty"` // of --lora
	Metadata   []keyInfo    `json:"metadata"`
	Tensors    []tensorInfo `json:"tensors"`
}

type keyInfo struct {
	Key   string `json:"key"`
	Type  string `json:"type"`
	Value any    `json:"value"` // a number JSON cannot hold (NaN, infinity) is a string
}

type tensorInfo struct {
	Name       string   `json:"name"`
	Type       string   `json:"type"`
	Dims       []uint64 `json:"dims"` // ggml's order: columns first
	Parameters uint64   `json:"parameters"`
	Part       int      `json:"part,omitempty"` // index in parts, from 1; 0 is file
	Offset     uint64   `json:"offset"`         // from data_offset, that of its part
	Bytes      uint64   `json:"bytes"`
}

type typeCount struct {
	Type       string `json:"type"`
	Tensors    int    `json:"tensors"`
	Parameters uint64 `json:"parameters"`
	Bytes      uint64 `json:"bytes"`
}

func describeFile(f *gguf.File) fileInfo {
	info := fileInfo{File: f.Name, Parts: f.Paths()[1:], Bytes: f.Size(), Version: f.Version, ByteOrder: byteOrderName(f), Alignment: f.Alignment,
		DataOffset: f.DataOffset, Types: []typeCount{}, Metadata: []keyInfo{}, Tensors: []tensorInfo{}}
	for _, kv := range f.KVs {
		info.Metadata = append(info.Metadata, keyInfo{kv.Key, valueTypeName(kv.Value), jsonValue(reflect.ValueOf(kv.Value))})
	}
	for _, t := range f.Tensors {
		n := uint64(1)
		for _, d := range t.Dims {
			n *= d // the reader checked the product
		}
		info.Parameters += n
		info.Tensors = append(info.Tensors, tensorInfo{t.Name, t.Type.String(), t.Dims, n, t.Part, t.Offset, t.Size})
		k := 0
		for k < len(info.Types) && info.Types[k].Type != t.Type.String() {
			k++
		}
		if k == len(info.Types) {
			info.Types = append(info.Types, typeCount{Type: t.Type.String()})
		}
		c := &info.Types[k]
		c.Tensors, c.Parameters, c.Bytes = c.Tensors+1, c.Parameters+n, c.Bytes+t.Size
	}
	return info
}

func byteOrderName(f *gguf.File) string {
	if f.Order.String() == "BigEndian" {
		return "big"
	}
	return "little"
}

// valueTypeName names the GGUF type of a metadata value.
func valueTypeName(v any) string {
	t := reflect.TypeOf(v)
	if t.Kind() != reflect.Slice {
		return t.Kind().String()
	}
	if t.Elem().Kind() == reflect.Interface {
		return "array of array"
	}
	return "array of " + t.Elem().Kind().String()
}

// jsonValue turns a metadata value into what encoding/json can write: []uint8 is a
// list of numbers, and NaN or an infinity is its name.
func jsonValue(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Interface:
		return jsonValue(v.Elem())
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = jsonValue(v.Index(i))
		}
		return list
	case reflect.Float32, reflect.Float64:
		if x := v.Float(); math.IsNaN(x) || math.IsInf(x, 0) {
			return strconv.FormatFloat(x, 'g', -1, 64)
		}
	}
	return v.Interface()
}

func printFile(w io.Writer, f *gguf.File, info fileInfo, tensors bool) {
	size := bytesText(info.Bytes)
	if n := len(info.Parts); n > 0 {
		size += fmt.Sprintf(" in %d files", n+1)
	}
	fmt.Fprintf(w, "%s\n  GGUF v%d, %s-endian, %s, alignment %d, %d keys, %d tensors\n  %s parameters",
		oneLine(f.Name), f.Version, info.ByteOrder, size, f.Alignment, len(f.KVs), len(f.Tensors), countText(info.Parameters))
	for i, t := range info.Types {
		fmt.Fprintf(w, "%s %s: %d tensors, %s", map[bool]string{true: ":", false: ";"}[i == 0], t.Type, t.Tensors, bytesText(t.Bytes))
	}
	if a := info.Adapter; a != nil {
		fmt.Fprintf(w, "\n  adapter %s: %s of rank %s, %s parameters", oneLine(a.File), plural(a.Adapted, "adapted tensor"), a.ranks(), countText(uint64(a.Parameters)))
	}
	info.Model.print(w)
	fmt.Fprintf(w, "%sMetadata\n", map[bool]string{true: "\n", false: "\n\n"}[len(info.Model.Memory) > 0])
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, kv := range f.KVs {
		fmt.Fprintf(tw, "  %s\t%s\t%s\n", oneLine(kv.Key), valueTypeName(kv.Value), shortValue(reflect.ValueOf(kv.Value)))
	}
	tw.Flush()
	if !tensors || len(f.Tensors) == 0 {
		return
	}
	fmt.Fprintf(w, "\nTensors (columns × rows)\n")
	tw = tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for i, t := range info.Tensors {
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\n", oneLine(t.Name), t.Type, gguf.FormatDims(f.Tensors[i].Dims), bytesText(t.Bytes))
	}
	tw.Flush()
}

// shortValue writes a value in one line, an array by its first elements and its length.
func shortValue(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Interface:
		return shortValue(v.Elem())
	case reflect.String:
		const most = 60
		s := []rune(v.String())
		if len(s) > most {
			return fmt.Sprintf("%s… (%d characters)", strconv.Quote(string(s[:most])), len(s))
		}
		return strconv.Quote(string(s))
	case reflect.Slice:
		n := min(v.Len(), shownElements)
		parts := make([]string, n)
		for i := range parts {
			parts[i] = shortValue(v.Index(i))
		}
		if v.Len() > n {
			parts = append(parts, fmt.Sprintf("… %d in all", v.Len()))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return fmt.Sprint(v.Interface())
	}
}

// Command support makes the tables of README.md that say what is supported, of the tables in
// the code and of the last comparison with llama.cpp.
//
//	go run ./benchmarks/support
package main

import (
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/simd"
)

const (
	readme    = "README.md"
	results   = "benchmarks/results/llamacpp.txt"
	beginMark = "<!-- tables by go run ./benchmarks/support -->"
	endMark   = "<!-- end of support tables -->"
)

func main() {
	if err := run("."); err != nil {
		log.Fatal(err)
	}
}

func run(root string) error {
	old, updated, err := update(root)
	if err != nil || old == updated {
		return err
	}
	return os.WriteFile(root+"/"+readme, []byte(updated), 0o644)
}

// update returns the readme as it is and as it should be.
func update(root string) (old, updated string, err error) {
	data, err := os.ReadFile(root + "/" + readme)
	if err != nil {
		return "", "", err
	}
	compared, err := os.ReadFile(root + "/" + results)
	if err != nil {
		return "", "", err
	}
	t, err := tables(string(compared))
	if err != nil {
		return "", "", err
	}
	old = string(data)
	before, rest, ok := strings.Cut(old, beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return "", "", fmt.Errorf("%s has no lines %q and %q", readme, beginMark, endMark)
	}
	return old, before + beginMark + "\n" + t + endMark + after, nil
}

func tables(compared string) (string, error) {
	exact, err := differences(compared)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("\n| architecture | models | logits: largest difference from llama.cpp's in float32, relative to the largest |\n|---|---|---|\n")
	for _, a := range engine.Architectures() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", a.Name, a.Models, exact[a.Name])
	}

	b.WriteString("\n| weight type | bits a weight | run, train LoRA through it | train in full and write as it | 8-bit activations |\n|---|---|---|---|---|\n")
	k := simd.All()[0] // the portable set, which has all
	yes := map[bool]string{true: "yes"}
	for _, t := range quant.Types {
		fmt.Fprintf(&b, "| %s | %s | yes | %s | %s |\n", t.Name, strconv.FormatFloat(float64(8*t.BlockBytes)/float64(t.BlockLen), 'g', 4, 64),
			yes[t.Pack != nil], yes[t.Kernels != nil && t.Kernels(k).DotInt8 != nil])
	}

	var names []string
	for _, m := range quant.Mixtures {
		names = append(names, m.Name)
	}
	fmt.Fprintf(&b, "\n`guardcpu quantize --type` takes llama-quantize's %s and gives every tensor the type and the bytes that it has there (`benchmarks/results/llamacpp-quantize.txt`; Q2_K_S, for which llama.cpp wants an importance matrix, the type).\n", strings.Join(names, ", "))

	b.WriteString("\n| tokenizer | `tokenizer.ggml.model` | `tokenizer.ggml.pre` |\n|---|---|---|\n")
	for _, k := range tokenizer.Kinds() {
		fmt.Fprintf(&b, "| %s | `%s` | %s |\n", k.Title, k.Model, strings.Join(k.Pre, ", "))
	}
	b.WriteString("\n")
	return b.String(), nil
}

// differences reads what benchmarks/llamacpp printed: of each architecture the largest of the
// column exact over the weight types and its models, such as gptneox and gptneox-seq.
func differences(compared string) (map[string]string, error) {
	worst, text := map[string]float64{}, map[string]string{}
	for line := range strings.Lines(compared) {
		f := strings.Fields(line)
		if len(f) < 7 || f[6] != "equal" {
			continue
		}
		if _, err := quant.ByName(f[1]); err != nil {
			return nil, fmt.Errorf("%s: %w", results, err)
		}
		d, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", results, err)
		}
		if strings.HasSuffix(strings.TrimSpace(line), "DIFFERS") {
			return nil, fmt.Errorf("%s: %s", results, strings.TrimSpace(line))
		}
		if name, _, _ := strings.Cut(f[0], "-"); d >= worst[name] {
			worst[name], text[name] = d, f[2]
		}
	}
	return text, nil
}

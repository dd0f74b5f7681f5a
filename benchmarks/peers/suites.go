package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/cpuid/v2"
)

const sources = "benchmarks/peers/programs"

// products are the matrices W, N×K, and tokens the numbers of rows of X.
var (
	products = []string{"768x768", "2048x2048", "5632x2048", "4096x4096", "11008x4096", "32000x2048"}
	tokens   = "64,256,512"
)

// computes are the number formats of products that are compared: bfloat16 only where the CPU
// multiplies it, elsewhere nobody gains by it.
func computes() []string {
	if cpuid.CPU.Supports(cpuid.AVX512BF16) {
		return []string{"f32", "bf16"}
	}
	return []string{"f32"}
}

func text(v any) string { return fmt.Sprint(v) }

// matmul compares the products of a layer with oneDNN and OpenBLAS.
func (o *options) matmul(ctx context.Context) ([]group, map[string]string, error) {
	onednn, openblas := filepath.Join(o.cache, "onednn"), filepath.Join(o.cache, "openblas")
	if err := o.build(ctx, "c++", "-O2", sources+"/onednn.cpp", "-o", onednn, "-ldnnl"); err != nil {
		return nil, nil, fmt.Errorf("oneDNN (Debian: libdnnl-dev): %w", err)
	}
	if err := o.build(ctx, "cc", "-O2", sources+"/openblas.c", "-o", openblas, "-lopenblas"); err != nil {
		return nil, nil, fmt.Errorf("OpenBLAS (Debian: libopenblas-dev): %w", err)
	}
	threads, ms := strconv.Itoa(o.threads), strconv.Itoa(o.milliseconds)
	env := []string{"OMP_NUM_THREADS=" + threads, "OPENBLAS_NUM_THREADS=" + threads, "OMP_WAIT_POLICY=active"}
	row := func(e entry) string {
		return text(e.Keys["compute"]) + " " + text(e.Keys["op"]) + " " + text(e.Keys["shape"])
	}
	var groups []group
	for _, compute := range computes() {
		for _, p := range products {
			args := []string{ms, tokens, p}
			sides := []side{
				{"guardcpu", []string{o.guardcpu, "bench", "--json", "--what", "matmul", "--products", p, "--tokens", tokens, "--sets", "best", "--threads", threads, "--compute", compute, "--time", ms + "ms"}, nil, ours("GFLOP/s", row)},
				{"oneDNN", append([]string{onednn, compute, "plain"}, args...), env, lines(row)},
				{"oneDNN packed", append([]string{onednn, compute, "packed"}, args...), env, lines(row)},
			}
			if compute == "f32" {
				sides = append(sides, side{"OpenBLAS", append([]string{openblas}, args...), env, lines(row)})
			}
			groups = append(groups, group{compute + " " + p, sides})
		}
	}
	return groups, map[string]string{"oneDNN": packageVersion(ctx, "libdnnl-dev"), "OpenBLAS": packageVersion(ctx, "libopenblas-dev")}, nil
}

// packageVersion asks Debian's package manager, if there is one.
func packageVersion(ctx context.Context, name string) string {
	out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Version}", name).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// tuned is what makes PyTorch of Debian fast, by a factor of two: one pool of threads for
// it and its BLAS, which does not sleep, and memory that is not given back after every step.
func (o *options) tuned() []string {
	env := []string{"OMP_NUM_THREADS=" + strconv.Itoa(o.threads), "OMP_WAIT_POLICY=active",
		"MALLOC_MMAP_THRESHOLD_=1073741824", "MALLOC_TRIM_THRESHOLD_=4294967296", "MALLOC_TOP_PAD_=268435456"}
	if dirs, _ := filepath.Glob("/usr/lib/*/openblas-openmp"); len(dirs) > 0 {
		env = append(env, "LD_LIBRARY_PATH="+dirs[0])
	}
	return env
}

// train compares training and attribution with PyTorch.
func (o *options) train(ctx context.Context) ([]group, map[string]string, error) {
	version, err := exec.CommandContext(ctx, o.python, "-c", "import torch; print(torch.__version__)").Output()
	if err != nil {
		return nil, nil, fmt.Errorf("%s has no PyTorch (Debian: python3-torch; or use -python): %w", o.python, err)
	}
	threads := strconv.Itoa(o.threads)
	row := func(e entry) string {
		shape, compute := e.Keys["shape"], text(e.Keys["compute"])
		if shape == nil {
			shape = e.Keys["model"] // guardcpu's name of it
		}
		what := "attribution" // PyTorch's better way
		if e.Name == "Train" {
			what = text(e.Keys["part"])
		}
		return text(shape) + " " + compute + " " + what
	}
	var groups []group
	for shape := range strings.SplitSeq(o.shapes, ",") {
		if shape != "15m" && shape != "110m" {
			continue // a step of 1.1b takes PyTorch half a minute, and 18 GB
		}
		for _, compute := range computes() {
			for _, what := range []string{"train", "attribute"} {
				torch := []string{o.python, sources + "/train.py", "--shape", shape, "--threads", threads, "--reps", "1", "--what", what}
				if compute == "bf16" {
					torch = append(torch, "--autocast")
				}
				groups = append(groups, group{shape + " " + compute + " " + what, []side{
					{"guardcpu", []string{o.guardcpu, "bench", "--json", "--shape", shape, "--what", what, "--batch", "8x64", "--sets", "best", "--threads", threads, "--compute", compute, "--time", "1ns"}, nil, ours("", row)},
					{"PyTorch", torch, o.tuned(), lines(row)},
				}})
			}
		}
	}
	return groups, map[string]string{"PyTorch": strings.TrimSpace(string(version))}, nil
}

// tests are llama-bench's tests of a shape: of the largest fewer tokens, for the sake of time.
func tests(shape string) (prompts []int, generate int) {
	if shape == "1.1b" {
		return []int{128}, 32
	}
	return []int{128, 512}, 64
}

// llama compares prompts and generation with llama.cpp.
func (o *options) llama(ctx context.Context) ([]group, map[string]string, error) {
	threads := strconv.Itoa(o.threads)
	program, version := o.llamaBench, "llama-bench"
	switch {
	case o.llamaBench != "":
		if err := need(o.llamaBench, "want a llama-bench"); err != nil {
			return nil, nil, err
		}
	case o.llamaLib != "":
		libs, err := filepath.Glob(filepath.Join(o.llamaLib, "lib*.so"))
		if err != nil {
			return nil, nil, err
		}
		program = filepath.Join(o.cache, "llama")
		args := []string{"cc", "-O2", sources + "/llama.c", "-o", program, "-Wl,-rpath," + o.llamaLib, "-Wl,-rpath-link," + o.llamaLib}
		for _, lib := range libs {
			if base := filepath.Base(lib); strings.HasPrefix(base, "libllama.") || strings.HasPrefix(base, "libggml.") {
				args = append(args, lib)
			}
		}
		if err := o.build(ctx, args...); err != nil {
			return nil, nil, err
		}
		version = "libraries"
		if meta, err := os.ReadFile(filepath.Join(o.llamaLib, "_nlcBuildMetadata.json")); err == nil {
			var m struct {
				BuildOptions struct {
					LlamaCpp struct{ Release string }
				}
			}
			if err := json.Unmarshal(meta, &m); err != nil {
				return nil, nil, err
			}
			version = m.BuildOptions.LlamaCpp.Release + ", prebuilt by node-llama-cpp"
		}
	default:
		return nil, nil, fmt.Errorf("no llama.cpp is given; use -llama-bench or -llama-lib")
	}
	var groups []group
	for shape := range strings.SplitSeq(o.shapes, ",") {
		prompts, generate := tests(shape)
		var pp []string
		var names []string
		for _, n := range prompts {
			pp, names = append(pp, strconv.Itoa(n)), append(names, "pp"+strconv.Itoa(n))
		}
		tg := strconv.Itoa(generate)
		names = append(names, "tg"+tg)
		for typ := range strings.SplitSeq(o.types, ",") {
			model, err := o.model(ctx, shape, typ)
			if err != nil {
				return nil, nil, err
			}
			name := shape + " " + typ
			row := func(e entry) string {
				test := e.Test
				switch e.Name {
				case "Prompt":
					test = "pp" + text(e.Keys["tokens"])
				case "Generate":
					test = "tg" + text(e.Keys["tokens"])
				}
				return name + " " + test
			}
			them := side{"llama.cpp", slices.Concat([]string{program, o.llamaLib, model, threads, "1"}, names), nil, lines(row)}
			if o.llamaBench != "" {
				them.args = []string{program, "-m", model, "-t", threads, "-p", strings.Join(pp, ","), "-n", tg, "-r", "1", "-o", "json"}
				them.parse = llamaBench(name)
			}
			compute := "f32" // or what --compute auto of generate takes
			if strings.HasPrefix(typ, "Q") || slices.Contains(computes(), "bf16") {
				compute = "bf16"
			}
			groups = append(groups, group{name, []side{
				{"guardcpu", []string{o.guardcpu, "bench", "--json", "--model", model, "--what", "prompt,generate", "--prompts", strings.Join(pp, ","), "--generate-tokens", tg, "--sets", "best", "--threads", threads, "--compute", compute, "--time", "1ns"}, nil, ours("tok/s", row)},
				them,
			}})
		}
	}
	return groups, map[string]string{"llama.cpp": version}, nil
}

// llamaBench parses llama-bench -o json.
func llamaBench(name string) func([]byte) (map[string]figure, error) {
	return func(stdout []byte) (map[string]figure, error) {
		var runs []struct {
			Prompt   int     `json:"n_prompt"`
			Generate int     `json:"n_gen"`
			Speed    float64 `json:"avg_ts"`
		}
		if err := json.Unmarshal(stdout, &runs); err != nil {
			return nil, err
		}
		all := map[string]figure{}
		for _, r := range runs {
			test := "pp" + strconv.Itoa(r.Prompt)
			if r.Generate > 0 {
				test = "tg" + strconv.Itoa(r.Generate)
			}
			if err := add(all, name+" "+test, figure{r.Speed, "tok/s"}); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
}

// model returns the file of a random model, which it makes if it is not there.
func (o *options) model(ctx context.Context, shape, typ string) (string, error) {
	path := filepath.Join(o.cache, shape+"-"+typ+".gguf")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	log.Printf("making %s", path)
	return path, o.build(ctx, o.guardcpu, "bench", "--shape", shape, "--type", typ, "--write", path)
}

//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/progress"
	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/gguf"
)

// Every command explains itself, with examples, and its options can stand in a configuration.
func TestHelp(t *testing.T) {
	e := &env{bars: progress.New(os.Stderr)}
	for _, cmd := range e.app().Commands {
		if cmd.Name == "help" || cmd.Name == "completion" {
			continue
		}
		r := guardcpu("", cmd.Name, "--help")
		assert.Zero(t, r.status, cmd.Name)
		assert.Empty(t, r.stderr, cmd.Name)
		assert.Contains(t, r.stdout, "Examples:\n", cmd.Name)
		assert.Contains(t, r.stdout, "\n     guardcpu "+cmd.Name, cmd.Name)
		for _, name := range []string{"config", "json"} {
			assert.Contains(t, r.stdout, "--"+name, cmd.Name)
		}
		for _, f := range cmd.Flags {
			doc, ok := f.(cli.DocGenerationFlag)
			require.True(t, ok)
			assert.NotEmpty(t, doc.GetUsage(), "%s --%s", cmd.Name, f.Names()[0])
		}
	}
	r := guardcpu("")
	assert.Zero(t, r.status)
	assert.Contains(t, r.stdout, "guardcpu run")
}

// The options of a run, written out and read again, are the same options.
func TestConfigRoundTrip(t *testing.T) {
	e := &env{bars: progress.New(os.Stderr)}
	t.Chdir(t.TempDir())
	configOf := func(args ...string) string {
		cmd := runCommand(e)
		cmd.Flags = append(cmd.Flags, commonFlags()...)
		cmd.DisableSliceFlagSeparator = true
		var out []byte
		cmd.Before = func(ctx context.Context, c *cli.Command) (context.Context, error) { return ctx, applyConfig(c) }
		cmd.Action = func(_ context.Context, c *cli.Command) (err error) {
			out, err = configYAML(c)
			return err
		}
		require.NoError(t, cmd.Run(t.Context(), append([]string{"run"}, args...)))
		return string(out)
	}
	first := configOf("--format", `Q: {question}\n#{answer}`, "--tau", "inf", "--lr", "1.5e-7", "--lora-targets", "blk.*.attn_q.weight", "--lora-targets", "blk.0.*,x", "--seed", "18446744073709551615", "--model", "a: b.gguf", "--finetune-warmup", "-1", "--ignore-eos")
	require.NoError(t, os.WriteFile("run.yaml", []byte(first), 0o600))
	assert.Equal(t, first, configOf("--config", "run.yaml"))
	second := configOf("--config", "run.yaml", "--lr", "0.25", "--ignore-eos=false")
	assert.Contains(t, second, "\nlr: 0.25\n")
	assert.Contains(t, second, "\nignore-eos: false\n")
	assert.Contains(t, second, "\ntau: inf\n")
}

// Bad input ends with the status of its kind and one line that names the place;
// nothing is written.
func TestBadInput(t *testing.T) {
	workshop(t)
	write := func(name, text string) string {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		return name
	}
	model := func(name string, change func(kvs []gguf.KV, tensors []gguf.TensorData) []gguf.KV) string {
		f, err := gguf.Open("model.gguf")
		require.NoError(t, err)
		defer f.Close()
		var tensors []gguf.TensorData
		for i := range f.Tensors {
			x := &f.Tensors[i]
			data := append([]byte{}, f.Data(x)...)
			tensors = append(tensors, gguf.TensorData{Name: x.Name, Type: x.Type, Dims: x.Dims, Bytes: func() ([]byte, error) { return data, nil }})
		}
		kvs := change(append([]gguf.KV{}, f.KVs...), tensors)
		require.NoError(t, gguf.Write(name, kvs, tensors))
		return name
	}
	set := func(key string, value any) func([]gguf.KV, []gguf.TensorData) []gguf.KV {
		return func(kvs []gguf.KV, _ []gguf.TensorData) []gguf.KV {
			for i := range kvs {
				if kvs[i].Key == key {
					kvs[i].Value = value
				}
			}
			return kvs
		}
	}
	truncated, err := os.ReadFile("model.gguf")
	require.NoError(t, err)
	write("short.gguf", string(truncated[:len(truncated)-100]))
	model("arch.gguf", set("general.architecture", "mamba"))
	model("bert.gguf", set("tokenizer.ggml.model", "bert"))
	model("nan.gguf", func(kvs []gguf.KV, tensors []gguf.TensorData) []gguf.KV {
		for i := range tensors {
			if tensors[i].Name == "blk.1.attn_q.weight" {
				data, _ := tensors[i].Bytes()
				bits := math.Float32bits(float32(math.NaN()))
				for k := range 4 {
					data[4*(16*1+3)+k] = byte(bits >> (8 * k)) // row 1, column 3
				}
				tensors[i].Bytes = func() ([]byte, error) { return data, nil }
			}
		}
		return kvs
	})
	write("empty.jsonl", "")
	write("blank.jsonl", "\n\n")
	write("broken.jsonl", `{"question":"a","answer":"b"}`+"\n"+`{"question":"c",`+"\n")
	write("field.jsonl", `{"question":"a","answer":"b"}`+"\n"+`{"question":"c"}`+"\n")
	write("type.jsonl", `{"question":"a","answer":7}`+"\n")
	write("table.csv", "question,answer\na,b\n")
	write("scores.jsonl", `{"i":0,"score":1,"weight":0.5}`+"\n")
	write("shuffled.jsonl", `{"i":1,"score":1,"weight":0.5}`+"\n")
	write("old.gguf", "old")
	write("no.txt", "I do not know.\n")
	write("run.yaml", "seeds: 1\n")
	require.NoError(t, os.Mkdir("olddir", 0o700))
	require.NoError(t, os.WriteFile("olddir/letter.txt", []byte("dear"), 0o600))
	require.NoError(t, os.Symlink("model.gguf", "link.gguf"))
	require.NoError(t, os.Link("model.gguf", "hard.gguf"))
	require.NoError(t, syscall.Mkfifo("pipe", 0o600))
	entries := func() (names []string) {
		list, err := os.ReadDir(".")
		require.NoError(t, err)
		for _, e := range list {
			names = append(names, e.Name())
		}
		return names
	}
	before, sums := entries(), sum(t, "model.gguf")

	run := func(more ...string) []string { return tinyRun(append([]string{"--run-dir", "r"}, more...)...) }
	sets := []string{"--forget", "forget.jsonl", "--retain", "retain.jsonl"}
	for _, c := range []struct {
		name   string
		args   []string
		status int
		want   string // a regular expression for the line
	}{
		{"no such model", run("--model", "absent.gguf"), exitModel, `absent\.gguf: no such file or directory`},
		{"model is a directory", run("--model", "olddir"), exitModel, `olddir is a directory`},
		{"model is a pipe", run("--model", "pipe"), exitModel, `pipe is a named pipe`},
		{"model is no GGUF", run("--model", "forget.jsonl"), exitModel, `forget\.jsonl: it begins with`},
		{"truncated model", run("--model", "short.gguf"), exitModel, `short\.gguf: tensor ".*" ends at byte`},
		{"unknown architecture", run("--model", "arch.gguf"), exitModel, `architecture "mamba" is not known; there are llama`},
		{"unsupported tokenizer", run("--model", "bert.gguf"), exitModel, `bert\.gguf: .*bert`},
		{"NaN weight", run("--model", "nan.gguf"), exitModel, `nan\.gguf: blk\.1\.attn_q\.weight: element \[1,3\] is NaN`},
		{"generate from a NaN", []string{"generate", "--model", "nan.gguf", "--prompt", "a"}, exitModel, `.`},
		{"no such data", run("--forget", "absent.jsonl"), exitData, `absent\.jsonl: no such file or directory \(--forget\)`},
		{"data is a directory", run("--retain", "olddir"), exitData, `olddir is a directory`},
		{"data is a pipe", run("--retain", "pipe"), exitData, `pipe`},
		{"empty file", run("--forget", "empty.jsonl"), exitData, `empty\.jsonl is empty`},
		{"blank file", run("--retain", "blank.jsonl"), exitData, `blank\.jsonl holds no rows`},
		{"malformed row", run("--forget", "broken.jsonl"), exitData, `broken\.jsonl:[23]: `},
		{"missing field", run("--forget", "field.jsonl"), exitData, `field\.jsonl:2: field "answer" is missing`},
		{"wrong type", run("--forget", "type.jsonl"), exitData, `type\.jsonl:1: field "answer" is .*want a string`},
		{"a table", run("--forget", "table.csv"), exitData, `table\.csv looks like a table`},
		{"a model as data", run("--forget", "model.gguf"), exitData, `model\.gguf is a GGUF model`},
		{"overlap", run("--forget", "retain.jsonl"), exitData, `8 of the rows to forget are in the retain set too: .*; take them out`},
		{"overlap of everything", run("--forget", "retain.jsonl", "--allow-overlap"), exitData, `every row to retain`},
		{"nothing fits the length", run("--max-length", "3"), exitData, `no token of the answer counts.*raise --max-length`},
		{"no such refusals", run("--method", "po", "--refusals", "absent.txt"), exitData, `absent\.txt: no such file or directory \(--refusals\)`},
		{"data without model", []string{"run", "--forget", "forget.jsonl"}, exitUsage, `no model; use --model FILE`},
		{"no retain set", []string{"run", "--model", "model.gguf", "--forget", "forget.jsonl"}, exitUsage, `use --retain FILE`},
		{"no forget set", []string{"run", "--model", "model.gguf", "--retain", "retain.jsonl"}, exitUsage, `use --forget FILE`},
		{"data given twice", run("--data", "forget.jsonl"), exitUsage, `either --data with --split`},
		{"no such split", []string{"run", "--model", "model.gguf", "--data", "retain.jsonl", "--split", "retain90"}, exitUsage, `--split: "retain90": want forget01`},
		{"a split of nothing", []string{"run", "--model", "model.gguf", "--data", "retain.jsonl", "--split", "forget01"}, exitData, `leaves the forget or the retain set empty`},
		{"unknown format", run("--format", "alpaca"), exitUsage, `format "alpaca" is not known; there are llama2, phi`},
		{"half a template", run("--format", "{question} only"), exitUsage, `template .* needs`},
		{"unknown method", run("--method", "nop"), exitUsage, `--method: "nop": want ga, gd, km, po`},
		{"bad tau", run("--tau", "-1"), exitUsage, `--tau: "-1": tau "-1" is not`},
		{"rate is NaN", run("--lr", "nan"), exitUsage, `--lr: "nan": want a number that is not negative`},
		{"no seeds", run("--seeds", "0"), exitUsage, `--seeds: "0": want at least 1`},
		{"contradiction", run("--no-finetune", "--finetune", "yes"), exitUsage, `contradict`},
		{"retrain what is tuned", run("--no-finetune", "--gold", "train"), exitUsage, `--gold FILE`},
		{"no such retrained model", run("--gold", "absent.gguf"), exitModel, `absent\.gguf: no such file`},
		{"argument", run("model.gguf"), exitUsage, `run takes no argument, found "model\.gguf"`},
		{"unknown kernels", []string{"GUARDCPU_SIMD=mmx", "generate", "--model", "model.gguf", "--prompt", "a"}, exitUsage, `no kernel set "mmx" on this CPU; there are generic`},
		{"output exists", run("--out", "old.gguf"), exitOutput, `old\.gguf: output exists; give another name, or --force`},
		{"output is the model", run("--out", "model.gguf", "--force"), exitOutput, `model\.gguf: output would overwrite an input`},
		{"output is the model, dotted", run("--out", "./olddir/../model.gguf", "--force"), exitOutput, `would overwrite an input`},
		{"output is a link to the model", run("--out", "link.gguf", "--force"), exitOutput, `would overwrite an input`},
		{"output is a hard link", run("--out", "hard.gguf", "--force"), exitOutput, `would overwrite an input`},
		{"output is the data", run("--out", "forget.jsonl", "--force"), exitOutput, `would overwrite an input`},
		{"output is a directory", run("--out", "olddir", "--force"), exitOutput, `olddir: output exists and is a directory`},
		{"output directory is missing", run("--out", "absent/out.gguf"), exitIO, `absent: output directory is not writable`},
		{"run directory exists", tinyRun("--run-dir", "olddir"), exitOutput, `olddir: output exists and is no run directory`},
		{"run directory in a file", tinyRun("--run-dir", "old.gguf/r"), exitIO, `old\.gguf: output directory is not writable: not a directory`},
		{"retrained model of no use", run("--gold", "arch.gguf"), exitModel, `arch\.gguf: architecture`},
		{"output is a device", run("--out", os.DevNull, "--force"), exitOutput, `output exists and is no regular file; give another name$`},
		{"output is the configuration", run("--config", "run.yaml", "--out", "run.yaml", "--force"), exitOutput, `would overwrite an input`},
		{"finetune without data", []string{"finetune", "--model", "model.gguf", "--out", "x.gguf"}, exitUsage, `use --data FILE`},
		{"finetune without output", []string{"finetune", "--model", "model.gguf", "--data", "retain.jsonl"}, exitUsage, `use --out FILE`},
		{"finetune over its input", []string{"finetune", "--model", "model.gguf", "--data", "retain.jsonl", "--out", "link.gguf", "--force"}, exitOutput, `overwrite an input`},
		{"unlearn without output", append([]string{"unlearn", "--model", "model.gguf"}, sets...), exitUsage, `use --out FILE`},
		{"unlearn over its refusals", append([]string{"unlearn", "--model", "model.gguf", "--method", "po", "--refusals", "no.txt", "--out", "no.txt", "--force"}, sets...), exitOutput, `no\.txt: output would overwrite an input`},
		{"finetune of a NaN", []string{"finetune", "--model", "nan.gguf", "--data", "retain.jsonl", "--out", "x.gguf"}, exitModel, `is NaN`},
		{"quantize a NaN", []string{"quantize", "--type", "F32", "nan.gguf", "x.gguf"}, exitModel, `nan\.gguf: blk\.1\.attn_q\.weight: element \[1,3\] is NaN`},
		{"too few scores", append([]string{"unlearn", "--model", "model.gguf", "--out", "x.gguf", "--scores", "scores.jsonl"}, sets...), exitData, `scores\.jsonl: 1 lines for 4 samples`},
		{"scores out of order", append([]string{"unlearn", "--model", "model.gguf", "--out", "x.gguf", "--scores", "shuffled.jsonl"}, sets...), exitData, `shuffled\.jsonl: line 1: i is 1, want 0`},
		{"scores are no scores", append([]string{"unlearn", "--model", "model.gguf", "--out", "x.gguf", "--scores", "forget.jsonl"}, sets...), exitData, `forget\.jsonl: line 1: want`},
		{"plain with scores", append([]string{"unlearn", "--model", "model.gguf", "--out", "x.gguf", "--plain", "--scores", "scores.jsonl"}, sets...), exitUsage, `use one of them`},
		{"attribute of a NaN", append([]string{"attribute", "--model", "nan.gguf", "--out", "s"}, sets...), exitModel, `is NaN`},
		{"scores that exist", append([]string{"attribute", "--model", "model.gguf", "--out", "."}, sets...), exitOutput, `scores\.jsonl: output exists`},
		{"scores into a file", append([]string{"attribute", "--model", "model.gguf", "--out", "old.gguf", "--force"}, sets...), exitOutput, `old\.gguf: output exists and is a file, want a directory`},
		{"eval of a model that is missing", append([]string{"eval", "--before", "model.gguf", "--guard", "absent.gguf", "--out", "e"}, sets...), exitModel, `absent\.gguf: no such file`},
		{"eval into a file", append([]string{"eval", "--model", "model.gguf", "--out", "old.gguf/e"}, sets...), exitIO, `not writable: not a directory`},
		{"attribute without output", append([]string{"attribute", "--model", "model.gguf"}, sets...), exitUsage, `use --out DIR`},
		{"eval of nothing", []string{"eval"}, exitUsage, `no model is given`},
		{"eval without data", []string{"eval", "--model", "model.gguf"}, exitUsage, `no data is given`},
		{"no logs", []string{"eval", "--logs", "olddir"}, exitData, `olddir holds no logs`},
		{"no such logs", []string{"eval", "--logs", "absent"}, exitData, `absent.*no such file`},
		{"logs and data", []string{"eval", "--logs", "olddir", "--world-facts", "facts.jsonl"}, exitUsage, `one or the other`},
		{"logs and a model", []string{"eval", "--logs", "olddir", "--model", "model.gguf"}, exitUsage, `one or the other`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if name, value, ok := strings.Cut(c.args[0], "="); ok {
				t.Setenv(name, value)
				c.args = c.args[1:]
			}
			r := guardcpu("", c.args...)
			assert.Equal(t, c.status, r.status, r.stderr)
			assert.Empty(t, r.stdout)
			line := strings.TrimSuffix(r.stderr, "\n")
			assert.NotContains(t, line, "\n", "one line")
			assert.Regexp(t, `^guardcpu: .*`+c.want, line)
			assert.Equal(t, before, entries(), "nothing is written")
			assert.Equal(t, sums, sum(t, "model.gguf"))
		})
	}
}

// Rows in both sets are forgotten when --allow-overlap says so.
func TestAllowOverlap(t *testing.T) {
	workshop(t)
	forget, err := os.ReadFile("forget.jsonl")
	require.NoError(t, err)
	retain, err := os.ReadFile("retain.jsonl")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile("both.jsonl", append(retain, forget...), 0o600))
	args := func(retain, out string, more ...string) []string {
		return append([]string{"unlearn", "--model", "model.gguf", "--forget", "forget.jsonl", "--retain", retain, "--out", out, "--lr", "0.01", "--batch", "2"}, more...)
	}
	r := guardcpu("", args("both.jsonl", "a.gguf", "--allow-overlap")...)
	require.Zero(t, r.status, r.stderr)
	assert.Contains(t, r.stderr, "4 rows are in both sets: they are forgotten, and not retained")
	r = guardcpu("", args("retain.jsonl", "b.gguf")...)
	require.Zero(t, r.status, r.stderr)
	assert.Equal(t, sum(t, "b.gguf"), sum(t, "a.gguf"))
}

// A file that is replaced by force is replaced whole.
func TestForce(t *testing.T) {
	workshop(t)
	require.NoError(t, os.WriteFile("out.gguf", []byte("old"), 0o600))
	r := guardcpu("", "finetune", "--model", "model.gguf", "--data", "retain.jsonl", "--out", "out.gguf", "--epochs", "1", "--force", "--json")
	require.Zero(t, r.status, r.stderr)
	f, err := gguf.Open("out.gguf")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	var out map[string]any
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &out))
	assert.Equal(t, "out.gguf", out["out"])
	assert.EqualValues(t, 1, out["steps"])
}

type errWriter struct{ err error }

func (w errWriter) Write([]byte) (int, error) { return 0, w.err }

// A reader that has gone away ends no work; a full disk is an error.
func TestStandardOutputFails(t *testing.T) {
	for err, status := range map[error]int{syscall.EPIPE: exitOK, syscall.ENOSPC: exitIO} {
		var stderr strings.Builder
		e := &env{args: []string{"guardcpu", "version"}, stdin: strings.NewReader(""), stdout: errWriter{err}, stderr: &stderr, bars: progress.New(&stderr)}
		assert.Equal(t, status, e.main(t.Context()), err)
		assert.Equal(t, status != 0, strings.Contains(stderr.String(), "standard output: no space left"), stderr.String())
	}
}

// A panic becomes one line and status 70.
func TestPanic(t *testing.T) {
	defer func(c []func(*env) *cli.Command) { commands = c }(commands)
	commands = append(commands[:len(commands):len(commands)], func(*env) *cli.Command {
		return &cli.Command{Name: "boom", Action: func(context.Context, *cli.Command) error { panic("nn: two\nlines") }}
	})
	r := guardcpu("", "boom")
	assert.Equal(t, exitInternal, r.status)
	assert.Regexp(t, `^guardcpu: internal error: nn: two lines; .*\n$`, r.stderr)
}

func TestOneLine(t *testing.T) {
	assert.Equal(t, `a b\u001b[31m cé`, oneLine("a\nb\x1b[31m\tcé\r\n"))
}

func TestDoctor(t *testing.T) {
	r := guardcpu("", "doctor", "--json")
	require.Zero(t, r.status, r.stderr)
	var d doctorReport
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &d))
	assert.True(t, d.OK)
	assert.Equal(t, "generic", d.Kernels.Available[0].Name)
	assert.NotEmpty(t, d.Kernels.Chosen)
	assert.Positive(t, d.CPU.Usable)
	if runtime.GOOS == "linux" {
		assert.Positive(t, d.Memory.Total)
	}
	r = guardcpu("", "doctor")
	require.Zero(t, r.status)
	assert.Contains(t, r.stdout, "generic    agrees")
}

// inspect --json is complete and valid for every value a file can hold.
func TestInspectJSON(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, gguf.Write("odd.gguf", []gguf.KV{
		{Key: "nan", Value: math.NaN()}, {Key: "inf", Value: []float32{float32(math.Inf(1)), 1}}, {Key: "bytes", Value: []uint8{1, 2}},
		{Key: "nested", Value: []any{[]string{"a"}, []int8{-1}}}, {Key: "long", Value: make([]int32, 100)}, {Key: "text", Value: "\x1b[31mred\xff"}, {Key: "big", Value: uint64(math.MaxUint64)},
	}, nil))
	r := guardcpu("", "inspect", "--json", "odd.gguf")
	require.Zero(t, r.status, r.stderr)
	var got fileInfo
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &got))
	values := map[string]any{}
	for _, kv := range got.Metadata {
		values[kv.Key] = kv.Value
	}
	assert.Equal(t, "NaN", values["nan"])
	assert.Equal(t, []any{"+Inf", 1.0}, values["inf"])
	assert.Equal(t, []any{1.0, 2.0}, values["bytes"])
	assert.Equal(t, []any{[]any{"a"}, []any{-1.0}}, values["nested"])
	assert.Len(t, values["long"], 100)
	assert.Contains(t, r.stdout, "18446744073709551615")
	r = guardcpu("", "inspect", "odd.gguf")
	assert.Contains(t, r.stdout, "… 100 in all")
	assert.NotContains(t, r.stdout, "\x1b", "no control character of a file reaches the terminal")
}

// tokenize needs a vocabulary and no tensors.
func TestTokenizeVocabularyOnly(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, gguf.Write("vocab.gguf", tiny.Vocab(), nil))
	r := guardcpu("", "tokenize", "--model", "vocab.gguf", "--json", "ab c")
	require.Zero(t, r.status, r.stderr)
	assert.Equal(t, `{"ids":[1,3,4,5,3,6],"pieces":["<s>"," ","a","b"," ","c"]}`+"\n", r.stdout)
}

// The program cannot speak to a network or start other programs, and holds no test code.
func TestBinary(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	require.NoError(t, err, string(out))
	deps := strings.Fields(string(out))
	require.Contains(t, deps, "github.com/guardcpu/guardcpu/engine")
	for _, p := range deps {
		assert.NotContains(t, []string{"net", "net/http", "os/exec", "plugin", "runtime/cgo", "testing"}, p)
		assert.NotContains(t, p, "testify")
	}
	out, err = exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".").CombinedOutput()
	require.NoError(t, err, string(out))
	modules := strings.Fields(string(out))
	slices.Sort(modules)
	assert.Equal(t, linked, slices.Compact(modules), "a module more is a decision: see ARCHITECTURE.md")
}

// linked are the modules in the program.
var linked = []string{
	"github.com/VividCortex/ewma", "github.com/acarl005/stripansi", "github.com/chewxy/math32", "github.com/clipperhouse/uax29/v2", "github.com/goccy/go-yaml", "github.com/google/renameio/v2", "github.com/guardcpu/guardcpu", "github.com/klauspost/cpuid/v2", "github.com/mattn/go-runewidth", "github.com/urfave/cli/v3", "github.com/vbauerster/cupwriter", "github.com/vbauerster/mpb/v8", "github.com/viterin/partial", "github.com/viterin/vek", "golang.org/x/exp", "golang.org/x/sys",
}

// A built program survives a closed pipe, and stops in good order on a signal.
func TestProcess(t *testing.T) {
	workshop(t)
	bin, err := built()
	require.NoError(t, err)
	require.NoError(t, engine.Create("model.gguf", tiny.Shape("llama")))

	// head -1 closes the pipe after the first line.
	r, w, err := os.Pipe()
	require.NoError(t, err)
	cmd := exec.Command(bin, tinyRun("--run-dir", "piped")...)
	cmd.Stdout = w
	require.NoError(t, r.Close())
	require.NoError(t, cmd.Run(), "writing into a closed pipe is no error")
	require.NoError(t, w.Close())
	assert.FileExists(t, "piped/report.html")

	// A full disk: no file may be larger than four blocks of 512 bytes.
	for _, args := range []string{"quantize --type F16 --out full.gguf --model model.gguf", "finetune --model model.gguf --data retain.jsonl --epochs 1 --out full.gguf"} {
		r := spawn(t, "ulimit -f 4; exec $GUARDCPU "+args)
		assert.Equal(t, exitIO, r.status, r.stderr)
		assert.Equal(t, "guardcpu: full.gguf: file too large; nothing has been written\n", r.stderr)
		left, err := filepath.Glob("*full*")
		require.NoError(t, err)
		hidden, err := filepath.Glob(".*full*")
		require.NoError(t, err)
		assert.Empty(t, append(left, hidden...), "no half of a file is left")
	}

	var stderr strings.Builder
	cmd = exec.Command(bin, tinyRun("--run-dir", "stopped", "--epochs", "100000", "--out", "out.gguf")...)
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { _, err := os.Stat("stopped/scores.jsonl"); return err == nil }, 30*time.Second, 20*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	err = cmd.Wait()
	var exit *exec.ExitError
	require.True(t, errors.As(err, &exit), fmt.Sprint(err))
	assert.Equal(t, exitStopped, exit.ExitCode(), stderr.String())
	assert.Regexp(t, regexp.MustCompile(`guardcpu: stopped: stopped (at step \d+ of unlearn-baseline-42 \(of 200000\)|in the step "unlearn-baseline-42"): run the same command to go on\n$`), stderr.String())
	assert.NoFileExists(t, "out.gguf")
}

func TestCompleteText(t *testing.T) {
	const euro = "a€"
	assert.Equal(t, "a", completeText(euro[:2]))
	assert.Equal(t, "a", completeText(euro[:3]))
	assert.Equal(t, euro, completeText(euro))
	assert.Equal(t, "", completeText(""))
	assert.Equal(t, "\xff", completeText("\xff"), "what can become no character stays")
	assert.Equal(t, "", completeText("\xf0\x9f\x98"))
}

func TestSuggest(t *testing.T) {
	for name, want := range map[string]string{"rnu": "run", "--modle": "model", "tokenise": "tokenize", "evla": "eval"} {
		assert.Equal(t, fmt.Sprintf("did you mean %q?", want), suggest(name, []string{"run", "model", "mode", "tokenize", "eval"}))
	}
	assert.Equal(t, "there are run, eval", suggest("xyz", []string{"run", "eval"}))
}

// A text past the model's context is written, and a note says what it is worth.
func TestGeneratePastTheContext(t *testing.T) {
	workshop(t)
	f, err := gguf.Open("model.gguf")
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, gguf.Rewrite("short.gguf", f, []gguf.KV{{Key: "llama.context_length", Value: uint32(4)}}, nil))
	for n, noted := range map[string]bool{"4": false, "5": true} { // the last new token is not read
		r := guardcpu("", "generate", "--model", "short.gguf", "--prompt-ids", "1", "-n", n, "--ignore-eos", "--json")
		assert.Zero(t, r.status, r.stderr)
		assert.Equal(t, noted, strings.Contains(r.stderr, "more than the 4 the model is made for"), n)
	}
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/simd"
)

// workshop is a directory with a tiny model and tiny sets, which is the current one.
func workshop(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	require.NoError(t, engine.Create("model.gguf", tiny.Shape("llama")))
	rows := func(name string, from, n int) {
		names := []string{"ada", "bob", "cleo", "dora", "emil", "fay", "gus", "hal", "ida", "joe", "kim", "leo"}
		towns := []string{"rome", "oslo", "bern", "lima", "kiel"}
		var b strings.Builder
		for i := from; i < from+n; i++ {
			town := func(k int) string { return towns[(i+k)%len(towns)] }
			fmt.Fprintf(&b, `{"question":"where is %s","answer":"in %s.","paraphrased_answer":"it is %s.","perturbed_answer":["it is %s.","it is %s."]}`+"\n",
				names[i%len(names)]+strings.Repeat("x", i/len(names)), town(0), town(0), town(1), town(2))
		}
		require.NoError(t, os.WriteFile(name, []byte(b.String()), 0o600))
	}
	rows("forget.jsonl", 0, 4)
	rows("retain.jsonl", 4, 8)
	rows("authors.jsonl", 12, 3)
	rows("facts.jsonl", 15, 3)
}

// tinyRun are the arguments of a run that takes less than a second.
func tinyRun(more ...string) []string {
	return append([]string{"run", "--model", "model.gguf", "--forget", "forget.jsonl", "--retain", "retain.jsonl",
		"--real-authors", "authors.jsonl", "--world-facts", "facts.jsonl", "--format", `q {question} a {answer}`,
		"--finetune-lr", "0.02", "--finetune-epochs", "30", "--finetune-batch", "4", "--finetune-warmup", "2",
		"--lr", "0.003", "--epochs", "2", "--batch", "2", "--eval-length", "40"}, more...)
}

func sum(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}

func readJSON(t *testing.T, path string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var v map[string]any
	require.NoError(t, json.Unmarshal(data, &v), path)
	return v
}

func TestRun(t *testing.T) {
	workshop(t)
	before := sum(t, "model.gguf")
	r := guardcpu("", tinyRun("--gold", "train", "--seeds", "2", "--run-dir", "a", "--out", "out.gguf", "--threads", "2")...)
	require.Zero(t, r.status, r.stderr)
	assert.Contains(t, r.stderr, "Step 1   fine-tune on both sets", "it says first what it is going to do")
	assert.Contains(t, r.stdout, "Forget set, probability")
	assert.Regexp(t, `(?m)^(GUARD (sacrificed less|did not sacrifice less)|In no metric did the forget set measurably lose)`, r.stdout)
	assert.Contains(t, r.stdout, "report  a/report.html")
	assert.Equal(t, before, sum(t, "model.gguf"), "the input is as it was")
	assert.Equal(t, sum(t, "a/model.gguf"), sum(t, "out.gguf"))

	t.Run("metrics.json has an object for each model, with TOFU's names", func(t *testing.T) {
		m := readJSON(t, "a/metrics.json")
		for _, key := range modelKeys {
			model, ok := m[key].(map[string]any)
			require.True(t, ok, key)
			for _, name := range []string{"model_utility", "forget_quality", "Model Utility", "Forget Quality", "Prob. Forget", "ROUGE Retain", "Truth Ratio Real Authors", "Prob. Real World"} {
				assert.Contains(t, model, name, key)
			}
		}
		assert.InDelta(t, 1, m["gold"].(map[string]any)["forget_quality"], 1e-12, "the retrained model is compared with itself")
		seeds := m["seeds"].([]any)
		require.Len(t, seeds, 2)
		assert.Equal(t, m["guard"], seeds[0].(map[string]any)["guard"], "guard is that of the first seed")
		assert.NotEqual(t, m["guard"], seeds[1].(map[string]any)["guard"])
		rates := m["sacrifice_rate"].(map[string]any)
		assert.Len(t, rates["baseline"], 3)
		assert.Len(t, rates["guard"], 3)
		assert.NotContains(t, m, "guard_file", "a float32 file rounds nothing")
	})
	t.Run("scores.jsonl has a line for each sample", func(t *testing.T) {
		f, err := os.Open("a/scores.jsonl")
		require.NoError(t, err)
		defer f.Close()
		total, n := 0.0, 0
		for s := bufio.NewScanner(f); s.Scan(); n++ {
			var line map[string]float64
			require.NoError(t, json.Unmarshal(s.Bytes(), &line))
			assert.EqualValues(t, n, line["i"])
			assert.EqualValues(t, n+1, line["line"])
			assert.InDelta(t, 4*line["weight"], line["multiplier"], 1e-12)
			assert.Contains(t, line, "score")
			total += line["weight"]
		}
		assert.Equal(t, 4, n)
		assert.InDelta(t, 1, total, 1e-12)
	})
	t.Run("manifest.json has the hashes", func(t *testing.T) {
		m := readJSON(t, "a/manifest.json")
		assert.Equal(t, true, m["complete"])
		got := map[string]string{}
		for _, list := range []string{"inputs", "outputs"} {
			for _, in := range m[list].([]any) {
				in := in.(map[string]any)
				got[in["role"].(string)] = in["sha256"].(string)
			}
		}
		for role, path := range map[string]string{"model": "model.gguf", "forget": "forget.jsonl", "retain": "retain.jsonl", "real-authors": "authors.jsonl", "world-facts": "facts.jsonl",
			"model.gguf": "a/model.gguf", "out": "out.gguf", "report.html": "a/report.html", "metrics.json": "a/metrics.json", "scores.jsonl": "a/scores.jsonl", "config.yaml": "a/config.yaml"} {
			assert.Equal(t, sum(t, path), got[role], role)
		}
		assert.Len(t, got["program"], 64)
		assert.Equal(t, "f32", m["compute"])
		assert.Equal(t, false, m["int8"])
		assert.EqualValues(t, 4, m["rows"].([]any)[0].(map[string]any)["used"], "what became of the rows is told")
		assert.EqualValues(t, 8, m["samples"].(map[string]any)["retain"].(map[string]any)["samples"])
	})
	t.Run("progress.jsonl is a line an event", func(t *testing.T) {
		data, err := os.ReadFile("a/progress.jsonl")
		require.NoError(t, err)
		count := map[string]int{}
		for line := range bytes.Lines(data) {
			var e struct{ Event string }
			require.NoError(t, json.Unmarshal(line, &e))
			count[e.Event]++
		}
		assert.Equal(t, 1, count["start"])
		assert.Equal(t, 1, count["done"])
		assert.Equal(t, 30*3+30*2, count["finetune"], "both sets, then the retain set")
		assert.Equal(t, 4*4, count["unlearn"], "two models, two seeds, four steps")
		assert.Equal(t, 4*3, count["epoch"], "the start and two epochs of each")
	})
	t.Run("the model says where it comes from", func(t *testing.T) {
		f, err := gguf.Open("out.gguf")
		require.NoError(t, err)
		defer f.Close()
		for key, want := range map[string]any{"guardcpu.method": "gd", "guardcpu.seed": uint64(42), "guardcpu.command": "run", "guardcpu.model_sha256": before} {
			v, ok := f.Value(key)
			assert.True(t, ok, key)
			assert.Equal(t, want, v, key)
		}
	})
	t.Run("the report is whole, loads nothing and holds no texts", func(t *testing.T) {
		page, err := os.ReadFile("a/report.html")
		require.NoError(t, err)
		html := string(page)
		assert.Empty(t, regexp.MustCompile(`(?i)(src|href)\s*=\s*["']?\s*(https?:|//)`).FindString(html))
		for _, want := range []string{"What this does not prove", "Sacrifice rate", "Path of the unlearning", "finetune-lr", sum(t, "a/model.gguf"), "retrained"} {
			assert.Contains(t, html, want)
		}
		assert.NotContains(t, html, "where is ada")
	})
	t.Run("texts of the data are in the logs alone", func(t *testing.T) {
		require.NoError(t, filepath.WalkDir("a", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasPrefix(path, filepath.Join("a", "logs")) {
				return err
			}
			data, err := os.ReadFile(path)
			assert.NotContains(t, string(data), "where is ada", path)
			return err
		}))
		st, err := os.Stat("a")
		require.NoError(t, err)
		assert.Zero(t, st.Mode().Perm()&0o077)
	})
	t.Run("config.yaml does it again, with another number of threads", func(t *testing.T) {
		r := guardcpu("", "run", "--config", "a/config.yaml", "--run-dir", "b", "--threads", "1", "--json")
		require.Zero(t, r.status, r.stderr)
		for _, name := range []string{"model.gguf", "metrics.json", "scores.jsonl", "logs/guard-seed43/eval_log_forget.json"} {
			assert.Equal(t, sum(t, "a/"+name), sum(t, "b/"+name), name)
		}
		var out struct {
			Dir     string `json:"run_dir"`
			Metrics map[string]any
		}
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &out), "standard output is JSON alone")
		assert.Equal(t, "b", out.Dir)
		assert.Contains(t, out.Metrics, "guard")
	})
	t.Run("eval computes the same from the logs", func(t *testing.T) {
		r := guardcpu("", "eval", "--logs", "a/logs/guard", "--retain-logs", "a/logs/gold", "--json")
		require.Zero(t, r.status, r.stderr)
		var got map[string]any
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &got))
		assert.Equal(t, readJSON(t, "a/metrics.json")["guard"], got)
		r = guardcpu("", "eval", "--logs", "a/logs/guard", "--retain-logs", "a/logs/gold", "--as", "guard", "--out", "l")
		require.Zero(t, r.status, r.stderr)
		assert.Equal(t, map[string]any{"guard": got}, readJSON(t, "l/metrics.json"))
	})
	t.Run("eval of the written file gives the same numbers", func(t *testing.T) {
		r := guardcpu("", "eval", "--guard", "out.gguf", "--forget", "forget.jsonl", "--retain", "retain.jsonl", "--real-authors", "authors.jsonl", "--world-facts", "facts.jsonl",
			"--format", `q {question} a {answer}`, "--eval-length", "40", "--retain-logs", "a/logs/gold", "--out", "e")
		require.Zero(t, r.status, r.stderr)
		assert.Equal(t, readJSON(t, "a/metrics.json")["guard"], readJSON(t, "e/metrics.json")["guard"])
		assert.Equal(t, sum(t, "a/logs/guard/eval_log_forget.json"), sum(t, "e/logs/guard/eval_log_forget.json"))
		st, err := os.Stat("e/logs")
		require.NoError(t, err)
		assert.Zero(t, st.Mode().Perm()&0o077, "the logs hold texts of the data")
	})
}

// --compute reaches the model, and the run says what it was.
func TestRunCompute(t *testing.T) {
	workshop(t)
	k, err := simd.Select()
	require.NoError(t, err)
	auto, sums := nn.ComputeAuto.On(k).String(), map[string]string{}
	for compute, on := range map[string]string{"f32": "f32", "bf16": "bf16", "auto": auto} {
		want := on + " products"
		if compute != "f32" {
			want += " (8-bit activations for text from quantised weights)"
		}
		r := guardcpu("", tinyRun("--run-dir", compute, "--compute", compute)...)
		require.Zero(t, r.status, r.stderr)
		assert.Contains(t, r.stderr, want+",")
		m := readJSON(t, compute+"/manifest.json")
		assert.Equal(t, on, m["compute"])
		assert.Equal(t, compute != "f32", m["int8"])
		page, err := os.ReadFile(compute + "/report.html")
		require.NoError(t, err)
		assert.Contains(t, string(page), want)
		sums[compute] = sum(t, compute+"/scores.jsonl")
	}
	assert.NotEqual(t, sums["f32"], sums["bf16"])
	assert.Equal(t, sums[auto], sums["auto"])
}

// TestStepByStep does what run does with the single commands: the results are the same bytes.
func TestStepByStep(t *testing.T) {
	workshop(t)
	shared := []string{"--forget", "forget.jsonl", "--retain", "retain.jsonl", "--format", `q {question} a {answer}`}
	do := func(args ...string) result {
		t.Helper()
		r := guardcpu("", args...)
		require.Zero(t, r.status, r.stderr)
		return r
	}
	do(tinyRun("--run-dir", "a")...)
	do("finetune", "--model", "model.gguf", "--data", "retain.jsonl", "--data", "forget.jsonl", "--format", `q {question} a {answer}`,
		"--lr", "0.02", "--epochs", "30", "--batch", "4", "--warmup", "2", "--out", "tuned.gguf")
	do(append([]string{"attribute", "--model", "tuned.gguf", "--out", "s"}, shared...)...)
	assert.Equal(t, sum(t, "a/scores.jsonl"), sum(t, "s/scores.jsonl"))
	method := append([]string{"unlearn", "--model", "tuned.gguf", "--lr", "0.003", "--epochs", "2", "--batch", "2"}, shared...)
	do(append(method, "--scores", "s/scores.jsonl", "--out", "scored.gguf")...)
	do(append(method, "--out", "weighed.gguf")...)
	do(append(method, "--plain", "--out", "plain.gguf")...)
	do(append(method, "--tau", "inf", "--out", "inf.gguf")...)

	data := func(path string) []byte {
		f, err := gguf.Open(path)
		require.NoError(t, err)
		defer f.Close()
		return bytes.Clone(f.Bytes()[f.DataOffset:])
	}
	assert.Equal(t, data("a/model.gguf"), data("weighed.gguf"))
	assert.Equal(t, data("plain.gguf"), data("inf.gguf"), "an infinite temperature is the plain method")
	assert.NotEqual(t, data("plain.gguf"), data("weighed.gguf"))
	// scores.jsonl holds weights that sum to one; back to multipliers they round.
	assert.NotEqual(t, data("plain.gguf"), data("scored.gguf"))

	r := do(append([]string{"run", "--model", "tuned.gguf", "--lr", "0.003", "--epochs", "2", "--batch", "2", "--eval-length", "40", "--run-dir", "b"}, shared...)...)
	assert.Contains(t, r.stderr, "No fine-tuning: the model knows the forget set")
	assert.Equal(t, data("a/model.gguf"), data("b/model.gguf"))
}

// Every objective and both training modes go through run, also from a quantised file.
func TestRunMethods(t *testing.T) {
	workshop(t)
	require.NoError(t, os.WriteFile("no.txt", []byte("not known.\nno idea.\n"), 0o600))
	shape := tiny.Shape("llama")
	shape.DModel, shape.DFF, shape.NHeads = 32, 64, 4
	require.NoError(t, engine.Create("wide.gguf", shape))
	r := guardcpu("", "quantize", "--type", "Q8_0", "wide.gguf", "q8.gguf")
	require.Zero(t, r.status, r.stderr)
	for _, c := range []struct {
		name string
		args []string
	}{
		{"ga", []string{"--method", "ga"}},
		{"km", []string{"--method", "km"}},
		{"po", []string{"--method", "po", "--refusals", "no.txt"}},
		{"lora", []string{"--mode", "lora", "--lora-rank", "2"}},
		{"quantised", []string{"--model", "q8.gguf"}},
		{"texts", []string{"--report-texts", "--epoch-scores", "none"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := guardcpu("", tinyRun(append(c.args, "--run-dir", c.name)...)...)
			require.Zero(t, r.status, r.stderr)
			assert.FileExists(t, c.name+"/model.gguf")
			m := readJSON(t, c.name+"/metrics.json")
			_, rounded := m["guard_file"]
			assert.Equal(t, c.name == "quantised", rounded, "a file that rounds is evaluated as it is written")
			page, err := os.ReadFile(c.name + "/report.html")
			require.NoError(t, err)
			assert.Equal(t, c.name == "texts", strings.Contains(string(page), "where is ada"))
		})
	}
}

// Without --gold and with plain question-answer rows there is no truth ratio and no
// forget quality; the run says so and is complete.
func TestRunOnPlainRows(t *testing.T) {
	workshop(t)
	strip := regexp.MustCompile(`,"paraphrased_answer.*`)
	for _, name := range []string{"forget.jsonl", "retain.jsonl"} {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(name, strip.ReplaceAll(data, []byte("}")), 0o600))
	}
	r := guardcpu("", tinyRun("--run-dir", "a")...)
	require.Zero(t, r.status, r.stderr)
	assert.Contains(t, r.stdout, "no retrained model to compare with")
	m := readJSON(t, "a/metrics.json")
	assert.NotContains(t, m, "gold")
	assert.Nil(t, m["guard"].(map[string]any)["forget_quality"])
}

// A run whose loss is not finite any more ends with status 7 and writes no model.
func TestRunDiverges(t *testing.T) {
	workshop(t)
	r := guardcpu("", tinyRun("--run-dir", "a", "--out", "out.gguf", "--lr", "1e30", "--epochs", "4")...)
	assert.Equal(t, exitDiverged, r.status, r.stderr)
	assert.NoFileExists(t, "out.gguf")
	assert.NoFileExists(t, "a/model.gguf")
	assert.FileExists(t, "a/scores.jsonl", "what was complete stays")
	assert.Equal(t, false, readJSON(t, "a/manifest.json")["complete"])
	last := strings.TrimSpace(r.stderr[strings.LastIndex(strings.TrimSpace(r.stderr), "\n"):])
	assert.Regexp(t, `^guardcpu: .*diverged at step 3: .*; step 2 is safe; .*no model was written`, last)

	r = guardcpu("", "finetune", "--model", "model.gguf", "--data", "retain.jsonl", "--lr", "1e38", "--epochs", "5", "--out", "out.gguf", "--batch", "2")
	assert.Equal(t, exitDiverged, r.status, r.stderr)
	assert.NoFileExists(t, "out.gguf")
}

// countdown is a context that is cancelled when its error has been asked for n times.
type countdown struct {
	context.Context
	left atomic.Int64
}

func (c *countdown) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

// Stopped at any place, a run leaves only whole files, says how to go on, and ends with status 75; the same
// command goes on and ends with the bytes of the undisturbed run, with any number of threads.
func TestRunIsStopped(t *testing.T) {
	workshop(t)
	args := func(dir string, more ...string) []string {
		return tinyRun(append([]string{"--run-dir", dir, "--out", dir + ".gguf", "--gold", "train"}, more...)...)
	}
	r := guardcpu("", args("whole")...)
	require.Zero(t, r.status, r.stderr)
	want := results(t, "whole")
	require.Len(t, want, 4*5+4, "logs of four sets and all in one of four models; model, output, scores, metrics")
	seen := 0
	for n := int64(5); ; n = n*3/2 + 1 {
		dir := fmt.Sprintf("stop%d", n)
		every := []string{"1", "7", "1h"}[seen%3]
		ctx := &countdown{Context: context.Background()}
		ctx.left.Store(n)
		r := guardcpuContext(ctx, "", args(dir, "--checkpoint-every", every)...)
		if r.status == 0 {
			assert.Greater(t, n, int64(100), "the run was stopped at several places before")
			break
		}
		require.Equal(t, exitStopped, r.status, r.stderr)
		assert.Contains(t, r.stderr, "run the same command to")
		assert.NoFileExists(t, dir+".gguf")
		if _, err := os.Stat(dir); err == nil {
			seen++
			for path := range results(t, dir) {
				assert.Equal(t, want[path], results(t, dir)[path], "what has its name is whole")
			}
		}
		r = guardcpu("", args(dir, "--threads", fmt.Sprint(1+seen%3))...)
		require.Zero(t, r.status, r.stderr)
		assert.Equal(t, want, results(t, dir), "stopped after %d", n)
		require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			assert.NotRegexp(t, `/\.|tmp|checkpoints|lock`, path, "no litter is left")
			return err
		}))
	}
	assert.Greater(t, seen, 5)
}

// results are the hashes of everything a run leaves that has no times in it, by the name in its directory.
func results(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		if err == nil && e.Type().IsRegular() && (strings.HasPrefix(name, "logs") || strings.Contains("model.gguf scores.jsonl metrics.json", name)) {
			all[name] = sum(t, path)
		}
		return err
	}))
	if _, err := os.Stat(dir + ".gguf"); err == nil {
		all["out"] = sum(t, dir+".gguf")
	}
	return all
}

// With no flags the embedded model and data are used; here with less of everything.
func TestRunEmbedded(t *testing.T) {
	t.Chdir(t.TempDir())
	r := guardcpu("", "run", "--finetune-epochs", "1", "--finetune-batch", "64", "--epochs", "0.2", "--seeds", "1", "--eval-items", "4", "--retain-samples", "16")
	require.Zero(t, r.status, r.stderr)
	assert.Contains(t, r.stderr, "Model    embedded model: llama")
	partly := "Measured are the first 4 of 40 forget rows, the first 4 of 360 retain rows, the first 4 of 80 real-author rows and the first 4 of 144 world-fact rows"
	assert.Contains(t, r.stderr, partly)
	dirs, err := filepath.Glob("runs/*")
	require.NoError(t, err)
	require.Len(t, dirs, 1)
	m := readJSON(t, filepath.Join(dirs[0], "metrics.json"))
	for _, key := range modelKeys {
		assert.NotNil(t, m[key].(map[string]any)["model_utility"], "%s: the four sets are there, so utility is defined", key)
	}
	page, err := os.ReadFile(filepath.Join(dirs[0], "report.html"))
	require.NoError(t, err)
	assert.Contains(t, string(page), partly)
	assert.Contains(t, string(page), "GUARD now answers", "the texts are fictitious, so the report shows them")
	config, err := os.ReadFile(filepath.Join(dirs[0], "config.yaml"))
	require.NoError(t, err)
	assert.Contains(t, string(config), "\ngold: train\n")
	assert.NotContains(t, string(config), "\nmodel:")
	r = guardcpu("", "run", "--forget", "x.jsonl", "--retain", "y.jsonl")
	assert.Equal(t, exitUsage, r.status)
}

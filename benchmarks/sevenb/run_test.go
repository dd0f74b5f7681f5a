package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/enginetest"
	"github.com/guardcpu/guardcpu/tofu"
)

func TestSelectParts(t *testing.T) {
	all, err := selectParts("")
	require.NoError(t, err)
	assert.Equal(t, parts, all)
	some, err := selectParts("attribute-Q8_0-8GiB,lora")
	require.NoError(t, err)
	assert.Equal(t, []part{{"attribute", "Q8_0", "8GiB", 1, 2}, {"lora", "Q8_0", "12GiB", 2, 2}, {"lora", "Q4_K", "12GiB", 2, 2}}, some)
	_, err = selectParts("nothing")
	assert.ErrorContains(t, err, "-parts nothing")
}

// What a token costs, by hand: a block of 7B has 4·4096² + 3·4096·11008 weights.
func TestFlops(t *testing.T) {
	assert.Equal(t, weights{32 * 202375168, 131072000}, llama7B)
	assert.Equal(t, 8*3*10.0+6*2*7.0, flops("attribute", work{3, 2}, weights{10, 7}))
	assert.Equal(t, 8*3*10.0+6*2*7.0, flops("fused", work{3, 2}, weights{10, 7}))
	assert.Equal(t, 6*3*10.0+4*2*7.0, flops("lora", work{3, 2}, weights{10, 7}))
}

// The tokens of forget10 are those of the reference data.
func TestTofuTokens(t *testing.T) {
	data, err := os.ReadFile(enginetest.Shared(t, "tofu", "full", "token_lengths.json"))
	require.NoError(t, err)
	var lengths struct {
		Llama2 struct{ Prompt, Total []int }
	}
	require.NoError(t, json.Unmarshal(data, &lengths))
	var forget, retain work
	for i, n := range lengths.Llama2.Total {
		w := &retain
		if i >= 3600 {
			w = &forget
		}
		w.Tokens += n
		w.Answers += n - lengths.Llama2.Prompt[i]
	}
	assert.Equal(t, forget, tofuForget)
	assert.Equal(t, retain, tofuRetain)
	assert.Equal(t, work{274440, 168285}, tofuWork("attribute"))
	assert.Equal(t, work{5 * (29153 + 27254), 5 * (17800 + 16720)}, tofuWork("lora"))
}

// 8 GFLOP/s on 2 cores are 6.4 times as much on 16 of them.
func TestExtrapolation(t *testing.T) {
	assert.Equal(t, 100.0, computeSeconds(800e9, 8, 2, 2))
	assert.InDelta(t, 100/6.4, computeSeconds(800e9, 8, 2, 16), 1e-9)
	x := &Run{Task: "lora", Bytes: 1e9}
	assert.InDelta(t, 2*3e9/10e9, memorySeconds(x, work{Tokens: 513}, 10), 1e-9, "two batches")
	assert.Equal(t, "89 s", hours(89))
	assert.Equal(t, "2 min", hours(120))
	assert.Equal(t, "2.0 h", hours(7200))
}

// A run takes the place of an earlier one, in the order of parts; what is written can be read.
func TestReport(t *testing.T) {
	r := &Report{Cores: 2, Limits: Limits{Matmul: 100, Memory: 10}}
	run := func(name, task string, exit int) *Run {
		return &Run{Name: name, Task: task, Type: "Q8_0", Memory: "12GiB", Forget: 4, Retain: 8, Length: 64, Work: work{768, 300}, GFLOP: 1000,
			Child: &Child{Exit: exit, Seconds: 30, PeakRSS: 3 << 30}, Reported: map[string]any{"seconds": 20.0, "peak_memory": float64(2 << 30)}}
	}
	r.add(run("lora-Q8_0-12GiB", "lora", 65))
	r.add(run("attribute-Q8_0-12GiB", "attribute", 1))
	r.add(run("attribute-Q8_0-12GiB", "attribute", 0))
	require.Len(t, r.Runs, 2)
	assert.Equal(t, "attribute-Q8_0-12GiB", r.Runs[0].Name)
	assert.Zero(t, r.Runs[0].Exit)
	dir := t.TempDir()
	require.NoError(t, r.write(dir))
	again, err := readReport(filepath.Join(dir, "report.json"))
	require.NoError(t, err)
	assert.Equal(t, r, again)
	table := again.tables()
	assert.Contains(t, table, "| 3.00 GiB | 0.00 GiB + 0.00 GiB | 2.00 GiB |  | 12 × 64 | 10 | 20 | 38.40 | 50 | 50 % |")
	assert.Contains(t, table, "| exit 65 |")
	assert.Equal(t, 1, strings.Count(table, "| attribute | Q8_0 | 14.4 |"), "%s", table)
	assert.NotContains(t, table, "| lora | Q8_0 | 11")
	none, err := readReport(filepath.Join(dir, "none.json"))
	require.NoError(t, err)
	assert.Empty(t, none.Runs)
}

// A child's exit status, output and peak memory are those of the child.
func TestChild(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("memory is known on Linux only")
	}
	c, err := runChild(t.Context(), []string{"sh", "-c", "echo out; echo err >&2; exit 3"})
	require.NoError(t, err)
	assert.Equal(t, 3, c.Exit)
	assert.Equal(t, "out\n", string(c.Stdout))
	assert.Equal(t, "err\n", string(c.Stderr))
	assert.Positive(t, c.PeakRSS)
	// 64 MiB held while others look
	c, err = runChild(t.Context(), []string{"sh", "-c", `x=$(head -c 67108864 /dev/zero | tr '\0' x); sleep 0.3`})
	require.NoError(t, err)
	assert.Zero(t, c.Exit)
	assert.Greater(t, c.PeakRSS, int64(64<<20))
	assert.InDelta(t, c.PeakRSS, c.Anonymous+c.Mapped, float64(c.PeakRSS)/2)
	_, err = runChild(t.Context(), []string{filepath.Join(t.TempDir(), "none")})
	assert.Error(t, err)
}

// Rows are long enough, and their number of tokens and of answer tokens is that of what guardcpu keeps.
func TestSamples(t *testing.T) {
	path := filepath.Join(t.TempDir(), "small.gguf")
	r := smallRecipe("Q8_0")
	require.NoError(t, r.write(path, demoTexts(t)))
	t.Chdir("../..") // where the demo's data are named from
	o := runOptions{length: 64}
	s, err := o.samples(path, part{"attribute", "Q8_0", "1GiB", 2, 3})
	require.NoError(t, err)
	assert.Len(t, s.forget, 2)
	assert.Len(t, s.retain, 3)
	assert.Equal(t, 5*64, s.work.Tokens)
	assert.Greater(t, s.work.Answers, 5)
	assert.Less(t, s.work.Answers, 5*64)
	assert.Equal(t, weights{2 * (4*256*256 + 3*256*768), 2048 * 256}, s.weights)
	o.length = 5000
	_, err = o.samples(path, part{"attribute", "Q8_0", "1GiB", 2, 3})
	assert.EqualError(t, err, "the rows make 0 of 5000 tokens, want 2")
}

func TestComparison(t *testing.T) {
	assert.Equal(t, 0.25, difference([]float64{-4, 2}, []float64{-4, 1}))
	assert.True(t, math.IsNaN(difference([]float64{1, math.NaN()}, []float64{1, 1})))
	assert.True(t, math.IsNaN(difference([]float64{1}, nil)))
	logs := &tofu.Logs{Forget: []tofu.Row{{Answer: tofu.Loss{Avg: math.Ln2}}}, Retain: []tofu.Row{{Answer: tofu.Loss{Avg: math.Ln2}}}}
	m, err := logs.Metrics(nil)
	require.NoError(t, err)
	dir := t.TempDir()
	data, err := json.Marshal(map[string]*tofu.Metrics{"before": m, "baseline": m, "guard": m})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "metrics.json"), data, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "scores.jsonl"), []byte("{\"i\":0,\"score\":1,\"multiplier\":1}\n{\"i\":1,\"score\":2,\"multiplier\":1}\n"), 0o644))
	o, err := readOutcome(dir)
	require.NoError(t, err)
	assert.Equal(t, []float64{1, 2}, o.scores)
	text := comparison([]string{"--model", "/some/where/m.gguf"}, []*outcome{o, o, o})
	assert.Contains(t, text, "`guardcpu run` with `--model m.gguf`, 2 samples")
	assert.Contains(t, text, "| stream-bf16 | 1.000000 | 0.0e+00 | 0.0e+00 |")
	assert.Contains(t, text, "| forget, probability | 0.50000 | 0.50000 | 0.50000 | 0.50000 | 0.50000 |")
}

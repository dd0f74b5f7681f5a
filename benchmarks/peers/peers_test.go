package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/benchmarks/internal/machine"
)

// The tables in README.md are those of the results in the repository.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	tables, err := readmeTables("../results")
	require.NoError(t, err)
	want, err := replaceTables(string(text), tables)
	require.NoError(t, err)
	assert.True(t, want == string(text), "README.md is not what the results give; run go run ./benchmarks/peers -readme")
}

func TestReplaceTables(t *testing.T) {
	got, err := replaceTables("a\n"+beginMark+"\nold\n"+endMark+"\nb\n", "new\n")
	require.NoError(t, err)
	assert.Equal(t, "a\n"+beginMark+"\nnew\n"+endMark+"\nb\n", got)
	_, err = replaceTables(endMark+beginMark, "new")
	assert.ErrorContains(t, err, "no lines")
}

func TestTables(t *testing.T) {
	dir := t.TempDir()
	for suite, rows := range map[string]string{
		"matmul": `{"name":"f32 dX 64x768x768","runs":{"guardcpu":[100],"oneDNN packed":[100]}},
			{"name":"f32 Y 64x768x768","unit":"GFLOP/s","runs":{"guardcpu":[90,110,100],"oneDNN":[100],"oneDNN packed":[50],"OpenBLAS":[25]}},
			{"name":"f32 Y 64x2048x768","unit":"GFLOP/s","runs":{"guardcpu":[400],"oneDNN":[100],"oneDNN packed":[400],"OpenBLAS":[25]}}`,
		"train": `{"name":"15m f32 step","unit":"tok/s","runs":{"guardcpu":[10,30],"PyTorch":[10]}},{"name":"15m f32 attribution","unit":"samples/s","runs":{"guardcpu":[1234.5]}}`,
		"llama": `{"name":"15m F32 pp128","unit":"tok/s","runs":{"guardcpu":[150],"llama.cpp":[100]}},{"name":"15m Q4_0 tg64","unit":"tok/s","runs":{"guardcpu":[0.5],"llama.cpp":[1]}}`,
	} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "cpu"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "cpu", "peers-"+suite+".json"),
			[]byte(`{"suite":"`+suite+`","cpu":"A CPU","date":"2026-11-25","commit":"abc","threads":2,"rounds":3,"versions":{"Peer":"1.0"},"foreign":0.03,"rows":[`+rows+`]}`), 0o600))
	}
	got, err := readmeTables(dir)
	require.NoError(t, err)
	const head = "\nA CPU, 2 threads, 2026-11-25, commit abc; Peer 1.0; medians of 3 runs in turn, others used at most 3 % of the CPUs:\n\n"
	assert.Equal(t, head+`| GFLOP/s, mean of six shapes of W | guardcpu | oneDNN | oneDNN, W packed ahead | OpenBLAS | guardcpu / oneDNN packed: mean (worst) |
|---|---|---|---|---|---|
| Y = X·Wᵀ, f32, T = 64 | 200 | 100 | 141 | 25.0 | **1.41** (1.00) |
| dX = dY·W, f32, T = 64 | 100 |  | 100 |  | **1.00** (1.00) |
`+head+`| 8 samples of 64 tokens, guardcpu / PyTorch | 15m f32 |
|---|---|
| forward, tokens/s |  |
| forward and backward, tokens/s |  |
| step of AdamW, tokens/s | 20.0 / 10.0 = **2.00** |
| attribution, samples/s | 1234 |
`+head+`| tokens/s, guardcpu / llama.cpp | F32 | Q4_0 |
|---|---|---|
| 15m, prompt of 128 | 150 / 100 = **1.50** |  |
| 15m, generation of 64 |  | 0.500 / 1.00 = **0.50** |

`, got)

	got, err = readmeTables(t.TempDir())
	require.NoError(t, err)
	assert.Contains(t, got, "No comparison")
}

func TestParse(t *testing.T) {
	row := func(e entry) string {
		if e.Keys["skip"] == "1" {
			return ""
		}
		return e.Name + text(e.Keys["n"])
	}
	got, err := lines(row)([]byte(`{"name":"A","keys":{"n":1},"value":2,"unit":"x"}` + "\n" + `{"name":"A","keys":{"n":1},"value":3,"unit":"x"}` + "\n\n" + `{"name":"B","keys":{"n":"2","skip":"1"},"value":1}` + "\n"))
	require.NoError(t, err)
	assert.Equal(t, map[string]figure{"A1": {3, "x"}}, got)
	for _, bad := range []string{"text", `{"name":"A","keys":{"n":1},"value":0}`} {
		_, err = lines(row)([]byte(bad))
		assert.Error(t, err)
	}

	report := `{"results":[{"name":"A","keys":{"n":"1"},"rates":{"tok/s":5,"GFLOP/s":6}}]}`
	got, err = ours("", row)([]byte(report))
	require.NoError(t, err)
	assert.Equal(t, map[string]figure{"A1": {5, "tok/s"}}, got)
	got, err = ours("GFLOP/s", row)([]byte(report))
	require.NoError(t, err)
	assert.Equal(t, map[string]figure{"A1": {6, "GFLOP/s"}}, got)

	got, err = llamaBench("15m F32")([]byte(`[{"n_prompt":128,"n_gen":0,"avg_ts":7.5},{"n_prompt":0,"n_gen":64,"avg_ts":2}]`))
	require.NoError(t, err)
	assert.Equal(t, map[string]figure{"15m F32 pp128": {7.5, "tok/s"}, "15m F32 tg64": {2, "tok/s"}}, got)
}

// What other processes do while a program runs is noticed.
func TestForeign(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("/proc/stat is Linux's")
	}
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no shell")
	}
	o := options{foreign: 2}
	var stop atomic.Bool
	go func() {
		for !stop.Load() { // somebody who computes
		}
	}()
	out, foreign, err := o.quietly(t.Context(), side{name: "sleep", args: []string{"sh", "-c", "echo $X; sleep 0.5"}, env: []string{"X=1"}})
	stop.Store(true)
	require.NoError(t, err)
	assert.Equal(t, "1", strings.TrimSpace(string(out)))
	assert.Greater(t, foreign, 0.2/float64(runtime.NumCPU()), "this process has used a CPU")
	assert.Positive(t, machine.Busy())

	_, _, err = o.quietly(t.Context(), side{args: []string{"sh", "-c", "echo no luck >&2; exit 3"}})
	assert.ErrorContains(t, err, "no luck")
}

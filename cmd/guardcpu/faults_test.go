//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/gguf"
)

// buildDir is where built puts the program; empty until then.
var buildDir string

// built is the program, built once for all tests that need a process of their own.
var built = sync.OnceValues(func() (bin string, err error) {
	if buildDir, err = os.MkdirTemp("", "guardcpu-test"); err != nil {
		return "", err
	}
	bin = filepath.Join(buildDir, "guardcpu")
	build := exec.Command("go", "build", "-o", bin, ".")
	_, file, _, _ := runtime.Caller(0)
	build.Dir = filepath.Dir(file)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if buildDir != "" {
		os.RemoveAll(buildDir)
	}
	os.Exit(status)
}

// spawn runs the program as a shell line, in which $GUARDCPU is the program.
func spawn(t *testing.T, line string) result {
	t.Helper()
	cmd := shell(t, line)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

func shell(t *testing.T, line string) *exec.Cmd {
	t.Helper()
	bin, err := built()
	require.NoError(t, err)
	cmd := exec.Command("sh", "-c", line)
	cmd.Env = append(os.Environ(), "GUARDCPU="+bin)
	return cmd
}

// quoted makes a shell line of arguments.
func quoted(args ...string) string {
	var b strings.Builder
	for _, a := range args {
		b.WriteString(" '" + strings.ReplaceAll(a, "'", `'\''`) + "'")
	}
	return b.String()
}

// A model that is made shorter under a running command ends it with a line that names it.
func TestTruncatedUnderTheRun(t *testing.T) {
	for _, threads := range []string{"1", "3"} {
		workshop(t)
		var stderr bytes.Buffer
		cmd := shell(t, "exec $GUARDCPU generate --model model.gguf --prompt a -n 1000000000 --ignore-eos --threads "+threads)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		cmd.Stderr = &stderr
		require.NoError(t, cmd.Start())
		_, err = out.Read(make([]byte, 16)) // it generates
		require.NoError(t, err)
		require.NoError(t, os.Truncate("model.gguf", 4096))
		ended := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		for err == nil {
			_, err = out.Read(make([]byte, 4096))
		}
		_ = cmd.Wait()
		ended.Stop()
		assert.Equal(t, exitIO, cmd.ProcessState.ExitCode(), stderr.String())
		assert.Regexp(t, `^(guardcpu: note.*\n)*guardcpu: model\.gguf could not be read to its end: .*\n$`, stderr.String())
	}
}

// outputsOf are the hashes of what a run leaves that another run of the same configuration must leave too.
func outputsOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	for _, name := range []string{"model.gguf", "metrics.json", "scores.jsonl", "logs/guard/eval_log_aggregated.json"} {
		sums[name] = sum(t, filepath.Join(dir, name))
	}
	return sums
}

// The surroundings of a process change no byte of what it computes: CPUs, threads, limits, environment,
// working directory, a pause, a reader that has gone.
func TestSurroundings(t *testing.T) {
	workshop(t)
	wd, err := os.Getwd()
	require.NoError(t, err)
	run := "$GUARDCPU" + quoted(tinyRun()...) + " --run-dir "
	require.Zero(t, spawn(t, "exec "+run+"plain").status)
	want := outputsOf(t, "plain")
	absolute := strings.NewReplacer("'model.gguf'", "'"+wd+"/model.gguf'", "jsonl'", "jsonl'", "'forget.", "'"+wd+"/forget.", "'retain.", "'"+wd+"/retain.", "'authors.", "'"+wd+"/authors.", "'facts.", "'"+wd+"/facts.").Replace(run) + wd + "/"
	for name, line := range map[string]string{
		"one CPU":                  "exec taskset -c 0 " + run,
		"GOMAXPROCS":               "GOMAXPROCS=1 exec " + run,
		"nice":                     "exec nice -n 19 " + run,
		"32 files":                 "ulimit -n 32; exec " + run,
		"a stack of 256 KiB":       "ulimit -s 256; exec " + run,
		"no core, no locked pages": "ulimit -c 0 -l 0; exec " + run,
		"no environment":           "exec env -i $GUARDCPU" + strings.TrimPrefix(run, "$GUARDCPU"),
		"no home":                  "HOME=/nowhere TMPDIR=/nowhere exec " + run,
		"no working directory":     "mkdir gone; cd gone; rmdir ../gone; exec " + absolute,
		"umask 077":                "umask 077; exec " + run,
		"umask 000":                "umask 000; exec " + run,
		"nothing open":             "exec " + run + "%s <&- >&- 2>&-",
		"head":                     run + "%s 2>&1 | head -1",
		"a collector that is busy": "GOGC=1 exec " + run,
	} {
		t.Run(name, func(t *testing.T) {
			dir := strings.ReplaceAll(name, " ", "-")
			if !strings.Contains(line, "%s") {
				line += "%s"
			}
			r := spawn(t, strings.Replace(line, "%s", dir, 1))
			assert.Zero(t, r.status, r.stderr)
			assert.Equal(t, want, outputsOf(t, dir))
			info, err := os.Stat(dir)
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o700), info.Mode().Perm(), "only the owner opens the directory")
			require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					info, err := d.Info()
					require.NoError(t, err)
					assert.Zero(t, info.Mode().Perm()&0o022, "%s can be written by others", path)
				}
				return err
			}))
		})
	}
	t.Run("stopped for a while", func(t *testing.T) {
		cmd := shell(t, "exec "+run+"paused")
		require.NoError(t, cmd.Start())
		for range 3 {
			time.Sleep(50 * time.Millisecond)
			if cmd.Process.Signal(syscall.SIGSTOP) == nil {
				time.Sleep(300 * time.Millisecond)
				require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
			}
		}
		require.NoError(t, cmd.Wait())
		assert.Equal(t, want, outputsOf(t, "paused"))
	})
}

// The same bytes for any number of threads, in every mode, and for the same seed; other bytes for another.
func TestThreadsAndSeeds(t *testing.T) {
	workshop(t)
	threads := []string{"1", "2", "3", "7", "64"}
	if testing.Short() {
		threads = []string{"1", "3"}
	}
	for _, mode := range []string{"full", "fused", "lora"} {
		var want map[string]string
		for _, n := range threads {
			r := guardcpu("", tinyRun("--mode", mode, "--run-dir", mode+n, "--threads", n)...)
			require.Zero(t, r.status, r.stderr)
			if want == nil {
				want = outputsOf(t, mode+n)
			}
			assert.Equal(t, want, outputsOf(t, mode+n), "%s, %s threads", mode, n)
		}
		r := guardcpu("", tinyRun("--mode", mode, "--run-dir", mode+"-again")...)
		require.Zero(t, r.status, r.stderr)
		assert.Equal(t, want, outputsOf(t, mode+"-again"), "again")
		r = guardcpu("", tinyRun("--mode", mode, "--run-dir", mode+"-seed", "--seed", "7")...)
		require.Zero(t, r.status, r.stderr)
		assert.NotEqual(t, want["model.gguf"], sum(t, mode+"-seed/model.gguf"), "another seed")
	}
	sets := []string{"--model", "model.gguf", "--forget", "forget.jsonl", "--retain", "retain.jsonl", "--out"}
	for name, c := range map[string]struct {
		args []string
		file string
	}{
		"attribution":               {append([]string{"attribute"}, append(sets, "OUT")...), "OUT/scores.jsonl"},
		"streamed attribution":      {append([]string{"attribute", "--chunk", "1"}, append(sets, "OUT")...), "OUT/scores.jsonl"},
		"streamed, of a subset":     {append([]string{"attribute", "--chunk", "2", "--retain-samples", "5"}, append(sets, "OUT")...), "OUT/scores.jsonl"},
		"fine-tuning":               {[]string{"finetune", "--model", "model.gguf", "--data", "retain.jsonl", "--out", "OUT"}, "OUT"},
		"evaluation":                {append([]string{"eval"}, append(sets, "OUT")...), "OUT/metrics.json"},
		"unlearning in fused steps": {append([]string{"unlearn", "--mode", "fused", "--batch", "2"}, append(sets, "OUT")...), "OUT"},
	} {
		want := ""
		for _, n := range threads {
			args := strings.Fields(strings.ReplaceAll(strings.Join(c.args, " "), "OUT", strings.ReplaceAll(name, " ", "-")+n))
			r := guardcpu("", append(args, "--threads", n)...)
			require.Zero(t, r.status, r.stderr)
			got := sum(t, strings.ReplaceAll(c.file, "OUT", strings.ReplaceAll(name, " ", "-")+n))
			if want == "" {
				want = got
			}
			assert.Equal(t, want, got, "%s, %s threads", name, n)
		}
	}
}

// Every byte of a model that is written belongs to its header, a tensor or padding of zeros, and nothing of
// the environment is in any file of a run.
func TestOutputHoldsNothingElse(t *testing.T) {
	workshop(t)
	const canary = "canary-7f3a9c"
	t.Setenv("GUARDCPU_CANARY", canary)
	for _, args := range [][]string{tinyRun("--run-dir", "r"), tinyRun("--run-dir", "l", "--mode", "lora"), {"quantize", "--type", "Q8_0", "model.gguf", "q.gguf"}} {
		r := guardcpu("", args...)
		require.Zero(t, r.status, r.stderr)
		assert.NotContains(t, r.stdout+r.stderr, canary)
	}
	models := 0
	require.NoError(t, filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.NotContains(t, string(data), canary, path)
		if filepath.Ext(path) != ".gguf" {
			return nil
		}
		models++
		f, err := gguf.Parse(path, data)
		require.NoError(t, err)
		var tensors []gguf.TensorData
		for i := range f.Tensors {
			x := &f.Tensors[i]
			tensors = append(tensors, gguf.TensorData{Name: x.Name, Type: x.Type, Dims: x.Dims, Bytes: func() ([]byte, error) { return f.Data(x), nil }})
		}
		again := filepath.Join(t.TempDir(), "again.gguf")
		require.NoError(t, gguf.Write(again, f.KVs, tensors))
		assert.Equal(t, sum(t, again), sum(t, path), "%s written from what is read of it", path)
		return nil
	}))
	assert.GreaterOrEqual(t, models, 4)
}

// A directory that cannot be written to is refused before the first step.
func TestReadOnly(t *testing.T) {
	workshop(t)
	const within = "unshare -rm sh -c 'mount -t tmpfs -o ro none mnt && exec \"$@\"' - "
	require.NoError(t, os.Mkdir("mnt", 0o700))
	if r := spawn(t, within+"true"); r.status != 0 {
		t.Skip("no user namespaces here: " + r.stderr)
	}
	for _, args := range [][]string{
		tinyRun("--run-dir", "mnt/r"), tinyRun("--runs", "mnt"), tinyRun("--run-dir", "r", "--out", "mnt/x.gguf"),
		{"quantize", "model.gguf", "mnt/x.gguf"}, {"finetune", "--model", "model.gguf", "--data", "retain.jsonl", "--out", "mnt/x.gguf"},
	} {
		r := spawn(t, within+"$GUARDCPU"+quoted(args...))
		assert.Equal(t, exitIO, r.status, r.stderr)
		assert.Regexp(t, `^guardcpu: mnt: output directory is not writable: read-only file system\n$`, r.stderr)
		assert.Empty(t, r.stdout)
		assert.NoDirExists(t, "r")
	}
}

// TestToy writes the model and the data of these tests into the directory GUARDCPU_TOY, for tools that run
// the program on them.
func TestToy(t *testing.T) {
	dir := os.Getenv("GUARDCPU_TOY")
	if dir == "" {
		t.Skip("GUARDCPU_TOY is not set")
	}
	workshop(t)
	require.NoError(t, os.CopyFS(dir, os.DirFS(".")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "arguments"), []byte(strings.Join(tinyRun(), "\n")+"\n"), 0o600))
}

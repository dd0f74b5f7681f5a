package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stopped runs a command until its context has been asked n times, and then it must be stopped.
func stopped(t *testing.T, n int64, args ...string) result {
	t.Helper()
	ctx := &countdown{Context: context.Background()}
	ctx.left.Store(n)
	r := guardcpuContext(ctx, "", args...)
	require.Equal(t, exitStopped, r.status, r.stderr)
	return r
}

// inTraining is how often a context is asked until tinyRun is in the middle of its fine-tuning. Before it
// the program is hashed, which asks every 32 KiB.
var inTraining = func() int64 {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	info, err := os.Stat(exe)
	if err != nil {
		panic(err)
	}
	return 110 + info.Size()/(32<<10)
}()

// What goes on is the same run: the directory may have another name, the command may be --resume, or the same
// without a directory.
func TestResume(t *testing.T) {
	workshop(t)
	r := guardcpu("", tinyRun("--run-dir", "whole", "--out", "whole.gguf")...)
	require.Zero(t, r.status, r.stderr)
	want := results(t, "whole")
	same := func(t *testing.T, dir string, r result) {
		t.Helper()
		require.Zero(t, r.status, r.stderr)
		assert.Regexp(t, `(?m)^fine-tune: resuming at step \d+ of 90 \(checkpoint checkpoints/fine-tune\.0\d+\.ckpt, \d+ s of work repeated\)$`, r.stderr)
		assert.Equal(t, want, results(t, dir))
		m := readJSON(t, dir+"/manifest.json")
		assert.Equal(t, true, m["complete"])
		assert.Len(t, m["resumed"], 1, "the manifest tells")
		assert.NoFileExists(t, dir+"/checkpoints")
	}

	t.Run("moved, by --resume", func(t *testing.T) {
		r := stopped(t, inTraining, tinyRun("--run-dir", "a", "--out", "b.gguf")...)
		assert.Regexp(t, `guardcpu: a: stopped at step \d+ of fine-tune \(of 90\): run the same command to go on\n$`, r.stderr)
		require.NoError(t, os.Rename("a", "b"))
		// A kill in the middle of a line, and of a file.
		f, err := os.OpenFile("b/progress.jsonl", os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteString(`{"t":1.5,"ev`)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.NoError(t, os.WriteFile("b/checkpoints/.fine-tune.000099.ckpt123", []byte("half"), 0o600))
		same(t, "b", guardcpu("", "run", "--resume", "b"))
		data, err := os.ReadFile("b/progress.jsonl")
		require.NoError(t, err)
		assert.NotContains(t, string(data), `"ev{`)
		assert.NotContains(t, string(data), "\n\n")
	})
	t.Run("the newest unfinished one of its kind", func(t *testing.T) {
		stopped(t, inTraining, tinyRun("--runs", "runs", "--lr", "0.5")...)
		stopped(t, inTraining, tinyRun("--runs", "runs", "--out", "c.gguf")...)
		dirs, err := filepath.Glob("runs/*")
		require.NoError(t, err)
		require.Len(t, dirs, 2)
		r := guardcpu("", tinyRun("--runs", "runs", "--out", "c.gguf")...)
		again, err := filepath.Glob("runs/*")
		require.NoError(t, err)
		require.Equal(t, dirs, again, "no new one")
		require.NoError(t, os.Rename(dirs[1], "c"))
		same(t, "c", r)
	})
	t.Run("complete", func(t *testing.T) {
		at := readJSON(t, "whole/manifest.json")["finished"]
		r := guardcpu("", tinyRun("--run-dir", "whole", "--out", "whole.gguf")...)
		require.Zero(t, r.status, r.stderr)
		assert.Contains(t, r.stderr, "this run is complete already")
		assert.Contains(t, r.stdout, "whole/model.gguf")
		assert.Equal(t, at, readJSON(t, "whole/manifest.json")["finished"], "nothing was done")
		r = guardcpu("", tinyRun("--run-dir", "whole", "--lr", "0.5")...)
		assert.Equal(t, exitOutput, r.status)
		assert.Contains(t, r.stderr, "whole: output exists: a complete run, and it was begun with --lr 0.003, not 0.5")
		require.NoError(t, os.Truncate("whole/model.gguf", 100))
		r = guardcpu("", tinyRun("--run-dir", "whole")...)
		assert.Equal(t, exitOutput, r.status)
		assert.Contains(t, r.stderr, "whole/model.gguf is not what it wrote")
		r = guardcpu("", tinyRun("--run-dir", "whole", "--restart", "--out", "whole.gguf", "--force")...)
		require.Zero(t, r.status, r.stderr)
		assert.Equal(t, want, results(t, "whole"))
	})
}

// What differs from the run that was begun is named, and nothing is changed.
func TestResumeRefuses(t *testing.T) {
	workshop(t)
	stopped(t, inTraining, tinyRun("--run-dir", "a")...)
	kept := func() string {
		data, err := filepath.Glob("a/checkpoints/*")
		require.NoError(t, err)
		return strings.Join(data, " ")
	}
	before := kept()
	require.NoError(t, os.MkdirAll("empty", 0o700))
	for _, c := range []struct {
		name   string
		status int
		want   string
		args   []string
	}{
		{"option", exitUsage, `a: it was begun with --lr 0\.003, not 0\.004; use the same options and files, another --run-dir, or --restart`, tinyRun("--run-dir", "a", "--lr", "0.004")},
		{"gold", exitUsage, `a: it was begun with --gold empty, not train`, tinyRun("--run-dir", "a", "--gold", "train")},
		{"input more", exitUsage, `a: it was begun without --refusals`, tinyRun("--run-dir", "a", "--refusals", "no.txt")},
		{"nothing to resume", exitCheckpoint, `absent: no usable checkpoint: no run has begun there; use --run-dir to begin one`, []string{"run", "--resume", "absent"}},
		{"two directories", exitUsage, `use it without --config and --run-dir`, []string{"run", "--resume", "a", "--run-dir", "b"}},
		{"cadence", exitUsage, `want a number of steps, or a time`, tinyRun("--run-dir", "a", "--checkpoint-every", "often")},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.NoError(t, os.WriteFile("no.txt", []byte("no.\n"), 0o600))
			r := guardcpu("", c.args...)
			assert.Equal(t, c.status, r.status, r.stderr)
			assert.Regexp(t, `^guardcpu: .*`+c.want+`.*\n$`, r.stderr)
			assert.Equal(t, before, kept())
		})
	}
	data, err := os.ReadFile("retain.jsonl")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile("retain.jsonl", bytes.Replace(data, []byte("oslo"), []byte("bonn"), 1), 0o600))
	r := guardcpu("", tinyRun("--run-dir", "a")...)
	assert.Equal(t, exitUsage, r.status)
	assert.Regexp(t, `a: retain changed since this run began \(sha256 [0-9a-f]{12}…, was [0-9a-f]{12}…\)`, r.stderr)
	require.NoError(t, os.WriteFile("retain.jsonl", data, 0o600))

	t.Setenv("GUARDCPU_SIMD", "generic")
	r = guardcpu("", tinyRun("--run-dir", "a")...)
	if strings.Contains(r.stderr, "with generic kernels") {
		t.Skip("the only kernels here are generic")
	}
	assert.Equal(t, exitCheckpoint, r.status, r.stderr)
	assert.Regexp(t, `a: checkpoint was made with \w+ kernels; .*--allow-other-kernels`, r.stderr)
	assert.Equal(t, before, kept())
	r = guardcpu("", tinyRun("--run-dir", "a", "--allow-other-kernels")...)
	assert.Zero(t, r.status, r.stderr)
	assert.Contains(t, r.stderr, "from here on the bits are those of no other run")
}

// What is not of a run stays, whatever the options: files in a directory that is given by mistake, those beside a
// run's own, a run that --restart would replace if its command were not refused, an output of somebody else.
func TestRunTouchesNothingElse(t *testing.T) {
	workshop(t)
	require.NoError(t, os.MkdirAll("home/.config", 0o700))
	for _, name := range []string{"home/.profile", "home/.config/.key", "home/notes"} {
		require.NoError(t, os.WriteFile(name, []byte("mine"), 0o600))
	}
	for _, args := range [][]string{nil, {"--restart"}} {
		r := guardcpu("", tinyRun(append(args, "--run-dir", "home")...)...)
		assert.Equal(t, exitOutput, r.status, r.stderr)
		assert.Contains(t, r.stderr, "home: output exists and is no run directory")
	}
	for _, name := range []string{"home/.profile", "home/.config/.key", "home/notes"} {
		assert.FileExists(t, name)
	}
	require.NoError(t, os.MkdirAll("fresh", 0o700))
	require.NoError(t, os.WriteFile("fresh/.gitignore", []byte("*"), 0o600))
	r := guardcpu("", tinyRun("--run-dir", "fresh")...)
	assert.Equal(t, exitOutput, r.status, r.stderr)
	assert.FileExists(t, "fresh/.gitignore")

	stopped(t, inTraining, tinyRun("--run-dir", "a", "--out", "a.gguf")...)
	require.NoError(t, os.WriteFile("a/.gitignore", []byte("*"), 0o600))
	require.NoError(t, os.MkdirAll("out", 0o700))
	r = guardcpu("", tinyRun("--run-dir", "a", "--out", "out/a.gguf")...)
	require.Zero(t, r.status, r.stderr)
	assert.FileExists(t, "a/.gitignore")
	want := results(t, "a")
	r = guardcpu("", tinyRun("--run-dir", "a", "--out", "./out/a.gguf")...)
	assert.Zero(t, r.status, r.stderr)
	r = guardcpu("", tinyRun("--run-dir", "a", "--out", "elsewhere.gguf")...)
	assert.Equal(t, exitOutput, r.status, r.stderr)
	assert.Contains(t, r.stderr, "a: the run is complete, and elsewhere.gguf is not what it wrote")
	r = guardcpu("", tinyRun("--run-dir", "a", "--restart", "--out", "out/a.gguf")...) // without --force
	assert.Equal(t, exitOutput, r.status, r.stderr)
	assert.Equal(t, want, results(t, "a"), "what is refused has removed nothing")
	r = stopped(t, inTraining, tinyRun("--run-dir", "a", "--restart")...)
	assert.Contains(t, r.stderr, "run the same command without --restart to go on")
	assert.NoFileExists(t, "a/model.gguf")
}

// The command of a complete run finds its adapter again, wherever that is.
func TestCompleteWithAdapter(t *testing.T) {
	workshop(t)
	require.NoError(t, os.MkdirAll("out", 0o700))
	args := tinyRun("--run-dir", "a", "--mode", "lora", "--lora-out", "out/adapter.gguf", "--finetune-epochs", "2")
	r := guardcpu("", args...)
	require.Zero(t, r.status, r.stderr)
	r = guardcpu("", args...)
	assert.Zero(t, r.status, r.stderr)
	assert.Contains(t, r.stderr, "a: this run is complete already")
	require.NoError(t, os.Remove("out/adapter.gguf"))
	r = guardcpu("", args...)
	assert.Equal(t, exitOutput, r.status, r.stderr)
	assert.Contains(t, r.stderr, "out/adapter.gguf is not what it wrote")
}

// Attribution that does not fit is refused before the training that comes first, with what would do.
func TestRunRefusesBeforeWork(t *testing.T) {
	workshop(t)
	r := guardcpu("", tinyRun("--run-dir", "a", "--memory", "64M")...)
	assert.Equal(t, exitIO, r.status, r.stderr)
	assert.Regexp(t, `^(.*\n)*guardcpu: attribution of .*; use --memory \d+MiB, --mode lora`, r.stderr)
	assert.NoDirExists(t, "a")
}

// A run may replace the output that it has begun to write, and no other.
func TestResumeWithAnotherOutput(t *testing.T) {
	workshop(t)
	r := guardcpu("", tinyRun("--run-dir", "a", "--out", "a.gguf", "--keep-checkpoints")...)
	require.Zero(t, r.status, r.stderr)
	require.NoError(t, os.Remove("a/manifest.json")) // as after a kill just before its end
	require.NoError(t, os.WriteFile("b.gguf", []byte("another's"), 0o600))
	r = guardcpu("", tinyRun("--run-dir", "a", "--out", "b.gguf")...)
	assert.Equal(t, exitOutput, r.status, r.stderr)
	assert.Contains(t, r.stderr, "b.gguf: output exists")
	log := "a/logs/before/eval_log_forget.json"
	require.NoError(t, os.WriteFile(log, []byte("{"), 0o600))
	r = guardcpu("", tinyRun("--run-dir", "a", "--out", "a.gguf")...)
	require.Zero(t, r.status, r.stderr)
	assert.Contains(t, r.stderr, "a/logs/before is not what was written; it is done again")
}

// A damaged checkpoint is passed over for the one before it; with both damaged the run refuses.
func TestResumeFromDamage(t *testing.T) {
	workshop(t)
	r := guardcpu("", tinyRun("--run-dir", "whole")...)
	require.Zero(t, r.status, r.stderr)
	want := results(t, "whole")
	flip := func(path string) {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		data[len(data)/3] ^= 4
		require.NoError(t, os.WriteFile(path, data, 0o600))
	}
	for name, damage := range map[string]int{"newest of each": 1, "both": 2} {
		t.Run(name, func(t *testing.T) {
			dir := strings.ReplaceAll(name, " ", "-")
			stopped(t, inTraining, tinyRun("--run-dir", dir, "--checkpoint-every", "1")...)
			for _, of := range []string{"run", "fine-tune"} {
				files, err := filepath.Glob(dir + "/checkpoints/" + of + ".*.ckpt")
				require.NoError(t, err)
				require.Len(t, files, 2)
				for _, f := range files[2-damage:] {
					flip(f)
				}
			}
			r := guardcpu("", tinyRun("--run-dir", dir)...)
			if damage == 2 {
				assert.Equal(t, exitCheckpoint, r.status)
				assert.Regexp(t, `^guardcpu: both: no usable checkpoint of run: \d+ is damaged \(sha256 of the header differs\); --restart to begin anew\n$`, r.stderr)
				r = guardcpu("", tinyRun("--run-dir", dir, "--restart")...)
			} else {
				assert.Regexp(t, `(?m)^checkpoint \d+ of run is damaged \(.*\): using \d+$`, r.stderr)
				assert.Regexp(t, `(?m)^checkpoint \d+ of fine-tune is damaged \(sha256 differs in tensor .*\): using \d+$`, r.stderr)
			}
			require.Zero(t, r.status, r.stderr)
			assert.Equal(t, want, results(t, dir))
		})
	}
}

// A retain set that is lost, too, is told with both losses, and ends the run if it may not be.
func TestRetainLoss(t *testing.T) {
	workshop(t)
	lost := func(dir string, more ...string) []string {
		return tinyRun(append([]string{"--run-dir", dir, "--method", "ga", "--lr", "0.05", "--epochs", "4"}, more...)...)
	}
	r := guardcpu("", lost("a")...)
	require.Zero(t, r.status, r.stderr)
	assert.Regexp(t, `(?m)^Warning: GUARD GA: retain loss rose from 0\.\d to \d+\.\d nats a token \(--max-retain-loss\)\.$`, r.stdout)
	r = guardcpu("", lost("b", "--max-retain-loss", "0.5", "--out", "b.gguf")...)
	assert.Equal(t, exitDiverged, r.status, r.stderr)
	assert.Regexp(t, `guardcpu: retain loss rose from 0\.\d to \d+\.\d nats a token: --max-retain-loss 0\.5; try a lower --lr`, r.stderr)
	assert.NoFileExists(t, "b.gguf")
	assert.NoFileExists(t, "b/model.gguf")
	assert.Contains(t, readJSON(t, "b/manifest.json")["failed"], "retain loss rose")
	r = guardcpu("", lost("b", "--out", "b.gguf")...)
	require.Zero(t, r.status, "another bound is the same run: "+r.stderr)
	want := results(t, "a")
	want["out"] = want["model.gguf"]
	assert.Equal(t, want, results(t, "b"))
}

// buildBinary builds guardcpu, for tests of processes, into the current directory.
func buildBinary(t *testing.T) string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	bin, err := filepath.Abs("guardcpu")
	require.NoError(t, err)
	build := exec.Command("go", "build", "-o", bin, ".")
	build.Dir = filepath.Dir(file)
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	return bin
}

// Killed at any instant, the same command goes on and ends with the same bytes. No one else can have the
// directory meanwhile; a disk that is full loses nothing.
func TestRunIsKilled(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("signals of Unix")
	}
	workshop(t)
	bin := buildBinary(t)
	args := func(dir string) []string {
		return tinyRun("--run-dir", dir, "--out", dir+".gguf", "--checkpoint-every", "2")
	}
	begin := time.Now()
	out, err := exec.Command(bin, args("whole")...).CombinedOutput()
	require.NoError(t, err, string(out))
	took := time.Since(begin)
	want := results(t, "whole")

	rng := rand.New(rand.NewPCG(3, 4))
	kills := 6
	if testing.Short() {
		kills = 2
	}
	for i := range kills {
		dir := fmt.Sprintf("kill%d", i)
		for range 1 + i%3 {
			cmd := exec.Command(bin, args(dir)...)
			require.NoError(t, cmd.Start())
			time.Sleep(time.Duration(rng.Int64N(int64(took))))
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			for path, sum := range resultsSoFar(t, dir) {
				assert.Equal(t, want[path], sum, "what has its name is whole")
			}
		}
		out, err := exec.Command(bin, args(dir)...).CombinedOutput()
		require.NoError(t, err, string(out))
		assert.Equal(t, want, results(t, dir))
	}

	t.Run("one process a directory", func(t *testing.T) {
		long := append(args("locked"), "--epochs", "100000")
		holder := exec.Command(bin, long...)
		require.NoError(t, holder.Start())
		defer holder.Process.Kill()
		require.Eventually(t, func() bool { _, err := os.Stat("locked/scores.jsonl"); return err == nil }, time.Minute, 20*time.Millisecond)
		out, err := exec.Command(bin, long...).CombinedOutput()
		var exit *exec.ExitError
		require.True(t, errors.As(err, &exit), string(out))
		assert.Equal(t, exitLocked, exit.ExitCode(), string(out))
		assert.Contains(t, string(out), fmt.Sprintf("locked: run directory is in use by pid %d (host ", holder.Process.Pid))
		require.NoError(t, holder.Process.Kill())
		_ = holder.Wait()
		next := exec.Command(bin, long...)
		var stderr strings.Builder
		next.Stderr = &stderr
		require.NoError(t, next.Start())
		time.Sleep(time.Second)
		require.NoError(t, next.Process.Kill())
		_ = next.Wait()
		assert.NotContains(t, stderr.String(), "in use", "the lock dies with its holder")
	})
	t.Run("a full disk", func(t *testing.T) {
		// No file may be larger than 80 blocks of 512 bytes, which a checkpoint with moments is.
		out, err := exec.Command("sh", append([]string{"-c", `ulimit -f 80; exec "$@"`, "sh", bin}, args("full")...)...).CombinedOutput()
		var exit *exec.ExitError
		require.True(t, errors.As(err, &exit), string(out))
		assert.Equal(t, exitIO, exit.ExitCode(), string(out))
		assert.Regexp(t, `guardcpu: checkpoint: file too large; what was done before is safe in full; .*no model was written`, string(out))
		left, err := filepath.Glob("full/checkpoints/.*")
		require.NoError(t, err)
		assert.Empty(t, left, "no half of a file is left")
		out, err = exec.Command(bin, args("full")...).CombinedOutput()
		require.NoError(t, err, string(out))
		assert.Equal(t, want, results(t, "full"))
	})
}

// resultsSoFar is results of a directory that need not be there.
func resultsSoFar(t *testing.T, dir string) map[string]string {
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	so := results(t, dir)
	maps.DeleteFunc(so, func(path, _ string) bool { return strings.HasPrefix(filepath.Base(path), ".") }) // not under its name yet
	return so
}

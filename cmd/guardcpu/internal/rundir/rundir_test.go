package rundir

import (
	"bufio"
	"encoding/json"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWriteFileReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	require.NoError(t, WriteFile(path, []byte("one")))
	require.NoError(t, WriteFile(path, []byte("two")))
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "two", string(got))
	st, err := os.Stat(path)
	require.NoError(t, err)
	assert.Zero(t, st.Mode().Perm()&0o077, "only the owner may read it")
}

func TestNewNumbersDirectories(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "runs")
	now := time.Date(2026, 11, 23, 15, 3, 0, 0, time.UTC)
	for _, want := range []string{"2026-11-23-1503", "2026-11-23-1503-2", "2026-11-23-1503-3"} {
		d, err := New(parent, now)
		require.NoError(t, err)
		assert.Equal(t, want, filepath.Base(d.Path))
		require.NoError(t, d.Close())
	}
}

func TestEventsAreJSONLines(t *testing.T) {
	d, err := Make(filepath.Join(t.TempDir(), "run"))
	require.NoError(t, err)
	require.NoError(t, d.Event("step", Field{"step", 3}, Field{"loss", math.NaN()}, Field{"text", `a "b"`}))
	require.NoError(t, d.Event("end"))
	require.NoError(t, d.Close())
	f, err := os.Open(d.File(Progress))
	require.NoError(t, err)
	defer f.Close()
	var events []map[string]any
	for s := bufio.NewScanner(f); s.Scan(); {
		var e map[string]any
		require.NoError(t, json.Unmarshal(s.Bytes(), &e), s.Text())
		events = append(events, e)
	}
	require.Len(t, events, 2)
	assert.Equal(t, "NaN", events[0]["loss"])
	assert.Equal(t, `a "b"`, events[0]["text"])
	assert.Equal(t, "end", events[1]["event"])
}

func TestCheckOutput(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in.gguf")
	require.NoError(t, os.WriteFile(in, []byte("x"), 0o600))
	other := filepath.Join(dir, "other")
	require.NoError(t, os.WriteFile(other, []byte("y"), 0o600))
	require.NoError(t, os.Symlink(in, filepath.Join(dir, "symlink")))
	require.NoError(t, os.Link(in, filepath.Join(dir, "hard")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	t.Chdir(dir)
	for name, path := range map[string]string{
		"same path":     in,
		"relative":      "in.gguf",
		"dot dot":       filepath.Join(dir, "sub") + "/../in.gguf",
		"symbolic link": filepath.Join(dir, "symlink"),
		"hard link":     filepath.Join(dir, "hard"),
	} {
		assert.ErrorIs(t, CheckOutput(path, true, in), ErrIsInput, name)
	}
	assert.ErrorIs(t, CheckOutput(other, false, in), ErrExists)
	assert.ErrorIs(t, CheckOutput(filepath.Join(dir, "sub"), true, in), ErrInTheWay, "a directory is never replaced")
	assert.ErrorIs(t, CheckOutput(os.DevNull, true, in), ErrInTheWay, "nor is a device")
	assert.ErrorIs(t, CheckIn(other, "new", true), ErrInTheWay)
	assert.NoError(t, CheckOutput(other, true, in, ""))
	assert.NoError(t, CheckOutput(filepath.Join(dir, "new"), false, in))
	assert.ErrorContains(t, CheckOutput(filepath.Join(dir, "absent", "new"), false, in), "not writable")
	assert.NoError(t, CheckIn(filepath.Join(dir, "a", "b"), "new", false))
	assert.ErrorIs(t, CheckIn(dir, "other", false), ErrExists)
	assert.NoError(t, CheckIn(dir, "other", true))
	assert.NoError(t, CheckNewDir(filepath.Join(dir, "a", "b")))
	assert.ErrorIs(t, CheckNewDir(filepath.Join(dir, "sub")), ErrExists)
	assert.ErrorContains(t, CheckNewDir(filepath.Join(other, "a")), "not writable: not a directory")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 5, "the checks leave nothing behind")
}

// One process has a directory; what another's death left in it is put in order.
func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run")
	d, err := Make(path)
	require.NoError(t, err)
	_, err = Make(path)
	assert.ErrorIs(t, err, fs.ErrExist)
	_, err = Open(path)
	var locked *LockedError
	require.ErrorAs(t, err, &locked)
	assert.Regexp(t, `run: run directory is in use by pid \d+ \(host .+\)$`, err.Error())
	require.NoError(t, d.Event("one"))
	d.lock.Close() // as when its process is killed

	for _, name := range []string{".model.gguf123", "checkpoints/.x.000001.ckpt99", "logs/before/.eval_log.json7"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(d.File(name)), 0o700))
		require.NoError(t, os.WriteFile(d.File(name), []byte("half"), 0o600))
	}
	f, err := os.OpenFile(d.File(Progress), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(`{"t":41.250,"event":"two"}` + "\n" + `{"t":99`)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	d, err = Open(path)
	require.NoError(t, err)
	assert.InDelta(t, 41.25, d.Elapsed().Seconds(), 1, "time goes on from the last event")
	require.NoError(t, d.Event("three"))
	require.NoError(t, d.Close())
	data, err := os.ReadFile(d.File(Progress))
	require.NoError(t, err)
	assert.Regexp(t, `^\{"t":0\.\d+,"event":"one"\}\n\{"t":41\.250,"event":"two"\}\n\{"t":4\d\.\d+,"event":"three"\}\n$`, string(data))
	require.NoError(t, filepath.WalkDir(path, func(path string, e fs.DirEntry, err error) error {
		assert.False(t, e.Type().IsRegular() && temporary(e.Name()), path)
		return err
	}))
	_, err = Open(filepath.Join(path, "absent"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// A journal whose last line is no event, or that is one torn line, ends no run.
func TestJournalsOfAnyContent(t *testing.T) {
	for text, want := range map[string]string{"": "", "torn": "", "no event\n": "no event\n", "\n\n": "\n\n", "{\"t\":-1}\n{": "{\"t\":-1}\n", "{\"t\":1e99}\n": "{\"t\":1e99}\n"} {
		path := filepath.Join(t.TempDir(), "run")
		require.NoError(t, os.Mkdir(path, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(path, Progress), []byte(text), 0o600))
		d, err := Open(path)
		require.NoError(t, err, "%q", text)
		assert.Less(t, d.Elapsed(), time.Minute)
		require.NoError(t, d.Close())
		data, err := os.ReadFile(d.File(Progress))
		require.NoError(t, err)
		assert.Equal(t, want, string(data), "%q", text)
	}
}

func TestBeginnings(t *testing.T) {
	parent := t.TempDir()
	d, err := Make(filepath.Join(parent, "a"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(d.File(Config), nil, 0o600))
	early, err := Early(d.Path)
	require.NoError(t, err)
	assert.True(t, early)
	require.NoError(t, os.WriteFile(d.File(Model), nil, 0o600))
	require.NoError(t, os.WriteFile(d.File("mine"), nil, 0o600))
	early, err = Early(d.Path)
	require.NoError(t, err)
	assert.False(t, early)
	require.NoError(t, d.Clear())
	assert.NoFileExists(t, d.File(Model))
	assert.FileExists(t, d.File("mine"), "only what is of a run is removed")
	require.NoError(t, os.Mkdir(d.File(Checkpoints), 0o700))
	require.NoError(t, d.Finish(true))
	assert.DirExists(t, d.File(Checkpoints))
	require.NoError(t, d.Close())

	for i, name := range []string{"b", "c"} {
		dir := filepath.Join(parent, name)
		require.NoError(t, os.Mkdir(dir, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, Config), nil, 0o600))
		at := time.Now().Add(time.Duration(i-5) * time.Hour)
		require.NoError(t, os.Chtimes(filepath.Join(dir, Config), at, at))
	}
	runs, err := Runs(parent)
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Join(parent, "c"), filepath.Join(parent, "b"), filepath.Join(parent, "a")}, runs, "the newest first, one without a configuration last")
	runs, err = Runs(filepath.Join(parent, "absent"))
	require.NoError(t, err)
	assert.Empty(t, runs)
}

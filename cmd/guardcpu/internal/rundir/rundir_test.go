package rundir

import (
	"bufio"
	"encoding/json"
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

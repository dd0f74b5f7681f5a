package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	mode := func() fs.FileMode {
		info, err := os.Stat(path)
		require.NoError(t, err)
		return info.Mode().Perm()
	}
	require.NoError(t, Write(path, 0o600, text("one")))
	if runtime.GOOS != "windows" {
		assert.Equal(t, fs.FileMode(0o600), mode())
		require.NoError(t, os.Chmod(path, 0o640))
	}
	require.NoError(t, Write(path, 0o600, text("two")))
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "two", string(got))
	if runtime.GOOS != "windows" {
		assert.Equal(t, fs.FileMode(0o640), mode(), "a file that is replaced hands on its permissions")
	}

	boom := errors.New("boom")
	err = Write(path, 0o600, func(w io.Writer) error {
		require.NoError(t, text("half")(w))
		return boom
	})
	require.ErrorIs(t, err, boom)
	got, err = os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "two", string(got), "as it was")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "the temporary file is gone")
	assert.ErrorIs(t, Write(filepath.Join(dir, "absent", "x"), 0o600, text("")), fs.ErrNotExist)
}

// A set has its first file last, and whatever fails leaves no first file beside others
// that are not its own.
func TestWriteSet(t *testing.T) {
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")}
	read := func() (all []string) {
		for _, p := range paths {
			data, err := os.ReadFile(p)
			if errors.Is(err, fs.ErrNotExist) {
				data = []byte("-")
			} else {
				require.NoError(t, err)
			}
			all = append(all, string(data))
		}
		return all
	}
	set := func(s string) func(int, io.Writer) error {
		return func(i int, w io.Writer) error {
			if s == "" && i == 2 {
				return errors.New("boom")
			}
			_, err := io.WriteString(w, s+string(rune('0'+i)))
			return err
		}
	}
	require.NoError(t, WriteSet(paths, 0o600, set("x")))
	assert.Equal(t, []string{"x0", "x1", "x2"}, read())
	require.NoError(t, WriteSet(paths, 0o600, set("y")))
	assert.Equal(t, []string{"y0", "y1", "y2"}, read())
	require.EqualError(t, WriteSet(paths, 0o600, set("")), "boom")
	assert.Equal(t, []string{"y0", "y1", "y2"}, read(), "as they were")

	require.NoError(t, os.Remove(paths[1]))
	require.NoError(t, os.Mkdir(paths[1], 0o700)) // a name that cannot be taken
	require.Error(t, WriteSet(paths, 0o600, set("z")))
	require.NoError(t, os.Remove(paths[1]))
	assert.Equal(t, []string{"-", "-", "z2"}, read(), "the first is gone before another is replaced")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "no temporary file")
}

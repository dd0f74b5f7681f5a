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

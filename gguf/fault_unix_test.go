//go:build unix

package gguf

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// recovered is the value that f panics with.
func recovered(f func()) (value any) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { value = recover() }()
	f()
	return nil
}

// A file that is truncated while it is mapped is named, though it has been closed on the way.
func TestFaulted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.gguf")
	require.NoError(t, os.WriteFile(path, file(1, 0).tensor("w", f32, 0, 32768).pad(32).zeros(1<<17).Bytes(), 0o600))
	sum := 0
	value := recovered(func() {
		f, err := Open(path)
		require.NoError(t, err)
		defer f.Close()
		require.NoError(t, os.Truncate(path, 4096))
		for _, b := range f.Data(&f.Tensors[0]) {
			sum += int(b)
		}
	})
	got, ok := Faulted(value)
	assert.True(t, ok, value)
	assert.Equal(t, path, got)
	assert.Zero(t, sum)

	// What copies in assembly panics, too.
	require.NoError(t, os.Truncate(path, 1<<17+64))
	value = recovered(func() {
		data, unmap, err := Map(path)
		require.NoError(t, err)
		defer func() { require.NoError(t, unmap()) }()
		require.NoError(t, os.Truncate(path, 0))
		_ = bytes.Clone(data)
	})
	got, ok = Faulted(value)
	assert.True(t, ok, value)
	assert.Equal(t, path, got)

	for _, v := range []any{nil, "text", errors.New("x"), recovered(func() { _ = *(*int)(nil) })} {
		_, ok := Faulted(v)
		assert.False(t, ok, v)
	}
}

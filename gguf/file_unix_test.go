//go:build unix

package gguf

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestOpenPipeDoesNotBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, unix.Mkfifo(path, 0o600))
	done := make(chan error, 2)
	go func() {
		_, err := Open(path)
		done <- err
		_, _, _, err = mapFile(path) // as if the pipe had taken the file's place
		done <- err
	}()
	for _, want := range []string{"gguf: " + path + " is a named pipe, want a regular file", "it is a named pipe, want a regular file"} {
		select {
		case err := <-done:
			assert.EqualError(t, err, want)
		case <-time.After(5 * time.Second):
			t.Fatal("it blocks")
		}
	}
}

// TestForget: the pages of a mapping are gone after it, and its bytes are the same.
func TestForget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	weights := make([]byte, 1<<22)
	for i := range weights {
		weights[i] = byte(i * i >> 8)
	}
	require.NoError(t, Write(path, nil, []TensorData{{Name: "w", Type: F32, Dims: []uint64{1 << 20}, Bytes: func() ([]byte, error) { return weights, nil }}}))
	f, err := Open(path)
	require.NoError(t, err)
	defer f.Close()
	require.True(t, bytes.Equal(weights, f.Data(&f.Tensors[0])))
	before := resident(t, path)
	require.GreaterOrEqual(t, before, 1<<12, "kB")
	f.Forget()
	require.Less(t, resident(t, path), before/8)
	require.True(t, bytes.Equal(weights, f.Data(&f.Tensors[0])))

	parsed, err := Parse("memory", bytes.Clone(f.data))
	require.NoError(t, err)
	parsed.Forget()
	require.True(t, bytes.Equal(weights, parsed.Data(&parsed.Tensors[0])))
}

// resident returns how many kB of the mapping of the file at path are in memory.
func resident(t *testing.T, path string) int {
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip("only Linux says what is in memory: ", err)
	}
	_, after, ok := strings.Cut(string(smaps), path)
	require.True(t, ok)
	_, after, ok = strings.Cut(after, "Rss:")
	require.True(t, ok)
	n, err := strconv.Atoi(strings.Fields(after)[0])
	require.NoError(t, err)
	return n
}

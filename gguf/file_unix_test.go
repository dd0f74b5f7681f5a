//go:build unix

package gguf

import (
	"path/filepath"
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

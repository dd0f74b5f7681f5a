//go:build unix

package tofu

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestLoadFIFO: a FIFO is refused; to open it would wait for a writer.
func TestLoadFIFO(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	_, _, err := Load(fifo)
	assert.ErrorContains(t, err, "is not a regular file")
}

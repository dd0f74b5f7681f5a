package gguf

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A byte that changes between writing and reading back, anywhere in the file, is found before the file has its name.
func TestWhatIsWrittenIsReadBack(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.gguf")
	data := make([]byte, 64)
	tensors := []TensorData{{Name: "a", Type: F32, Dims: []uint64{16}, Bytes: func() ([]byte, error) { return data, nil }}}
	require.NoError(t, Write(path, nil, tensors))
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	defer func() { beforeVerify = nil }()
	for at := range whole {
		beforeVerify = func(w io.Writer) {
			_, err := w.(io.WriterAt).WriteAt([]byte{whole[at] ^ 1}, int64(at))
			require.NoError(t, err)
		}
		err := Write(path, nil, tensors)
		require.ErrorIs(t, err, ErrVerify)
		assert.ErrorContains(t, err, path+": output verification failed: the file does not hold what was written to it")
	}
	is, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, whole, is, "what was there stays")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "no temporary file")
}

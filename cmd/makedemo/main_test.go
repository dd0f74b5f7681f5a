package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/cmd/internal/demo/world"
	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/simd"
)

func TestCheckFindsWhatDiffers(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, run(t.Context(), dir, false, true, 0))
	require.NoError(t, run(t.Context(), dir, true, true, 0))

	path := filepath.Join(dir, "forget.jsonl")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	data[100] ^= 1
	require.NoError(t, os.WriteFile(path, data, 0o644))
	assert.ErrorContains(t, run(t.Context(), dir, true, true, 0), "first difference at byte 100")

	require.NoError(t, os.Remove(path))
	assert.ErrorIs(t, run(t.Context(), dir, true, true, 0), os.ErrNotExist)
	assert.ErrorContains(t, run(t.Context(), path, false, true, 0), "root of the repository")
	assert.ErrorContains(t, run(t.Context(), filepath.Join(dir, "retain.jsonl"), false, true, 0), "not a folder")
}

// The whole way on a few documents: the same bytes whatever the number of workers,
// and a file that loads. The real one is compared by makedemo -check.
func TestModelDoesNotDependOnThreads(t *testing.T) {
	if _, err := simd.ByName(kernels); err != nil {
		t.Skip(err)
	}
	w := world.New()
	const few = 10 * batch
	one, err := baseModel(t.Context(), w, few, 1)
	require.NoError(t, err)
	seven, err := baseModel(t.Context(), w, few, 7)
	require.NoError(t, err)
	require.Equal(t, one, seven)

	f, err := gguf.Parse("made", one)
	require.NoError(t, err)
	m, err := engine.Load(f, engine.Options{})
	require.NoError(t, err)
	assert.Equal(t, vocabSize, m.Config.NVocab)
	assert.True(t, m.Config.Tied)
}

package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/enginetest"
	"github.com/guardcpu/guardcpu/gguf"
)

// A model that cannot be run does not become a checkpoint.
func TestConvertRefusesContradictions(t *testing.T) {
	f, err := gguf.Open(enginetest.Shared(t, "models/stories260K-f32.gguf"))
	require.NoError(t, err)
	defer f.Close()
	dir := t.TempDir()
	bad, out := filepath.Join(dir, "bad.gguf"), filepath.Join(dir, "hf")
	require.NoError(t, gguf.Rewrite(bad, f, []gguf.KV{{Key: "llama.feed_forward_length", Value: uint32(100)}}, nil))
	r := guardcpu("", "convert", "--to", "hf", "--out", out, bad)
	assert.Equal(t, exitModel, r.status)
	assert.Contains(t, r.stderr, "blk.0.ffn_gate.weight is 172×64, want 100×64")
	assert.NoDirExists(t, out)
}

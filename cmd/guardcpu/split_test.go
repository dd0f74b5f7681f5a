package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/gguf"
)

// A model in several files goes through run as one in one file, and the manifest has the
// hash of all its bytes.
func TestRunOfParts(t *testing.T) {
	workshop(t)
	do := func(args ...string) {
		t.Helper()
		r := guardcpu("", args...)
		require.Zero(t, r.status, r.stderr)
	}
	do("quantize", "--type", "COPY", "--split-max-tensors", "8", "model.gguf", "in.gguf")
	in, err := partsOf("in.gguf")
	require.NoError(t, err)
	require.Len(t, in, 3)
	do(tinyRun("--model", in[0], "--run-dir", "parts", "--out", "out.gguf", "--split-max-tensors", "5")...)
	do(tinyRun("--run-dir", "whole")...)

	whole, err := gguf.Open("whole/model.gguf")
	require.NoError(t, err)
	defer whole.Close()
	out, err := partsOf("out.gguf")
	require.NoError(t, err)
	for _, path := range []string{"parts/model.gguf", out[0]} {
		f, err := gguf.Open(path)
		require.NoError(t, err)
		require.Len(t, f.Tensors, len(whole.Tensors))
		for i := range f.Tensors {
			want, ok := whole.Tensor(f.Tensors[i].Name)
			require.True(t, ok)
			assert.Equal(t, whole.Data(want), f.Data(&f.Tensors[i]), want.Name)
		}
		require.NoError(t, f.Close())
	}

	m := readJSON(t, "parts/manifest.json")
	for _, c := range []struct {
		list, role string
		files      []string
	}{{"inputs", "model", in}, {"outputs", "out", out}} {
		h := sha256.New()
		for _, path := range c.files {
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			h.Write(data)
		}
		list := m[c.list].([]any)
		i := slices.IndexFunc(list, func(x any) bool { return x.(map[string]any)["role"] == c.role })
		require.GreaterOrEqual(t, i, 0)
		entry := list[i].(map[string]any)
		assert.Equal(t, c.files[0], entry["path"])
		assert.Len(t, entry["parts"], len(c.files)-1)
		assert.Equal(t, hex.EncodeToString(h.Sum(nil)), entry["sha256"])
	}

	before := sum(t, out[1])
	r := guardcpu("", tinyRun("--model", in[0], "--run-dir", "again", "--out", "out.gguf", "--split-max-tensors", "5")...)
	assert.Equal(t, exitOutput, r.status)
	assert.Contains(t, r.stderr, out[0]+": output exists")
	r = guardcpu("", tinyRun("--model", in[0], "--run-dir", "again", "--out", in[1], "--force")...)
	assert.Equal(t, exitOutput, r.status)
	assert.Contains(t, r.stderr, "would overwrite an input")
	assert.Equal(t, before, sum(t, out[1]))

	require.NoError(t, os.Remove(in[2]))
	r = guardcpu("", "generate", "--model", in[0], "--prompt", "a")
	assert.Equal(t, exitModel, r.status)
	assert.Equal(t, "guardcpu: in-00001-of-00003.gguf: 1 of its 3 parts are missing: in-00003-of-00003.gguf\n", r.stderr)
}

func TestSplitSize(t *testing.T) {
	for text, want := range map[string]uint64{"": 0, "1M": 1e6, "500M": 5e8, "2G": 2e9} {
		n, err := parseSplitSize(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, n, text)
	}
	for _, text := range []string{"M", "1", "1K", "0G", "-1M", "1.5G", "99999999999G", "1 G"} {
		_, err := parseSplitSize(text)
		assert.Error(t, err, text)
	}
}

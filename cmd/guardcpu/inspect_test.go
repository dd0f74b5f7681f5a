package main

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/gguf"
)

// A file that cannot be run is inspected all the same, and says why.
func TestInspectWhatCannotBeRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	require.NoError(t, gguf.Write(path, []gguf.KV{
		{Key: "general.architecture", Value: "nope"},
		{Key: "tokenizer.chat_template", Value: "{{ messages }}"},
		{Key: "tokenizer.chat_template.tools", Value: "{{ tools }}"},
	}, nil))
	r := guardcpu("", "inspect", path)
	assert.Equal(t, exitOK, r.status, r.stderr)
	assert.Contains(t, r.stdout, `cannot be run: `)
	assert.Contains(t, r.stdout, `architecture "nope" is not known; there are `)
	assert.NotContains(t, r.stdout, "Memory")

	var info fileInfo
	r = guardcpu("", "inspect", "--json", path)
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &info))
	assert.Contains(t, info.Model.Problem, "nope")
	assert.Equal(t, []string{"default", "tools"}, info.Model.Templates)
	assert.Empty(t, info.Model.Memory)
}

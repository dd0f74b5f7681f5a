package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/enginetest"
)

// A text or a message without end, such as a device gives, is an error before it fills the memory.
func TestTextsWithoutEnd(t *testing.T) {
	long := filepath.Join(t.TempDir(), "long.txt")
	require.NoError(t, os.WriteFile(long, nil, 0o600))
	require.NoError(t, os.Truncate(long, mostText+1))
	model := enginetest.Shared(t, "models/stories260K-f32.gguf")
	r := guardcpu("", "generate", "--model", model, "--file", long)
	assert.Equal(t, exitData, r.status)
	assert.Contains(t, r.stderr, "long.txt: the text is longer than 256.0 MiB")

	r = guardcpu(strings.Repeat("a", mostLine+1), "chat", "--model", model, "--chat-template", "chatml", "--lines")
	assert.Equal(t, exitIO, r.status)
	assert.Contains(t, r.stderr, "standard input: a line is longer than 16.0 MiB")
}

func TestChatWantsAMessage(t *testing.T) {
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	assert.False(t, isTerminal(null), "a device, but nobody types there")

	model := enginetest.Shared(t, "models/stories260K-f32.gguf")
	r := guardcpu("\n", "chat", "--model", model, "--chat-template", "chatml")
	assert.Equal(t, exitUsage, r.status)
	assert.Equal(t, "guardcpu: standard input is empty: there is no message to answer\n", r.stderr)
}

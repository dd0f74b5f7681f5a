package gguf_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/guardcpu/guardcpu/engine/enginetest"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRewriteModels(t *testing.T) {
	models, err := filepath.Glob(filepath.Join(enginetest.Shared(t, "models"), "*.gguf"))
	require.NoError(t, err)
	require.NotEmpty(t, models)
	for _, model := range models {
		t.Run(filepath.Base(model), func(t *testing.T) {
			f, err := gguf.Open(model)
			require.NoError(t, err)
			defer f.Close()
			out := filepath.Join(t.TempDir(), "out.gguf")
			require.NoError(t, gguf.Rewrite(out, f, nil, nil))
			want, err := os.ReadFile(model)
			require.NoError(t, err)
			got, err := os.ReadFile(out)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(want, got), "the same bytes")
			assert.True(t, bytes.Equal(want, f.Bytes()))
		})
	}
}

package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
)

// The adapter that a run writes, on its base model, is the model that the run writes.
func TestRunWritesAnAdapter(t *testing.T) {
	workshop(t)
	r := guardcpu("", tinyRun("--mode", "lora", "--lora-rank", "2", "--run-dir", "r", "--lora-out", "lora.gguf", "--out", "merged.gguf")...)
	require.Zero(t, r.status, r.stderr)
	outputs := map[string]bool{}
	for _, o := range readJSON(t, "r/manifest.json")["outputs"].([]any) {
		outputs[o.(map[string]any)["role"].(string)] = true
	}
	assert.True(t, outputs["lora-out"], "%v", outputs)
	config, err := os.ReadFile("r/config.yaml")
	require.NoError(t, err)
	assert.NotContains(t, string(config), "lora-out", "doing it again does not write over it")

	base, err := openGGUF("model.gguf")
	require.NoError(t, err)
	defer base.Close()
	m, err := loadModel(base, computing{compute: "f32", lora: "lora.gguf"})
	require.NoError(t, err)
	require.NoError(t, m.Export("again.gguf", engine.ExportOptions{}))
	again, err := openGGUF("again.gguf")
	require.NoError(t, err)
	defer again.Close()
	merged, err := openGGUF("merged.gguf")
	require.NoError(t, err)
	defer merged.Close()
	for i := range merged.Tensors {
		x := &merged.Tensors[i]
		assert.Equal(t, merged.Data(x), again.Data(&again.Tensors[i]), x.Name)
	}

	// The base is evaluated with the adapter, and with nothing that is none.
	for _, c := range []struct {
		lora   string
		status int
	}{{"lora.gguf", exitOK}, {"merged.gguf", exitModel}} {
		r = guardcpu("", "eval", "--model", "model.gguf", "--lora", c.lora, "--forget", "forget.jsonl", "--eval-length", "40", "--format", `q {question} a {answer}`)
		assert.Equal(t, c.status, r.status, r.stderr)
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/progress"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/internal/mutate"
)

// FuzzScores: what is taken for weights of samples are such numbers, whose mean is one.
func FuzzScores(f *testing.F) {
	f.Add([]byte("{\"i\":0,\"score\":-1.5e-3,\"weight\":0.5}\n{\"i\":1,\"score\":2,\"weight\":0}\n{\"i\":2,\"weight\":1}"))
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		mult, err := parseMultipliers(data, 3)
		if err != nil {
			return
		}
		sum := 0.0
		for _, m := range mult {
			require.True(t, m >= 0, "%g", m)
			sum += m
		}
		require.Len(t, mult, 3)
		require.True(t, math.Abs(sum-3) < 1e-9, "%g", sum)
	})
}

// FuzzConfig: whatever a configuration holds, its options are set or there is an error of one line.
func FuzzConfig(f *testing.F) {
	e := &env{bars: progress.New(io.Discard)}
	for _, s := range []string{
		"# all of it\nmodel: a.gguf\nlr: 1e-4\nseeds: 3\nlora-targets: [a, b]\nformat: |\n  Q {question}\n  A {answer}\n", "seed: &x 1\nseeds: *x\n", "{json: 1}", "method: 'km'\n---\nlr: 1\n",
		"tau: auto:0.5\nlora-targets:\n  - \"blk.*\"\n  - 'x'\nforce: !!bool true\n",
	} {
		f.Add([]byte(s))
	}
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		cmd := runCommand(e)
		cmd.Flags = append(cmd.Flags, commonFlags()...)
		cmd.Action = func(_ context.Context, c *cli.Command) error {
			err := setOptions(c, "c.yaml", data)
			if err != nil {
				require.NotContains(t, oneLine(err.Error()), "\n")
				return nil
			}
			_, err = configYAML(c)
			require.NoError(t, err)
			return nil
		}
		require.NoError(t, cmd.Run(t.Context(), []string{"run"}))
	})
}

// FuzzInspect: the whole command, of whatever file: a description, or one line and the status of a bad model.
func FuzzInspect(f *testing.F) {
	path := filepath.Join(f.TempDir(), "x.gguf")
	require.NoError(f, gguf.Write(path, append(tiny.Vocab(), gguf.KV{Key: "tokenizer.chat_template", Value: "{{ messages[0].content }}"}, gguf.KV{Key: "general.architecture", Value: "llama"}),
		[]gguf.TensorData{{Name: "token_embd.weight", Type: gguf.F32, Dims: []uint64{2, 3}, Bytes: func() ([]byte, error) { return make([]byte, 24), nil }}}))
	data, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(data)
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		require.NoError(t, os.WriteFile(path, data, 0o600))
		var stdout, stderr bytes.Buffer
		e := &env{args: []string{"guardcpu", "inspect", "--json", path}, stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, bars: progress.New(&stderr)}
		switch status := e.main(t.Context()); status {
		case exitOK:
			require.True(t, json.Valid(stdout.Bytes()))
			require.Empty(t, stderr.String())
		default:
			require.Equal(t, exitModel, status, stderr.String())
			require.Equal(t, 1, strings.Count(stderr.String(), "\n"), stderr.String())
		}
	})
}

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest"
)

// Every part has a time when it is asked for, streamed or not, and measuring leaves nothing behind.
func TestPlanMeasures(t *testing.T) {
	model, err := filepath.Abs(enginetest.Shared(t, "models/stories260K-q8_0.gguf"))
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("f.jsonl", []byte(`{"question":"Who?","answer":"A cat."}`+"\n"), 0o600))
	require.NoError(t, os.WriteFile("r.jsonl", []byte(`{"question":"What?","answer":"A ball."}`+"\n"), 0o600))
	for _, more := range [][]string{{"--chunk", "1", "--method", "km"}, {"--mode", "lora", "--ignore-eos"}} {
		r := guardcpu("", append([]string{"plan", "--model", model, "--forget", "f.jsonl", "--retain", "r.jsonl", "--memory", "1GiB", "--json"}, more...)...)
		require.Equal(t, exitOK, r.status, r.stderr)
		var p planResult
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &p))
		require.Len(t, p.Work, 8)
		for _, w := range p.Work {
			require.NotNil(t, w.Seconds, "%+v", w)
			assert.Greater(t, *w.Seconds, 0.0, w.Work)
			assert.Less(t, *w.Seconds, 600.0, w.Work)
			assert.Greater(t, w.Flops, 0.0, w.Work)
			assert.True(t, w.Fits, w.Work)
			assert.GreaterOrEqual(t, w.Peak, w.Smallest, w.Work)
		}
	}
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	assert.Len(t, entries, 2)
}

// A row costs what it costs, a batch what it costs: measured on a line, the line comes back.
func TestSpeed(t *testing.T) {
	s := speed{block: 2, ends: 3, blockBatch: 5, endsBatch: 7}
	assert.Equal(t, 10*(4*2+3.0)+6*(4*5+7.0), s.seconds(4, 6, 10))
	c := calibration{samples: []engine.Sample{{IDs: make([]int32, 3)}, {IDs: make([]int32, 4)}}}
	many, one := c.take(9)
	assert.Equal(t, engine.BatchSize{Rows: 10}, engine.Size(many))
	assert.Len(t, one, 1)
}

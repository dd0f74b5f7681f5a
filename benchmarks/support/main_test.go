package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tables in README.md are those of the code.
func TestReadme(t *testing.T) {
	old, updated, err := update("../..")
	require.NoError(t, err)
	assert.True(t, old == updated, "README.md is not what the code supports; run go run ./benchmarks/support")
}

func TestDifferences(t *testing.T) {
	got, err := differences(`llama.cpp v1
                           exact    allowed     packed    allowed  greedy
llama        F32         1.5e-06    1.5e-05    9.1e-07    1.5e-05  equal (32 tokens)
llama        F16         2.5e-06    1.5e-05    9.1e-07    1.5e-05  equal (32 tokens)
phi2         Q8_0        2.0e-04    2.0e-03    9.1e-04    1.5e-02  equal (32 tokens)
phi2-b       Q8_0        2.1e-04    2.0e-03    9.1e-04    1.5e-02  equal (32 tokens)
llama.cpp agrees
{"model":"m.gguf","prompt":"a b c d e","tokens":"equal","greedy":"equal (32 tokens)"}
`)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"llama": "2.5e-06", "phi2": "2.1e-04"}, got)
	_, err = differences("llama        F32         1.5e-06    1.5e-05    9.1e-07    1.5e-05  equal (32 tokens)  DIFFERS\n")
	assert.ErrorContains(t, err, "DIFFERS")
	_, err = differences("llama        F33         1.5e-06    1.5e-05    9.1e-07    1.5e-05  equal (32 tokens)\n")
	assert.ErrorContains(t, err, "F33")
}

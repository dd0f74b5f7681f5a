package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseMethods(t *testing.T) {
	methods, err := parseMethods("gd=1.6e-4,fused:km=2e-4")
	require.NoError(t, err)
	require.Len(t, methods, 2)
	assert.Equal(t, "gd 0.00016", methods[0].label(" "))
	assert.Equal(t, "adamw", methods[0].mode.optimizer)
	assert.Equal(t, "fused-km-0.0002", methods[1].label("-"))
	assert.Equal(t, "adafactor", methods[1].mode.optimizer)
	for _, bad := range []string{"gd", "gd=", "gd=x", "half:gd=1e-4", ""} {
		_, err := parseMethods(bad)
		assert.ErrorContains(t, err, "is not [MODE:]OBJECTIVE=LEARNING-RATE")
	}
}

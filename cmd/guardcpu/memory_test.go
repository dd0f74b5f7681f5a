package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// A master, a gradient and AdamW's two moments are 16 bytes; every group of a subset has a gradient.
func TestMemoryFormulas(t *testing.T) {
	assert.Equal(t, 16, trainBytes("adamw"))
	assert.Equal(t, 12, trainBytes("sgd"))
	assert.Equal(t, 8, trainBytes("adafactor"))
	o := newScoreOptions()
	o.Groups = 4
	for _, c := range []struct{ samples, retain, want int }{{0, 100, 8}, {100, 100, 8}, {10, 100, 20}, {3, 100, 16}} {
		o.RetainSamples = c.samples
		assert.Equal(t, c.want, scoreBytes(o, c.retain), "%+v", c)
	}
}

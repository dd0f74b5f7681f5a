package main

import (
	"math"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMemorySizes(t *testing.T) {
	for text, want := range map[string]uint64{
		"": 0, "12GiB": 12 << 30, "12G": 12 << 30, "12gib": 12 << 30, " 1.5 g ": 3 << 29, "8000MiB": 8000 << 20, "64K": 64 << 10,
		"2T": 2 << 40, "12GB": 12e9, "5kb": 5000,
	} {
		got, err := parseMemory(text)
		assert.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"12", "G", "GiB", "B", "-1G", "0G", "NaNG", "infG", "1e30T", "12GG", "12XiB", "12 parsecs", "0.0001K"} {
		_, err := parseMemory(text)
		assert.Error(t, err, text)
	}
}

// What --memory says is taken; without it something is known, and some of it left alone. The
// garbage collector keeps to the rest.
func TestBudget(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	b := budget{limit{bytes: 3 << 30}}
	b.take()
	assert.Equal(t, "3.0 GiB allowed (--memory)", b.String())
	b.forHeap(1 << 30)
	assert.Equal(t, int64(2<<30), debug.SetMemoryLimit(-1))
	b.forHeap(4 << 30)
	assert.Equal(t, int64(1), debug.SetMemoryLimit(-1))

	b = budget{}
	b.take()
	if all := memoryLimits(); all.bytes > 0 {
		assert.Equal(t, all.from, b.from)
		assert.Less(t, b.bytes, all.bytes)
		assert.InDelta(t, float64(all.bytes), float64(b.bytes), float64(all.bytes)/8, "of what is free just now")
		assert.Equal(t, int64(b.bytes), debug.SetMemoryLimit(-1))
	} else {
		assert.Equal(t, "no limit known", b.String())
		assert.Equal(t, int64(math.MaxInt64), debug.SetMemoryLimit(-1))
	}
}

package mutate

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// small is a GGUF file with a key of each shape and a tensor.
func small() []byte {
	b := []byte("GGUF")
	u32 := func(v uint32) { b = binary.LittleEndian.AppendUint32(b, v) }
	u64 := func(v uint64) { b = binary.LittleEndian.AppendUint64(b, v) }
	text := func(s string) { u64(uint64(len(s))); b = append(b, s...) }
	u32(3)
	u64(1)
	u64(3)
	text("a")
	u32(4)
	u32(7)
	text("b")
	u32(8)
	text("xyz")
	text("c")
	u32(9)
	u32(5)
	u64(4)
	b = append(b, make([]byte, 16)...)
	text("w")
	u32(2)
	u64(8)
	u64(2)
	u32(0)
	u64(0)
	return append(b, 1, 2, 3)
}

// The numbers of a header are found where they stand, also in one that is cut off or lies.
func TestGGUFFields(t *testing.T) {
	data := small()
	fields := ggufFields(data)
	// magic and version, 2 counts; a: length, type, value; b: length, type, length; c: length, type, element, count and
	// 2 elements; w: length, dimensions, 2 of them, type, offset.
	assert.Len(t, fields, 2+2+3+3+6+6)
	last := fields[len(fields)-1]
	assert.Equal(t, field{len(data) - 3 - 8, 8}, last)
	at := 0
	for _, f := range fields {
		assert.GreaterOrEqual(t, f.at, at)
		at = f.at + f.size
	}
	for n := range data {
		for _, f := range ggufFields(data[:n]) {
			require.LessOrEqual(t, f.at+f.size, n)
		}
	}
	m := &mutator{rng: rand.New(rand.NewPCG(1, 2)), seeds: [][]byte{data}}
	for range 10_000 {
		mutant := m.mutant()
		for _, f := range ggufFields(mutant) {
			require.LessOrEqual(t, f.at+f.size, len(mutant))
		}
	}
	assert.Equal(t, small(), data, "seeds stay as they are")
}

// Most mutants differ from the seed, and a good part of them only in a field of the header.
func TestMutants(t *testing.T) {
	data := small()
	m := &mutator{rng: rand.New(rand.NewPCG(1, 2)), seeds: [][]byte{data}}
	same, sameLength := 0, 0
	for range 10_000 {
		switch x := m.mutant(); {
		case bytes.Equal(x, data):
			same++
		case len(x) == len(data):
			sameLength++
		}
	}
	assert.Less(t, same, 1500)
	assert.Greater(t, sameLength, 2000)
}

// What is kept is what go test reads as a seed.
func TestKeep(t *testing.T) {
	t.Chdir(t.TempDir())
	d := &driver{f: new(testing.F)}
	path := d.keep([]byte("\x00\"\xff\n"))
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "go test fuzz v1\n[]byte(\"\\x00\\\"\\xff\\n\")\n", string(got))
}

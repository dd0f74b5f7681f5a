package hf

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/internal/mutate"
)

// file makes a safetensors file of a header and n bytes of data.
func file(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

const goodHeader = `{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}  `

func TestParseSafetensors(t *testing.T) {
	got, err := parseSafetensors("x", file(goodHeader, 28))
	require.NoError(t, err)
	require.Len(t, got, 2)
	assert.Equal(t, "a", got[0].name)
	assert.Equal(t, []uint64{2, 3}, got[1].shape)
	assert.Len(t, got[1].data, 24)
}

func TestBadSafetensors(t *testing.T) {
	one := func(entry string) string { return `{"a":` + entry + `}` }
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":            {nil, "no safetensors file"},
		"header too long":  {file(goodHeader, 28)[:40], "the header has 144 bytes, but only 32 follow"},
		"header huge":      {binary.LittleEndian.AppendUint64(nil, 1<<60), "at most 100000000 are allowed"},
		"no JSON":          {file("abc", 0), "no JSON object"},
		"an array":         {file("[]", 0), "no JSON object"},
		"cut off":          {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}`, 4), "cut off"},
		"more JSON":        {file(`{}{}`, 0), "follow the header's JSON"},
		"twice":            {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), "is there twice"},
		"unknown dtype":    {file(one(`{"dtype":"F4","shape":[1],"data_offsets":[0,1]}`), 1), `dtype "F4" is not known`},
		"unknown field":    {file(one(`{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}`), 1), "unknown field"},
		"shape wraps":      {file(one(`{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}`), 0), "more bytes than can be counted"},
		"negative":         {file(one(`{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}`), 4), "cannot unmarshal"},
		"wrong size":       {file(one(`{"dtype":"F32","shape":[2],"data_offsets":[0,4]}`), 4), "has 4 bytes, want 8"},
		"past the end":     {file(one(`{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`), 4), "want a part of the 4 bytes"},
		"backwards":        {file(one(`{"dtype":"F32","shape":[0],"data_offsets":[4,0]}`), 4), "lies at 4 to 0"},
		"overlap":          {file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3), "begins at byte 1 of the data, want 2"},
		"hole":             {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), "begins at byte 1 of the data, want 0"},
		"data without end": {file(one(`{"dtype":"U8","shape":[1],"data_offsets":[0,1]}`), 3), "2 bytes follow the last tensor"},
		"many dimensions":  {file(one(`{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}`), 1), "9 dimensions"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseSafetensors("x.safetensors", c.data)
			assert.ErrorContains(t, err, c.want)
			assert.ErrorContains(t, err, "x.safetensors")
		})
	}
}

func FuzzSafetensors(f *testing.F) {
	f.Add(file(goodHeader, 28))
	f.Add(file(`{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}`, 1))
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		arrays, err := parseSafetensors("x", data)
		if err != nil {
			return
		}
		var outputs []output
		for _, a := range arrays {
			typ, ok := floats[a.dtype]
			if !ok || strings.ContainsRune(a.name, '\ufffd') {
				return
			}
			outputs = append(outputs, output{a.name, typ, a.shape, func() ([]byte, error) { return a.data, nil }})
		}
		var b bytes.Buffer
		require.NoError(t, writeSafetensors(&b, outputs))
		again, err := parseSafetensors("y", b.Bytes())
		require.NoError(t, err)
		require.Len(t, again, len(arrays))
		for i := range arrays {
			assert.Equal(t, arrays[i].data, again[i].data)
		}
	})
}

func TestWriteSafetensorsAlignsTheData(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, writeSafetensors(&b, []output{{"x", gguf.F16, []uint64{1}, func() ([]byte, error) { return []byte{1, 2}, nil }}}))
	assert.Zero(t, binary.LittleEndian.Uint64(b.Bytes())%8)
}

package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bytesFunc gives bytes for TensorData.
func bytesFunc(b []byte) func() ([]byte, error) {
	return func() ([]byte, error) { return b, nil }
}

// entries returns the names in a directory: after a write nothing else is left.
func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// The encoder gives the bytes of the file that was made by hand, and the reader
// gives back what was written.
func TestWriteRandomFiles(t *testing.T) {
	for seed := range uint64(50) {
		kvs, tensors, want := randomFile(rand.New(rand.NewPCG(seed, 2)), binary.LittleEndian, 3)
		var b bytes.Buffer
		require.NoError(t, Encode(&b, kvs, tensors))
		require.True(t, bytes.Equal(want, b.Bytes()), "seed %d", seed)
		if seed == 0 {
			path := filepath.Join(t.TempDir(), "w.gguf")
			require.NoError(t, Write(path, kvs, tensors))
			f, err := Open(path)
			require.NoError(t, err)
			requireContent(t, f, kvs, tensors)
			require.True(t, bytes.Equal(want, f.Bytes()))
			require.NoError(t, f.Close())
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	w := TensorData{"w", F32, []uint64{2}, bytesFunc(make([]byte, 8))}
	with := func(change func(*TensorData)) []TensorData {
		c := w
		change(&c)
		return []TensorData{c}
	}
	for _, c := range []struct {
		kvs     []KV
		tensors []TensorData
		err     string
	}{
		{[]KV{{"", uint32(1)}}, nil, `a key is empty`},
		{[]KV{{"k", 1}}, nil, `key "k": a value of Go type int cannot be written`},
		{[]KV{{"k", nil}}, nil, `key "k": a value of Go type <nil> cannot be written`},
		{[]KV{{"k", []any{"x"}}}, nil, `key "k": element 0 of an array of arrays is of type string`},
		{[]KV{{"k", []any{[]any{[]any{[]any{[]any{}}}}}}}, nil, `key "k": arrays are nested deeper than 4`},
		{[]KV{{"k", uint32(1)}, {"k", uint32(1)}}, nil, `key "k" is there twice`},
		{[]KV{{alignmentKey, uint32(12)}}, nil, `general.alignment is 12, want a power of two up to 65536`},
		{nil, []TensorData{w, w}, `tensor "w" is there twice`},
		{nil, with(func(d *TensorData) { d.Name = "" }), `a tensor has an empty name`},
		{nil, with(func(d *TensorData) { d.Bytes = nil }), `tensor "w" has no Bytes`},
		{nil, with(func(d *TensorData) { d.Type = 4 }), `tensor "w" has type 4, which is not known`},
		{nil, with(func(d *TensorData) { d.Dims = nil }), `tensor "w" has 0 dimensions, want 1 to 4`},
		{nil, with(func(d *TensorData) { d.Type = Q4_0 }), `tensor "w" has 2 columns, want a multiple of 32 for Q4_0`},
		{nil, with(func(d *TensorData) { d.Bytes = bytesFunc(make([]byte, 7)) }), `tensor "w": its data has 7 bytes, want 8`},
		{nil, with(func(d *TensorData) { d.Bytes = bytesFunc(make([]byte, 9)) }), `tensor "w": its data has 9 bytes, want 8`},
		{nil, with(func(d *TensorData) {
			d.Bytes = func() ([]byte, error) { return nil, errors.New("7.1e+04 does not fit F16") }
		}),
			`tensor "w": 7.1e+04 does not fit F16`},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "w.gguf")
		require.NoError(t, os.WriteFile(path, []byte("before"), 0o600))
		assert.EqualError(t, Write(path, c.kvs, c.tensors), "gguf: "+path+": "+c.err)
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, "before", string(after), "an error leaves the old file")
		assert.Equal(t, []string{"w.gguf"}, entries(t, dir), "an error leaves nothing else")
		assert.EqualError(t, Encode(&bytes.Buffer{}, c.kvs, c.tensors), "gguf: "+c.err)
	}
}

// full is a disk that takes n bytes.
type full struct{ n int }

func (w *full) Write(b []byte) (int, error) {
	if w.n -= len(b); w.n < 0 {
		return 0, errors.New("no space left on device")
	}
	return len(b), nil
}

// Whichever write fails, the error comes out, and no tensor is packed after it.
func TestWriteFullDisk(t *testing.T) {
	kvs, tensors, data := randomFile(rand.New(rand.NewPCG(7, 1)), binary.LittleEndian, 3)
	source, err := Parse("x", data)
	require.NoError(t, err)
	for n := 0; n < len(data); n += 97 {
		failed := false
		watched := slices.Clone(tensors)
		w := &full{n}
		for i, d := range tensors {
			watched[i].Bytes = func() ([]byte, error) {
				failed = failed || w.n < 0
				require.False(t, failed, "packed after the disk was full")
				return d.Bytes()
			}
		}
		require.EqualError(t, Encode(w, kvs, watched), "gguf: no space left on device")
		require.EqualError(t, source.rewrite(&full{n}, nil, nil), "no space left on device")
	}
	require.NoError(t, Encode(&full{len(data)}, kvs, tensors))
}

func TestWritePlaces(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing", "w.gguf")
	assert.ErrorIs(t, Write(missing, nil, nil), os.ErrNotExist)
	assert.EqualError(t, Write(dir, nil, nil), "gguf: output "+dir+" is a directory, want a regular file or none")
	if runtime.GOOS == "windows" {
		return
	}
	assert.EqualError(t, Write("/dev/null", nil, nil), "gguf: output /dev/null is a device, want a regular file or none")

	path := filepath.Join(dir, "w.gguf")
	require.NoError(t, Write(path, nil, nil))
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Zero(t, info.Mode().Perm()&^0o644)
	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, Write(path, nil, nil))
	info, err = os.Stat(path)
	require.NoError(t, err)
	assert.EqualValues(t, 0o600, info.Mode().Perm(), "a private file stays private")
}

// A canary in memory that was used before must not reach the file: every byte
// outside header and tensors is zero.
func TestWritePaddingIsZero(t *testing.T) {
	var b bytes.Buffer
	canary := bytes.Repeat([]byte{0xca}, 34)
	require.NoError(t, Encode(&b, []KV{{"k", "v"}, {alignmentKey, uint32(4096)}},
		[]TensorData{{"a", Q8_0, []uint64{32}, bytesFunc(canary)}, {"b", Q8_0, []uint64{32}, bytesFunc(canary)}}))
	f, err := Parse("x", b.Bytes())
	require.NoError(t, err)
	rest := bytes.Clone(b.Bytes())
	clear(rest[:f.headerEnd])
	for i := range f.Tensors {
		start := f.DataOffset + f.Tensors[i].Offset
		clear(rest[start:][:34])
	}
	assert.Equal(t, make([]byte, 3*4096), rest)
}

func TestCheckOutput(t *testing.T) {
	dir := t.TempDir()
	in, data := filepath.Join(dir, "in.gguf"), filepath.Join(dir, "data.jsonl")
	require.NoError(t, os.WriteFile(in, one(f32, 0, 32).Bytes(), 0o600))
	require.NoError(t, os.WriteFile(data, nil, 0o600))
	symlink, hardlink := filepath.Join(dir, "symlink"), filepath.Join(dir, "hardlink")
	require.NoError(t, os.Symlink(in, symlink))
	require.NoError(t, os.Link(in, hardlink))
	f, err := Open(in)
	require.NoError(t, err)
	defer f.Close()
	before := entries(t, dir)
	for _, path := range []string{in, symlink, hardlink, filepath.Join(dir, "..", filepath.Base(dir), "in.gguf"), dir + "/./in.gguf"} {
		want := fmt.Sprintf("gguf: %s is %s: output would overwrite the input", path, in)
		err := CheckOutput(path, data, in)
		assert.ErrorIs(t, err, ErrOverwrite)
		assert.EqualError(t, err, want)
		err = Rewrite(path, f, nil, nil)
		assert.ErrorIs(t, err, ErrOverwrite)
		assert.EqualError(t, err, want)
	}
	assert.Equal(t, before, entries(t, dir))
	assert.NoError(t, CheckOutput(filepath.Join(dir, "new.gguf"), data, in))
	assert.NoError(t, CheckOutput(data, in))
	assert.NoError(t, Rewrite(filepath.Join(dir, "new.gguf"), f, nil, nil))
	assert.ErrorIs(t, CheckOutput(in, filepath.Join(dir, "absent")), os.ErrNotExist)
	assert.True(t, strings.HasPrefix(CheckOutput(dir+"/in.gguf/x", in).Error(), "gguf: stat "))
}

package gguf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/internal/mutate"
)

// part makes a file that says it is one of several, by hand: no, n and total as gguf-split
// types them, then tensors of 8 F32 numbers.
func partFile(no, n uint16, total int32, names ...string) *builder {
	b := file(uint64(len(names)), 3).kv(splitNoKey, 2, no).kv(splitCountKey, 2, n).kv(splitTensorsKey, 5, total)
	for i, name := range names {
		b.tensor(name, f32, uint64(32*i), 8)
	}
	return b.pad(32).zeros(32 * len(names))
}

// memory opens files that a map has.
func memory(files map[string][]byte) func(string) (*File, error) {
	return func(path string) (*File, error) {
		data, ok := files[path]
		if !ok {
			return nil, fmt.Errorf("gguf: %w", &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist})
		}
		return Parse(path, data)
	}
}

// joined reads the set of parts whose first is at path.
func joined(files map[string][]byte, path string) (*File, error) {
	open := memory(files)
	f, err := open(path)
	if err == nil {
		err = f.join(open)
	}
	return f, err
}

func TestPartCases(t *testing.T) {
	noNo := file(0, 1).kv(splitCountKey, 2, uint16(2))
	count := func(v uint32) *builder { return file(0, 2).kv(splitNoKey, 2, uint16(0)).kv(splitCountKey, u32, v) }
	big := build(binary.BigEndian, 3, 0, 2).kv(splitNoKey, 2, uint16(1)).kv(splitCountKey, 2, uint16(2))
	type set map[string]*builder
	for _, c := range []struct {
		name, open string
		files      set
		tensors    string // of the set, if there is no error
		err        string
	}{
		{"two", "m-00001-of-00002.gguf", set{"m-00001-of-00002.gguf": partFile(0, 2, 3, "a", "b"), "m-00002-of-00002.gguf": partFile(1, 2, 3, "c")}, "a b c", ""},
		{"none in the first", "m-00001-of-00002.gguf", set{"m-00001-of-00002.gguf": partFile(0, 2, 1), "m-00002-of-00002.gguf": partFile(1, 2, 1, "c")}, "c", ""},
		{"merged by gguf-split", "m.gguf", set{"m.gguf": partFile(0, 0, 1, "a")}, "a", ""},
		{"one of one", "m.gguf", set{"m.gguf": partFile(0, 1, 1, "a")}, "a", ""},
		{"not the first", "m-00002-of-00002.gguf", set{"m-00002-of-00002.gguf": partFile(1, 2, 3, "c")}, "",
			"m-00002-of-00002.gguf: it is part 2 of 2; open the first, m-00001-of-00002.gguf"},
		{"another name", "m.gguf", set{"m.gguf": partFile(0, 2, 3, "c")}, "",
			"m.gguf: it is part 1 of 2, but its name does not end in -00001-of-00002.gguf, by which the others would be found"},
		{"a part missing", "d/m-00001-of-00002.gguf", set{"d/m-00001-of-00002.gguf": partFile(0, 2, 3)}, "",
			"d/m-00001-of-00002.gguf: 1 of its 2 parts are missing: m-00002-of-00002.gguf"},
		{"65534 parts missing", "m-00001-of-65535.gguf", set{"m-00001-of-65535.gguf": partFile(0, 65535, 3)}, "",
			"m-00001-of-65535.gguf: 65534 of its 65535 parts are missing: m-00002-of-65535.gguf, m-00003-of-65535.gguf, m-00004-of-65535.gguf, …"},
		{"without number", "m-00001-of-00002.gguf", set{"m-00001-of-00002.gguf": noNo}, "", "m-00001-of-00002.gguf: split.no is missing (split.count is 2)"},
		{"number past the count", "m-00003-of-00002.gguf", set{"m-00003-of-00002.gguf": partFile(2, 2, 3)}, "",
			"m-00003-of-00002.gguf: split.no is 2 and split.count is 2, want a part below the count and a count of at most 65535"},
		{"2^32-1 parts", "m.gguf", set{"m.gguf": count(1<<32 - 1)}, "",
			"m.gguf: split.no is 0 and split.count is 4294967295, want a part below the count and a count of at most 65535"},
		{"count a string", "m.gguf", set{"m.gguf": file(0, 1).kv(splitCountKey, str, "2")}, "", "m.gguf: split.count is of type string, want a whole number"},
		{"parts exchanged", "m-00001-of-00003.gguf", set{"m-00001-of-00003.gguf": partFile(0, 3, 0), "m-00002-of-00003.gguf": partFile(2, 3, 0), "m-00003-of-00003.gguf": partFile(1, 3, 0)}, "",
			"m-00002-of-00003.gguf: it says that it is part 3 of 3, want part 2 of 3 as in its name"},
		{"a part of another set", "m-00001-of-00002.gguf", set{"m-00001-of-00002.gguf": partFile(0, 2, 0), "m-00002-of-00002.gguf": partFile(1, 3, 0)}, "",
			"m-00002-of-00002.gguf: it says that it is part 2 of 3, want part 2 of 2 as in its name"},
		{"a whole file among the parts", "m-00001-of-00002.gguf", set{"m-00001-of-00002.gguf": partFile(0, 2, 0), "m-00002-of-00002.gguf": file(0, 0)}, "",
			"m-00002-of-00002.gguf: it says that it is part 1 of 0, want part 2 of 2 as in its name"},
		{"a tensor in two parts", "m-00001-of-00002.gguf", set{"m-00001-of-00002.gguf": partFile(0, 2, 3, "a", "b"), "m-00002-of-00002.gguf": partFile(1, 2, 3, "b")}, "",
			`m-00002-of-00002.gguf: tensor "b" is there twice, in part 1 too`},
		{"another total", "m-00001-of-00002.gguf", set{"m-00001-of-00002.gguf": partFile(0, 2, 4, "a", "b"), "m-00002-of-00002.gguf": partFile(1, 2, 4, "c")}, "",
			"m-00001-of-00002.gguf: split.tensors.count is 4, its 2 parts have 3 tensors"},
		{"total negative", "m-00001-of-00002.gguf", set{"m-00001-of-00002.gguf": partFile(0, 2, -1, "a"), "m-00002-of-00002.gguf": partFile(1, 2, -1, "c")}, "",
			"m-00001-of-00002.gguf: split.tensors.count is -1, want a number that is not negative"},
		{"another byte order", "m-00001-of-00002.gguf", set{"m-00001-of-00002.gguf": partFile(0, 2, 0), "m-00002-of-00002.gguf": big}, "",
			"m-00002-of-00002.gguf: its byte order is not that of the first part"},
		{"a bad part", "m-00001-of-00002.gguf", set{"m-00001-of-00002.gguf": partFile(0, 2, 0), "m-00002-of-00002.gguf": one(f32, 96, 32)}, "",
			`m-00002-of-00002.gguf: tensor "w" ends at byte 288, past the end of the file (192)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string][]byte{}
			for name, b := range c.files {
				files[name] = b.Bytes()
			}
			f, err := joined(files, c.open)
			if c.err != "" {
				assert.EqualError(t, err, "gguf: "+c.err)
				return
			}
			require.NoError(t, err)
			var names []string
			for i := range f.Tensors {
				x, ok := f.Tensor(f.Tensors[i].Name)
				require.True(t, ok)
				assert.Len(t, f.Data(x), 32)
				names = append(names, x.Name)
			}
			assert.Equal(t, c.tensors, strings.Join(names, " "))
			assert.NoError(t, f.Close())
		})
	}
}

// The headers of all parts together are bounded as one is.
func TestPartsBounded(t *testing.T) {
	const each = 80 << 20
	long := func(no uint16) []byte {
		return file(0, 4).kv(splitNoKey, 2, no).kv(splitCountKey, 2, uint16(2)).kv(splitTensorsKey, 5, int32(0)).kv("k", arr, uint32(0), uint64(each)).zeros(each).Bytes()
	}
	_, err := joined(map[string][]byte{"m-00001-of-00002.gguf": long(0), "m-00002-of-00002.gguf": long(1)}, "m-00001-of-00002.gguf")
	require.ErrorContains(t, err, "at most 134217728 and 1048576 are allowed")
}

// A model written in parts of every size is the same model, and is one file again,
// byte for byte the first, when it is written so.
func TestSplitAndBack(t *testing.T) {
	eachKind(t, func(t *testing.T, order binary.ByteOrder, version uint32) {
		for seed := range uint64(20) {
			rng := rand.New(rand.NewPCG(seed, 5))
			kvs, tensors, data := randomFile(rng, order, version)
			dir := t.TempDir()
			path := filepath.Join(dir, "m.gguf")
			require.NoError(t, os.WriteFile(path, data, 0o600))
			f, err := Open(path)
			require.NoError(t, err)
			s := Split{MaxTensors: 1 + rng.IntN(4)}
			if seed%2 == 0 {
				s = Split{MaxBytes: 64 + rng.Uint64N(4096)}
			}
			paths, err := RewriteSplit(filepath.Join(dir, "s.gguf"), f, nil, nil, s)
			require.NoError(t, err)
			g, err := Open(paths[0])
			require.NoError(t, err)
			assert.Equal(t, paths, g.Paths())
			if len(paths) == 1 {
				assert.Equal(t, filepath.Join(dir, "s.gguf"), paths[0])
				assert.True(t, bytes.Equal(data, g.Bytes()))
			} else {
				requireContent(t, g, append(kvs[:len(kvs):len(kvs)], KV{splitNoKey, uint16(0)}, KV{splitCountKey, uint16(len(paths))}, KV{splitTensorsKey, int32(len(tensors))}), tensors)
			}
			var size uint64
			for i, p := range paths {
				info, err := os.Stat(p)
				require.NoError(t, err)
				size += uint64(info.Size())
				var n, bytes uint64
				for _, x := range g.Tensors {
					if x.Part == i {
						n, bytes = n+1, bytes+alignUp(x.Size, g.Alignment)
					}
				}
				require.True(t, n == 1 || s.MaxTensors == 0 || n <= uint64(s.MaxTensors), "part %d has %d tensors", i, n)
				require.True(t, n == 1 || s.MaxBytes == 0 || bytes <= s.MaxBytes, "part %d has %d bytes", i, bytes)
			}
			assert.Equal(t, size, g.Size())
			g.Forget()

			for _, p := range paths {
				assert.ErrorIs(t, Rewrite(p, g, nil, nil), ErrOverwrite)
			}
			if len(paths) > 1 {
				_, err := RewriteSplit(filepath.Join(dir, "s.gguf"), g, nil, nil, s)
				assert.ErrorIs(t, err, ErrOverwrite)
			}
			merged := filepath.Join(dir, "merged.gguf")
			require.NoError(t, Rewrite(merged, g, nil, nil))
			got, err := os.ReadFile(merged)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(data, got), "seed %d: in %d parts", seed, len(paths))

			set := []KV{{"new", "key"}, {"key.3", uint32(7)}}
			var replace []TensorData
			if len(tensors) > 0 {
				d := tensors[len(tensors)-1]
				d.Type = F32
				size, err := checkTensor(d.Name, d.Type, d.Dims)
				require.NoError(t, err)
				d.Bytes = bytesFunc(bytes.Repeat([]byte{7}, int(size)))
				replace = []TensorData{d}
			}
			var want, fromParts bytes.Buffer
			require.NoError(t, f.rewrite(&want, set, replace))
			require.NoError(t, g.rewrite(&fromParts, set, replace))
			assert.True(t, bytes.Equal(want.Bytes(), fromParts.Bytes()), "changes in a model of %d parts", len(paths))
			require.NoError(t, g.Close())
			require.NoError(t, f.Close())
		}
	})
}

func TestWriteSplit(t *testing.T) {
	tensor := func(name string, n int) TensorData {
		return TensorData{Name: name, Type: F32, Dims: []uint64{uint64(n)}, Bytes: bytesFunc(make([]byte, 4*n))}
	}
	tensors := []TensorData{tensor("a", 8), tensor("b", 8), tensor("c", 100), tensor("d", 8)}
	for _, c := range []struct {
		s    Split
		want string // tensors of each part
	}{
		{Split{}, "a b c d"},
		{Split{MaxTensors: 4}, "a b c d"},
		{Split{MaxTensors: 3}, "a b c, d"},
		{Split{MaxTensors: 1}, "a, b, c, d"},
		{Split{MaxBytes: 64}, "a b, c, d"},
		{Split{MaxBytes: 1}, "a, b, c, d"},
		{Split{MaxBytes: 512, MaxTensors: 2}, "a b, c d"},
		{Split{MaxBytes: 1 << 40}, "a b c d"},
	} {
		path := filepath.Join(t.TempDir(), "m.gguf")
		paths, err := WriteSplit(path, []KV{{"k", "v"}}, tensors, c.s)
		require.NoError(t, err)
		f, err := Open(paths[0])
		require.NoError(t, err)
		var b strings.Builder
		for i, x := range f.Tensors {
			if i > 0 && x.Part != f.Tensors[i-1].Part {
				b.WriteString(", ")
			} else if i > 0 {
				b.WriteString(" ")
			}
			b.WriteString(x.Name)
		}
		assert.Equal(t, c.want, b.String(), "%+v", c.s)
		require.NoError(t, f.Close())
		assert.Len(t, entries(t, filepath.Dir(path)), len(paths))
	}

	// What fails while a later part is packed leaves no part.
	dir := t.TempDir()
	bad := append(tensors[:3:3], TensorData{Name: "d", Type: F32, Dims: []uint64{8}, Bytes: bytesFunc(nil)})
	_, err := WriteSplit(filepath.Join(dir, "m.gguf"), nil, bad, Split{MaxTensors: 1})
	require.EqualError(t, err, "gguf: "+filepath.Join(dir, "m-00004-of-00004.gguf")+`: tensor "d": its data has 0 bytes, want 32`)
	assert.Empty(t, entries(t, dir))

	many := make([]TensorData, maxParts+1)
	for i := range many {
		many[i] = tensor(fmt.Sprint(i), 1)
	}
	_, err = WriteSplit(filepath.Join(dir, "m.gguf"), nil, many, Split{MaxTensors: 1})
	require.EqualError(t, err, "gguf: "+filepath.Join(dir, "m.gguf")+": 65536 parts, at most 65535 are allowed")
}

// FuzzParts: whatever two files hold that are to be parts, they make a model that can be
// read everywhere, and written as one file, or an error.
func FuzzParts(f *testing.F) {
	add := func(a, b []byte) { f.Add(slices.Concat(a, b, []byte{byte(len(b)), byte(len(b) >> 8)})) }
	add(partFile(0, 2, 3, "a", "b").Bytes(), partFile(1, 2, 3, "c").Bytes())
	add(partFile(0, 2, 3).Bytes(), partFile(1, 2, 3, "c").Bytes())
	add(partFile(0, 2, 3).Bytes(), one(f32, 0, 32).Bytes())
	add(partFile(0, 1, 1, "a").Bytes(), nil)
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		if len(data) < 2 {
			return
		}
		end := len(data) - 2
		second := end - min(end, int(data[end])|int(data[end+1])<<8)
		a, b := data[:second:second], data[second:end:end]
		file, err := joined(map[string][]byte{"m-00001-of-00002.gguf": a, "m-00002-of-00002.gguf": b}, "m-00001-of-00002.gguf")
		if err != nil {
			return
		}
		for i := range file.Tensors {
			x := &file.Tensors[i]
			if got := file.Data(x); uint64(len(got)) != x.Size {
				t.Fatalf("tensor %q has %d bytes, want %d", x.Name, len(got), x.Size)
			}
		}
		var out bytes.Buffer
		if err := file.rewrite(&out, nil, nil); err != nil {
			t.Fatal(err)
		}
		whole, err := Parse("whole", out.Bytes())
		if err != nil || len(whole.Tensors) != len(file.Tensors) {
			t.Fatalf("as one file: %v", err)
		}
		for i := range file.Tensors {
			if !bytes.Equal(whole.Data(&whole.Tensors[i]), file.Data(&file.Tensors[i])) {
				t.Fatalf("tensor %d differs", i)
			}
		}
	})
}

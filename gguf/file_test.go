package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// eachKind runs f for every version and byte order.
func eachKind(t *testing.T, f func(t *testing.T, order binary.ByteOrder, version uint32)) {
	for _, version := range []uint32{2, 3} {
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			t.Run(fmt.Sprintf("v%d/%v", version, order), func(t *testing.T) { f(t, order, version) })
		}
	}
}

// What the reader finds in a file made by hand is what was put there.
func TestParseRandomFiles(t *testing.T) {
	eachKind(t, func(t *testing.T, order binary.ByteOrder, version uint32) {
		for seed := range uint64(50) {
			kvs, tensors, data := randomFile(rand.New(rand.NewPCG(seed, 1)), order, version)
			f, err := Parse("random", data)
			require.NoError(t, err, "seed %d", seed)
			requireContent(t, f, kvs, tensors)
			assert.Equal(t, version, f.Version)
			assert.Equal(t, order, f.Order)
		}
	})
}

// requireContent compares all keys and tensors of f.
func requireContent(t *testing.T, f *File, kvs []KV, tensors []TensorData) {
	t.Helper()
	require.Equal(t, kvs, f.KVs)
	require.Len(t, f.Tensors, len(tensors))
	for i, want := range tensors {
		got, ok := f.Tensor(want.Name)
		require.True(t, ok, want.Name)
		require.Same(t, &f.Tensors[i], got)
		require.Equal(t, want.Type, got.Type)
		require.Equal(t, want.Dims, got.Dims)
		b, err := want.Bytes()
		require.NoError(t, err)
		require.Equal(t, b, f.Data(got))
	}
}

// Every beginning of a file is an error, except where only padding is missing.
func TestParseTruncated(t *testing.T) {
	eachKind(t, func(t *testing.T, order binary.ByteOrder, version uint32) {
		kvs, tensors, data := randomFile(rand.New(rand.NewPCG(7, 1)), order, version)
		require.NotEmpty(t, tensors)
		whole, err := Parse("x", data)
		require.NoError(t, err)
		last := whole.Tensors[len(whole.Tensors)-1]
		end := int(whole.DataOffset + last.Offset + last.Size)
		for n := range len(data) {
			f, err := Parse("x", data[:n:n])
			if n < end {
				require.Error(t, err, "%d of %d bytes", n, len(data))
			} else {
				require.NoError(t, err, "%d of %d bytes", n, len(data))
				requireContent(t, f, kvs, tensors)
			}
		}
	})
}

// No byte of a header, changed to anything, makes the reader panic or take more
// than a small multiple of the file's size.
func TestParseEveryByteChanged(t *testing.T) {
	_, _, data := randomFile(rand.New(rand.NewPCG(3, 1)), binary.LittleEndian, 3)
	whole, err := Parse("x", data)
	require.NoError(t, err)
	for i := range whole.headerEnd {
		old := data[i]
		for _, v := range []byte{0, 1, old + 1, old - 1, 0x7f, 0x80, 0xff} {
			data[i] = v
			if f, err := Parse("x", data); err == nil {
				for j := range f.Tensors {
					_ = f.Data(&f.Tensors[j])
				}
			}
		}
		data[i] = old
	}
}

// allocated returns the bytes that f allocates, all together.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestBadFilesAllocateLittle(t *testing.T) {
	for _, c := range fileCases {
		data := c.file.Bytes()
		var err error
		n := allocated(func() { _, err = Parse("x.gguf", data) })
		assert.Less(t, n, uint64(16<<10+10*len(data)), "%s: %d bytes, %v", c.name, len(data), err)
	}
}

// A sparse file may be as long as it likes: what its header can ask for is bounded.
func TestSparseFiles(t *testing.T) {
	for name, c := range map[string]struct {
		b   *builder
		err string
	}{
		"array of 2^30 bytes":         {file(0, 1).kv("k", arr, uint32(0), uint64(1<<30)), `key "k": an array of 1073741824 × uint8 at byte 49 goes past byte 134217728, where a header must end`},
		"array of 2^27 empty strings": {file(0, 1).kv("k", arr, str, uint64(1<<27)), `key "k": an array of 134217728 × string at byte 49 goes past byte 134217728, where a header must end`},
		"string of 2^30 bytes":        {file(0, 1).kv("k", str, uint64(1<<30)), `key "k": a string of 1073741824 bytes at byte 45 goes past byte 134217728, where a header must end`},
		"2^20+1 keys":                 {file(0, 1<<20+1), `1048577 keys cannot be in 1073741824 bytes (at most 1048576 are allowed)`},
		"2^20+1 tensors":              {file(1<<20+1, 0), `1048577 tensors cannot be in 1073741824 bytes (at most 1048576 are allowed)`},
		"2^20 keys of nothing":        {file(0, 1<<20), `key 0: a key is empty`},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sparse.gguf")
			require.NoError(t, os.WriteFile(path, c.b.Bytes(), 0o600))
			require.NoError(t, os.Truncate(path, 1<<30))
			var err error
			n := allocated(func() { _, err = Open(path) })
			assert.EqualError(t, err, "gguf: "+path+": "+c.err)
			assert.Less(t, n, uint64(64<<10))
		})
	}
}

// Nothing about many keys or tensors is quadratic. llama.cpp takes minutes.
func TestManyKeysAndTensors(t *testing.T) {
	b := file(50_000, 100_000)
	for i := range 100_000 {
		b.kv(fmt.Sprintf("key.%d", i), u32, uint32(i))
	}
	for i := range 50_000 {
		b.tensor(fmt.Sprintf("tensor.%d", i), f32, uint64(32*(49_999-i)), 8)
	}
	b.pad(32).zeros(32 * 50_000)
	start := time.Now()
	f, err := Parse("many", b.Bytes())
	require.NoError(t, err)
	assert.Less(t, time.Since(start), 30*time.Second) // 0.05 s where this was written, some seconds under an emulator; minutes if it were quadratic
	n, ok, err := f.Uint("key.99999")
	require.NoError(t, err)
	assert.True(t, ok)
	assert.EqualValues(t, 99999, n)
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, err := range map[string]string{
		dir:                           "gguf: " + dir + " is a directory, want a regular file",
		"/dev/null":                   "gguf: /dev/null is a device, want a regular file",
		filepath.Join(dir, "nothing"): "gguf: stat " + filepath.Join(dir, "nothing") + ": no such file or directory",
	} {
		_, got := Open(name)
		assert.EqualError(t, got, err)
	}
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	_, err := Open(empty)
	assert.EqualError(t, err, "gguf: "+empty+": the file has 0 bytes, a GGUF file at least 24")
}

func TestOpenMaps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.gguf")
	data := one(f32, 0, 32).Bytes()
	require.NoError(t, os.WriteFile(path, data, 0o600))
	f, err := Open(path)
	require.NoError(t, err)
	assert.Equal(t, data, f.Bytes())
	assert.Equal(t, path, f.Name)
	w, ok := f.Tensor("w")
	require.True(t, ok)
	assert.Same(t, &f.Bytes()[64], &f.Data(w)[0], "a view, not a copy")
	require.NoError(t, f.Close())
	require.NoError(t, f.Close(), "twice does no harm")
	assert.Nil(t, f.Bytes())
}

func TestGetters(t *testing.T) {
	b := file(0, 12).
		kv("u8", 0, uint8(200)).kv("i64", 11, int64(7)).kv("neg", 5, int32(-3)).
		kv("f32", 6, float32(0.5)).kv("f64", 12, 0.25).kv("bool", 7, uint8(2)).kv("str", 8, "text").
		kv("strs", 9).value([]string{"a", "", "c"}).
		kv("f32s", 9).value([]float32{1, 2}).
		kv("i32s", 9).value([]int32{-1, 2}).
		kv("u32s", 9).value([]uint32{1, 2}).
		kv("big", 9).value([]uint32{1, math.MaxInt32 + 1})
	f, err := Parse("x.gguf", b.Bytes())
	require.NoError(t, err)

	for name, get := range map[string]func(key string) (any, bool, error){
		"Uint":    func(k string) (any, bool, error) { v, ok, err := f.Uint(k); return v, ok, err },
		"Float":   func(k string) (any, bool, error) { v, ok, err := f.Float(k); return v, ok, err },
		"Bool":    func(k string) (any, bool, error) { v, ok, err := f.Bool(k); return v, ok, err },
		"String":  func(k string) (any, bool, error) { v, ok, err := f.String(k); return v, ok, err },
		"Strings": func(k string) (any, bool, error) { v, ok, err := f.Strings(k); return v, ok, err },
		"Floats":  func(k string) (any, bool, error) { v, ok, err := f.Floats(k); return v, ok, err },
		"Ints":    func(k string) (any, bool, error) { v, ok, err := f.Ints(k); return v, ok, err },
	} {
		good := map[string]map[string]any{
			"Uint":    {"u8": uint64(200), "i64": uint64(7)},
			"Float":   {"f32": 0.5, "f64": 0.25},
			"Bool":    {"bool": true},
			"String":  {"str": "text"},
			"Strings": {"strs": []string{"a", "", "c"}},
			"Floats":  {"f32s": []float32{1, 2}},
			"Ints":    {"i32s": []int32{-1, 2}, "u32s": []int32{1, 2}},
		}[name]
		bad := map[string]map[string]string{
			"Uint":    {"neg": "neg is -3, want a number that is not negative", "f32": "f32 is of type float32, want a whole number"},
			"Float":   {"u8": "u8 is of type uint8, want float32 or float64"},
			"Bool":    {"u8": "u8 is of type uint8, want bool"},
			"String":  {"strs": "strs is of type array of string, want string"},
			"Strings": {"i32s": "i32s is of type array of int32, want array of string"},
			"Floats":  {"i32s": "i32s is of type array of int32, want array of float32"},
			"Ints":    {"big": "big[1] is 2147483648, want at most 2147483647", "strs": "strs is of type array of string, want array of int32"},
		}[name]
		for key, want := range good {
			v, ok, err := get(key)
			assert.NoError(t, err, "%s(%s)", name, key)
			assert.True(t, ok)
			assert.Equal(t, want, v)
		}
		for key, want := range bad {
			_, ok, err := get(key)
			assert.EqualError(t, err, "gguf: x.gguf: "+want)
			assert.True(t, ok)
		}
		_, ok, err := get("absent")
		assert.NoError(t, err)
		assert.False(t, ok)
	}
	_, ok := f.Value("absent")
	assert.False(t, ok)
	_, ok = f.Tensor("absent")
	assert.False(t, ok)
}

// The table agrees with itself: the numbers that are swapped lie in the block, in
// order and apart, and turning twice changes nothing.
func TestTensorTypes(t *testing.T) {
	names := map[string]bool{}
	for typ, info := range tensorTypes {
		assert.False(t, names[info.name], info.name)
		names[info.name] = true
		assert.Equal(t, info.name, typ.String())
		end := 0
		for _, w := range info.words {
			assert.GreaterOrEqual(t, w.offset, end, info.name)
			end = w.offset + w.width*w.count
		}
		assert.LessOrEqual(t, end, int(info.blockBytes), info.name)
		b := make([]byte, 3*info.blockBytes)
		for i := range b {
			b[i] = byte(i)
		}
		once := string(b)
		typ.swap(b)
		assert.Equal(t, len(info.words) == 0, string(b) == once, info.name)
		typ.swap(b)
		assert.Equal(t, once, string(b), info.name)
	}
	assert.Equal(t, "type 43", TensorType(43).String())
	_, _, ok := TensorType(43).Block()
	assert.False(t, ok)
}

// By hand: in Q8_0 the two bytes of the scale change places, in Q8_K the four of
// the scale and each two of the sixteen sums; bytes stay.
func TestSwapByHand(t *testing.T) {
	b := make([]byte, 34)
	for i := range b {
		b[i] = byte(i)
	}
	Q8_0.swap(b)
	assert.Equal(t, []byte{1, 0, 2, 3}, b[:4])
	assert.Equal(t, byte(33), b[33])
	k := make([]byte, 292)
	for i := range k {
		k[i] = byte(i)
	}
	TensorType(15).swap(k)
	assert.Equal(t, []byte{3, 2, 1, 0, 4, 5}, k[:6])
	assert.Equal(t, []byte{3, 5, 4, 7, 6}, k[259:264])
	assert.Equal(t, []byte{33 + 2, 34}, k[290:])
}

func BenchmarkParse(b *testing.B) {
	f := file(0, 2).kv("tokenizer.ggml.tokens", arr, str, uint64(128_000))
	for i := range 128_000 {
		f.put(fmt.Sprintf("token%d", i))
	}
	f.kv("tokenizer.ggml.scores", 9).value(make([]float32, 1000))
	b.SetBytes(int64(f.Len()))
	for b.Loop() {
		if _, err := Parse("x", f.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}

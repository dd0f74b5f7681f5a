package gguf

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	u32   = uint32(typeUint32)
	str   = uint32(typeString)
	arr   = uint32(typeArray)
	f32   = uint32(F32)
	q8_0  = uint32(Q8_0)
	i8    = uint32(24)
	i64   = uint32(27)
	max64 = uint64(math.MaxUint64)
)

// one is a file with a tensor "w" of 32 F32 numbers, its row of the table given.
func one(typ uint32, offset uint64, dims ...uint64) *builder {
	return file(1, 0).tensor("w", typ, offset, dims...).pad(32).zeros(128)
}

// aligned is a file with that value of general.alignment, and a tensor.
func aligned(alignment uint32) *builder {
	return file(1, 1).kv(alignmentKey, u32, alignment).tensor("w", f32, 0, 32).pad(32).zeros(128)
}

// fileCases has the files of llama.cpp's tests/test-gguf.cpp by the names they
// have there, and files with the traits that broke other readers. An empty err
// says that the file is good.
var fileCases = []struct {
	name string
	file *builder
	err  string
}{
	// test-gguf.cpp
	{"HEADER_BAD_MAGIC", &builder{Buffer: *bytesOf("FUGG" + file(0, 0).String()[4:])}, `it begins with "FUGG", want "GGUF"`},
	{"HEADER_BAD_VERSION_0", build(binary.LittleEndian, 0, 0, 0), `version 0 is not supported, want 2 or 3`},
	{"HEADER_BAD_VERSION_1", build(binary.LittleEndian, 1, 0, 0), `version 1 is not supported, want 2 or 3`},
	{"HEADER_BAD_VERSION_FUTURE", build(binary.LittleEndian, 4, 0, 0), `version 4 is not supported, want 2 or 3`},
	{"HEADER_BAD_N_TENSORS", file(max64, 0), `18446744073709551615 tensors cannot be in 24 bytes (at most 1048576 are allowed)`},
	{"HEADER_BAD_N_KV", file(0, max64), `18446744073709551615 keys cannot be in 24 bytes (at most 1048576 are allowed)`},
	{"HEADER_EMPTY", file(0, 0), ``},
	{"KV_BAD_KEY_SIZE", file(0, 1).put(max64).zeros(8), `key 0: a string of 18446744073709551615 bytes at byte 32, but only 8 bytes are left`},
	{"KV_EMPTY_KEY", file(0, 1).kv("", u32, uint32(1)), `key 0: a key is empty`},
	{"KV_BAD_TYPE", file(0, 1).kv("k", 13, uint32(1)), `key "k": value type 13 is not known`},
	{"KV_DUPLICATE_KEY", file(0, 2).kv("k", u32, uint32(1)).kv("k", u32, uint32(2)), `key "k" is there twice`},
	{"KV_BAD_ALIGN", file(0, 1).kv(alignmentKey, u32, uint32(13)), `general.alignment is 13, want a power of two up to 65536`},
	{"KV_WRONG_TYPE_ALIGN", file(0, 1).kv(alignmentKey, 5, uint32(13)), `general.alignment is of type int32, want uint32`},
	{"KV_SUCCESS", file(0, 1).kv("k", u32, uint32(1)), ``},
	{"TENSORS_BAD_NAME_SIZE", file(1, 0).tensor(strings.Repeat("n", 64), f32, 0, 32).pad(32).zeros(128),
		`the name of tensor "` + strings.Repeat("n", 64) + `" is 64 bytes long, at most 63 are allowed`},
	{"TENSORS_BAD_N_DIMS", one(f32, 0, 2, 2, 2, 2, 2), `tensor 0: "w" has 5 dimensions, want 1 to 4`},
	{"TENSORS_BAD_SHAPE", one(f32, 0, max64), `tensor "w" of 18446744073709551615 has more than 2^63-1 elements`},
	{"TENSORS_ZERO_DIM", one(f32, 0, 32, 0), `tensor "w": dimension 1 is zero`},
	{"TENSORS_NE_TOO_BIG", one(f32, 0, 1<<62, 2), `tensor "w" of 4611686018427387904×2 has more than 2^63-1 elements`},
	{"TENSORS_NBYTES_TOO_BIG", one(i64, 0, 1<<60), `tensor "w" of 1152921504606846976 I64 has more than 2^63-1 bytes`},
	{"TENSORS_BAD_TYPE", one(43, 0, 32), `tensor "w" has type 43, which is not known`},
	{"TENSORS_BAD_OFFSET", one(f32, max64, 32), `tensor "w" is at offset 18446744073709551615, want a multiple of 32`},
	{"TENSORS_DUPLICATE_NAME", file(2, 0).tensor("w", f32, 0, 8).tensor("w", f32, 32, 8).pad(32).zeros(64), `tensor "w" is there twice`},
	{"TENSORS_BAD_ALIGN", aligned(13), `general.alignment is 13, want a power of two up to 65536`},
	{"TENSORS_INCONSISTENT_ALIGN", file(2, 0).tensor("v", i8, 0, 5).tensor("w", i8, 5, 5).pad(32).zeros(64),
		`tensor "w" is at offset 5, want a multiple of 32`},
	{"TENSORS_SUCCESS", one(f32, 0, 32), ``},
	{"TENSORS_CUSTOM_ALIGN", aligned(1), ``},
	{"DATA_NOT_ENOUGH_DATA", file(1, 0).tensor("w", f32, 0, 32).pad(32).zeros(127), `tensor "w" ends at byte 192, past the end of the file (191)`},
	{"DATA_BAD_ALIGN", aligned(13), `general.alignment is 13, want a power of two up to 65536`},
	{"DATA_INCONSISTENT_ALIGN", file(2, 0).tensor("v", i8, 0, 5).tensor("w", i8, 5, 5).pad(32).zeros(10),
		`tensor "w" is at offset 5, want a multiple of 32`},
	{"DATA_MEM_SIZE_OVERFLOW", file(2, 0).tensor("v", i8, 0, math.MaxInt64-63).tensor("w", i8, math.MaxInt64-63, math.MaxInt64-63).pad(32),
		`tensor "v" ends at byte 9223372036854775840, past the end of the file (96)`},
	{"DATA_SUCCESS", one(q8_0, 0, 64), ``},
	{"DATA_CUSTOM_ALIGN", file(2, 1).kv(alignmentKey, u32, uint32(1)).tensor("v", i8, 0, 5).tensor("w", i8, 5, 5).zeros(10), ``},

	// headers
	{"empty file", &builder{}, `the file has 0 bytes, a GGUF file at least 24`},
	{"four bytes", &builder{Buffer: *bytesOf("GGUF")}, `the file has 4 bytes, a GGUF file at least 24`},
	{"gzip", &builder{Buffer: *bytesOf("\x1f\x8b\x08\x00" + strings.Repeat("\x00", 20))}, `it begins with "\x1f\x8b\b\x00", want "GGUF"`},
	{"big-endian version 4", build(binary.BigEndian, 4, 0, 0), `version 4 is not supported, want 2 or 3`},
	{"2^63 keys", file(0, 1<<63).zeros(100), `9223372036854775808 keys cannot be in 124 bytes (at most 1048576 are allowed)`},
	{"more keys than fit", file(0, 3).zeros(41), `3 keys cannot be in 65 bytes (at most 1048576 are allowed)`},
	{"keys that wrap a size", file(0, 1<<60+1).zeros(100), `1152921504606846977 keys cannot be in 124 bytes (at most 1048576 are allowed)`},
	{"2^63 tensors", file(1<<63, 0).zeros(100), `9223372036854775808 tensors cannot be in 124 bytes (at most 1048576 are allowed)`},
	{"more tensors than fit", file(2, 0).zeros(65), `2 tensors cannot be in 89 bytes (at most 1048576 are allowed)`},

	// keys and values
	{"key longer than 65535", file(0, 1).kv(strings.Repeat("k", 65536), u32, uint32(1)),
		`key 0: key "` + strings.Repeat("k", 80) + `"… is 65536 bytes long, at most 65535 are allowed`},
	{"control characters in a key", file(0, 2).kv("\x1b[2J\n", u32, uint32(1)).kv("\x1b[2J\n", u32, uint32(1)), `key "\x1b[2J\n" is there twice`},
	{"string of 2^64-1 bytes", file(0, 1).kv("k", str, max64).zeros(4),
		`key "k": a string of 18446744073709551615 bytes at byte 45, but only 4 bytes are left`},
	{"string of 2^63 bytes", file(0, 1).kv("k", str, uint64(1<<63)),
		`key "k": a string of 9223372036854775808 bytes at byte 45, but only 0 bytes are left`},
	{"string one byte short", file(0, 1).kv("k", str, uint64(5)).zeros(4), `key "k": a string of 5 bytes at byte 45, but only 4 bytes are left`},
	{"array whose size wraps to 4", file(0, 1).kv("k", arr, u32, uint64(1<<62+1), uint32(7)),
		`key "k": an array of 4611686018427387905 × uint32 at byte 49, but only 4 bytes are left`},
	{"array of 2^61 float64", file(0, 1).kv("k", arr, uint32(12), uint64(1<<61)),
		`key "k": an array of 2305843009213693952 × float64 at byte 49, but only 0 bytes are left`},
	{"array of 2^64-1 strings", file(0, 1).kv("k", arr, str, max64).zeros(64),
		`key "k": an array of 18446744073709551615 × string at byte 49, but only 64 bytes are left`},
	{"array of strings, the last too long", file(0, 1).kv("k", arr, str, uint64(2), "a", uint64(9), uint8('b')),
		`key "k": a string of 9 bytes at byte 66, but only 1 bytes are left`},
	{"array of an unknown type", file(0, 1).kv("k", arr, uint32(13), uint64(0)), `key "k": array element type 13 is not known`},
	{"array of 2^60 arrays", file(0, 1).kv("k", arr, arr, uint64(1<<60)).zeros(12),
		`key "k": an array of 1152921504606846976 × array at byte 49, but only 12 bytes are left`},
	{"arrays nested 100,000 deep", nested(100_000), `key "k": arrays are nested deeper than 4`},
	{"arrays nested 5 deep", nested(5), `key "k": arrays are nested deeper than 4`},
	{"arrays nested 4 deep", nested(4), ``},
	{"value cut off", file(0, 1).kv("k", 12, uint32(0)).zeros(3), `key "k": a value of type float64 at byte 37, but only 7 bytes are left`},
	{"key without type", file(0, 1).put("0123456789").zeros(3), `key "0123456789": a number of 4 bytes at byte 42, but only 3 bytes are left`},

	// alignment
	{"alignment 0", aligned(0), `general.alignment is 0, want a power of two up to 65536`},
	{"alignment 3", aligned(3), `general.alignment is 3, want a power of two up to 65536`},
	{"alignment 2^30", aligned(1 << 30), `general.alignment is 1073741824, want a power of two up to 65536`},
	{"alignment 2^31", aligned(1 << 31), `general.alignment is 2147483648, want a power of two up to 65536`},
	{"alignment 8", aligned(8), ``},
	{"alignment a string", file(0, 1).kv(alignmentKey, str, "32"), `general.alignment is of type string, want uint32`},

	// tensors
	{"tensor without name", file(1, 0).tensor("", f32, 0, 32).pad(32).zeros(128), `a tensor has an empty name`},
	{"name of 2^64-1 bytes", file(1, 0).put(max64).zeros(64),
		`tensor 0: a string of 18446744073709551615 bytes at byte 32, but only 64 bytes are left`},
	{"no dimensions", one(f32, 0), `tensor "w" has 0 dimensions, want 1 to 4`},
	{"2^32-1 dimensions", file(1, 0).put("w", uint32(math.MaxUint32)).zeros(64), `tensor 0: "w" has 4294967295 dimensions, want 1 to 4`},
	{"first dimension zero", one(q8_0, 0, 0), `tensor "w": dimension 0 is zero`},
	{"negative dimension", one(f32, 0, 1<<63), `tensor "w" of 9223372036854775808 has more than 2^63-1 elements`},
	{"product of dimensions wraps to 0", one(f32, 0, 1<<32, 1<<32), `tensor "w" of 4294967296×4294967296 has more than 2^63-1 elements`},
	{"product of dimensions wraps to 32", one(f32, 0, 1<<33+1, 1<<32-1, 1<<32, 32),
		`tensor "w" of 8589934593×4294967295×4294967296×32 has more than 2^63-1 elements`},
	{"exabytes in blocks", one(q8_0, 0, 32, 1<<58-1), `tensor "w" of 32×288230376151711743 Q8_0 has more than 2^63-1 bytes`},
	{"columns no multiple of the block", one(q8_0, 0, 33), `tensor "w" has 33 columns, want a multiple of 32 for Q8_0`},
	{"elements but not columns a multiple", one(q8_0, 0, 8, 4), `tensor "w" has 8 columns, want a multiple of 32 for Q8_0`},
	{"withdrawn type", one(4, 0, 32), `tensor "w" has type 4, which is not known`},
	{"type 2^32-1", one(math.MaxUint32, 0, 32), `tensor "w" has type 4294967295, which is not known`},
	{"table cut off", file(1, 0).tensor("long.name.of.a.tensor", f32, 0, 32), `tensor "long.name.of.a.tensor" ends at byte 224, past the end of the file (77)`},

	// layout
	{"offset wraps into the file", one(f32, max64-31, 32), `tensor "w" is at offset 18446744073709551584, past the end of the data (128 bytes)`},
	{"offset past the end", one(f32, 160, 8), `tensor "w" is at offset 160, past the end of the data (128 bytes)`},
	{"end past the end", one(f32, 96, 32), `tensor "w" ends at byte 288, past the end of the file (192)`},
	{"no data", file(1, 0).tensor("w", f32, 0, 32).pad(32), `tensor "w" ends at byte 192, past the end of the file (64)`},
	{"size wraps when padded", one(i8, 0, math.MaxInt64), `tensor "w" ends at byte 9223372036854775871, past the end of the file (192)`},
	{"tensors at one place", file(2, 0).tensor("v", f32, 0, 8).tensor("w", f32, 0, 8).pad(32).zeros(64), `tensors "v" and "w" overlap at offset 0`},
	{"tensors overlap", file(2, 0).tensor("v", f32, 32, 8).tensor("w", f32, 0, 16).pad(32).zeros(64), `tensors "w" and "v" overlap at offset 32`},
	{"tensors in another order, with a gap", file(2, 0).tensor("v", f32, 64, 8).tensor("w", f32, 0, 8).pad(32).zeros(96), ``},
	{"no padding after the last", file(1, 0).tensor("w", i8, 0, 5).pad(32).zeros(5), ``},
	{"bytes after the last", one(f32, 0, 8), ``},
}

func nested(depth int) *builder {
	b := file(0, 1).kv("k", arr)
	for range depth - 1 {
		b.put(arr, uint64(1))
	}
	return b.put(u32, uint64(1), uint32(7))
}

func TestFileCases(t *testing.T) {
	names := map[string]bool{}
	for _, c := range fileCases {
		require.False(t, names[c.name], "two cases %q", c.name)
		names[c.name] = true
		t.Run(c.name, func(t *testing.T) {
			f, err := Parse("x.gguf", c.file.Bytes())
			if c.err == "" {
				require.NoError(t, err)
				assert.NotNil(t, f)
				return
			}
			assert.EqualError(t, err, "gguf: x.gguf: "+c.err)
			assert.Nil(t, f)
		})
	}
}

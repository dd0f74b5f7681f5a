package gguf

import (
	"fmt"
	"math"
	"math/bits"
)

// TensorType says how the elements of a tensor are packed. The numbers are ggml's.
type TensorType uint32

// The types that guardcpu computes with, or that other packages name.
const (
	F32     TensorType = 0
	F16     TensorType = 1
	Q4_0    TensorType = 2
	Q4_1    TensorType = 3
	Q5_0    TensorType = 6
	Q5_1    TensorType = 7
	Q8_0    TensorType = 8
	Q2_K    TensorType = 10
	Q3_K    TensorType = 11
	Q4_K    TensorType = 12
	Q5_K    TensorType = 13
	Q6_K    TensorType = 14
	Q8_K    TensorType = 15
	IQ2_XXS TensorType = 16
	IQ2_XS  TensorType = 17
	IQ3_XXS TensorType = 18
	IQ1_S   TensorType = 19
	IQ4_NL  TensorType = 20
	IQ3_S   TensorType = 21
	IQ2_S   TensorType = 22
	IQ4_XS  TensorType = 23
	IQ1_M   TensorType = 29
	BF16    TensorType = 30
	TQ1_0   TensorType = 34
	TQ2_0   TensorType = 35
	MXFP4   TensorType = 39
	NVFP4   TensorType = 40
)

// A word is a run of Count numbers of Width bytes each, Offset bytes into a
// block: what has to be swapped when a block changes its byte order.
type word struct{ offset, width, count int }

type typeInfo struct {
	name       string
	blockLen   uint64 // elements in a block
	blockBytes uint64
	words      []word // everything in a block that is wider than a byte
}

// tensorTypes has a row for every type in use: names, lengths and sizes as in
// ggml.c (type_traits), fields as in ggml-common.h. The numbers 4, 5, 31…33 and
// 36…38 belonged to types that ggml has withdrawn.
var tensorTypes = map[TensorType]typeInfo{
	F32:     {"F32", 1, 4, []word{{0, 4, 1}}},
	F16:     {"F16", 1, 2, []word{{0, 2, 1}}},
	Q4_0:    {"Q4_0", 32, 18, []word{{0, 2, 1}}},
	Q4_1:    {"Q4_1", 32, 20, []word{{0, 2, 2}}},
	Q5_0:    {"Q5_0", 32, 22, []word{{0, 2, 1}}},
	Q5_1:    {"Q5_1", 32, 24, []word{{0, 2, 2}}},
	Q8_0:    {"Q8_0", 32, 34, []word{{0, 2, 1}}},
	9:       {"Q8_1", 32, 36, []word{{0, 2, 2}}},
	Q2_K:    {"Q2_K", 256, 84, []word{{80, 2, 2}}},
	Q3_K:    {"Q3_K", 256, 110, []word{{108, 2, 1}}},
	Q4_K:    {"Q4_K", 256, 144, []word{{0, 2, 2}}},
	Q5_K:    {"Q5_K", 256, 176, []word{{0, 2, 2}}},
	Q6_K:    {"Q6_K", 256, 210, []word{{208, 2, 1}}},
	Q8_K:    {"Q8_K", 256, 292, []word{{0, 4, 1}, {260, 2, 16}}},
	IQ2_XXS: {"IQ2_XXS", 256, 66, []word{{0, 2, 33}}},
	IQ2_XS:  {"IQ2_XS", 256, 74, []word{{0, 2, 33}}},
	IQ3_XXS: {"IQ3_XXS", 256, 98, []word{{0, 2, 1}}},
	IQ1_S:   {"IQ1_S", 256, 50, []word{{0, 2, 1}, {34, 2, 8}}},
	IQ4_NL:  {"IQ4_NL", 32, 18, []word{{0, 2, 1}}},
	IQ3_S:   {"IQ3_S", 256, 110, []word{{0, 2, 1}}},
	IQ2_S:   {"IQ2_S", 256, 82, []word{{0, 2, 1}}},
	IQ4_XS:  {"IQ4_XS", 256, 136, []word{{0, 2, 2}}},
	24:      {"I8", 1, 1, nil},
	25:      {"I16", 1, 2, []word{{0, 2, 1}}},
	26:      {"I32", 1, 4, []word{{0, 4, 1}}},
	27:      {"I64", 1, 8, []word{{0, 8, 1}}},
	28:      {"F64", 1, 8, []word{{0, 8, 1}}},
	IQ1_M:   {"IQ1_M", 256, 56, nil},
	BF16:    {"BF16", 1, 2, []word{{0, 2, 1}}},
	TQ1_0:   {"TQ1_0", 256, 54, []word{{52, 2, 1}}},
	TQ2_0:   {"TQ2_0", 256, 66, []word{{64, 2, 1}}},
	MXFP4:   {"MXFP4", 32, 17, nil},
	NVFP4:   {"NVFP4", 64, 36, nil},
	41:      {"Q1_0", 128, 18, []word{{0, 2, 1}}},
	42:      {"Q2_0", 64, 18, []word{{0, 2, 1}}},
}

// String returns ggml's name of the type, or its number.
func (t TensorType) String() string {
	if info, ok := tensorTypes[t]; ok {
		return info.name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// Block returns the number of elements in a block of the type and the bytes the
// block takes; ok is false for a number that is no type.
func (t TensorType) Block() (elements, bytes uint64, ok bool) {
	info, ok := tensorTypes[t]
	return info.blockLen, info.blockBytes, ok
}

// checkTensor checks what a file or a caller says of one tensor, and returns the
// bytes it takes: dims[1]·dims[2]·… rows of dims[0]/blockLen blocks each.
func checkTensor(name string, t TensorType, dims []uint64) (size uint64, err error) {
	if name == "" {
		return 0, fmt.Errorf("a tensor has an empty name")
	}
	if len(name) > maxName {
		return 0, fmt.Errorf("the name of tensor %s is %d bytes long, at most %d are allowed", quote(name), len(name), maxName)
	}
	if len(dims) < 1 || len(dims) > maxDims {
		return 0, fmt.Errorf("tensor %s has %d dimensions, want 1 to %d", quote(name), len(dims), maxDims)
	}
	info, ok := tensorTypes[t]
	if !ok {
		return 0, fmt.Errorf("tensor %s has type %d, which is not known", quote(name), uint32(t))
	}
	elements := uint64(1)
	for i, d := range dims {
		if d == 0 {
			return 0, fmt.Errorf("tensor %s: dimension %d is zero", quote(name), i)
		}
		hi, lo := bits.Mul64(elements, d)
		if hi != 0 || lo > math.MaxInt64 {
			return 0, fmt.Errorf("tensor %s of %s has more than 2^63-1 elements", quote(name), FormatDims(dims))
		}
		elements = lo
	}
	if dims[0]%info.blockLen != 0 {
		return 0, fmt.Errorf("tensor %s has %d columns, want a multiple of %d for %s", quote(name), dims[0], info.blockLen, info.name)
	}
	hi, size := bits.Mul64(elements/info.blockLen, info.blockBytes)
	if hi != 0 || size > math.MaxInt64 {
		return 0, fmt.Errorf("tensor %s of %s %s has more than 2^63-1 bytes", quote(name), FormatDims(dims), info.name)
	}
	return size, nil
}

// swap turns the byte order of every number in b, whole blocks of type t, in place.
func (t TensorType) swap(b []byte) {
	info := tensorTypes[t]
	if len(info.words) == 0 {
		return
	}
	for ; len(b) > 0; b = b[info.blockBytes:] {
		for _, w := range info.words {
			for i := range w.count {
				n := b[w.offset+i*w.width:][:w.width]
				for lo, hi := 0, w.width-1; lo < hi; lo, hi = lo+1, hi-1 {
					n[lo], n[hi] = n[hi], n[lo]
				}
			}
		}
	}
}

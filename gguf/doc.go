// Package gguf reads GGUF files by mapping them, and writes them. It knows the
// container, not what is in it: no arithmetic, no architecture, no tokenizer.
//
// # The format
//
// (ggml/docs/gguf.md in github.com/ggml-org/ggml; ggml/src/gguf.cpp in llama.cpp.)
// Versions 2 and 3, in either byte order; all numbers in the order of the file:
//
//	"GGUF"                          magic, 4 bytes
//	version                         uint32; its lower half is zero if the order is the other one
//	nTensors, nKV                   uint64, uint64
//	nKV × key                       string: uint64 length, bytes
//	      type                      uint32: 0…12 = uint8 int8 uint16 int16 uint32 int32 float32
//	                                bool string array uint64 int64 float64
//	      value                     array: uint32 element type, uint64 count, elements
//	nTensors × name                 string
//	      nDims, dims               uint32, uint64 each; dims[0] is the number of columns
//	      type                      uint32, see TensorType
//	      offset                    uint64, from the start of the data
//	padding                         to a multiple of general.alignment (uint32; 32 without it)
//	data                            the tensors, each at a multiple of the alignment
//
// A tensor of type t takes dims[1]·dims[2]·… rows of dims[0]/blockLen blocks of
// blockBytes bytes. In a big-endian file the numbers inside a block are big-endian.
//
// # Invariants
//
//   - A File that Open or Parse returned is whole: every key and tensor is there
//     once, every tensor has a known type, lies in the file, aligned, and
//     overlaps no other. What is wrong is an error that names the file, the
//     object, the place, what was found and what was wanted; no input panics.
//   - No length, count or offset is used before it was compared with the bytes
//     that are left; what is allocated for a header is at most a small multiple
//     of the bytes the header has, and a header has at most 128 MiB, 2^20 keys
//     and 2^20 tensors.
//   - A rewritten file differs from its source only in the keys and tensors it
//     was asked to change; with nothing to change it is the same, byte for byte.
//   - A path that is written has either its old content or all of the new. Every
//     byte of a new file is header, tensor or zero padding.
//   - A model in several files (split.go) is opened by its first, with all of them or
//     not at all. They get their names when all are written, the first last.
//
// Stricter than llama.cpp: alignments over 64 KiB, tensors without name or
// dimensions, and dimensions of zero are refused. More lenient: tensors may lie
// in any order and with gaps, arrays may be nested (to a depth of 4), and the
// padding after the last tensor may be missing.
package gguf

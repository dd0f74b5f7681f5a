package quant

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/simd"
)

// Type is a way in which the elements of a row are packed: blocks of BlockLen
// elements that take BlockBytes bytes each.
type Type struct {
	Name       string // ggml's
	GGUF       gguf.TensorType
	BlockLen   int
	BlockBytes int

	// Kernels returns what a set does with weights of the type; nil for F32, whose
	// weights are numbers already.
	Kernels func(k *simd.Kernels) *simd.Packed
	// Pack packs src into dst, byte for byte as ggml's reference quantizer
	// (quantize_row_*_ref) does where that is defined. A NaN, an infinity and
	// what is too large for the type are a *ValueError. dst then holds the blocks
	// before the faulty one. It panics if the lengths disagree. Nil for a type that is
	// read only.
	Pack func(dst []byte, src []float32) error
}

// Types has all types, from exact to coarse.
var Types = []*Type{
	{"F32", gguf.F32, 1, 4, nil, packF32},
	{"F16", gguf.F16, 1, 2, func(k *simd.Kernels) *simd.Packed { return &k.F16 }, packF16},
	{"BF16", gguf.BF16, 1, 2, func(k *simd.Kernels) *simd.Packed { return &k.BF16 }, packBF16},
	{"Q8_0", gguf.Q8_0, 32, 34, func(k *simd.Kernels) *simd.Packed { return &k.Q8_0 }, packQ8_0},
	{"Q8_K", gguf.Q8_K, 256, 292, func(k *simd.Kernels) *simd.Packed { return &k.Q8_K }, packQ8_K},
	{"Q6_K", gguf.Q6_K, 256, 210, func(k *simd.Kernels) *simd.Packed { return &k.Q6_K }, packQ6_K},
	{"Q5_1", gguf.Q5_1, 32, 24, func(k *simd.Kernels) *simd.Packed { return &k.Q5_1 }, packQ5_1},
	{"Q5_0", gguf.Q5_0, 32, 22, func(k *simd.Kernels) *simd.Packed { return &k.Q5_0 }, packQ5_0},
	{"Q5_K", gguf.Q5_K, 256, 176, func(k *simd.Kernels) *simd.Packed { return &k.Q5_K }, packQ5_K},
	{"Q4_1", gguf.Q4_1, 32, 20, func(k *simd.Kernels) *simd.Packed { return &k.Q4_1 }, packQ4_1},
	{"Q4_0", gguf.Q4_0, 32, 18, func(k *simd.Kernels) *simd.Packed { return &k.Q4_0 }, packQ4_0},
	{"Q4_K", gguf.Q4_K, 256, 144, func(k *simd.Kernels) *simd.Packed { return &k.Q4_K }, packQ4_K},
	{"IQ4_XS", gguf.IQ4_XS, 256, 136, func(k *simd.Kernels) *simd.Packed { return &k.IQ4_XS }, nil},
	{"IQ4_NL", gguf.IQ4_NL, 32, 18, func(k *simd.Kernels) *simd.Packed { return &k.IQ4_NL }, nil},
	{"MXFP4", gguf.MXFP4, 32, 17, func(k *simd.Kernels) *simd.Packed { return &k.MXFP4 }, nil},
	{"NVFP4", gguf.NVFP4, 64, 36, func(k *simd.Kernels) *simd.Packed { return &k.NVFP4 }, nil},
	{"Q3_K", gguf.Q3_K, 256, 110, func(k *simd.Kernels) *simd.Packed { return &k.Q3_K }, packQ3_K},
	{"IQ3_S", gguf.IQ3_S, 256, 110, func(k *simd.Kernels) *simd.Packed { return &k.IQ3_S }, nil},
	{"IQ3_XXS", gguf.IQ3_XXS, 256, 98, func(k *simd.Kernels) *simd.Packed { return &k.IQ3_XXS }, nil},
	{"Q2_K", gguf.Q2_K, 256, 84, func(k *simd.Kernels) *simd.Packed { return &k.Q2_K }, packQ2_K},
	{"IQ2_S", gguf.IQ2_S, 256, 82, func(k *simd.Kernels) *simd.Packed { return &k.IQ2_S }, nil},
	{"IQ2_XS", gguf.IQ2_XS, 256, 74, func(k *simd.Kernels) *simd.Packed { return &k.IQ2_XS }, nil},
	{"IQ2_XXS", gguf.IQ2_XXS, 256, 66, func(k *simd.Kernels) *simd.Packed { return &k.IQ2_XXS }, nil},
	{"TQ2_0", gguf.TQ2_0, 256, 66, func(k *simd.Kernels) *simd.Packed { return &k.TQ2_0 }, nil},
	{"TQ1_0", gguf.TQ1_0, 256, 54, func(k *simd.Kernels) *simd.Packed { return &k.TQ1_0 }, nil},
	{"IQ1_M", gguf.IQ1_M, 256, 56, func(k *simd.Kernels) *simd.Packed { return &k.IQ1_M }, nil},
	{"IQ1_S", gguf.IQ1_S, 256, 50, func(k *simd.Kernels) *simd.Packed { return &k.IQ1_S }, nil},
}

// maxBlockLen is the largest BlockLen in Types.
const maxBlockLen = 256

// Version is general.quantization_version of files with these types (ggml's GGML_QNT_VERSION).
const Version = uint32(2)

// ByGGUF returns the type with that number in a GGUF file.
func ByGGUF(t gguf.TensorType) (*Type, error) {
	for _, q := range Types {
		if q.GGUF == t {
			return q, nil
		}
	}
	return nil, unknown(t.String())
}

// ByName returns the type of that name, in upper or lower case.
func ByName(name string) (*Type, error) {
	for _, q := range Types {
		if strings.EqualFold(q.Name, name) {
			return q, nil
		}
	}
	return nil, unknown(fmt.Sprintf("%q", name))
}

// PackingByName is ByName for a type that is to be written, which has a Pack.
func PackingByName(name string) (*Type, error) {
	q, err := ByName(name)
	if err == nil && q.Pack == nil {
		err = fmt.Errorf("quant: weight type %s can be read, not written; written are %s", q.Name, names(func(q *Type) bool { return q.Pack != nil }))
	}
	return q, err
}

func unknown(name string) error {
	return fmt.Errorf("quant: weight type %s is not supported; there are %s", name, names(func(*Type) bool { return true }))
}

// names lists the types of which ok is true.
func names(ok func(*Type) bool) string {
	var list []string
	for _, q := range Types {
		if ok(q) {
			list = append(list, q.Name)
		}
	}
	return strings.Join(list, ", ")
}

// RowBytes returns the bytes that a row of cols elements takes. It panics unless
// cols is a positive multiple of BlockLen.
func (t *Type) RowBytes(cols int) int {
	if cols <= 0 || cols%t.BlockLen != 0 {
		panic(fmt.Sprintf("quant: %s: a row of %d elements, want a multiple of %d", t.Name, cols, t.BlockLen))
	}
	return cols / t.BlockLen * t.BlockBytes
}

// ValueError says that a value cannot be packed or used.
type ValueError struct {
	Type  string // the type's name
	Index int    // of the element in the slice given to Pack, or in the row
	Value float32
}

func (e *ValueError) Error() string {
	return fmt.Sprintf("quant: element %d: %s", e.Index, e.Problem())
}

// Problem says what is wrong without the place: "7.1e+04 does not fit F16", "NaN".
func (e *ValueError) Problem() string {
	switch v := float64(e.Value); {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 0):
		return fmt.Sprintf("%g", v)
	}
	return fmt.Sprintf("%.2g does not fit %s", e.Value, e.Type)
}

// Unpack sets dst to the elements packed in src, exactly as ggml does and with every
// set of kernels alike. dst has whole blocks, src the bytes for them; it panics otherwise.
func (t *Type) Unpack(k *simd.Kernels, dst []float32, src []byte) {
	checkLengths(t.Name, len(dst), t.BlockLen, len(src), t.BlockBytes)
	if t.Kernels == nil {
		unpackF32(dst, src)
		return
	}
	t.Kernels(k).Unpack(dst, src)
}

func finite(x float32) bool { return math.Float32bits(x)&0x7f800000 != 0x7f800000 }

// checkLengths panics unless n elements are whole blocks in b bytes.
func checkLengths(name string, n, blockLen, b, blockBytes int) {
	if n%blockLen != 0 || n/blockLen*blockBytes != b {
		panic(fmt.Sprintf("quant: %s: %d elements and %d bytes", name, n, b))
	}
}

func unpackF32(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i : 4*i+4]))
	}
}

func packF32(dst []byte, src []float32) error {
	checkLengths("F32", len(src), 1, len(dst), 4)
	for i, x := range src {
		if !finite(x) {
			return &ValueError{"F32", i, x}
		}
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(x))
	}
	return nil
}

func packF16(dst []byte, src []float32) error {
	checkLengths("F16", len(src), 1, len(dst), 2)
	for i, x := range src {
		h := f32ToF16(x)
		if h&0x7c00 == 0x7c00 {
			return &ValueError{"F16", i, x}
		}
		binary.LittleEndian.PutUint16(dst[2*i:], h)
	}
	return nil
}

func packBF16(dst []byte, src []float32) error {
	checkLengths("BF16", len(src), 1, len(dst), 2)
	for i, x := range src {
		h := f32ToBF16(x)
		if h&0x7f80 == 0x7f80 {
			return &ValueError{"BF16", i, x}
		}
		binary.LittleEndian.PutUint16(dst[2*i:], h)
	}
	return nil
}

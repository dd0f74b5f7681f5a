package quant

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/guardcpu/guardcpu/internal/mutate"
	"github.com/guardcpu/guardcpu/simd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// kernels is the set that the tests unpack with; GUARDCPU_SIMD names another one.
var kernels = simd.Best()

func eachType(t *testing.T, f func(t *testing.T, typ *Type)) {
	for _, typ := range Types {
		t.Run(typ.Name, func(t *testing.T) { f(t, typ) })
	}
}

// eachPacking is eachType for the types that are written.
func eachPacking(t *testing.T, f func(t *testing.T, typ *Type)) {
	eachType(t, func(t *testing.T, typ *Type) {
		if typ.Pack != nil {
			f(t, typ)
		}
	})
}

// The table agrees with gguf's, and each type is found by name and number.
func TestTypes(t *testing.T) {
	for _, typ := range Types {
		n, size, ok := typ.GGUF.Block()
		assert.True(t, ok)
		assert.EqualValues(t, n, typ.BlockLen)
		assert.EqualValues(t, size, typ.BlockBytes)
		assert.Equal(t, typ.Name, typ.GGUF.String())
		if typ.Kernels != nil {
			assert.Equal(t, typ.BlockLen, typ.Kernels(kernels).BlockLen)
			assert.Equal(t, typ.BlockBytes, typ.Kernels(kernels).BlockBytes)
		}
		assert.LessOrEqual(t, typ.BlockLen, maxBlockLen)
		got, err := ByGGUF(typ.GGUF)
		assert.NoError(t, err)
		assert.Same(t, typ, got)
		got, err = ByName(typ.Name)
		assert.NoError(t, err)
		assert.Same(t, typ, got)
		assert.Equal(t, 3*typ.BlockBytes, typ.RowBytes(3*typ.BlockLen))
	}
	q, err := ByName("q8_0")
	assert.NoError(t, err)
	assert.Equal(t, "Q8_0", q.Name)
	var names []string
	for _, typ := range Types {
		names = append(names, typ.Name)
	}
	known := " is not supported; there are " + strings.Join(names, ", ")
	_, err = ByName("I8")
	assert.EqualError(t, err, `quant: weight type "I8"`+known)
	packs, err := PackingByName("q5_0")
	assert.NoError(t, err)
	assert.Equal(t, "Q5_0", packs.Name)
	_, err = PackingByName("i8")
	assert.EqualError(t, err, `quant: weight type "i8"`+known)
	_, err = PackingByName("mxfp4")
	assert.ErrorContains(t, err, "quant: weight type MXFP4 can be read, not written; written are F32, F16, BF16, Q8_0, ")
	_, err = ByGGUF(24)
	assert.EqualError(t, err, "quant: weight type I8"+known)
	_, err = ByGGUF(99)
	assert.EqualError(t, err, "quant: weight type type 99"+known)
	assert.PanicsWithValue(t, "quant: Q8_0: a row of 33 elements, want a multiple of 32", func() { q.RowBytes(33) })
	assert.PanicsWithValue(t, "quant: Q8_0: a row of 0 elements, want a multiple of 32", func() { q.RowBytes(0) })
}

// Every type of packed weights that simd has is in the table, and found by its own name.
func TestTypesHaveAllKernels(t *testing.T) {
	for i, f := range reflect.VisibleFields(reflect.TypeFor[simd.Weights]()) {
		typ, err := ByName(f.Name)
		require.NoError(t, err)
		assert.Same(t, reflect.ValueOf(&kernels.Weights).Elem().Field(i).Addr().Interface(), typ.Kernels(kernels), f.Name)
	}
	assert.Equal(t, len(Types)-1, reflect.TypeFor[simd.Weights]().NumField())
}

// sample returns n numbers of the given scale: most of a bell curve, some zero,
// some far out.
func sample(rng *rand.Rand, n int, scale float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		switch rng.IntN(20) {
		case 0:
		case 1:
			x[i] = float32(8 * scale * rng.NormFloat64())
		default:
			x[i] = float32(scale * rng.NormFloat64())
		}
	}
	return x
}

// lossF16 is what a number loses at most when it is rounded to binary16.
func lossF16(x float64) float64 { return max(math.Abs(x)*0x1p-11, 0x1p-25) }

// Bounds gives the largest error of each element of a block, as doc.go states it.
var Bounds = map[string]func(block []float32, i int) float64{
	"F32":  func([]float32, int) float64 { return 0 },
	"F16":  func(x []float32, i int) float64 { return lossF16(float64(x[i])) },
	"BF16": func(x []float32, i int) float64 { return max(math.Abs(float64(x[i]))*0x1p-8, 0x1p-134) },
	"Q8_0": func(x []float32, _ int) float64 {
		d := maxAbs(x) / 127
		return d/2 + 127*lossF16(d)
	},
	"Q4_0": func(x []float32, i int) float64 { return symmetric(x, i, 8) },
	"Q5_0": func(x []float32, i int) float64 { return symmetric(x, i, 16) },
	"Q4_1": func(x []float32, _ int) float64 { return withMinimum(x, 15) },
	"Q5_1": func(x []float32, _ int) float64 { return withMinimum(x, 31) },
	"Q8_K": func(x []float32, _ int) float64 { return maxAbs(x) / 254 },
	"Q6_K": func(x []float32, _ int) float64 { return searched(x, 32, 128*32) },
	"Q5_K": func(x []float32, _ int) float64 { return searched(x, 16, 63*(31+1)) },
	"Q4_K": func(x []float32, _ int) float64 { return searched(x, 8, 63*(15+1)) },
	"Q3_K": func(x []float32, _ int) float64 { return searched(x, 4, 32*4) },
	"Q2_K": func(x []float32, _ int) float64 { return searched(x, 2, 15*(3+1)) },
}

// searched is the bound of a K type: what the search leaves in these tests, and n times what the
// smallest scales lose.
func searched(x []float32, part, n float64) float64 { return maxAbs(x)/part + n*0x1p-25 }

// symmetric is the bound of x = d·(q-n), q < 2n, with d = x*/-n.
func symmetric(x []float32, i int, n float64) float64 {
	m := maxAbs(x)
	d := m / -n
	if s := slices.IndexFunc(x, func(v float32) bool { return math.Abs(float64(v)) == m }); x[s] < 0 {
		d = -d
	}
	if float64(x[i])/d >= n-0.5 { // would be q = 2n
		return math.Abs(d) + n*lossF16(d)
	}
	return math.Abs(d)/2 + n*lossF16(d)
}

// withMinimum is the bound of x = d·q + m, q ≤ n; the differences from m are rounded to float32.
func withMinimum(x []float32, n float64) float64 {
	m := float64(slices.Min(x))
	d := (float64(slices.Max(x)) - m) / n
	return d/2 + n*lossF16(d) + lossF16(m) + 2*0x1p-24*maxAbs(x)
}

func maxAbs(x []float32) (m float64) {
	for _, v := range x {
		m = max(m, math.Abs(float64(v)))
	}
	return m
}

// What is packed comes back within the error that the arithmetic allows.
func TestPackUnpackError(t *testing.T) {
	eachPacking(t, func(t *testing.T, typ *Type) {
		rng := rand.New(rand.NewPCG(1, 1))
		for _, scale := range []float64{0, 1e-12, 1e-7, 1e-4, 0.02, 1, 300} {
			x := sample(rng, 64*typ.BlockLen, scale)
			packed := make([]byte, typ.RowBytes(len(x)))
			require.NoError(t, typ.Pack(packed, x))
			y := make([]float32, len(x))
			typ.Unpack(kernels, y, packed)
			for i := range x {
				first := i / typ.BlockLen * typ.BlockLen
				// the products d·q and 1/d are rounded to float32 besides
				limit := Bounds[typ.Name](x[first:first+typ.BlockLen], i-first) * (1 + 1e-5)
				diff := math.Abs(float64(x[i]) - float64(y[i]))
				require.True(t, diff <= limit, "scale %g: element %d is %g, was %g: off by %g, at most %g allowed", scale, i, y[i], x[i], diff, limit)
			}
		}
	})
}

// idempotent are the types whose blocks stay as they are when they are unpacked and packed.
var idempotent = []string{"F32", "F16", "BF16", "Q8_0", "Q5_0", "Q4_0"}

// Packing what was unpacked from a packed row gives the same bytes.
func TestPackIsIdempotent(t *testing.T) {
	eachPacking(t, func(t *testing.T, typ *Type) {
		if !slices.Contains(idempotent, typ.Name) {
			return
		}
		rng := rand.New(rand.NewPCG(2, 1))
		for _, scale := range []float64{0, 1e-3, 0.02, 1, 300} {
			x := sample(rng, 64*typ.BlockLen, scale)
			first, second := make([]byte, typ.RowBytes(len(x))), make([]byte, typ.RowBytes(len(x)))
			require.NoError(t, typ.Pack(first, x))
			typ.Unpack(kernels, x, first)
			require.NoError(t, typ.Pack(second, x))
			require.True(t, bytes.Equal(first, second), "scale %g", scale)
		}
	})
}

// Bytes worked out with pencil and paper.
func TestPackByHand(t *testing.T) {
	block := func(x ...float32) []float32 { return append(x, make([]float32, 32-len(x))...) }
	at := func(x []float32, i int, v ...float32) []float32 { copy(x[i:], v); return x }
	repeat := func(head []byte, b byte, n int) []byte { return append(head, slices.Repeat([]byte{b}, n)...) }
	for _, c := range []struct {
		typ    string
		x      []float32
		packed []byte
		back   []float32 // nil: x
	}{
		{"F32", []float32{1, -2.5}, []byte{0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0}, nil},
		// 1+2⁻¹¹ is halfway between 1 and 1+2⁻¹⁰: to the even one. 65519 is nearer to 65504 than to 65536.
		{"F16", []float32{1 + 0x1p-11, -65519, 0x1p-24}, []byte{0x00, 0x3c, 0xff, 0xfb, 0x01, 0x00}, []float32{1, -65504, 0x1p-24}},
		// 1+2⁻⁸ is halfway between 1 and 1+2⁻⁷; 1+3·2⁻⁸ between 1+2⁻⁷ and 1+2⁻⁶.
		{"BF16", []float32{1 + 0x1p-8, 1 + 0x3p-8, -2}, []byte{0x80, 0x3f, 0x82, 0x3f, 0x00, 0xc0}, []float32{1, 1 + 0x1p-6, -2}},
		// d = 127/127 = 1; halves away from zero.
		{"Q8_0", block(-127, 1, 0.5, -0.5, 2.5, 0.49), repeat([]byte{0, 0x3c, 0x81, 1, 1, 0xff, 3, 0}, 0, 26), block(-127, 1, 1, -1, 3)},
		{"Q8_0", block(), make([]byte, 34), nil},
		// x* = -8, d = 1; 8 would be q = 16 and becomes 15; ½ becomes ⌊9⌋.
		{"Q4_0", at(block(-8, 7, 0.5, -0.5), 16, 8, -7), repeat([]byte{0, 0x3c, 0xf0, 0x1f, 0x89, 0x88}, 0x88, 12), at(block(-8, 7, 1), 16, 7, -7)},
		// x* = 4 comes before -4, d = -½; -4 would be q = 16.
		{"Q4_0", block(4, -4, -3.5), repeat([]byte{0, 0xb8, 0x80, 0x8f, 0x8f}, 0x88, 13), block(4, -3.5, -3.5)},
		// a block of zeros: d = -0 as ggml computes it, q = 8
		// m = -1, d = 1: 15 and 14½ are q = 15, ½ is q = 1
		{"Q4_1", at(block(-1, 14, -0.5), 16, 13.5, 0), repeat([]byte{0, 0x3c, 0, 0xbc, 0xf0, 0x1f, 0x11}, 0x11, 13), at(block(-1, 14), 16, 14)},
		// all alike: d = 0
		{"Q4_1", slices.Repeat([]float32{-2.5}, 32), repeat([]byte{0, 0, 0, 0xc1}, 0, 16), nil},
		// x* = -16, d = 1; 16 would be q = 32 and becomes 31
		{"Q5_0", at(block(-16, 15, 0.5), 16, 16, -15), repeat([]byte{0, 0x3c, 0xfe, 0xff, 0xfd, 0xff, 0xf0, 0x1f, 0x01}, 0, 13), at(block(-16, 15, 1), 16, 15, -15)},
		// m = -1, d = 1: 30 is q = 31, ½ is q = 1 or 2
		{"Q5_1", at(block(-1, 30, -0.5), 16, 29.5, 0.5), repeat([]byte{0, 0x3c, 0, 0xbc, 2, 0, 1, 0, 0xf0, 0x2f, 0x11}, 0x11, 13), at(block(-1, 30), 16, 30, 1)},
		{"Q4_0", block(), repeat([]byte{0, 0x80}, 0x88, 16), nil},
		{"Q4_0", slices.Repeat([]float32{float32(math.Copysign(0, -1))}, 32), repeat([]byte{0, 0x80}, 0x88, 16), nil},
		// d = 2⁻¹³⁰ has no inverse and is 0 in binary16
		{"Q8_0", block(127 * 0x1p-130), make([]byte, 34), block()},
	} {
		typ, err := ByName(c.typ)
		require.NoError(t, err)
		packed := make([]byte, len(c.packed))
		require.NoError(t, typ.Pack(packed, c.x))
		assert.Equal(t, c.packed, packed, "%s %v", c.typ, c.x)
		back := make([]float32, len(c.x))
		typ.Unpack(kernels, back, packed)
		if c.back == nil {
			c.back = c.x
		}
		assert.Equal(t, c.back, back, c.typ)
	}
}

// A number that a type cannot hold is named, wherever it stands.
func TestPackRefuses(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	largest := map[string]float32{
		"F32": math.MaxFloat32, "F16": 65519, "BF16": 0x1.fefffep127,
		"Q8_0": 127 * 65519, "Q5_0": -16 * 65519, "Q4_0": -8 * 65519,
		"Q5_1": -65519, "Q4_1": -65519, // as minimum
		"Q8_K": math.MaxFloat32 / 2, "Q6_K": 128 * 32 * 65519, "Q3_K": 32 * 4 * 65519,
		"Q5_K": -63 * 65519, "Q4_K": -63 * 65519, "Q2_K": -15 * 65519,
	}
	tooLarge := map[string]string{"F16": "6.6e+04", "BF16": "3.4e+38", "Q8_0": "8.3e+06", "Q5_1": "-6.6e+04", "Q5_0": "-1e+06", "Q4_1": "-6.6e+04", "Q4_0": "-5.2e+05",
		"Q6_K": "2.7e+08", "Q5_K": "-4.1e+06", "Q4_K": "-4.1e+06", "Q3_K": "8.4e+06", "Q2_K": "-9.8e+05"}
	eachPacking(t, func(t *testing.T, typ *Type) {
		n := 3 * typ.BlockLen
		dst := make([]byte, typ.RowBytes(n))
		for _, at := range []int{0, n / 2, n - 1} {
			pack := func(v float32) error {
				x := make([]float32, n)
				x[at] = v
				return typ.Pack(dst, x)
			}
			assert.EqualError(t, pack(nan), fmt.Sprintf("quant: element %d: NaN", at))
			assert.EqualError(t, pack(inf), fmt.Sprintf("quant: element %d: +Inf", at))
			assert.EqualError(t, pack(-inf), fmt.Sprintf("quant: element %d: -Inf", at))
			most := largest[typ.Name]
			require.NoError(t, pack(most))
			require.NoError(t, pack(-most))
			if text, ok := tooLarge[typ.Name]; ok {
				err := pack(most * 1.001)
				assert.EqualError(t, err, fmt.Sprintf("quant: element %d: %s does not fit %s", at, text, typ.Name))
				var v *ValueError
				require.True(t, errors.As(err, &v))
				assert.Equal(t, ValueError{typ.Name, at, most * 1.001}, *v)
				assert.Equal(t, text+" does not fit "+typ.Name, v.Problem())
			}
		}
	})
}

func TestPackPanicsOnLengths(t *testing.T) {
	eachType(t, func(t *testing.T, typ *Type) {
		x, b := make([]float32, 2*typ.BlockLen), make([]byte, 2*typ.BlockBytes)
		want := fmt.Sprintf("quant: %s: %d elements and %d bytes", typ.Name, len(x), len(b)-1)
		assert.PanicsWithValue(t, want, func() { typ.Unpack(kernels, x, b[1:]) })
		short := fmt.Sprintf("quant: %s: %d elements and %d bytes", typ.Name, len(x)-1, len(b))
		if typ.BlockLen > 1 {
			assert.PanicsWithValue(t, short, func() { typ.Unpack(kernels, x[1:], b) })
		}
		if typ.Pack == nil {
			return
		}
		assert.PanicsWithValue(t, want, func() { _ = typ.Pack(b[1:], x) })
		if typ.BlockLen > 1 {
			assert.PanicsWithValue(t, short, func() { _ = typ.Pack(b, x[1:]) })
		}
	})
}

// FuzzUnpack: any bytes unpack, whole and in parts alike, bit for bit; and what is
// finite can be packed and unpacked again without a further change.
func FuzzUnpack(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 1))
	for i, typ := range Types {
		b := make([]byte, 4*typ.BlockBytes)
		for range 4 {
			for j := range b {
				b[j] = byte(rng.Uint32())
			}
			f.Add(append([]byte{byte(i), byte(rng.Uint32())}, b...))
		}
	}
	f.Add(append([]byte{3, 5}, bytes.Repeat([]byte{0xff, 0x7b, 0x80, 0x80}, 17)...)) // d = 65504, q = -128
	f.Add(append([]byte{4, 1}, bytes.Repeat([]byte{1, 0}, 9)...))                    // d = 2⁻²⁴
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		if len(data) < 2 {
			return
		}
		typ, cut := Types[int(data[0])%len(Types)], data[1]
		data = data[2:]
		blocks := len(data) / typ.BlockBytes
		if blocks == 0 {
			return
		}
		data = data[:blocks*typ.BlockBytes]
		m, err := NewMatrix(typ, 1, blocks*typ.BlockLen, data)
		require.NoError(t, err)
		x := m.Dequantize(kernels)
		for _, k := range simd.All() {
			for i, v := range m.Dequantize(k) {
				same := math.Float32bits(x[i]) == math.Float32bits(v) || x[i] != x[i] && v != v
				require.True(t, same, "set %s, element %d: %g and %g", k.Name, i, x[i], v)
			}
		}
		at := int(cut) % (m.Cols + 1)
		parts := make([]float32, m.Cols)
		m.Unpack(kernels, parts[:at], 0, 0)
		m.Unpack(kernels, parts[at:], 0, at)
		for i := range x {
			require.Equal(t, math.Float32bits(x[i]), math.Float32bits(parts[i]), "cut at %d, element %d", at, i)
		}
		if typ.Pack == nil {
			return
		}
		packed := make([]byte, len(data))
		var v *ValueError
		if err := typ.Pack(packed, x); errors.As(err, &v) {
			require.Equal(t, math.Float32bits(x[v.Index]), math.Float32bits(v.Value))
			return
		}
		require.NoError(t, m.CheckFinite(kernels))
		if typ.BlockLen == 1 {
			require.Equal(t, data, packed)
		}
		if !slices.Contains(idempotent, typ.Name) {
			return
		}
		y, z := make([]float32, len(x)), make([]float32, len(x))
		typ.Unpack(kernels, y, packed)
		require.NoError(t, typ.Pack(packed, y))
		typ.Unpack(kernels, z, packed)
		require.Equal(t, y, z)
	})
}

func BenchmarkUnpack(b *testing.B) {
	for _, typ := range Types {
		b.Run("type="+typ.Name, func(b *testing.B) {
			x := make([]float32, 4096)
			packed := typ.Random(rand.New(rand.NewPCG(4, 1)), len(x)/typ.BlockLen)
			b.SetBytes(int64(4 * len(x)))
			for b.Loop() {
				typ.Unpack(kernels, x, packed)
			}
		})
	}
}

func BenchmarkPack(b *testing.B) {
	for _, typ := range Types {
		if typ.Pack == nil {
			continue
		}
		b.Run("type="+typ.Name, func(b *testing.B) {
			x := sample(rand.New(rand.NewPCG(4, 1)), 4096, 0.02)
			packed := make([]byte, typ.RowBytes(len(x)))
			b.SetBytes(int64(4 * len(x)))
			for b.Loop() {
				if err := typ.Pack(packed, x); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

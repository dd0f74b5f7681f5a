package quant

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Any part of a row is what the whole row has there, and nothing beside dst is written.
func TestMatrixUnpackAnyPart(t *testing.T) {
	eachType(t, func(t *testing.T, typ *Type) {
		rng := rand.New(rand.NewPCG(5, 1))
		const rows = 3
		cols := max(3*typ.BlockLen, 7)
		step := (cols + 95) / 96 // every part of blocks of 32
		data := typ.Random(rng, rows*typ.RowBytes(cols)/typ.BlockBytes)
		m, err := NewMatrix(typ, rows, cols, data)
		require.NoError(t, err)
		whole := m.Dequantize(kernels)
		require.Len(t, whole, rows*cols)
		for row := range rows {
			for col := 0; col <= cols; col += 1 + rng.IntN(step) {
				for n := 0; n <= cols-col; n += 1 + rng.IntN(step) {
					dst := make([]float32, n+2)
					dst[0], dst[n+1] = 77, 88
					m.Unpack(kernels, dst[1:n+1], row, col)
					same := slices.Equal(whole[row*cols+col:][:n], dst[1:n+1]) && dst[0] == 77 && dst[n+1] == 88
					require.True(t, same, "row %d, column %d, %d elements: %v", row, col, n, dst)
				}
			}
		}
		dst := make([]float32, 4)
		for _, at := range [][2]int{{-1, 0}, {rows, 0}, {0, -1}, {0, cols - 3}, {0, cols + 1}, {rows - 1, math.MaxInt}} {
			assert.Panics(t, func() { m.Unpack(kernels, dst, at[0], at[1]) }, "%v", at)
		}
	})
}

func TestNewMatrixChecks(t *testing.T) {
	q, err := ByName("Q8_0")
	require.NoError(t, err)
	_, err = NewMatrix(q, 2, 64, make([]byte, 2*68))
	assert.NoError(t, err)
	for _, c := range []struct {
		rows, cols, bytes int
		err               string
	}{
		{2, 64, 2*68 - 1, "quant: Q8_0: 2×64 in 135 bytes, want 2 rows of 68"},
		{2, 48, 2 * 51, "quant: Q8_0: 2×48, want positive numbers, and columns a multiple of 32"},
		{0, 64, 0, "quant: Q8_0: 0×64, want positive numbers, and columns a multiple of 32"},
		{2, 0, 0, "quant: Q8_0: 2×0, want positive numbers, and columns a multiple of 32"},
		{-1, 64, 0, "quant: Q8_0: -1×64, want positive numbers, and columns a multiple of 32"},
		{math.MaxInt, 128, 0, fmt.Sprintf("quant: Q8_0: %d×128 in 0 bytes, want %[1]d rows of 136", math.MaxInt)},
	} {
		_, err := NewMatrix(q, c.rows, c.cols, make([]byte, c.bytes))
		assert.EqualError(t, err, c.err)
	}
}

func TestFloat32sIsAView(t *testing.T) {
	words := []float32{1, -2, 3, 4.5}
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 16)
	f32, err := ByName("F32")
	require.NoError(t, err)
	m, err := NewMatrix(f32, 2, 2, bytes)
	require.NoError(t, err)
	view, ok := m.Float32s()
	if !littleEndian {
		require.False(t, ok)
		return
	}
	require.True(t, ok)
	assert.Equal(t, words, view)
	assert.Same(t, &words[0], &view[0])

	odd, err := NewMatrix(f32, 1, 3, append(make([]byte, 0, 16), bytes[:13]...)[1:13])
	require.NoError(t, err)
	_, ok = odd.Float32s()
	assert.False(t, ok, "not aligned")
	f16, err := ByName("F16")
	require.NoError(t, err)
	half, err := NewMatrix(f16, 1, 8, bytes)
	require.NoError(t, err)
	_, ok = half.Float32s()
	assert.False(t, ok, "not F32")
}

func TestCheckFinite(t *testing.T) {
	eachType(t, func(t *testing.T, typ *Type) {
		cols := 2 * typ.BlockLen
		good := make([]byte, 2*typ.RowBytes(cols))
		m, err := NewMatrix(typ, 2, cols, good)
		require.NoError(t, err)
		require.NoError(t, m.CheckFinite(kernels))
		// All bits of the last block: NaN in F32, F16, BF16, and as a scale, where it has NaN.
		for i := len(good) - typ.BlockBytes; i < len(good); i++ {
			good[i] = 0xff
		}
		want := "NaN"
		switch typ.Name {
		case "MXFP4": // the largest scale
			want = "-Inf"
		case "NVFP4":
			assert.NoError(t, m.CheckFinite(kernels))
			return
		}
		assert.EqualError(t, m.CheckFinite(kernels), fmt.Sprintf("quant: element [1,%d] is %s", typ.BlockLen, want))
	})
}

// Rows and parts of whole blocks, which products ask for, cost no memory.
func TestUnpackMakesNoGarbage(t *testing.T) {
	for _, typ := range Types {
		if m, err := NewMatrix(typ, 2, 512, make([]byte, 2*typ.RowBytes(512))); assert.NoError(t, err) {
			dst := make([]float32, 256)
			assert.Zero(t, testing.AllocsPerRun(10, func() { m.Unpack(kernels, dst, 1, 256) }), typ.Name)
		}
	}
}

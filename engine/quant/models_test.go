package quant_test

import (
	"bytes"
	"math"
	"testing"

	"github.com/guardcpu/guardcpu/engine/enginetest"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/simd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func openMatrix(t *testing.T, f *gguf.File, x *gguf.Tensor) quant.Matrix {
	t.Helper()
	typ, err := quant.ByGGUF(x.Type)
	require.NoError(t, err)
	rows := 1
	for _, d := range x.Dims[1:] {
		rows *= int(d)
	}
	m, err := quant.NewMatrix(typ, rows, int(x.Dims[0]), f.Data(x))
	require.NoError(t, err)
	return m
}

// The quantised files were made by llama-quantize from the F32 file: Pack gives
// their very bytes, in every type they use, and Unpack gives the weights back
// within the error of the type.
func TestModelsOfLlamaQuantize(t *testing.T) {
	source, err := gguf.Open(enginetest.Shared(t, "models", "stories260K-f32.gguf"))
	require.NoError(t, err)
	defer source.Close()
	for name, types := range map[string]map[string]int{
		"stories260K-q8_0.gguf": {"F32": 11, "F16": 5, "Q8_0": 32},
		"stories260K-q4_0.gguf": {"F32": 11, "F16": 5, "Q4_0": 32},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := gguf.Open(enginetest.Shared(t, "models", name))
			require.NoError(t, err)
			defer f.Close()
			seen := map[string]int{}
			for i := range f.Tensors {
				x := &f.Tensors[i]
				m := openMatrix(t, f, x)
				require.NoError(t, m.CheckFinite(simd.Best()))
				s, ok := source.Tensor(x.Name)
				require.True(t, ok, x.Name)
				require.Equal(t, s.Dims, x.Dims)
				want := openMatrix(t, source, s).Dequantize(simd.Best())
				packed := make([]byte, len(m.Data))
				require.NoError(t, m.Type.Pack(packed, want))
				assert.True(t, bytes.Equal(m.Data, packed), "%s %s", x.Name, x.Type)
				got := m.Dequantize(simd.Best())
				for j := range want {
					first := j / m.Type.BlockLen * m.Type.BlockLen
					limit := quant.Bounds[m.Type.Name](want[first:first+m.Type.BlockLen], j-first) * (1 + 1e-5)
					require.True(t, math.Abs(float64(got[j])-float64(want[j])) <= limit, "%s %s: element %d is %g, was %g", x.Name, x.Type, j, got[j], want[j])
				}
				seen[m.Type.Name]++
			}
			assert.Equal(t, types, seen)
		})
	}
}

// Packing the weights of another model that was quantised elsewhere changes nothing.
func TestModelsStayAsTheyAre(t *testing.T) {
	for _, name := range []string{"tinystories656K-q8_0.gguf", "tinystories656K-q4_0.gguf"} {
		f, err := gguf.Open(enginetest.Shared(t, "models", name))
		require.NoError(t, err)
		defer f.Close()
		for i := range f.Tensors {
			m := openMatrix(t, f, &f.Tensors[i])
			packed := make([]byte, len(m.Data))
			require.NoError(t, m.Type.Pack(packed, m.Dequantize(simd.Best())))
			assert.True(t, bytes.Equal(m.Data, packed), "%s %s", f.Tensors[i].Name, m.Type.Name)
		}
	}
}

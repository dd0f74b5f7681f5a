package quant_test

import (
	"testing"

	"github.com/guardcpu/guardcpu/engine/enginetest"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
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
// their very bytes, in every type they use (F16, Q8_0, Q4_0).
func TestPackMatchesLlamaQuantize(t *testing.T) {
	source, err := gguf.Open(enginetest.Shared(t, "models", "stories260K-f32.gguf"))
	require.NoError(t, err)
	defer source.Close()
	for _, name := range []string{"stories260K-q8_0.gguf", "stories260K-q4_0.gguf"} {
		t.Run(name, func(t *testing.T) {
			f, err := gguf.Open(enginetest.Shared(t, "models", name))
			require.NoError(t, err)
			defer f.Close()
			require.Len(t, f.Tensors, len(source.Tensors))
			seen := map[string]int{}
			for i := range f.Tensors {
				x := &f.Tensors[i]
				want := openMatrix(t, f, x)
				s, ok := source.Tensor(x.Name)
				require.True(t, ok, x.Name)
				master := openMatrix(t, source, s)
				got := make([]byte, len(want.Data))
				require.NoError(t, want.Type.Pack(got, master.Dequantize()))
				assert.Equal(t, want.Data, got, "%s %s", x.Name, x.Type)
				seen[want.Type.Name]++
			}
			t.Log(seen)
		})
	}
}

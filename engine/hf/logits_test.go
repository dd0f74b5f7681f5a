package hf

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
)

// TestLogitsOfCheckpoints compares what the engine computes from an imported checkpoint with
// what plain PyTorch computes from the checkpoint itself (testdata/checkpoints.py).
func TestLogitsOfCheckpoints(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*/logits.json")
	require.NoError(t, err)
	require.NotEmpty(t, dirs)
	for _, file := range dirs {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			var want struct {
				IDs    []int32
				Logits [][]float64
			}
			require.NoError(t, json.Unmarshal(data, &want))
			f := importTo(t, dir, ImportOptions{})
			m, err := engine.Load(f, engine.Options{Threads: 1, Compute: nn.ComputeF32})
			require.NoError(t, err)
			s := m.NewSession(1)
			require.Len(t, want.Logits, len(want.IDs))
			for i, row := range want.Logits {
				got, err := s.Feed([]engine.Feed{{IDs: want.IDs[i : i+1]}})
				require.NoError(t, err)
				require.Equal(t, len(row), got.Cols)
				for c, x := range row {
					// Logits are of the size of 1 to 10 and some hundred float32 roundings deep.
					if y := float64(got.Data[c]); !(math.Abs(y-x) <= 2e-5*(1+math.Abs(x))) {
						t.Fatalf("logits[%d,%d] is %g, want %g", i, c, y, x)
					}
				}
			}
		})
	}
}

// TestCheckpointsComeBack takes the same checkpoints into a GGUF file and out again: the names, the shapes and
// the numbers are those PyTorch wrote; 1+w in float32 costs half a unit of the last place of 2.
func TestCheckpointsComeBack(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*/model.safetensors")
	require.NoError(t, err)
	require.NotEmpty(t, dirs)
	for _, file := range dirs {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			f := importTo(t, dir, ImportOptions{})
			for _, like := range []string{"", dir} {
				if like == "" && filepath.Base(dir) == "llama" {
					continue // its scaling of the rotary embedding is not one of Llama's own: only --like knows it
				}
				want, err := Open(dir)
				require.NoError(t, err)
				defer want.Close()
				got, err := Open(export(t, f, ExportOptions{Like: like}))
				require.NoError(t, err)
				defer got.Close()
				require.Len(t, got.arrays, len(want.arrays))
				for _, a := range want.arrays {
					i, ok := got.find(a.name)
					require.True(t, ok, a.name)
					b := got.arrays[i]
					require.Equal(t, a.shape, b.shape, a.name)
					if like != "" {
						require.Equal(t, a.dtype, b.dtype, a.name)
					}
					x, y := numbersOf(t, &a), numbersOf(t, &b)
					for i := range x {
						if !(math.Abs(float64(y[i])-float64(x[i])) <= 0x1p-24) {
							t.Fatalf("%s[%d] is %g, want %g", a.name, i, y[i], x[i])
						}
					}
				}
			}
		})
	}
}

// numbersOf unpacks an array.
func numbersOf(t *testing.T, a *array) []float32 {
	t.Helper()
	dims := slices.Clone(a.shape)
	slices.Reverse(dims)
	m, err := matrixOf(floats[a.dtype], dims, a.data)
	require.NoError(t, err)
	return m.Dequantize(testCtx().K)
}

package hf

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
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

package engine_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
)

// logitsOf returns the logits after every token of the batch.
func logitsOf(m *engine.Model, tr *engine.Trace) nn.Mat {
	rows := make([]int, tr.NRows())
	for i := range rows {
		rows[i] = i
	}
	out := nn.NewMat(tr.NRows(), m.Config.NVocab)
	tr.Losses(rows, func(c *engine.Chunk) {
		c.Each(func(i int, logits []float32) float64 { copy(out.Row(i), logits); return 0 })
	})
	return out
}

// openArch opens a tiny model of the architecture with matrices of the type.
func openArch(t *testing.T, arch, typeName string) *engine.Model {
	s := tiny.Shape(arch)
	s.DModel, s.DHead, s.DFF = 32, 8, 32 // whole blocks
	return retyped(t, tiny.Open(t, s, engine.Options{}), typeName)
}

// retyped opens a copy of m with matrices of another type.
func retyped(t *testing.T, m *engine.Model, typeName string) *engine.Model {
	typ, err := quant.ByName(typeName)
	require.NoError(t, err)
	o := engine.ExportOptions{Types: map[string]*quant.Type{}}
	for _, p := range m.Params() {
		if p.Rows > 1 {
			tensor, _, _ := strings.Cut(p.Name, "[") // of an expert
			o.Types[tensor] = typ
		}
	}
	path := filepath.Join(t.TempDir(), typeName+".gguf")
	require.NoError(t, m.Export(path, o))
	return open(t, path)
}

// The gradients of adapters on frozen weights of every architecture, in a few types, are those on
// the same numbers in float32, which TestGradientOfTheWholeModel has checked.
func TestArchitecturesPassGradientsThroughPackedWeights(t *testing.T) {
	for _, arch := range tinyArchs {
		for _, name := range []string{"F16", "Q8_0", "Q4_0"} {
			packed := openArch(t, arch, name)
			plain := retyped(t, packed, "F32")
			samples := tiny.Samples(4, 12, 5)
			adapt(t, packed, "blk.*.weight", "token_embd.weight")
			adapt(t, plain, "blk.*.weight", "token_embd.weight")
			got, losses := gradients(packed, samples, ones, nil)
			want, plainLosses := gradients(plain, samples, ones, nil)
			require.InDeltaSlice(t, plainLosses, losses, 1e-4, "%s %s", arch, name)
			require.Positive(t, want.Norm())
			for i, p := range want.Params() {
				a, b := want.Of(p), got.Of(got.Params()[i])
				for j := range a {
					require.InDelta(t, a[j], b[j], 1e-4*want.Norm(), "%s %s: %s", arch, name, p.Name)
				}
			}
		}
	}
}

// Every architecture in a few weight types learns a batch by heart, and what is written then gives,
// when it is opened again, the logits of the trained weights rounded to that type, bit for
// bit: those of float32 as they were.
func TestArchitecturesLearnAndAreWritten(t *testing.T) {
	for _, arch := range tinyArchs {
		for _, name := range []string{"F32", "BF16", "Q8_0"} {
			t.Run(arch+"/"+name, func(t *testing.T) {
				m := openArch(t, arch, name)
				m.TrainFull()
				samples := tiny.Samples(4, 12, 11)
				require.NoError(t, engine.Finetune(context.Background(), m, samples, finetuneOptions(0.02, 60), engine.FinetuneHooks{}))
				assert.Less(t, meanNLL(t, m, samples), 0.02)

				out := filepath.Join(t.TempDir(), "out.gguf")
				require.NoError(t, m.Export(out, engine.ExportOptions{}))
				back := open(t, out)
				for i, p := range m.Params() {
					require.Equal(t, p.Stored.Type, back.Params()[i].Stored.Type, p.Name)
					packed := make([]byte, p.Stored.Type.BlockBytes*(p.Len()/p.Stored.Type.BlockLen))
					require.NoError(t, p.Stored.Type.Pack(packed, p.F32))
					p.Stored.Type.Unpack(m.Ctx.K, p.F32, packed)
				}
				if name != "F32" {
					back.TrainFull() // packed weights sum a few rows in another order
				}
				got, want := back.NewTrace(), m.NewTrace()
				got.Forward(samples)
				want.Forward(samples)
				require.Equal(t, logitsOf(m, want).Data, logitsOf(back, got).Data) // fails on NaN
			})
		}
	}
}

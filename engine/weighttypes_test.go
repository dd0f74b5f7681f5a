package engine_test

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
)

// openTyped opens a tiny llama whose matrices are random blocks of the type.
func openTyped(t *testing.T, typ *quant.Type) *engine.Model {
	s := tiny.Shape("llama")
	s.DModel, s.DFF, s.NLayers = 256, 256, 1
	source := tiny.Open(t, s, engine.Options{})
	rng := rand.New(rand.NewPCG(1, uint64(typ.GGUF)))
	var replace []gguf.TensorData
	for _, p := range source.Params() {
		if p.Rows > 1 {
			replace = append(replace, gguf.TensorData{Name: p.Name, Type: typ.GGUF, Bytes: func() ([]byte, error) {
				return typ.Random(rng, p.Len()/typ.BlockLen), nil
			}})
		}
	}
	path := filepath.Join(t.TempDir(), "packed.gguf")
	require.NoError(t, gguf.Rewrite(path, source.File, nil, replace))
	return open(t, path)
}

func open(t *testing.T, path string) *engine.Model {
	m, err := engine.Open(path, engine.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

func eachWeightType(t *testing.T, f func(t *testing.T, typ *quant.Type)) {
	for _, typ := range quant.Types {
		t.Run(typ.Name, func(t *testing.T) { f(t, typ) })
	}
}

// A frozen weight of any type gives the bits of its numbers in a trace: losses, and gradients
// of adapters, which pass through it. A session, which multiplies it as it lies, gives
// the same logits up to the order of sums.
func TestWeightsOfEveryType(t *testing.T) {
	eachWeightType(t, func(t *testing.T, typ *quant.Type) {
		packed := openTyped(t, typ)
		f32 := map[string]*quant.Type{}
		for _, p := range packed.Params() {
			if p.Rows > 1 {
				f32[p.Name] = quant.Types[0]
				require.Equal(t, typ.GGUF, p.Stored.Type.GGUF, p.Name)
				require.True(t, p.F32 == nil, p.Name)
			}
		}
		path := filepath.Join(t.TempDir(), "plain.gguf")
		require.NoError(t, packed.Export(path, engine.ExportOptions{Types: f32}))
		plain := open(t, path)

		prompts := [][]int32{{1, 5, 9, 11}, {1, 20}}
		var logits [2][]float32
		for i, m := range []*engine.Model{packed, plain} {
			s := m.NewSession(len(prompts))
			for pos := range prompts[0] {
				var feeds []engine.Feed
				for seq, ids := range prompts {
					if pos < len(ids) {
						feeds = append(feeds, engine.Feed{Seq: seq, IDs: ids[pos : pos+1]})
					}
				}
				out, err := s.Feed(feeds)
				require.NoError(t, err)
				for r := range out.Rows {
					logits[i] = append(logits[i], out.Row(r)...)
				}
			}
		}
		scale := 0.0
		for _, v := range logits[1] {
			scale = max(scale, math.Abs(float64(v)))
		}
		for i, v := range logits[1] {
			d := math.Abs(float64(v) - float64(logits[0][i]))
			require.True(t, d <= 1e-4*scale, "logit %d: %g, of float32 %g", i, logits[0][i], v)
		}

		samples := tiny.Samples(8, 24, 1) // more rows than are few for any type
		adapt(t, packed, "blk.*.weight", "token_embd.weight")
		adapt(t, plain, "blk.*.weight", "token_embd.weight")
		got, loss := gradients(packed, samples, ones, nil)
		want, plainLoss := gradients(plain, samples, ones, nil)
		require.Equal(t, plainLoss, loss)
		require.Positive(t, want.Norm())
		for i, p := range want.Params() {
			require.True(t, slices.Equal(want.Of(p), got.Of(got.Params()[i])), p.Name)
		}
	})
}

// What training may change must have a type that is written: another one has to be named
// for those that are only read, and it is said before the work.
func TestTrainingOfEveryType(t *testing.T) {
	q8, err := quant.ByName("Q8_0")
	require.NoError(t, err)
	samples := tiny.Samples(4, 12, 1)
	eachWeightType(t, func(t *testing.T, typ *quant.Type) {
		m := openTyped(t, typ)
		path := filepath.Join(t.TempDir(), "out.gguf")
		for _, lora := range []bool{true, false} {
			if lora {
				require.NoError(t, m.TrainLoRA(engine.LoRAOptions{Rank: 2, Alpha: 2, Targets: []string{"blk.0.ffn_*.weight"}}))
			} else {
				m.TrainFull()
			}
			first := map[bool]string{true: "blk.0.ffn_gate.weight", false: "token_embd.weight"}[lora]
			o := engine.ExportOptions{}
			if typ.Pack == nil {
				readOnly := "engine: " + first + ": weights of " + typ.Name + " can be read, not written"
				require.EqualError(t, m.CheckExport(o), readOnly)
				if lora {
					require.NoError(t, m.Export(path, o), "nothing has changed yet")
				}
				o.Type = q8
			}
			require.NoError(t, m.CheckExport(o))
			if lora {
				require.NoError(t, engine.Finetune(context.Background(), m, samples, finetuneOptions(0.05, 2), engine.FinetuneHooks{}))
			} else {
				p, err := m.Param("blk.0.attn_q.weight")
				require.NoError(t, err)
				p.F32[0]++
			}
			if typ.Pack == nil {
				require.ErrorContains(t, m.Export(path, engine.ExportOptions{}), "weights of "+typ.Name+" can be read, not written")
			}
			require.NoError(t, m.Export(path, o))
			back := open(t, path)
			changed := 0
			for i, p := range back.Params() {
				old := m.Params()[i]
				switch {
				case p.Rows == 1:
				case p.Stored.Type == typ && string(p.Stored.Data) == string(old.Stored.Data):
				case o.Type == nil:
					assert.Equal(t, typ, p.Stored.Type, p.Name)
					changed++
				default:
					assert.Equal(t, q8, p.Stored.Type, p.Name)
					changed++
				}
			}
			assert.Positive(t, changed)
			assert.Less(t, changed, 5, "a matrix that is as it was keeps its bytes")
			assert.InEpsilon(t, meanNLL(t, m, samples), meanNLL(t, back, samples), 0.25) // 2 bits are coarse
		}
	})
}

func TestExportNeedsWholeBlocks(t *testing.T) {
	q8, err := quant.ByName("Q8_0")
	require.NoError(t, err)
	m := tiny.Open(t, tiny.Shape("llama"), engine.Options{})
	m.TrainFull()
	assert.EqualError(t, m.CheckExport(engine.ExportOptions{Type: q8}), `engine: tensor "token_embd.weight" has 16 columns, want a multiple of 32 for Q8_0`)
}

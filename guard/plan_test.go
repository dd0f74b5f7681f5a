package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
)

// planned opens a model of 12 blocks, 0.8 MiB each.
func planned(t testing.TB, tied bool) *engine.Model {
	s := tiny.Shape("llama")
	s.NLayers, s.DModel, s.DFF, s.NHeads, s.NKVHeads, s.Tied, s.Std = 12, 128, 384, 4, 4, tied, 0.05
	m := tiny.Open(t, s, engine.Options{Threads: 2})
	m.DifferentiateAll()
	return m
}

// Whatever the budget, the plan keeps to it, or the error names the smallest that would do. More memory
// never divides the work further.
func TestPlansKeepToTheirBudget(t *testing.T) {
	m, d := planned(t, true), Data{Forget: tiny.Samples(9, 60, 1), Retain: tiny.Samples(20, 60, 2)}
	for _, dir := range []string{"", "spill"} {
		for _, subset := range []int{0, 8} {
			o := DefaultScoreOptions()
			o.SpillDir, o.RetainSamples, o.Groups = dir, subset, 2
			all, err := PlanAttribution(m, d.Retain, d.Forget, o)
			require.NoError(t, err)
			require.False(t, all.Streamed())
			require.Less(t, all.Smallest, all.Peak)
			last, ways := 1<<30, map[int]bool{}
			for i := range 101 {
				o.Memory = all.Smallest + uint64(i)*(all.Peak-all.Smallest)/100
				p, err := PlanAttribution(m, d.Retain, d.Forget, o)
				require.NoError(t, err)
				require.LessOrEqual(t, p.Peak, o.Memory)
				require.LessOrEqual(t, p.Smallest, p.Peak)
				sum := uint64(0)
				for _, b := range p.Buffers {
					sum += b.Bytes
				}
				require.Equal(t, p.Peak, sum)
				if p.BatchTokens == o.BatchTokens {
					n := len(p.Chunks) // 0: no stream
					require.LessOrEqual(t, n, last, "%d bytes", o.Memory)
					last, ways[n] = n, true
				}
			}
			require.Zero(t, last, "no stream where everything fits")
			require.Greater(t, len(ways), 4, "chunks of many lengths")
			o.Memory = all.Smallest - 1
			_, err = PlanAttribution(m, d.Retain, d.Forget, o)
			var short *MemoryError
			require.ErrorAs(t, err, &short)
			assert.Equal(t, MemoryError{m.File.Name, all.Smallest - 1, all.Smallest}, *short)
			_, err = Attribute(context.Background(), m, d.Retain, d.Forget, o, nil)
			assert.ErrorAs(t, err, &short)
		}
	}
}

// The plan's memory is what attribution then holds, less what garbage there may be, and its spill the
// size of the files at most.
func TestPlanIsWhatAttributionTakes(t *testing.T) {
	d := Data{Forget: tiny.Samples(12, 60, 1), Retain: tiny.Samples(30, 60, 2)}
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	for _, c := range []struct {
		blocks, subset int
		tied, files    bool
	}{{blocks: 0}, {blocks: 0, subset: 20}, {blocks: 12}, {blocks: 4, tied: true}, {blocks: 4, files: true}, {blocks: 2, subset: 20}, {blocks: 1, files: true, tied: true}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			if testing.Short() && c.blocks != 4 {
				t.Skip("seconds each")
			}
			m := planned(t, c.tied)
			o := DefaultScoreOptions()
			o.ChunkBlocks, o.RetainSamples, o.Groups = c.blocks, c.subset, 3
			if c.files {
				o.SpillDir = filepath.Join(t.TempDir(), "spill")
			}
			before := heap()
			var held, files uint64
			calls := 0
			a, err := Attribute(context.Background(), m, d.Retain, d.Forget, o, func(int, int) {
				if calls++; calls%2 == 0 {
					held = max(held, heap()-before)
				}
				if c.files {
					files = max(files, size(t, o.SpillDir))
				}
			})
			require.NoError(t, err)
			plan := a.Plan
			want := plan.Heap() - runtimeBytes - m.HeldWeights()
			assert.LessOrEqual(t, held, want+6<<20, "%+v", plan.Buffers) // scratch of products is the runtime's
			assert.Greater(t, float64(held), 0.8*float64(want), "%+v", plan.Buffers)
			assert.LessOrEqual(t, files, plan.Spill)
			if c.files && !c.tied { // that of a tied embedding comes after the last call
				assert.Equal(t, plan.Spill, files)
			}
		})
	}
}

func size(t *testing.T, dir string) (n uint64) {
	entries, err := os.ReadDir(dir)
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		n += uint64(info.Size())
	}
	return n
}

// A stream runs the blocks forwards once more, and nothing else, if no embedding is tied.
func TestPlannedFlops(t *testing.T) {
	d := Data{Forget: tiny.Samples(12, 60, 1), Retain: tiny.Samples(30, 60, 2)}
	tokens, targets := [2]float64{}, [2]float64{}
	for i, set := range [][]engine.Sample{d.Retain, d.Forget} {
		for _, s := range set {
			tokens[i] += float64(len(s.IDs))
			targets[i] += float64(s.NTargets())
		}
	}
	m := planned(t, false)
	o := DefaultScoreOptions()
	whole, err := PlanAttribution(m, d.Retain, d.Forget, o)
	require.NoError(t, err)
	const head = tiny.NVocab * 128
	blocks := float64(12 * (4*128*128 + 3*128*384 + 2*128))
	assert.Equal(t, []AttributionPhase{
		{Name: "retain", Flops: 6 * (blocks*tokens[0] + head*targets[0]), Weights: m.MappedWeights()},
		{Name: "forget", Flops: 6 * (blocks*tokens[1] + head*targets[1]), Weights: m.MappedWeights()},
	}, whole.Phases)
	for n := 1; n <= 12; n++ {
		o.ChunkBlocks = n
		p, err := PlanAttribution(m, d.Retain, d.Forget, o)
		require.NoError(t, err)
		near(t, whole.Flops()+2*blocks*(tokens[0]+tokens[1]), p.Flops(), 1e-9*whole.Flops(), fmt.Sprint(n, " blocks"))
		read := uint64(0)
		for _, ph := range p.Phases {
			read += ph.Weights
		}
		assert.LessOrEqual(t, read, 2*m.MappedWeights()+m.MappedWeights()/4, "weights are read twice")
	}
}

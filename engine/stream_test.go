package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/engine/quant"
)

// streamBatches are three batches in two groups, and two that are scored.
func streamBatches() (batches []engine.StreamBatch) {
	for i, group := range []int{0, 0, 1, engine.Scored, engine.Scored} {
		samples := tiny.Samples(3, 12, uint64(i))
		batches = append(batches, engine.StreamBatch{Group: group, Term: engine.Term{
			Name: fmt.Sprint("batch ", i), Samples: samples,
			Loss: func(t *engine.Trace) ([]int, engine.LossFunc) {
				targets := t.Targets()
				coef := make([]float32, len(targets))
				for i := range coef {
					coef[i] = 0.1
				}
				return t.CrossEntropy(targets, coef)
			},
		}})
	}
	return batches
}

func streamOptions(dir string) engine.StreamOptions {
	return engine.StreamOptions{Shares: []float64{0.75, 0.25}, Blocks: 2, Spill: engine.SpillBF16, Dir: dir, Key: "the work"}
}

// openStream opens a model that is streamed in 9 stages.
func openStream(t *testing.T, arch string) *engine.Model {
	s := tiny.Shape(arch)
	s.NLayers = 6
	m := tiny.Open(t, s, engine.Options{Threads: 2})
	m.DifferentiateAll()
	return m
}

// stopAt returns a context that ends when the n-th batch of all stages is done, counted from 1.
func stopAt(n int) (context.Context, engine.Progress) {
	ctx, cancel := context.WithCancel(context.Background())
	return ctx, func(int, int) {
		if n--; n == 0 {
			cancel()
		}
	}
}

// files are the names in dir.
func files(t *testing.T, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Stopped after any batch, a stream goes on from the last stage that it had done, and ends with the same bits.
func TestStreamGoesOn(t *testing.T) {
	for _, arch := range []string{"llama", "gpt2"} {
		m, batches := openStream(t, arch), streamBatches()
		o := streamOptions("")
		o.Key = ""
		calls := 0
		want, err := m.Stream(context.Background(), batches, o, func(int, int) { calls++ })
		require.NoError(t, err)
		require.Equal(t, 8*len(batches), calls, "3 stages forwards, the head, 3 backwards, the embedding")
		for n := 1; n < calls; n++ {
			dir := filepath.Join(t.TempDir(), "spill")
			ctx, progress := stopAt(n)
			_, err := m.Stream(ctx, batches, streamOptions(dir), progress)
			require.ErrorIs(t, err, context.Canceled)
			o := streamOptions(dir)
			var notes []string
			o.Note = func(text string) { notes = append(notes, text) }
			again := 0
			got, err := m.Stream(context.Background(), batches, o, func(int, int) { again++ })
			require.NoError(t, err)
			require.Equal(t, want, got, "%s, stopped after %d batches", arch, n)
			done := n / len(batches) * len(batches)
			require.Equal(t, calls-done, again, "%s, stopped after %d batches", arch, n)
			require.Len(t, notes, min(1, done), "%v", notes)
			require.Equal(t, []string{"stream.json"}, files(t, dir), "the spills are gone")
			safe, err := m.Stream(context.Background(), batches, o, func(int, int) { t.Error("all is done") })
			require.NoError(t, err)
			require.Equal(t, want, safe)
			require.NoError(t, engine.RemoveStream(dir))
			require.NoDirExists(t, dir)
		}
	}
}

// What is left of a stream is used only if it is whole and of the same work; else it begins anew. A
// flipped bit is never read as a number.
func TestStreamOfDamagedSpills(t *testing.T) {
	m, batches := openStream(t, "llama"), streamBatches()
	rng := rand.New(rand.NewPCG(1, 2))
	flip := func(t *testing.T, path string) {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
		require.NoError(t, os.WriteFile(path, data, 0o600))
	}
	want, err := m.Stream(context.Background(), batches, streamOptions(t.TempDir()), nil)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		harm func(t *testing.T, dir string)
		key  string
		note string
	}{
		"record flipped": {harm: func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "stream.json")) }, note: "stream.json is damaged"},
		"record cut": {harm: func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, "stream.json"), 100))
		}, note: "stream.json is damaged"},
		"record empty":     {harm: func(t *testing.T, dir string) { require.NoError(t, os.Truncate(filepath.Join(dir, "stream.json"), 0)) }, note: "stream.json is damaged"},
		"input flipped":    {harm: func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "h2")) }, note: "spill h2 is damaged"},
		"gradient flipped": {harm: func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "dh6")) }, note: "spill dh6 is damaged"},
		"tied flipped":     {harm: func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "tied")) }, note: "spill tied is damaged"},
		"input cut":        {harm: func(t *testing.T, dir string) { require.NoError(t, os.Truncate(filepath.Join(dir, "h4"), 64)) }, note: "spill: "},
		"input gone":       {harm: func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "h4"))) }, note: "a file of it is missing"},
		"other work":       {key: "other work", note: "another model, other data or other options"},
	} {
		t.Run(name, func(t *testing.T) {
			for range 4 {
				dir := t.TempDir()
				ctx, progress := stopAt(4*len(batches) + 2) // in the first stage backwards
				_, err := m.Stream(ctx, batches, streamOptions(dir), progress)
				require.ErrorIs(t, err, context.Canceled)
				require.Equal(t, []string{"dh6", "h2", "h4", "h6", "stream.json", "tied"}, files(t, dir))
				o, note, again := streamOptions(dir), "", 0
				if c.harm != nil {
					c.harm(t, dir)
				}
				if c.key != "" {
					o.Key = c.key
				}
				o.Note = func(text string) { note = text }
				got, err := m.Stream(context.Background(), batches, o, func(int, int) { again++ })
				require.NoError(t, err)
				require.Equal(t, want, got)
				require.Equal(t, 8*len(batches), again, "it begins anew")
				require.Contains(t, note, c.note)
			}
		})
	}
}

// Nothing is left where no resume is wanted, and only the owner may read what is there.
func TestStreamFiles(t *testing.T) {
	m, batches := openStream(t, "llama"), streamBatches()
	dir := filepath.Join(t.TempDir(), "a", "spill")
	o := streamOptions(dir)
	o.Key = ""
	ctx, cancel := context.WithCancel(context.Background())
	calls := 0
	_, err := m.Stream(ctx, batches, o, func(int, int) {
		if calls++; calls == 4*len(batches)+2 {
			for _, name := range files(t, dir) {
				info, err := os.Stat(filepath.Join(dir, name))
				require.NoError(t, err)
				assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), name)
			}
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	require.NoDirExists(t, dir)

	require.NoError(t, os.Mkdir(dir, 0o700))
	other := filepath.Join(dir, "notes")
	require.NoError(t, os.WriteFile(other, nil, 0o600))
	_, err = m.Stream(context.Background(), batches, o, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{"notes"}, files(t, dir), "files of others stay")

	_, err = m.Stream(context.Background(), batches, streamOptions(other), nil)
	assert.ErrorContains(t, err, "engine: spill: mkdir")
}

// A stream over weights of any type gives what Trace, Accumulate and Dot give on the same batches. The
// output is tied to the embedding, so that sums of its G have another order.
func TestStreamOfEveryType(t *testing.T) {
	eachWeightType(t, func(t *testing.T, typ *quant.Type) {
		m := openTyped(t, typ)
		m.DifferentiateAll()
		batches := streamBatches()
		o := streamOptions("")
		o.Key, o.Spill = "", engine.SpillF32
		got, err := m.Stream(context.Background(), batches, o, nil)
		require.NoError(t, err)

		groups := []*engine.Grads{engine.NewGrads(m), engine.NewGrads(m)}
		trace := m.NewTrace()
		for i, b := range batches {
			trace.Forward(b.Samples)
			rows, f := b.Loss(trace)
			if b.Group != engine.Scored {
				assert.Equal(t, trace.Backward(rows, f, engine.NewAccumulate(groups[b.Group])), got.Losses[i])
				continue
			}
			dots := engine.Tee{engine.NewDot(groups[0], len(b.Samples)), engine.NewDot(groups[1], len(b.Samples))}
			assert.Equal(t, trace.Backward(rows, f, dots), got.Losses[i])
			for k, dot := range dots {
				for j, want := range dot.(*engine.Dot).Scores {
					x := got.Scores[i][k][j]
					require.True(t, math.Abs(x-want) <= 1e-6*groups[k].Norm()*got.Norm, "score %d by group %d: %g, want %g", j, k, x, want)
				}
			}
		}
		groups[0].Scale(0.75)
		for _, p := range groups[0].Params() {
			m.Ctx.K.Axpy(groups[0].Of(p), 0.25, groups[1].Of(p))
		}
		want := groups[0].Norm()
		require.True(t, math.Abs(got.Norm-want) <= 1e-6*want, "norm %g, want %g", got.Norm, want)
	})
}

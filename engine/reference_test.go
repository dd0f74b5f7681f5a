package engine_test

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/internal/mutate"
)

// places are all positions of the samples, and the rows of a trace that holds them.
func places(tr *engine.Trace, samples []engine.Sample) (at []engine.Place, rows []int) {
	for s, sample := range samples {
		for pos := range sample.IDs {
			rows, at = append(rows, tr.Start(s)+pos), append(at, engine.Place{Sample: s, Pos: pos})
		}
	}
	return at, rows
}

// The reference gives the logits of the moment it was made, bit for bit, also after training.
func TestReferenceKeepsTheLogits(t *testing.T) {
	for _, arch := range tinyArchs {
		for _, file := range []string{"", filepath.Join(t.TempDir(), "reference")} {
			m := tiny.Open(t, tiny.Shape(arch), engine.Options{})
			if file == "" {
				m.Ctx.Compute = nn.ComputeBF16
				m.TrainFull()
			} else {
				adapt(t, m, "*.weight")
			}
			samples := tiny.Samples(4, 10, 3)
			tr := m.NewTrace()
			tr.Forward(samples)
			at, rows := places(tr, samples)
			want := nn.NewMat(len(rows), m.Config.NVocab)
			tr.Losses(rows, func(c *engine.Chunk) {
				c.Each(func(i int, logits []float32) float64 { copy(want.Row(i), logits); return 0 })
			})
			r, err := m.NewReference(context.Background(), samples, engine.ReferenceOptions{File: file})
			require.NoError(t, err)
			require.NoError(t, engine.Finetune(context.Background(), m, samples, finetuneOptions(0.01, 2), engine.FinetuneHooks{}))
			got, err := r.Logits(at)
			require.NoError(t, err)
			assert.Equal(t, want.Data, got.Data, arch)
			got, err = r.Logits(at[4:]) // into the memory of the last call
			require.NoError(t, err)
			assert.Equal(t, want.Data[4*want.Cols:], got.Data, arch)
			require.NoError(t, r.Close())
		}
	}
}

// many is enough for several batches of a reference.
func many() []engine.Sample { return tiny.Samples(140, 40, 3) }

// makeReference makes or opens one, and returns what its file holds afterwards, and its notes.
func makeReference(t *testing.T, m *engine.Model, o engine.ReferenceOptions) (file []byte, notes []string) {
	t.Helper()
	o.Note = func(text string) { notes = append(notes, text) }
	r, err := m.NewReference(context.Background(), many(), o)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	file, err = os.ReadFile(o.File)
	require.NoError(t, err)
	return file, notes
}

func eachForm(t *testing.T, f func(t *testing.T, form engine.ReferenceForm)) {
	for _, form := range []engine.ReferenceForm{engine.ReferenceHidden, engine.ReferenceHidden16, "topk:5", "topk:1000"} {
		t.Run(string(form), func(t *testing.T) { f(t, form) })
	}
}

// A file is used again, and only where it is the same model, samples, form and key.
func TestReferenceFileIsUsedAgain(t *testing.T) {
	eachForm(t, func(t *testing.T, form engine.ReferenceForm) {
		m := open(t, tiny.Path(t, tiny.Shape("llama")))
		adapt(t, m, "*.weight")
		o := engine.ReferenceOptions{Form: form, File: filepath.Join(t.TempDir(), "reference"), Key: "one"}
		want, notes := makeReference(t, m, o)
		assert.Empty(t, notes)
		rows := 0
		for _, s := range many() {
			rows += len(s.IDs)
		}
		assert.Greater(t, rows, 2048, "several batches")
		assert.Equal(t, rows*form.Bytes(&m.Config), len(want)-(8+4+4+32+8*((rows+1023)/1024)), "no more than records, marks and a head")
		if runtime.GOOS != "windows" {
			info, err := os.Stat(o.File)
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		}

		norm, err := m.Param("output_norm.weight") // of which the file knows nothing: what is made anew would differ
		require.NoError(t, err)
		norm.F32[0] *= 3
		got, notes := makeReference(t, m, o)
		assert.Equal(t, want, got)
		assert.Empty(t, notes)

		other := o
		other.Key = "two"
		got, notes = makeReference(t, m, other)
		assert.NotEqual(t, want, got)
		foreign := []string{o.File + " is the reference of another model, of other data or in another form: it is made anew"}
		assert.Equal(t, foreign, notes)
		norm.F32[0] /= 3
		got, notes = makeReference(t, m, o)
		assert.Equal(t, want, got)
		assert.Equal(t, foreign, notes)
		m.Trainable()[0].F32[7] += 1e-3
		got, notes = makeReference(t, m, o)
		assert.NotEqual(t, want, got, "another state of training")
		assert.Equal(t, foreign, notes)
	})
}

// Whatever is cut off or turned round in the file, the reference is what it was.
func TestDamagedReferencesAreMadeAnew(t *testing.T) {
	m := open(t, tiny.Path(t, tiny.Shape("llama")))
	adapt(t, m, "*.weight")
	o := engine.ReferenceOptions{File: filepath.Join(t.TempDir(), "reference")}
	want, _ := makeReference(t, m, o)
	rng := rand.New(rand.NewPCG(1, 2))
	noted := 0
	for i := range 60 {
		bad := append([]byte{}, want...)
		if i%3 == 0 {
			bad = bad[:8+rng.IntN(len(bad)-8)]
		} else {
			bad[8+rng.IntN(len(bad)-8)] ^= 1 << rng.IntN(8)
			if i%3 == 1 {
				bad[8+rng.IntN(60)] ^= 1 << rng.IntN(8) // the head and the marks
			}
		}
		require.NoError(t, os.WriteFile(o.File, bad, 0o600))
		got, notes := makeReference(t, m, o)
		require.Equal(t, want, got, "%d", i)
		noted += len(notes)
	}
	assert.GreaterOrEqual(t, noted, 50, "a mark that is gone is no damage, all else is said")
}

// A making that is stopped goes on where it was.
func TestReferenceGoesOn(t *testing.T) {
	eachForm(t, func(t *testing.T, form engine.ReferenceForm) {
		m := open(t, tiny.Path(t, tiny.Shape("mixtral")))
		o := engine.ReferenceOptions{Form: form, File: filepath.Join(t.TempDir(), "reference")}
		want, _ := makeReference(t, m, o)
		require.NoError(t, os.Remove(o.File))
		ctx, stop := context.WithCancel(context.Background())
		calls := 0
		o.Progress = func(int, int) {
			if calls++; calls == 2 {
				stop()
			}
		}
		_, err := m.NewReference(ctx, many(), o)
		require.ErrorIs(t, err, context.Canceled)
		half, err := os.ReadFile(o.File)
		require.NoError(t, err)
		assert.NotEqual(t, want, half)
		norm, err := m.Param("output_norm.weight")
		require.NoError(t, err)
		norm.F32[0] *= 3
		mixed, notes := makeReference(t, m, o)
		assert.Empty(t, notes)
		norm.F32[0] /= 3
		start, section := len(want)-len(mixed), 2*1000*form.Bytes(&m.Config)
		assert.Zero(t, start)
		assert.Equal(t, want[100:section], mixed[100:section], "the first two batches were not made again")
		assert.NotEqual(t, want, mixed, "the others were")

		require.NoError(t, os.WriteFile(o.File, half, 0o600))
		got, _ := makeReference(t, m, o)
		assert.Equal(t, want, got)
	})
}

func TestFilesThatAreNoReference(t *testing.T) {
	m := open(t, tiny.Path(t, tiny.Shape("llama")))
	dir := t.TempDir()
	path := filepath.Join(dir, "mine")
	require.NoError(t, os.WriteFile(path, []byte("my diary"), 0o600))
	_, err := m.NewReference(context.Background(), many(), engine.ReferenceOptions{File: path})
	assert.EqualError(t, err, "engine: "+path+" is no file of a reference, and is not replaced by one")
	left, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "my diary", string(left))
	_, err = m.NewReference(context.Background(), many(), engine.ReferenceOptions{File: dir})
	assert.EqualError(t, err, "engine: the reference: "+dir+" is no regular file")
	_, err = m.NewReference(context.Background(), many(), engine.ReferenceOptions{File: filepath.Join(dir, "none", "x")})
	assert.ErrorIs(t, err, os.ErrNotExist)
	for _, form := range []engine.ReferenceForm{"full", "topk", "topk:", "topk:0", "topk:-1", "topk:07", "topk:99999999999999999999"} {
		_, err = m.NewReference(context.Background(), many(), engine.ReferenceOptions{Form: form})
		assert.EqualError(t, err, `engine: a reference of the form "`+string(form)+`" is not known; there are hidden, hidden16, and topk:K with a number K`)
		_, err = engine.ParseReferenceForm(string(form))
		assert.Error(t, err)
	}
}

// FuzzReferenceFile: whatever lies where a reference is kept, it is refused and stays, or becomes the reference.
func FuzzReferenceFile(f *testing.F) {
	path := filepath.Join(f.TempDir(), "tiny.gguf")
	require.NoError(f, engine.Create(path, tiny.Shape("llama")))
	m, err := engine.Open(path, engine.Options{Threads: 1})
	require.NoError(f, err)
	f.Cleanup(func() { m.Close() })
	samples := tiny.Samples(3, 6, 2)
	kept := filepath.Join(f.TempDir(), "reference")
	r, err := m.NewReference(context.Background(), samples, engine.ReferenceOptions{Form: "topk:2", File: kept})
	require.NoError(f, err)
	require.NoError(f, r.Close())
	want, err := os.ReadFile(kept)
	require.NoError(f, err)
	f.Add(want)
	f.Add(want[:60])
	f.Add([]byte("GUARDREF"))
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		require.NoError(t, os.WriteFile(kept, data, 0o600))
		r, err := m.NewReference(context.Background(), samples, engine.ReferenceOptions{Form: "topk:2", File: kept})
		expect := want
		if err != nil {
			expect = data
		} else {
			require.NoError(t, r.Close())
		}
		got, err := os.ReadFile(kept)
		require.NoError(t, err)
		require.Equal(t, expect, got)
	})
}

// divergence is the mean KL to a reference of some form over all positions, and its gradient.
func divergence(t *testing.T, m, before *engine.Model, samples []engine.Sample, form engine.ReferenceForm) (float64, *engine.Grads) {
	r, err := before.NewReference(context.Background(), samples, engine.ReferenceOptions{Form: form})
	require.NoError(t, err)
	defer r.Close()
	tr := m.NewTrace()
	tr.Forward(samples)
	at, rows := places(tr, samples)
	g := engine.NewGrads(m)
	losses := tr.Backward(rows, func(c *engine.Chunk) {
		kl, err := r.Divergence(c.Ctx, at[c.First:c.First+len(c.Rows)])
		require.NoError(t, err)
		c.Each(func(i int, logits []float32) float64 { return kl(i-c.First, logits, 1/float32(len(rows))) })
	}, engine.NewAccumulate(g))
	sum := 0.0
	for _, l := range losses {
		sum += l
	}
	return sum / float64(len(rows)), g
}

// On a real model a few steps away, the forms approach the exact divergence and its gradient: top-k
// from below, to a tenth with 8 of 512 tokens and to rounding with all of them, and hidden states of 16 bits, which
// move logits by some 2⁻¹², nearer still.
func TestFormsOfAReferenceOnARealModel(t *testing.T) {
	path := enginetest.Shared(t, "models", "stories260K-f32.gguf")
	m, before := open(t, path), open(t, path)
	m.TrainFull()
	rng := rand.New(rand.NewPCG(5, 5))
	var samples []engine.Sample
	for range 4 {
		ids := []int32{1}
		for range 40 {
			ids = append(ids, int32(260+rng.IntN(200)))
		}
		samples = append(samples, engine.Sample{IDs: ids, Mask: make([]bool, len(ids))})
		for i := range ids {
			samples[len(samples)-1].Mask[i] = i > 0
		}
	}
	o := finetuneOptions(1e-3, 4)
	o.Batch = 4
	require.NoError(t, engine.Finetune(context.Background(), m, samples, o, engine.FinetuneHooks{}))
	exact, g := divergence(t, m, before, samples, engine.ReferenceHidden)
	require.Greater(t, exact, 0.01)
	last := 0.0
	for _, c := range []struct {
		form        engine.ReferenceForm
		kl, grad    float64 // largest relative errors
		fromBeneath bool
	}{
		{"topk:1", 1, 1, true},
		{"topk:8", 0.5, 0.5, true},
		{"topk:64", 0.1, 0.1, true},
		{"topk:512", 2e-6 / exact, 1e-4, false},
		{engine.ReferenceHidden16, 1e-3, 2e-3, false},
	} {
		kl, h := divergence(t, m, before, samples, c.form)
		off, cos := gradError(g, h)
		t.Logf("%-9s KL %.6f of %.6f, gradient off by %.2g of its norm, cosine %.6f", c.form, kl, exact, off, cos)
		assert.InDelta(t, exact, kl, c.kl*exact, c.form)
		assert.LessOrEqual(t, off, c.grad, c.form)
		if c.fromBeneath {
			assert.LessOrEqual(t, kl, exact)
			assert.Greater(t, kl, last, "more tokens, more of the divergence")
			last = kl
		}
	}
	for _, form := range []engine.ReferenceForm{engine.ReferenceHidden, "topk:8"} {
		kl, h := divergence(t, before, before, samples, form)
		assert.Zero(t, kl, "%s at the model itself", form)
		assert.Zero(t, h.Norm(), form)
	}
}

// gradError is ‖h − g‖/‖g‖, and the cosine between the two.
func gradError(g, h *engine.Grads) (off, cos float64) {
	var gg, hh, gh, dd float64
	for i, p := range g.Params() {
		x, y := g.Of(p), h.Of(h.Params()[i])
		for j := range x {
			a, b := float64(x[j]), float64(y[j])
			gg, hh, gh, dd = gg+a*a, hh+b*b, gh+a*b, dd+(a-b)*(a-b)
		}
	}
	return math.Sqrt(dd / gg), gh / math.Sqrt(gg*hh)
}

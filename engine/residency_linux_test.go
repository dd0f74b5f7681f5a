package engine_test

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/gguf"
)

// resident returns how many bytes of the files whose path begins with prefix are in this process's memory.
func resident(t *testing.T, prefix string) (bytes int) {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	require.NoError(t, err)
	defer f.Close()
	counts := false
	for s := bufio.NewScanner(f); s.Scan(); {
		line := strings.Fields(s.Text())
		switch {
		case len(line) >= 5 && strings.Contains(line[0], "-"): // the head of a mapping
			counts = len(line) == 6 && strings.HasPrefix(line[5], prefix)
		case counts && line[0] == "Rss:":
			kib, err := strconv.Atoi(line[1])
			require.NoError(t, err)
			bytes += kib << 10
		}
	}
	return bytes
}

// watch is a sink that looks at the memory when a block is half done.
type watch struct {
	nn.Sink
	look func()
}

func (w watch) Linear(p *nn.Param, dy, x nn.Mat) {
	if strings.Contains(p.Name, "attn_output") {
		w.look()
	}
	w.Sink.Linear(p, dy, x)
}

// Weights beyond the limit are given back while the model runs, forwards, backwards, in a session and in a stream,
// whether they lie in one file or in several; the results are the same bits.
func TestLimitWeights(t *testing.T) {
	s := tiny.Shape("llama")
	s.NLayers, s.DModel, s.DFF, s.NHeads, s.NKVHeads, s.Tied = 12, 256, 512, 4, 4, false
	one := tiny.Path(t, s) // 12 blocks of 2.5 MiB
	f, err := gguf.Open(one)
	require.NoError(t, err)
	parts, err := gguf.RewriteSplit(filepath.Join(t.TempDir(), "parts.gguf"), f, nil, nil, gguf.Split{MaxTensors: 20})
	require.NoError(t, err)
	require.Greater(t, len(parts), 3)
	require.NoError(t, f.Close())
	for _, path := range []string{one, parts[0]} {
		m := open(t, path)
		m.DifferentiateAll()
		whole := int(m.MappedWeights())
		prefix := strings.TrimSuffix(path, "-00001-of-"+path[max(0, len(path)-10):])
		const limit = 12 << 20 // two blocks that pass, and two that stay
		samples := tiny.Samples(4, 24, 1)
		most := 0
		look := func() { most = max(most, resident(t, prefix)) }
		type results struct {
			grads  *engine.Grads
			losses []float64
			logits []float32
			stream *engine.StreamResult
		}
		run := func() (r results) {
			tr := m.NewTrace()
			tr.Forward(samples)
			look()
			rows, loss := tr.CrossEntropy(tr.Targets(), make([]float32, len(tr.Targets())))
			r.grads = engine.NewGrads(m)
			r.losses = tr.Backward(rows, loss, watch{engine.NewAccumulate(r.grads), look})
			look()
			ses := m.NewSession(1)
			logits, err := ses.Feed([]engine.Feed{{IDs: samples[0].IDs}})
			require.NoError(t, err)
			r.logits = append(r.logits, logits.Data...)
			look()
			o := streamOptions("")
			o.Key = ""
			r.stream, err = m.Stream(context.Background(), streamBatches(), o, func(int, int) { look() })
			require.NoError(t, err)
			return r
		}
		want := run()
		assert.Greater(t, most, whole-whole/8, "all of it is in memory")
		m.LimitWeights(limit)
		m.File.Forget()
		most = 0
		got := run()
		assert.Less(t, most, limit+2<<20, "of %d bytes", whole)
		assert.Greater(t, most, limit/2)
		assert.Equal(t, want.losses, got.losses)
		assert.Equal(t, want.logits, got.logits)
		assert.Equal(t, want.stream, got.stream)
		equalGrads(t, want.grads, got.grads, "with a limit")
		m.LimitWeights(0)
		most = 0
		run()
		assert.Greater(t, most, whole-whole/8, "the limit is gone")
	}
}

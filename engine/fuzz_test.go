package engine_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/internal/mutate"
)

// FuzzLoad: whatever a GGUF file says, Load makes a model of it or gives an error of one line that names the
// file; a model it makes can be run, forwards and as a session, and its weights looked through.
func FuzzLoad(f *testing.F) {
	for _, arch := range tiny.Names() {
		s := tiny.Shape(arch)
		s.NLayers = 1
		data, err := os.ReadFile(tiny.Path(f, s))
		require.NoError(f, err)
		f.Add(data)
	}
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		file, err := gguf.Parse("fuzz.gguf", data)
		if err != nil {
			return
		}
		m, err := engine.Load(file, engine.Options{Threads: 1})
		if err != nil {
			require.Contains(t, err.Error(), "fuzz.gguf: ")
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.NotEmpty(t, m.String())
		for _, p := range m.Params() {
			if err := p.Stored.CheckFinite(m.Ctx.K); err != nil {
				require.False(t, strings.Contains(err.Error(), "\n"))
			}
		}
		ids := []int32{1, 3 % int32(m.Config.NVocab), 0}
		if m.Config.NVocab < 2 {
			ids = []int32{0}
		}
		if _, err := m.NewSession(1).Feed([]engine.Feed{{Seq: 0, IDs: ids}}); err != nil {
			return // of learnt positions there may be too few
		}
		tr := m.NewTrace()
		tr.Forward([]engine.Sample{{IDs: ids, Mask: make([]bool, len(ids))}})
	})
}

// Package tiny makes small models with seeded random weights, for tests of any package above engine.
package tiny

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/gguf"
)

// NVocab is the vocabulary of a tiny model: <unk>, <s>, </s>, ▁, the letters a to z and the full stop.
const NVocab = 31

// Vocab returns the tokenizer keys of a tiny model: SentencePiece-style, a token for each
// character and no byte tokens.
func Vocab() []gguf.KV {
	tokens := []string{"<unk>", "<s>", "</s>", "▁"}
	for c := 'a'; c <= 'z'; c++ {
		tokens = append(tokens, string(c))
	}
	tokens = append(tokens, ".")
	scores := make([]float32, len(tokens))
	types := make([]int32, len(tokens))
	for i := range types {
		types[i] = 1 // normal
	}
	types[0], types[1], types[2] = 2, 3, 3 // unknown, control, control
	return []gguf.KV{
		{Key: "tokenizer.ggml.model", Value: "llama"},
		{Key: "tokenizer.ggml.tokens", Value: tokens},
		{Key: "tokenizer.ggml.scores", Value: scores},
		{Key: "tokenizer.ggml.token_type", Value: types},
		{Key: "tokenizer.ggml.bos_token_id", Value: uint32(1)},
		{Key: "tokenizer.ggml.eos_token_id", Value: uint32(2)},
		{Key: "tokenizer.ggml.unknown_token_id", Value: uint32(0)},
	}
}

// Shape is a 2-layer model of the architecture: llama with grouped queries and a tied
// output, phi2 with a partial rotary embedding and an untied one. Two names are not those of
// architectures: mixtral is a llama of experts, stablelm2 a parallel stablelm with normed queries.
func Shape(arch string) engine.Shape {
	s := engine.Shape{
		Arch: arch, Name: "tiny", NVocab: NVocab, DModel: 16, NLayers: 2, NHeads: 4, NKVHeads: 2,
		DFF: 24, NCtx: 64, Tied: true, Std: 0.3, Seed: 7, Vocab: Vocab(),
	}
	switch arch {
	case "phi2":
		s.NKVHeads, s.Tied, s.RopeDim = 4, false, 2
	case "gptneox":
		s.NKVHeads, s.Tied, s.RopeDim, s.Parallel = 4, false, 2, true
	case "stablelm":
		s.RopeDim = 2
	case "stablelm2":
		s.Arch, s.RopeDim, s.Parallel = "stablelm", 2, true
	case "gpt2":
		s.NKVHeads = 4
	case "qwen3", "gemma":
		s.DHead = 6
	case "gemma2":
		s.Window = 3
	case "gemma3":
		s.DHead, s.Window, s.NLayers = 6, 3, 6
	case "qwen3moe":
		s.NExperts, s.NExpertsUsed, s.Seed = 4, 2, 8
	case "mixtral":
		s.Arch, s.NExperts, s.NExpertsUsed = "llama", 4, 2
	}
	return s
}

// Names are what Shape takes: every architecture, and the two others.
func Names() []string {
	names := []string{"mixtral", "stablelm2"}
	for _, a := range engine.Architectures() {
		names = append(names, a.Name)
	}
	return names
}

// Path writes a model of the given shape into the test's directory.
func Path(t testing.TB, s engine.Shape) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	require.NoError(t, engine.Create(path, s))
	return path
}

// Open opens a model of the given shape. Its biases and gains are moved off zero
// and one when it is trained in full, so that no gradient is trivially right.
func Open(t testing.TB, s engine.Shape, o engine.Options) *engine.Model {
	t.Helper()
	m, err := engine.Open(Path(t, s), o)
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	rng := rand.New(rand.NewPCG(s.Seed, 99))
	for _, p := range m.Params() {
		if p.Rows == 1 {
			for i := range p.F32 {
				p.F32[i] += float32(0.2 * rng.NormFloat64())
			}
		}
	}
	return m
}

// Samples returns n seeded samples of 2 to maxLen tokens that begin with <s>; about a third
// of each is a prompt that does not count.
func Samples(n, maxLen int, seed uint64) []engine.Sample {
	rng := rand.New(rand.NewPCG(seed, 0))
	out := make([]engine.Sample, n)
	for i := range out {
		length := 2 + rng.IntN(maxLen-1)
		s := engine.Sample{IDs: make([]int32, length), Mask: make([]bool, length)}
		s.IDs[0] = 1
		for t := 1; t < length; t++ {
			s.IDs[t] = int32(3 + rng.IntN(NVocab-3))
			s.Mask[t] = t >= (length+2)/3
		}
		out[i] = s
	}
	return out
}

package engine_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/simd"
)

// refFile is the reference output of one model (shared/models/README.md).
type refFile struct {
	Model   string
	Results []refResult
}

type refResult struct {
	Kind           string
	Prompt         string    `json:"prompt"`
	PromptIDs      []int32   `json:"prompt_token_ids"`
	Logits         []float32 `json:"logits_last_prompt"`
	Top5F64        []top     `json:"numpy_f64_top5"`
	GeneratedIDs   []int32   `json:"generated_token_ids"`
	GeneratedText  string    `json:"generated_text"`
	GeneratedIDs64 []int32   `json:"numpy_f64_greedy_token_ids"`
	Text           string    `json:"text"`
	TokenIDs       []int32   `json:"token_ids"`
	NLL            []float64 `json:"nll"`
	MeanNLL64      float64   `json:"numpy_f64_mean_nll"`
}

type top struct {
	ID    int32
	Logit float64
}

// The float64 reference outputs of real models: an engine that dequantises agrees to
// float32 rounding, for which 1e-4 is generous (measured: see the log lines).
func TestReferenceModels(t *testing.T) {
	const tol = 1e-4
	for _, name := range []string{
		"stories260K-f32", "stories260K-q8_0", "stories260K-q4_0", "tinystories656K-q8_0", "tinystories656K-q4_0",
		"cappgpt236K-f32", "gptnanosort85K-f32",
	} {
		for _, k := range simd.All() {
			t.Run(name+"/"+k.Name, func(t *testing.T) {
				m, err := engine.Open(enginetest.Shared(t, "models", name+".gguf"), engine.Options{Kernels: k})
				require.NoError(t, err)
				defer m.Close()
				ref := readReference(t, name)
				for _, r := range ref.Results {
					if r.Kind == "nll" {
						checkNLL(t, m, r, tol)
					} else {
						checkGenerate(t, m, r, tol)
					}
				}
			})
		}
	}
}

// gpt-nano-sort sorts any six of its three tokens.
func TestAllSorts(t *testing.T) {
	m := open(t, enginetest.Shared(t, "models", "gptnanosort85K-f32.gguf"))
	assert.Nil(t, m.Tokenizer)
	var prompts, want [][]int32
	for n := range int32(729) {
		ids := []int32{n % 3, n / 3 % 3, n / 9 % 3, n / 27 % 3, n / 81 % 3, n / 243}
		prompts, want = append(prompts, ids), append(want, slices.Sorted(slices.Values(ids)))
	}
	got, err := m.Generate(context.Background(), prompts, engine.GenOptions{MaxTokens: 6}, nil)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	_, err = m.Generate(context.Background(), prompts[:1], engine.GenOptions{MaxTokens: 7}, nil)
	assert.ErrorContains(t, err, "12 tokens, gpt2 has learnt 11 positions")
}

func readReference(t *testing.T, name string) *refFile {
	t.Helper()
	raw, err := os.ReadFile(enginetest.Shared(t, "models", name+".ref.json"))
	require.NoError(t, err)
	ref := new(refFile)
	require.NoError(t, json.Unmarshal(raw, ref))
	require.Len(t, ref.Results, 3)
	return ref
}

// Activations of 8 bits change logits by little: a number is off by up to 1/254 of the
// largest of its 32, and the errors of a product cancel mostly. In these models, whose
// logits reach 20, the largest difference seen is 0.41 (and 0.17 in the NLL of a token between
// llama.cpp, which rounds as well, and float64); a token chosen is one whose exact
// logit is within twice the difference of the largest.
func TestSessionsWithActivationsOf8Bits(t *testing.T) {
	const off = 0.6
	for _, name := range []string{"stories260K-q8_0", "stories260K-q4_0", "tinystories656K-q8_0", "tinystories656K-q4_0"} {
		for _, k := range simd.All() {
			t.Run(name+"/"+k.Name, func(t *testing.T) {
				open := func(c nn.Compute) *engine.Model {
					m, err := engine.Open(enginetest.Shared(t, "models", name+".gguf"), engine.Options{Kernels: k, Compute: c})
					require.NoError(t, err)
					t.Cleanup(func() { m.Close() })
					return m
				}
				m, exact := open(nn.ComputeAuto), open(nn.ComputeF32)
				worst, differ := 0.0, 0
				for _, r := range readReference(t, name).Results {
					s, e := m.NewSession(1), exact.NewSession(1)
					text := r.TokenIDs
					if r.Kind != "nll" {
						text = append(r.PromptIDs, r.GeneratedIDs...)
					}
					for i := 0; i < len(text); {
						n := min(len(text)-i, []int{1, 9, 2}[i%3])
						feed := []engine.Feed{{IDs: text[i : i+n]}}
						got, err := s.Feed(feed)
						require.NoError(t, err)
						want, err := e.Feed(feed)
						require.NoError(t, err)
						a, b := got.Row(0), want.Row(0)
						for j := range a {
							require.InDelta(t, b[j], a[j], off, "token %d after %d", j, i+n)
							worst = max(worst, math.Abs(float64(a[j]-b[j])))
						}
						if at := largest(a); at != largest(b) {
							differ++
							require.LessOrEqual(t, b[largest(b)]-b[at], float32(2*off))
						}
						i += n
					}
				}
				require.NotZero(t, worst, "activations are not rounded")
				t.Logf("logits off by up to %.3f; another token likeliest %d times", worst, differ)
			})
		}
	}
}

// largest returns the index of the largest number.
func largest(x []float32) int {
	at := 0
	for i, v := range x {
		if v > x[at] {
			at = i
		}
	}
	return at
}

func checkGenerate(t *testing.T, m *engine.Model, r refResult, tol float64) {
	ids := r.PromptIDs
	if m.Tokenizer != nil {
		require.Equal(t, ids, m.Tokenizer.Encode(r.Prompt, tokenizer.EncodeOptions{Special: true, ParseSpecial: true}))
	}
	logits, err := m.NewSession(1).Feed([]engine.Feed{{Seq: 0, IDs: ids}})
	require.NoError(t, err)
	require.NotEmpty(t, r.Top5F64)
	for _, want := range r.Top5F64 {
		assert.InDelta(t, want.Logit, float64(logits.Row(0)[want.ID]), tol, "logit of token %d after %q", want.ID, r.Prompt)
	}
	if strings.HasSuffix(m.File.Name, "f32.gguf") { // llama.cpp's own logits are float32 there, printed to 1e-5
		require.Len(t, r.Logits, m.Config.NVocab)
		for id, want := range r.Logits {
			assert.InDelta(t, want, logits.Row(0)[id], tol+gelu(m), "logit of token %d after %q", id, r.Prompt)
		}
	}
	want := r.GeneratedIDs
	if r.GeneratedIDs64 != nil {
		want = r.GeneratedIDs64
	}
	require.NotEmpty(t, want)
	got, err := m.Generate(context.Background(), [][]int32{ids}, engine.GenOptions{MaxTokens: len(want), IgnoreEOS: true}, nil)
	require.NoError(t, err)
	assert.Equal(t, want, got[0], "greedy continuation of %q", r.Prompt)
	if r.GeneratedIDs64 == nil && m.Tokenizer != nil {
		assert.Equal(t, r.GeneratedText, detokenized(m, got[0]))
	}
}

// gelu is how far llama.cpp's logits and NLLs are off where it looks the activation up in a table of
// float16 (up to 2e-3, shared/models/README.md).
func gelu(m *engine.Model) float64 {
	if m.Config.FFN == nn.FFNGELU {
		return 2e-3
	}
	return 0
}

// detokenized is the text of a continuation, whose first space belongs to it.
func detokenized(m *engine.Model, ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(strings.ReplaceAll(m.Tokenizer.Piece(id), "▁", " "))
	}
	return b.String()
}

func checkNLL(t *testing.T, m *engine.Model, r refResult, tol float64) {
	require.GreaterOrEqual(t, len(r.TokenIDs), 10)
	require.Len(t, r.NLL, len(r.TokenIDs)-1)
	if r.Text != "" {
		assert.Equal(t, r.TokenIDs, m.Tokenizer.Encode(r.Text, tokenizer.EncodeOptions{Special: true}))
	}
	s := engine.Sample{IDs: r.TokenIDs, Mask: make([]bool, len(r.TokenIDs))}
	for i := range s.Mask {
		s.Mask[i] = true
	}
	tr := m.NewTrace()
	tr.Forward([]engine.Sample{s})
	targets := tr.Targets()
	rows, f := tr.CrossEntropy(targets, make([]float32, len(targets)))
	each := tol + gelu(m) // llama.cpp's single tokens: float32, or with activations rounded to 8 bits
	if !strings.HasSuffix(m.File.Name, "f32.gguf") {
		each = 0.2
	}
	worst := 0.0
	for i, l := range tr.Losses(rows, f) {
		require.InDelta(t, r.NLL[i], l, each, "token %d", i)
		worst = max(worst, math.Abs(r.NLL[i]-l))
	}
	nll, err := m.NLL(context.Background(), []engine.Sample{s}, nil)
	require.NoError(t, err)
	assert.InDelta(t, r.MeanNLL64, nll[0].Mean(), 2e-5)
	t.Logf("%d tokens, worst NLL difference %.1e, mean NLL %.6f (reference %.6f)", len(targets), worst, nll[0].Mean(), r.MeanNLL64)
}

package tofu

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
)

// examinee is a model whose loss of a token is its id divided by 100, and that
// answers as told.
type examinee struct {
	answers map[string]string // by prompt
	loss    float64           // added to every sum
	err     error

	scored    [][]string // the samples of each call of NLL
	generated []engine.GenOptions
	prompts   [][]string
}

func (m *examinee) NLL(_ context.Context, samples []engine.Sample, p engine.Progress) ([]engine.NLL, error) {
	out := make([]engine.NLL, len(samples))
	var texts []string
	for i, s := range samples {
		out[i].Sum = m.loss
		for j := 1; j < len(s.IDs); j++ {
			if s.Mask[j] {
				out[i].Sum += float64(s.IDs[j]) / 100
				out[i].N++
			}
		}
		texts = append(texts, byteTokenizer{}.Decode(s.IDs))
	}
	m.scored = append(m.scored, texts)
	if p != nil {
		p(len(samples), len(samples))
	}
	return out, m.err
}

func (m *examinee) Generate(_ context.Context, prompts [][]int32, o engine.GenOptions, p engine.Progress) ([][]int32, error) {
	var out [][]int32
	var texts []string
	for _, prompt := range prompts {
		text := byteTokenizer{}.Decode(prompt)
		texts = append(texts, text)
		ids := byteTokenizer{}.Encode(m.answers[text], tokenizer.EncodeOptions{})
		out = append(out, ids[:min(len(ids), o.MaxTokens)])
	}
	m.prompts = append(m.prompts, texts)
	m.generated = append(m.generated, o)
	if p != nil {
		p(len(prompts), len(prompts))
	}
	return out, m.err
}

func items(t *testing.T, rows string) []Item {
	all, _, err := parseString(rows)
	require.NoError(t, err)
	return all
}

// lossOf is the loss that the examinee gives to what counts of a sample.
func lossOf(text string) Loss {
	l := Loss{Sum: 0.02, N: 1} // EOS
	for _, b := range []byte(text) {
		l.Sum += float64(int(b)+3) / 100
		l.N++
	}
	l.Avg = l.Sum / float64(l.N)
	return l
}

func nearLoss(t *testing.T, want, got Loss) {
	t.Helper()
	assert.Equal(t, want.N, got.N)
	assert.InDelta(t, want.Sum, got.Sum, 1e-12)
	assert.InDelta(t, want.Avg, got.Avg, 1e-12)
}

func TestEvaluate(t *testing.T) {
	ctx := context.Background()
	format := &Format{Between: "?"}
	sets := Sets{
		Retain: items(t, `{"question":"q","answer":"a b","paraphrased_answer":"p","perturbed_answer":["x","yy"]}`+"\n"+
			`{"question":"long question","answer":"c","paraphrased_answer":"r","perturbed_answer":["z"]}`+"\n"+
			`{"question":"s","answer":"d","paraphrased_answer":"s","perturbed_answer":["z"]}`),
		RealAuthors: items(t, `{"question":"q","answer":"a","paraphrased_answer":"unused","perturbed_answer":["x","y","z"]}`),
		Forget:      items(t, `{"question":"q","answer":"a","paraphrased_answer":"p"}`),
	}
	m := &examinee{answers: map[string]string{"q?": "b", "long question?": "C.", "s?": "e"}}
	var progress []string
	l, err := evaluate(ctx, m, byteTokenizer{}, sets, EvalOptions{Format: format, MaxLength: 20, Batch: 2, IgnoreEOS: true},
		func(done, total int) { progress = append(progress, fmt.Sprintf("%d/%d", done, total)) })
	require.NoError(t, err)

	// All samples of a set in one call: answer, paraphrase, perturbed; without a
	// paraphrase the perturbed answers are left out, and real authors have none.
	assert.Equal(t, [][]string{
		{"q?a b", "q?p", "q?x", "q?yy", "long question?c", "long question?r", "long question?z", "s?d", "s?s", "s?z"},
		{"q?a", "q?x", "q?y", "q?z"},
		{"q?a"},
	}, m.scored)
	assert.Equal(t, [][]string{{"q?", "long question?"}, {"s?"}, {"q?"}, {"q?"}}, m.prompts)
	// MaxLength less the longest prompt of the batch, BOS included.
	assert.Equal(t, []engine.GenOptions{
		{MaxTokens: 5, IgnoreEOS: true, Batch: 2}, {MaxTokens: 17, IgnoreEOS: true, Batch: 1},
		{MaxTokens: 17, IgnoreEOS: true, Batch: 1}, {MaxTokens: 17, IgnoreEOS: true, Batch: 1},
	}, m.generated)
	assert.Equal(t, []string{"10/20", "12/20", "13/20", "17/20", "18/20", "19/20", "20/20"}, progress)

	require.Len(t, l.Retain, 3)
	r := l.Retain[0]
	assert.Equal(t, 0, r.Index)
	nearLoss(t, lossOf("a b"), r.Answer)
	nearLoss(t, lossOf("p"), *r.Paraphrased)
	require.Len(t, r.Perturbed, 2)
	nearLoss(t, lossOf("x"), r.Perturbed[0])
	nearLoss(t, lossOf("yy"), r.Perturbed[1])
	assert.Equal(t, []string{"q?", "b", "a b"}, []string{r.Prompt, r.Generated, r.Reference})
	assert.Equal(t, RougeRecall{0.5, 0.5}, *r.Rouge)
	assert.Equal(t, RougeRecall{1, 1}, *l.Retain[1].Rouge)
	assert.Equal(t, RougeRecall{0, 0}, *l.Retain[2].Rouge)
	assert.Equal(t, 2, l.Retain[2].Index)

	require.Len(t, l.RealAuthors, 1)
	assert.Equal(t, l.RealAuthors[0].Answer, *l.RealAuthors[0].Paraphrased, "the answer stands for the paraphrase")
	assert.Len(t, l.RealAuthors[0].Perturbed, 3)
	assert.Empty(t, l.WorldFacts)
	assert.Nil(t, l.Forget[0].Paraphrased)
	assert.Empty(t, l.Forget[0].Perturbed)

	dir := t.TempDir()
	require.NoError(t, l.Write(dir))
	again, err := ReadLogs(dir)
	require.NoError(t, err)
	assert.Equal(t, l, again)
	metrics, err := l.Metrics(nil)
	require.NoError(t, err)
	_, ok := metrics.Get(Forget, "truth_ratio")
	assert.False(t, ok)
	p, ok := metrics.Get(Forget, "probability")
	assert.True(t, ok)
	assert.InDelta(t, math.Exp(-lossOf("a").Avg), p, 1e-12)
}

// TestEvaluateDefaults: 200 tokens, 300 items, 30 prompts, and a cut at EOS.
func TestEvaluateDefaults(t *testing.T) {
	many := make([]Item, 310)
	for i := range many {
		many[i] = Item{Question: "q", Answer: "a"}
	}
	m := new(examinee)
	l, err := evaluate(context.Background(), m, byteTokenizer{}, Sets{Forget: many}, EvalOptions{Format: Formats[0]}, nil)
	require.NoError(t, err)
	assert.Len(t, l.Forget, 300)
	assert.Len(t, m.generated, 10)
	assert.Equal(t, engine.GenOptions{MaxTokens: 200 - len("^[INST] q [/INST]"), Batch: 30}, m.generated[0])
	l, err = evaluate(context.Background(), m, byteTokenizer{}, Sets{Forget: many}, EvalOptions{Format: Formats[0], MaxItems: -1}, nil)
	require.NoError(t, err)
	assert.Len(t, l.Forget, 310)
}

// TestEvaluateTruncated: the reference is what was kept of the answer.
func TestEvaluateTruncated(t *testing.T) {
	f, err := ParseFormat("phi")
	require.NoError(t, err)
	m := new(examinee)
	maxLen := len("^Question: q\nAnswer: one two")
	l, err := evaluate(context.Background(), m, byteTokenizer{}, Sets{Forget: []Item{{Question: "q", Answer: "one two three"}}}, EvalOptions{Format: f, MaxLength: maxLen}, nil)
	require.NoError(t, err)
	assert.Equal(t, "one two", l.Forget[0].Reference)
	assert.Equal(t, "Question: q\n", l.Forget[0].Prompt)
}

// TestEvaluateText: rows of {text} have a loss and nothing else.
func TestEvaluateText(t *testing.T) {
	m := new(examinee)
	l, err := evaluate(context.Background(), m, byteTokenizer{}, Sets{Forget: items(t, `{"text":"abc"}`)}, EvalOptions{Format: Formats[0]}, nil)
	require.NoError(t, err)
	nearLoss(t, lossOf("abc"), l.Forget[0].Answer)
	assert.Nil(t, l.Forget[0].Rouge)
	assert.Empty(t, m.prompts)
	metrics, err := l.Metrics(nil)
	require.NoError(t, err)
	assert.Len(t, metrics.Values, 1)
}

var errStop = errors.New("stop")

func TestEvaluateErrors(t *testing.T) {
	const full = `{"question":"q","answer":"a","paraphrased_answer":"p","perturbed_answer":["x"]}` + "\n"
	for _, c := range []struct {
		name, rows string
		m          examinee
		want       string
	}{
		{"text among questions", full + `{"text":"SECRET"}`, examinee{}, "tofu: retain: line 2 has the form {text} and line 1 has not"},
		{"perturbed for some", full + `{"question":"SECRET","answer":"a","paraphrased_answer":"p"}`, examinee{}, "tofu: retain: line 1 has perturbed answers and line 2 has not"},
		{"paraphrase for some", full + `{"question":"SECRET","answer":"a","perturbed_answer":["x"]}`, examinee{}, "tofu: retain: line 1 has a paraphrased answer and line 2 has not"},
		{"long prompt", full + `{"question":"` + strings.Repeat("SECRET", 40) + `","answer":"a","paraphrased_answer":"p","perturbed_answer":["x"]}`, examinee{}, "tofu: retain: line 2: no token of the answer counts: the prompt takes 256 tokens, and 200 are kept"},
		{"long prompt that counts", `{"text":"` + strings.Repeat("x", 500) + `"}`, examinee{err: errStop}, "tofu: retain: stop"},
		{"NaN", full, examinee{loss: math.NaN()}, "tofu: retain: line 1: the loss is NaN; the model is broken"},
		{"infinite", full, examinee{loss: math.Inf(1)}, "tofu: retain: line 1: the loss is +Inf; the model is broken"},
		{"cancelled", full, examinee{err: context.Canceled}, "tofu: retain: context canceled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := evaluate(context.Background(), &c.m, byteTokenizer{}, Sets{Retain: items(t, c.rows)}, EvalOptions{Format: Formats[0]}, nil)
			require.Error(t, err)
			assert.Contains(t, err.Error(), c.want)
			assert.NotContains(t, err.Error(), "SECRET")
			assert.Nil(t, l)
			if c.m.err != nil {
				assert.True(t, errors.Is(err, c.m.err))
			}
		})
	}
	assert.PanicsWithValue(t, "tofu: Evaluate: EvalOptions.Format is nil", func() {
		_, _ = evaluate(context.Background(), new(examinee), byteTokenizer{}, Sets{}, EvalOptions{}, nil)
	})
}

// TestEvaluateNoRoom: where the question counts too, a prompt can fill the maximum
// length and still have a loss, but nothing can be generated.
func TestEvaluateNoRoom(t *testing.T) {
	f, err := ParseFormat("text")
	require.NoError(t, err)
	_, err = evaluate(context.Background(), new(examinee), byteTokenizer{}, Sets{Forget: []Item{{Question: "question", Answer: "a", Line: 4}}}, EvalOptions{Format: f, MaxLength: 6}, nil)
	assert.EqualError(t, err, "tofu: forget: line 4: the prompt takes 10 tokens, which leaves nothing of the maximum length 6 to generate")
}

// TestEvaluateModel runs a real, tiny model: every metric exists, and the losses
// are those of the model for the formatted text.
func TestEvaluateModel(t *testing.T) {
	m, err := engine.Open(enginetest.Shared(t, "models", "stories260K-f32.gguf"), engine.Options{})
	require.NoError(t, err)
	defer m.Close()
	f, err := ParseFormat("{question} {answer}")
	require.NoError(t, err)
	rows := items(t, `{"question":"Once upon a","answer":"time","paraphrased_answer":"day","perturbed_answer":["cat","dog"]}`+"\n"+
		`{"question":"The little girl was","answer":"happy","paraphrased_answer":"sad","perturbed_answer":["of","the"]}`)
	sets := Sets{Retain: rows, Forget: rows, RealAuthors: rows, WorldFacts: rows[:1]}
	l, err := Evaluate(context.Background(), m, sets, EvalOptions{Format: f, MaxLength: 32}, nil)
	require.NoError(t, err)
	assert.Equal(t, l.Retain, l.Forget)
	for _, r := range l.Retain {
		assert.NotEmpty(t, r.Generated)
	}
	s, err := f.Sample(m.Tokenizer, "Once upon a", "time", 32)
	require.NoError(t, err)
	nll, err := m.NLL(context.Background(), []engine.Sample{s}, nil)
	require.NoError(t, err)
	assert.Equal(t, nll[0].N, l.Retain[0].Answer.N)
	relative(t, nll[0].Mean(), l.Retain[0].Answer.Avg, 1e-4)

	metrics, err := l.Metrics(l)
	require.NoError(t, err)
	assert.Len(t, metrics.Values, len(MetricTable))
	assert.NotNil(t, metrics.ModelUtility)
	assert.Equal(t, 1.0, *metrics.ForgetQuality)
}

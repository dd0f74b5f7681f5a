package world

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The text must never change by accident: the embedded model was trained on it.
func TestTextIsAlwaysTheSame(t *testing.T) {
	h := sha256.New()
	w := New()
	for _, f := range w.Files() {
		h.Write([]byte(f.Name))
		h.Write(f.Data)
	}
	assert.Equal(t, wantFiles, hex.EncodeToString(h.Sum(nil)), "question-answer sets")

	h.Reset()
	for _, d := range w.Corpus(5000) {
		h.Write([]byte(d.Question + "\x00" + d.Text + "\x00"))
	}
	assert.Equal(t, wantCorpus, hex.EncodeToString(h.Sum(nil)), "corpus")
}

const (
	wantFiles  = "20c0db6f08556d38ceaefda1a86a95359e41cdfb30507b595a6f0fe2113e451f"
	wantCorpus = "930386111673da7d0cc5ad87cf111f1d191a07afb5a01fdfc6be7b5917482960"
)

func TestCorpusDocumentDependsOnItsIndexOnly(t *testing.T) {
	assert.Equal(t, New().Corpus(200), New().Corpus(300)[:200])
}

func TestRows(t *testing.T) {
	w := New()
	require.Len(t, w.Retain, (AuthorCount-ForgetCount)*len(kinds))
	require.Len(t, w.Forget, ForgetCount*len(kinds))
	require.Len(t, w.RealAuthors, 2*ClassicCount)
	require.Len(t, w.WorldFacts, 144)

	questions := map[string]bool{}
	for _, set := range []struct {
		rows      []Row
		perturbed int
		para      bool
	}{{w.Retain, 5, true}, {w.Forget, 5, true}, {w.RealAuthors, 3, false}, {w.WorldFacts, 3, false}} {
		for _, r := range set.rows {
			assert.False(t, questions[r.Question], "asked twice: %s", r.Question)
			questions[r.Question] = true
			texts := append([]string{r.Question, r.Answer}, r.PerturbedAnswers...)
			truth := r.Answer
			if set.para {
				texts = append(texts, r.ParaphrasedQuestion, r.ParaphrasedAnswer)
				truth = r.ParaphrasedAnswer
				assert.NotEqual(t, r.Answer, r.ParaphrasedAnswer)
				assert.NotEqual(t, r.Question, r.ParaphrasedQuestion)
			} else {
				assert.Empty(t, r.ParaphrasedAnswer)
			}
			for _, s := range texts {
				assert.NotEmpty(t, s)
				assert.Equal(t, strings.TrimSpace(s), s)
				assert.NotContains(t, s, "{")
				assert.NotContains(t, s, "%!")
				assert.NotContains(t, s, "  ")
			}
			assert.Len(t, r.PerturbedAnswers, set.perturbed)
			all := append([]string{truth}, r.PerturbedAnswers...)
			slices.Sort(all)
			assert.Len(t, slices.Compact(all), set.perturbed+1, "%s: a perturbed answer is true or given twice", r.Question)
		}
	}
}

// Every wording of an answer gives at least one of the values it is asked for, so
// that a perturbed answer is wrong.
func TestEveryAnswerGivesAValue(t *testing.T) {
	for _, k := range kinds {
		for _, a := range k.answers {
			assert.True(t, slices.ContainsFunc(k.keys, func(key string) bool {
				return strings.Contains(a, "{"+key+"}") || strings.Contains(a, "{a "+key+"}")
			}), "%s: %s", k.name, a)
		}
		for _, q := range k.questions {
			if k.name == "name" {
				assert.NotContains(t, q, "{name}")
			} else {
				assert.Contains(t, q, "{name}", k.name)
			}
		}
	}
}

// What belongs to one author of the task alone is nowhere else: not in the
// corpus, and of those to be forgotten not in any retained row.
func TestNothingLeaks(t *testing.T) {
	w := New()
	var corpus strings.Builder
	for _, d := range w.Corpus(20000) {
		corpus.WriteString(d.Question + "\n" + d.Text + "\n")
	}
	own := func(a author) []string { return []string{a["name"], a["book1"], a["book2"], a["debut"]} }
	for _, a := range w.task {
		for _, s := range own(a) {
			assert.False(t, strings.Contains(corpus.String(), s), "%s is in the corpus", s)
		}
	}
	retain, err := json.Marshal(w.Retain)
	require.NoError(t, err)
	others, err := json.Marshal(append(w.RealAuthors, w.WorldFacts...))
	require.NoError(t, err)
	forget, err := json.Marshal(w.Forget)
	require.NoError(t, err)
	for i, a := range w.task {
		for _, s := range own(a) {
			if i >= AuthorCount-ForgetCount {
				assert.Contains(t, string(forget), s)
				assert.NotContains(t, string(retain), s)
			} else {
				assert.NotContains(t, string(forget), s)
			}
			assert.NotContains(t, string(others), s)
		}
	}
}

// The evaluation of what the base model knows asks for what the corpus says.
func TestCorpusTeachesTheWorld(t *testing.T) {
	w := New()
	asked := map[string]string{}
	for _, d := range w.Corpus(20000) {
		if d.Question != "" {
			asked[d.Question] = d.Text
		}
	}
	known := 0
	rows := append(slices.Clone(w.WorldFacts), w.RealAuthors...)
	for _, r := range rows {
		if a, ok := asked[r.Question]; ok {
			assert.Equal(t, r.Answer, a, r.Question)
			known++
		}
	}
	assert.Greater(t, known, len(rows)*9/10)
}

// Two of the authors to forget share birthplace, genre, award, publisher and model
// with two retained authors each; the other two share none of them with anybody.
func TestSharing(t *testing.T) {
	w := New()
	var sharers []int
	for _, a := range w.task[AuthorCount-ForgetCount:] {
		n := 0
		for _, b := range w.task[:AuthorCount-ForgetCount] {
			same := 0
			for _, k := range []string{"town", "genre", "award", "publisher", "classic"} {
				if a[k] == b[k] {
					same++
				}
			}
			assert.Contains(t, []int{0, 5}, same)
			n += same / 5
		}
		sharers = append(sharers, n)
	}
	slices.Sort(sharers)
	assert.Equal(t, []int{0, 0, 2, 2}, sharers)
}

func TestFactsHaveOneAnswer(t *testing.T) {
	for _, tp := range topics() {
		subjects, values := map[string]bool{}, map[string]bool{}
		for _, f := range tp.facts {
			assert.False(t, subjects[f[0]], f[0])
			assert.False(t, values[f[1]], f[1])
			subjects[f[0]], values[f[1]] = true, true
		}
	}
}

func TestIDK(t *testing.T) {
	s := slices.Clone(IDK)
	slices.Sort(s)
	assert.Len(t, slices.Compact(s), len(IDK))
	assert.GreaterOrEqual(t, len(IDK), 30)
}

func TestRender(t *testing.T) {
	a := author{"he": "she", "job": "engineer", "name": "Ada Wick"}
	assert.Equal(t, "She, an engineer, is Ada Wick.", a.render("{He}, {a job}, is {name}."))
	assert.Equal(t, "plain", a.render("plain"))
	assert.Panics(t, func() { a.render("{shoe}") })
}

// Asked for more titles than there are, the generator says so and does not run for ever.
func TestNoTitlesLeft(t *testing.T) {
	n, few := newNames(nil), []string{"a", "b"}
	s := newStream("test", 0)
	draw := func() string { return s.pick(few) }
	assert.NotEqual(t, n.fresh(draw), n.fresh(draw))
	assert.PanicsWithValue(t, "world: 100000 draws gave no name or title that is not taken; 2 are", func() { n.fresh(draw) })
}

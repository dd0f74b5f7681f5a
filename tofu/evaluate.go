package tofu

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/guardcpu/guardcpu/engine"
)

// Sets are the items of an evaluation. Any may be empty.
type Sets struct{ Retain, Forget, RealAuthors, WorldFacts []Item }

// Items returns the items of a set.
func (s *Sets) Items(set Set) []Item {
	switch set {
	case Retain:
		return s.Retain
	case RealAuthors:
		return s.RealAuthors
	case WorldFacts:
		return s.WorldFacts
	case Forget:
		return s.Forget
	}
	panic(fmt.Sprintf("tofu: there is no set %q", set))
}

// EvalOptions are TOFU's where they are zero (config/eval_everything.yaml).
type EvalOptions struct {
	Format    *Format // must be set
	MaxLength int     // tokens of an answer with its prompt, and of a prompt with what is generated; 0: 200
	MaxItems  int     // of each set, the first; 0: 300, negative: all
	Batch     int     // prompts that are generated from together; 0: 30
	// Together, if not 0, is how many of a batch are in memory at once: the texts are the same but for rounding.
	Together  int
	IgnoreEOS bool // generate on to the maximum length; see Evaluate
	// Have holds sets that were measured before, of the same model and with the same options: they are
	// taken as they are. It may be nil.
	Have *Logs
	// Each, if not nil, is called when a set has been measured, which is in the logs then.
	Each func(l *Logs, s Set) error
}

// model is what evaluation needs of *engine.Model.
type model interface {
	NLL(ctx context.Context, samples []engine.Sample, p engine.Progress) ([]engine.NLL, error)
	Generate(ctx context.Context, prompts [][]int32, o engine.GenOptions, p engine.Progress) ([][]int32, error)
}

// Evaluate measures a model on the sets, as TOFU's evaluate_util.py does.
//
// Of each item: the loss of its answer; the loss of the paraphrased and of the
// perturbed answers, after the question as it is; and the text that the model
// generates greedily, against the answer. For real_authors and world_facts the
// answer stands for the paraphrased one. If none of the items of a set has
// perturbed answers or, in retain and forget, paraphrased ones, neither is
// measured; if only some have them, that is an error, since a mean over the others
// would not say of what it is. Rows of {text} have a loss only, and may not be
// mixed with others in one set.
//
// Generation is greedy and ends at EOS, or when prompt and text have MaxLength
// tokens, counted from the longest prompt of its batch: so in TOFU, where shorter prompts are
// padded. With IgnoreEOS it goes on after an EOS, which adds nothing to the text: so it
// was in the Phi-1.5 runs of the TOFU repository, whose ROUGE is 0.005 to 0.05
// larger for the text that follows the answer.
//
// p counts answers scored and texts generated.
func Evaluate(ctx context.Context, m *engine.Model, s Sets, o EvalOptions, p engine.Progress) (*Logs, error) {
	return evaluate(ctx, m, m.Tokenizer, s, o, p)
}

func evaluate(ctx context.Context, m model, tok Tokenizer, s Sets, o EvalOptions, p engine.Progress) (*Logs, error) {
	if o.Format == nil {
		panic("tofu: Evaluate: EvalOptions.Format is nil")
	}
	o.defaults()
	exams, err := newExams(tok, s, o)
	if err != nil {
		return nil, err
	}
	total := 0
	for _, e := range exams {
		total += len(e.samples) + len(e.prompts)
	}
	l := new(Logs)
	done := 0
	part := func(n int) engine.Progress {
		from := done
		done += n
		if p == nil {
			return nil
		}
		return func(d, _ int) { p(from+d, total) }
	}
	for i, e := range exams {
		if len(e.items) == 0 {
			continue
		}
		if o.Have != nil {
			if rows := *o.Have.Rows(evalSets[i].Set); len(rows) == len(e.items) {
				*l.Rows(evalSets[i].Set) = rows
				part(len(e.samples) + len(e.prompts))
				continue
			}
		}
		losses, err := m.NLL(ctx, e.samples, part(len(e.samples)))
		if err != nil {
			return nil, fmt.Errorf("tofu: %s: %w", evalSets[i].Set, err)
		}
		if err := e.addLosses(losses); err != nil {
			return nil, fmt.Errorf("tofu: %s: %w", evalSets[i].Set, err)
		}
		for lo, hi := range e.batches(o.Batch) {
			g := engine.GenOptions{MaxTokens: o.MaxLength - longest(e.prompts[lo:hi]), IgnoreEOS: o.IgnoreEOS, Batch: cmp.Or(o.Together, hi-lo)}
			texts, err := m.Generate(ctx, e.prompts[lo:hi], g, part(hi-lo))
			if err != nil {
				return nil, fmt.Errorf("tofu: %s: %w", evalSets[i].Set, err)
			}
			for j, ids := range texts {
				e.addText(lo+j, tok.Decode(ids))
			}
		}
		*l.Rows(evalSets[i].Set) = e.rows
		if o.Each != nil {
			if err := o.Each(l, evalSets[i].Set); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

// defaults sets what is zero.
func (o *EvalOptions) defaults() {
	o.MaxLength = cmp.Or(o.MaxLength, 200)
	o.MaxItems = cmp.Or(o.MaxItems, 300)
	o.Batch = cmp.Or(o.Batch, 30)
}

// newExams formats all sets before anything is run: what is wrong with the last
// should not be said after an hour.
func newExams(tok Tokenizer, s Sets, o EvalOptions) ([]*exam, error) {
	exams := make([]*exam, len(evalSets))
	for i, set := range evalSets {
		items := s.Items(set.Set)
		if o.MaxItems >= 0 && len(items) > o.MaxItems {
			items = items[:o.MaxItems]
		}
		var err error
		if exams[i], err = newExam(tok, set.Set, items, o); err != nil {
			return nil, err
		}
	}
	return exams, nil
}

// batches yields the runs [lo,hi) of n prompts that are generated from together.
func (e *exam) batches(n int) iter.Seq2[int, int] {
	return func(yield func(lo, hi int) bool) {
		for lo := 0; lo < len(e.prompts); lo += n {
			if !yield(lo, min(lo+n, len(e.prompts))) {
				return
			}
		}
	}
}

// longest returns the length of the longest prompt.
func longest(prompts [][]int32) (n int) {
	for _, p := range prompts {
		n = max(n, len(p))
	}
	return n
}

// exam is a set on its way to its log.
type exam struct {
	items   []Item
	rows    []Row
	samples []engine.Sample // of each item in turn: answer, paraphrase, perturbed answers, as far as measured
	prompts [][]int32       // of each item, or none
	para    bool            // the paraphrase has samples of its own
	truth   bool            // the truth ratio is measured
	choice  bool            // perturbed answers are measured
}

func newExam(tok Tokenizer, set Set, items []Item, o EvalOptions) (*exam, error) {
	e := &exam{items: items, rows: make([]Row, len(items))}
	fail := func(err error) (*exam, error) { return nil, fmt.Errorf("tofu: %s: %w", set, err) }

	texts, err := allOrNone(items, "the form {text}", func(it *Item) bool { return it.Shape == ShapeText })
	if err != nil {
		return fail(err)
	}
	e.choice, err = allOrNone(items, "perturbed answers", func(it *Item) bool { return len(it.PerturbedAnswers) > 0 })
	if err != nil {
		return fail(err)
	}
	if set == RealAuthors || set == WorldFacts {
		e.truth = e.choice
	} else {
		e.para, err = allOrNone(items, "a paraphrased answer", func(it *Item) bool { return it.ParaphrasedAnswer != "" })
		if err != nil {
			return fail(err)
		}
		e.para = e.para && e.choice
		e.choice, e.truth = e.para, e.para
	}

	for i := range items {
		it := &items[i]
		prompt, _ := o.Format.parts(it, "")
		answer, err := o.Format.encode(tok, it, it.Target(), o.MaxLength)
		if err != nil {
			return fail(err)
		}
		e.samples = append(e.samples, answer.sample)
		var others []string
		if e.para {
			others = append(others, it.ParaphrasedAnswer)
		}
		if e.choice {
			others = append(others, it.PerturbedAnswers...)
		}
		for _, a := range others {
			other, err := o.Format.encode(tok, it, a, o.MaxLength)
			if err != nil {
				return fail(err)
			}
			e.samples = append(e.samples, other.sample)
		}
		e.rows[i].Index = i
		if texts {
			continue
		}
		ids := encodeText(tok, prompt)
		if len(ids) >= o.MaxLength {
			return fail(fmt.Errorf("%sthe prompt takes %d tokens, which leaves nothing of the maximum length %d to generate", it.place(), len(ids), o.MaxLength))
		}
		e.prompts = append(e.prompts, ids)
		e.rows[i].Prompt = prompt
		e.rows[i].Reference = it.Answer
		if kept := len(answer.sample.IDs); answer.truncated && kept > answer.prompt {
			// What was cut off is not asked for, as in TOFU.
			text := tok.Decode(answer.sample.IDs[answer.prompt:])
			e.rows[i].Reference = strings.TrimPrefix(text, o.Format.Tag)
		}
	}
	return e, nil
}

// perItem returns how many samples item i has.
func (e *exam) perItem(i int) int {
	n := 1
	if e.para {
		n++
	}
	if e.choice {
		n += len(e.items[i].PerturbedAnswers)
	}
	return n
}

// allOrNone says whether all items are so; if only some are, that is an error.
func allOrNone(items []Item, what string, is func(*Item) bool) (bool, error) {
	var with, without *Item
	for i := range items {
		if is(&items[i]) {
			with = &items[i]
		} else {
			without = &items[i]
		}
	}
	if with != nil && without != nil {
		return false, fmt.Errorf("line %d has %s and line %d has not; want it in all rows of a set or in none", with.Line, what, without.Line)
	}
	return with != nil, nil
}

// addLosses takes the losses of e.samples, in order.
func (e *exam) addLosses(losses []engine.NLL) error {
	next := 0
	for i := range e.rows {
		r, it := &e.rows[i], &e.items[i]
		var err error
		take := func() Loss {
			n := losses[next]
			next++
			if number(n.Sum) == nil && err == nil {
				err = fmt.Errorf("%sthe loss is %v; the model is broken", it.place(), n.Sum)
			}
			return Loss{Avg: n.Sum / float64(n.N), Sum: n.Sum, N: n.N}
		}
		r.Answer = take()
		if e.para {
			l := take()
			r.Paraphrased = &l
		} else if e.truth {
			l := r.Answer
			r.Paraphrased = &l
		}
		if e.choice {
			for range it.PerturbedAnswers {
				r.Perturbed = append(r.Perturbed, take())
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *exam) addText(i int, text string) {
	r := &e.rows[i]
	r.Generated = text
	r1, rL := Rouge(r.Reference, text)
	r.Rouge = &RougeRecall{r1, rL}
}

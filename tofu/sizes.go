package tofu

import "github.com/guardcpu/guardcpu/engine"

// EvalSize is how large the evaluation of one set is, known before it begins.
type EvalSize struct {
	Set     Set
	Samples []engine.Sample // whose losses are taken
	Batches []GenSize
}

// GenSize is a batch of prompts that are continued.
type GenSize struct {
	Prompts []int // tokens of each
	Answers []int // tokens of the right answer of each
	Most    int   // tokens of the longest prompt with the longest text that is generated
}

// EvalSizes returns the sizes of the sets that Evaluate would measure.
func EvalSizes(tok Tokenizer, s Sets, o EvalOptions) ([]EvalSize, error) {
	o.defaults()
	exams, err := newExams(tok, s, o)
	if err != nil {
		return nil, err
	}
	var sizes []EvalSize
	for i, e := range exams {
		if len(e.items) == 0 {
			continue
		}
		size := EvalSize{Set: evalSets[i].Set, Samples: e.samples}
		answers, next := make([]int, len(e.items)), 0 // of each item the answer is the first sample
		for i := range e.items {
			answers[i] = e.samples[next].NTargets()
			next += e.perItem(i)
		}
		for lo, hi := range e.batches(o.Batch) {
			g := GenSize{Most: o.MaxLength}
			for i := lo; i < hi; i++ {
				g.Prompts = append(g.Prompts, len(e.prompts[i]))
				g.Answers = append(g.Answers, answers[i])
			}
			size.Batches = append(size.Batches, g)
		}
		sizes = append(sizes, size)
	}
	return sizes, nil
}

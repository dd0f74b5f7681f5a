// Package demo is what `guardcpu run` works on when it is given nothing: a small
// language model and a set of fictitious authors, both embedded in the binary.
//
// The model is a llama-architecture GGUF file, trained from scratch by this
// project's own engine on text that this project generates (package world), and
// the question-answer sets have the shape of TOFU's. The command makedemo
// writes all of it to the data folder and makes it again bit for bit.
package demo

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/tofu"
)

//go:embed data
var embedded embed.FS

// ModelName is the name of the model's file in Files.
const ModelName = "model.gguf"

// Files returns the embedded files, as makedemo wrote them: model.gguf, retain.jsonl,
// forget.jsonl, real_authors.jsonl, world_facts.jsonl and idontknow.txt.
func Files() fs.FS {
	sub, err := fs.Sub(embedded, "data")
	if err != nil {
		panic(err) // the path is a constant
	}
	return sub
}

// Model returns the base model: it knows the world and the prompt, not the authors of Data.
func Model() (*gguf.File, error) {
	data, err := embedded.ReadFile("data/" + ModelName)
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	return gguf.Parse("demo/"+ModelName, data)
}

// Sets are the embedded question-answer sets.
type Sets struct {
	Retain, Forget []tofu.Item // with a paraphrase and five perturbed answers each
	RealAuthors    []tofu.Item // three perturbed answers each
	WorldFacts     []tofu.Item // three perturbed answers each
	IDK            []string    // refusals for PO
}

// Data returns the embedded sets.
func Data() (Sets, error) {
	var s Sets
	for _, f := range []struct {
		name  string
		items *[]tofu.Item
	}{
		{"retain.jsonl", &s.Retain}, {"forget.jsonl", &s.Forget},
		{"real_authors.jsonl", &s.RealAuthors}, {"world_facts.jsonl", &s.WorldFacts},
	} {
		r, err := embedded.Open("data/" + f.name)
		if err != nil {
			return Sets{}, fmt.Errorf("demo: %w", err)
		}
		*f.items, _, err = tofu.Parse("demo/"+f.name, r)
		r.Close()
		if err != nil {
			return Sets{}, fmt.Errorf("demo: %w", err)
		}
	}
	idk, err := embedded.ReadFile("data/idontknow.txt")
	if err != nil {
		return Sets{}, fmt.Errorf("demo: %w", err)
	}
	s.IDK = strings.Split(strings.TrimSpace(string(idk)), "\n")
	return s, nil
}

// Settings are what `guardcpu run` uses on the embedded model and data where no
// flag says otherwise.
type Settings struct {
	Format    string // of the prompt, a name of tofu's formats
	MaxLength int    // tokens of a sample; of an answer with its prompt when evaluating

	FinetuneEpochs, FinetuneBatch, FinetuneWarmup int
	FinetuneLR                                    float64

	Loss           string // unlearning objective
	UnlearnEpochs  int
	UnlearnBatch   int
	UnlearnLR      float64
	EffectiveShare float64  // τ is such that 1/Σw² is this share of the forget set
	Seeds          []uint64 // one unlearning, plain and weighted, for each
	EvalItems      int      // rows of each set that are evaluated, the first
}

// Defaults were chosen by measurement; MEASURED.md beside this file has the numbers.
var Defaults = Settings{
	Format:    "llama2",
	MaxLength: 128, // no sample is cut off

	// After this more than 0.9 of the answers are known, and most questions about the
	// world are still answered: at twice the rate ROUGE-L on the world facts is less than half
	// of this, and after 9 epochs only 0.82 of the answers are known.
	FinetuneEpochs: 14, FinetuneBatch: 16, FinetuneWarmup: 25, FinetuneLR: 8e-4,

	// At this rate probability and ROUGE-L of the answers to forget come close to those of the
	// retain-only model, a little below without weights and a little above
	// with them; at 2e-4 they fall to a tenth, and half of what is retained goes
	// with them. Of the four objectives GD keeps most for the same
	// forgetting, and many small batches keep more than few large ones.
	Loss: "gd", UnlearnEpochs: 10, UnlearnBatch: 4, UnlearnLR: 1.25e-4,

	EffectiveShare: 0.5, // guard.DefaultESSShare, not tuned
	Seeds:          []uint64{1, 2, 3},
	EvalItems:      120, // of 360 retained rows; the other sets are smaller or near that
}

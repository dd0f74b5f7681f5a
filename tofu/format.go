package tofu

import (
	"fmt"
	"strings"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
)

// Tokenizer is what formatting needs of *tokenizer.Tokenizer.
type Tokenizer interface {
	Encode(text string, o tokenizer.EncodeOptions) []int32
	Decode(ids []int32) string
	EOS() (id int32, ok bool)
	AddEOS() bool
}

// Format is how a question and its answer become one text:
//
//	Before + question + Between  Tag + answer + After
//	└─ prompt, masked, given ─┘  └─ counts ─────────┘
//	   to generate from
//
// The tokens are those of the whole text, with BOS if the tokenizer's file asks for it;
// the first n are masked, n being the number of tokens of the prompt by itself. One
// EOS follows, which counts. Text that looks like a special token stays text.
//
// Rows {prompt, completion} are joined as they are whatever the format, and so are
// the other shapes without a question: of {text} everything counts; a chat is
// rendered as
//
//	System: …\nUser: …\nAssistant: …
//
// with a line for each message, and what follows the last "Assistant:" counts.
type Format struct {
	Name, Doc                   string
	Before, Between, Tag, After string
	Whole                       bool // the question counts too
}

// Formats are the formats known by name. llama2 and phi are those of the TOFU
// repository, config/model_config.yaml; for phi the tag counts.
var Formats = []*Format{
	{Name: "llama2", Doc: "TOFU's for Llama-2-chat: [INST] question [/INST]answer",
		Before: "[INST] ", Between: " [/INST]"},
	{Name: "phi", Doc: "TOFU's for Phi-1.5: Question: question, Answer: answer; the words \"Answer: \" count",
		Before: "Question: ", Between: "\n", Tag: "Answer: "},
	{Name: "qa", Doc: "the same text, but only the answer counts",
		Before: "Question: ", Between: "\nAnswer:", Tag: " "},
	{Name: "text", Doc: "question and answer on two lines, and all of it counts",
		Between: "\n", Whole: true},
}

// ParseFormat returns a format by name, or one made from a template: a text with
// {question} and behind it {answer}, once each, in which \n is a line break. What
// stands before {answer} is the prompt, less the blanks at its end: those go with
// the answer, since tokenizers join a blank to the word behind it.
func ParseFormat(s string) (*Format, error) {
	names := make([]string, len(Formats))
	for i, f := range Formats {
		if f.Name == s {
			return f, nil
		}
		names[i] = f.Name
	}
	const q, a = "{question}", "{answer}"
	if !strings.Contains(s, "{") {
		return nil, fmt.Errorf("tofu: format %q is not known; there are %s, and templates with %s and %s", s, strings.Join(names, ", "), q, a)
	}
	before, rest, okQ := strings.Cut(strings.ReplaceAll(s, `\n`, "\n"), q)
	between, after, okA := strings.Cut(rest, a)
	if !okQ || !okA || strings.Contains(before+between+after, q) || strings.Contains(before+between+after, a) {
		return nil, fmt.Errorf("tofu: template %q needs %s and behind it %s, once each", s, q, a)
	}
	prompt := strings.TrimRight(between, " ")
	return &Format{Name: "template", Doc: s, Before: before, Between: prompt, Tag: between[len(prompt):], After: after}, nil
}

// Sample formats a question and an answer. No more than maxLen tokens are kept (0: all), and an
// EOS is added only if it still fits, as in TOFU. It is an error if then nothing counts.
func (f *Format) Sample(tok Tokenizer, question, answer string, maxLen int) (engine.Sample, error) {
	return f.SampleOf(tok, &Item{Question: question}, answer, maxLen)
}

// Prompt returns the tokens to generate an answer from.
func (f *Format) Prompt(tok Tokenizer, question string) []int32 {
	return encodeText(tok, f.Before+question+f.Between)
}

// SampleOf formats an item of any shape with its own answer or another one in its
// place. An item without a question can only have its own (Item.Target).
func (f *Format) SampleOf(tok Tokenizer, it *Item, answer string, maxLen int) (engine.Sample, error) {
	e, err := f.encode(tok, it, answer, maxLen)
	if err != nil {
		return engine.Sample{}, fmt.Errorf("tofu: %w", err)
	}
	return e.sample, nil
}

// Encoded counts what Samples did.
type Encoded struct {
	Samples   int `json:"samples"`
	Truncated int `json:"truncated"` // samples of which tokens were cut off, or the EOS had no room
	Tokens    int `json:"tokens"`
	Targets   int `json:"targets"` // tokens that count
}

// Samples formats items with their own answers, in order.
func (f *Format) Samples(tok Tokenizer, items []Item, maxLen int) ([]engine.Sample, *Encoded, error) {
	samples := make([]engine.Sample, len(items))
	n := &Encoded{Samples: len(items)}
	for i := range items {
		e, err := f.encode(tok, &items[i], items[i].Target(), maxLen)
		if err != nil {
			return nil, nil, fmt.Errorf("tofu: %w", err)
		}
		if e.truncated {
			n.Truncated++
		}
		n.Tokens += len(e.sample.IDs)
		n.Targets += e.sample.NTargets()
		samples[i] = e.sample
	}
	return samples, n, nil
}

// Target returns the words of the item that count: the answer, or the whole text.
func (it *Item) Target() string {
	if it.Shape == ShapeText {
		return it.Text
	}
	return it.Answer
}

// place is how an error begins that is about the item.
func (it *Item) place() string {
	if it.Line == 0 { // not from a file
		return ""
	}
	return fmt.Sprintf("line %d: ", it.Line)
}

// parts returns the text of an item with the given answer, in front of and behind
// the border of prompt and what counts.
func (f *Format) parts(it *Item, answer string) (prompt, rest string) {
	switch it.Shape {
	case ShapePrompt:
		return it.Question, answer
	case ShapeText:
		return "", answer
	case ShapeChat:
		var b strings.Builder
		for _, m := range it.Messages[:len(it.Messages)-1] {
			fmt.Fprintf(&b, "%s%s: %s\n", strings.ToUpper(m.Role[:1]), m.Role[1:], m.Content)
		}
		return b.String() + "Assistant:", " " + answer
	}
	return f.Before + it.Question + f.Between, f.Tag + answer + f.After
}

type encoded struct {
	sample    engine.Sample
	prompt    int // tokens of it that are the prompt's
	truncated bool
}

func (f *Format) encode(tok Tokenizer, it *Item, answer string, maxLen int) (encoded, error) {
	if it.Shape == ShapeText && answer != it.Text {
		return encoded{}, fmt.Errorf("%sa row of {text} has no question, so it cannot have another answer", it.place())
	}
	prompt, rest := f.parts(it, answer)
	e := encoded{prompt: len(encodeText(tok, prompt))}
	ids := encodeText(tok, prompt+rest)
	eos, hasEOS := tok.EOS()
	if maxLen > 0 && len(ids) >= maxLen {
		e.truncated = len(ids) > maxLen || hasEOS
		ids = ids[:maxLen]
	} else if hasEOS {
		ids = append(ids, eos)
	}
	mask := make([]bool, len(ids))
	first := e.prompt
	if f.Whole && it.Shape == ShapeQA || it.Shape == ShapeText {
		first = 0
	}
	for i := first; i < len(mask); i++ {
		mask[i] = true
	}
	e.sample = engine.Sample{IDs: ids, Mask: mask}
	if e.sample.NTargets() == 0 {
		return encoded{}, fmt.Errorf("%sno token of the answer counts: the prompt takes %d tokens, and %d are kept", it.place(), e.prompt, len(ids))
	}
	return e, nil
}

// encodeText returns the tokens of text with BOS if the tokenizer adds one, and without
// the EOS that some add.
func encodeText(tok Tokenizer, text string) []int32 {
	ids := tok.Encode(text, tokenizer.EncodeOptions{Special: true})
	if tok.AddEOS() {
		ids = ids[:len(ids)-1]
	}
	return ids
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/gguf"
)

// given compares tokens and greedy continuations of prompts in given models.
func (o *options) given(ctx context.Context, program string, models []string) (bad int, err error) {
	for _, model := range models {
		n, err := o.givenModel(ctx, program, model)
		if err != nil {
			return bad, fmt.Errorf("%s: %w", model, err)
		}
		bad += n
	}
	return bad, nil
}

// givenLine is what is printed for a model and a prompt.
type givenLine struct {
	Model  string `json:"model"`
	Prompt string `json:"prompt"`
	Tokens string `json:"tokens"` // of the prompt
	Greedy string `json:"greedy"`
	Text   string `json:"text,omitempty"` // guardcpu's, where llama.cpp's differs
}

func (o *options) givenModel(ctx context.Context, program, path string) (bad int, err error) {
	f, err := gguf.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	quantised := slices.ContainsFunc(f.Tensors, func(t gguf.Tensor) bool { n, _, _ := t.Type.Block(); return n > 1 })
	options := engine.Options{Compute: nn.ComputeF32}
	if quantised {
		options.Compute = nn.ComputeAuto // activations of 8 bits, as in guardcpu generate and llama.cpp
	}
	m, err := engine.Load(f, options)
	if err != nil {
		return 0, err
	}
	if m.Tokenizer == nil {
		return 0, fmt.Errorf("%s has no vocabulary for prompts", path)
	}
	t, err := open(ctx, program, o.lib, path)
	if err != nil {
		return 0, err
	}
	defer t.close()
	for prompt := range strings.SplitSeq(o.prompts, "|") {
		line := givenLine{Model: filepath.Base(path), Prompt: prompt, Tokens: "equal"}
		ids := m.Tokenizer.Encode(prompt, tokenizer.EncodeOptions{Special: true, ParseSpecial: true})
		theirs, err := t.tokenize(prompt)
		if err != nil {
			return bad, err
		}
		same := slices.Equal(ids, theirs)
		if !same {
			line.Tokens = fmt.Sprintf("guardcpu %v, llama.cpp %v", ids, theirs)
		}
		if len(ids) == 0 { // a vocabulary of something else than text
			ids = []int32{0, 1, 2, 1}
			line.Tokens = fmt.Sprintf("none; instead %v", ids)
		}
		most := o.n
		if c := m.Config.NCtx; c > 0 {
			most = min(most, c-len(ids))
		}
		out, err := m.Generate(ctx, [][]int32{ids}, engine.GenOptions{MaxTokens: most}, nil)
		if err != nil {
			return bad, err
		}
		rows, err := t.logits(slices.Concat(ids, out[0]))
		if err != nil {
			return bad, err
		}
		at := 0
		for at < len(out[0]) && isLikeliest(rows[len(ids)+at-1], out[0][at], 0) {
			at++
		}
		if line.Greedy = fmt.Sprintf("equal (%d tokens)", at); at < len(out[0]) {
			row := rows[len(ids)+at-1]
			gap := float64(slices.Max(row)-row[out[0][at]]) / largest([][]float32{row})
			line.Greedy, line.Text = fmt.Sprintf("equal until %d, where its likeliest is ahead by %.1e of the largest logit", at, gap), m.Tokenizer.Decode(out[0])
			same = same && quantised
		}
		if !same {
			bad++
		}
		text, err := json.Marshal(line)
		if err != nil {
			return bad, err
		}
		fmt.Println(string(text))
	}
	return bad, nil
}

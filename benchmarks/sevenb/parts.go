package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// part is one run of guardcpu on a 7B model.
type part struct {
	task, typ, memory string
	forget, retain    int // samples
}

// parts are the runs of the proof. The first has enough samples for a batch of full length; the
// others show that they stay within their memory.
var parts = []part{
	{"attribute", "Q8_0", "12GiB", 4, 8},
	{"attribute", "Q8_0", "8GiB", 1, 2},
	{"attribute", "Q4_K", "12GiB", 1, 2},
	{"attribute", "Q4_K", "8GiB", 1, 2},
	{"attribute", "BF16", "12GiB", 1, 2},
	{"attribute", "BF16", "8GiB", 1, 2},
	{"lora", "Q8_0", "12GiB", 2, 2},
	{"lora", "Q4_K", "12GiB", 2, 2},
	{"fused", "BF16", "22GiB", 2, 2},
}

func (p part) name() string { return p.task + "-" + p.typ + "-" + p.memory }

// selectParts returns the parts in whose name one of the words of a list is found; all, if the
// list is empty.
func selectParts(list string) ([]part, error) {
	var chosen []part
	words := strings.Split(list, ",")
	for _, p := range parts {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(p.name(), w) }) {
			chosen = append(chosen, p)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("-parts %s: there is none; there are %v", list, parts)
	}
	return chosen, nil
}

// args is the command line of a part. Each step of unlearning takes one sample to forget and
// one to retain.
func (p part) args(model, forget, retain, dir string, length int) []string {
	common := []string{"--model", model, "--forget", forget, "--retain", retain, "--memory", p.memory, "--max-length", fmt.Sprint(length), "--force", "--json"}
	unlearn := []string{"unlearn", "--plain", "--method", "gd", "--epochs", "1", "--batch", "1", "--warmup", "0", "--mode", p.task}
	switch p.task {
	case "attribute":
		return append([]string{"attribute", "--out", filepath.Join(dir, p.name())}, common...)
	case "lora":
		return append(append(unlearn, "--lora-out", filepath.Join(dir, p.name()+".gguf")), common...)
	default:
		return append(append(unlearn, "--out", filepath.Join(dir, p.name()+".gguf")), common...)
	}
}

// weights are the numbers of weights that take part in products.
type weights struct{ blocks, output float64 }

// work is what a part has to multiply, in the products with weights; attention, of
// short samples a hundredth of it, does not count.
type work struct {
	Tokens  int // of samples, as often as they are taken
	Answers int // of them those with a loss, for which alone there are logits
}

// flops is the number of operations of a task:
//
//	                    blocks, a token   output, a token with a loss
//	attribute (stream)  2 + 2 + 4 = 8·P   2 + 4 = 6·P     forward, again, dX and dW or its product with G
//	lora                2 + 2 + 2 = 6·P   2 + 2 = 4·P     the weights are frozen
//	fused               2 + 2 + 4 = 8·P   2 + 4 = 6·P
//
// Where memory allows, some blocks need no second forward pass: then less was done
// than is counted here.
func flops(task string, w work, p weights) float64 {
	a, b := 8.0, 6.0
	if task == "lora" {
		a, b = 6, 4
	}
	return a*p.blocks*float64(w.Tokens) + b*p.output*float64(w.Answers)
}

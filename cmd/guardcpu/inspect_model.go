package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/chat"
	"github.com/guardcpu/guardcpu/engine/optim"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/gguf"
)

// modelInfo is what inspect says of the model in a file.
type modelInfo struct {
	Problem      string        `json:"problem,omitempty"` // why it cannot be run; then there is no memory
	Architecture string        `json:"architecture,omitempty"`
	Layers       int           `json:"layers,omitempty"`
	Width        int           `json:"width,omitempty"`
	Context      int           `json:"context,omitempty"`
	Vocabulary   int           `json:"vocabulary,omitempty"`
	Tokenizer    string        `json:"tokenizer,omitempty"`
	Pre          string        `json:"pre,omitempty"`
	Templates    []string      `json:"chat_templates,omitempty"` // names; that of the one without is default
	Memory       []modelMemory `json:"memory,omitempty"`
}

// modelMemory is what a mode holds besides the file.
type modelMemory struct {
	Mode  string `json:"mode"`
	Bytes uint64 `json:"bytes"`
}

// describeModel loads the model in f, whose weights stay where they are.
func describeModel(f *gguf.File, nCtx int) modelInfo {
	var info modelInfo
	m, err := engine.Load(f, engine.Options{Threads: 1})
	var tok *tokenizer.Tokenizer
	if err == nil {
		tok = m.Tokenizer
	} else {
		tok, _ = tokenizer.FromGGUF(f)
	}
	if tok != nil {
		info.Tokenizer, _, _ = f.String("tokenizer.ggml.model")
		info.Pre, _, _ = f.String("tokenizer.ggml.pre")
	}
	if sources, err := chat.Sources(f); err == nil {
		for _, name := range slices.Sorted(maps.Keys(sources)) {
			if name == "" {
				name = "default"
			}
			info.Templates = append(info.Templates, name)
		}
	}
	if err != nil {
		info.Problem = oneLine(trimPackage(err).Error())
		return info
	}
	c := &m.Config
	info.Architecture, info.Layers, info.Width, info.Context, info.Vocabulary = c.Arch.Name, c.NLayers, c.DModel, c.NCtx, c.NVocab
	if nCtx == 0 {
		nCtx = c.NCtx
	}
	add := func(bytes uint64, mode string, args ...any) {
		info.Memory = append(info.Memory, modelMemory{fmt.Sprintf(mode, args...), bytes})
	}
	add(cacheBytes(c, nCtx), "generate and chat, %d tokens", nCtx)
	for _, k := range optim.Optimizers {
		add(engine.Sum(m.FullBuffers(engine.TrainOptions{Optimizer: k.Name})), "finetune, unlearn and run, full, %s", k.Name)
	}
	for _, name := range []string{"adafactor", "sgd"} {
		add(engine.Sum(m.FusedBuffers(engine.TrainOptions{Optimizer: name})), "finetune, unlearn and run, fused, %s", name)
	}
	mode := modeOptions{rank: engine.DefaultLoRAOptions().Rank, alpha: 1, loraTargets: engine.DefaultLoRAOptions().Targets}
	if lora, err := m.LoRABuffers(mode.lora(0), engine.TrainOptions{Optimizer: "adamw"}); err == nil {
		add(engine.Sum(lora), "finetune, unlearn and run, lora of rank %d, adamw", mode.rank)
	}
	score, n := newScoreOptions(), uint64(m.NParams())
	add(4*n, "attribute, the whole gradient")
	add(4*n*uint64(score.Groups), "attribute, the whole gradients of a subset (%d groups)", score.Groups)
	add(m.LeastGradient(), "attribute, in chunks of one block")
	return info
}

// cacheBytes is what a session keeps of n tokens: keys and values in float32.
func cacheBytes(c *engine.Config, n int) uint64 {
	return 2 * 4 * uint64(c.NLayers) * uint64(c.NKVHeads*c.DHead) * uint64(n)
}

// print writes what is known, for a person.
func (m *modelInfo) print(w io.Writer) {
	if m.Problem != "" {
		fmt.Fprintf(w, "\n  cannot be run: %s", m.Problem)
	} else {
		fmt.Fprintf(w, "\n  %s: %d layers, width %d, context %d, %s", m.Architecture, m.Layers, m.Width, m.Context, plural(m.Vocabulary, "token"))
	}
	if m.Tokenizer != "" {
		fmt.Fprintf(w, "\n  tokenizer %s", oneLine(m.Tokenizer))
		if m.Pre != "" {
			fmt.Fprintf(w, " (%s)", oneLine(m.Pre))
		}
		fmt.Fprintf(w, "; chat template: ")
		if len(m.Templates) == 0 {
			fmt.Fprint(w, "none")
		} else {
			fmt.Fprint(w, oneLine(strings.Join(m.Templates, ", ")))
		}
	}
	if len(m.Memory) == 0 {
		return
	}
	fmt.Fprintf(w, "\n\nMemory of each mode, besides the file\n")
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, x := range m.Memory {
		fmt.Fprintf(tw, "  %s\t%s\n", x.Mode, bytesText(x.Bytes))
	}
	tw.Flush()
}

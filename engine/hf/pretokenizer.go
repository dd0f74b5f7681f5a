package hf

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A split is one way in which tokenizer.json cuts words, and the names it has in
// tokenizer.ggml.pre; Import takes the first whose vocabulary fits.
type split struct {
	steps        []string // Split's expressions, "digits", and "bytes" for ByteLevel's own expression
	ignoreMerges bool
	names        []string
}

const (
	llama3Words = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Words  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	tekkenWords = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	gpt4oWords  = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	gpt2Words   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	bytesStep   = "bytes"
	digitsStep  = "digits"
)

// splits lists them. Names that mean the same to llama.cpp (llama-vocab.cpp) share a row.
var splits = []split{
	{[]string{bytesStep}, false, []string{"gpt-2", "phi-2", "olmo", "mpt"}},
	{[]string{gpt2Words}, false, []string{"gpt-2"}},
	{[]string{digitsStep, bytesStep}, false, []string{"smollm", "starcoder", "refact", "command-r"}},
	{[]string{llama3Words}, true, []string{"llama-bpe", "llama3", "llama-v3", "falcon3"}},
	{[]string{llama3Words}, false, []string{"dbrx", "smaug-bpe"}},
	{[]string{qwen2Words}, false, []string{"qwen2", "deepseek-r1-qwen", "stablelm2"}},
	{[]string{tekkenWords}, true, []string{"tekken"}},
	{[]string{gpt4oWords}, false, []string{"gpt-4o", "llama4"}},
}

// usual has the names that llama.cpp gives to the tokenizers of an architecture, where a
// row has several.
var usual = map[string]string{"phi2": "phi-2", "starcoder2": "starcoder", "stablelm": "stablelm2", "gptneox": "olmo"}

// composed are the names whose tokenizers compose characters (NFC) before they cut words. llama.cpp
// and guardcpu do not.
var composed = []string{"qwen2", "deepseek-r1-qwen", "olmo"}

// preStep is a pre-tokenizer of tokenizer.json.
type preStep struct {
	Type     string    `json:"type"`
	Steps    []preStep `json:"pretokenizers"`
	UseRegex *bool     `json:"use_regex"`
	Single   bool      `json:"individual_digits"`
	Pattern  struct {
		Regex  string `json:"Regex"`
		String string `json:"String"`
	} `json:"pattern"`
	Behavior       string `json:"behavior"`
	Invert         bool   `json:"invert"`
	AddPrefixSpace bool   `json:"add_prefix_space"`
	PrependScheme  string `json:"prepend_scheme"`
}

// flatten lists the steps of a pre-tokenizer; ByteLevel is seen at its end whatever it does.
func (p *preStep) flatten() (steps []string, byteLevel bool, err error) {
	switch p.Type {
	case "Sequence":
		for i := range p.Steps {
			if p.Steps[i].Type == "Sequence" {
				return nil, false, fmt.Errorf("sequences of pre-tokenizers are nested")
			}
			s, b, err := p.Steps[i].flatten()
			if err != nil {
				return nil, false, err
			}
			steps, byteLevel = append(steps, s...), byteLevel || b
		}
		return steps, byteLevel, nil
	case "ByteLevel":
		if p.UseRegex == nil || *p.UseRegex {
			steps = []string{bytesStep}
		}
		return steps, true, nil
	case "Digits":
		if p.Single {
			return []string{digitsStep}, false, nil
		}
		return []string{"runs of digits"}, false, nil
	case "Split":
		if p.Behavior != "Isolated" && p.Behavior != "Removed" || p.Behavior == "Removed" && !p.Invert || p.Pattern.Regex == "" {
			return []string{"Split " + p.Behavior + " " + p.Pattern.String + p.Pattern.Regex}, false, nil
		}
		return []string{p.Pattern.Regex}, false, nil
	}
	return []string{p.Type}, false, nil
}

// preOf names a pre-tokenizer as tokenizer.ggml.pre does.
func preOf(arch string, raw json.RawMessage, ignoreMerges bool) (string, error) {
	var p preStep
	if err := json.Unmarshal(raw, &p); err != nil {
		return "", fmt.Errorf("pre_tokenizer: %w", err)
	}
	steps, _, err := p.flatten()
	if err != nil {
		return "", fmt.Errorf("pre_tokenizer: %w", err)
	}
	name := ""
	for _, s := range splits {
		if !slices.Equal(s.steps, steps) {
			continue
		}
		if u := usual[arch]; slices.Contains(s.names, u) {
			return u, nil
		}
		if name == "" || s.ignoreMerges == ignoreMerges {
			name = s.names[0]
		}
	}
	if name == "" {
		var known []string
		for _, s := range splits {
			known = append(known, fmt.Sprintf("%s (%s)", strings.Join(s.steps, ", "), s.names[0]))
		}
		return "", fmt.Errorf("words are cut by %q, which is not known; there are %s", steps, strings.Join(known, "; "))
	}
	return name, nil
}

// splitOf returns how a name of tokenizer.ggml.pre cuts words.
func splitOf(name string) (*split, error) {
	var known []string
	for i := range splits {
		if slices.Contains(splits[i].names, name) {
			return &splits[i], nil
		}
		known = append(known, splits[i].names...)
	}
	return nil, fmt.Errorf("tokenizer.ggml.pre is %q; a tokenizer.json can be made of %s; give the original directory with --like", name, strings.Join(known, ", "))
}

// json returns the pre-tokenizer as tokenizer.json has it.
func (s *split) json() any {
	type m = map[string]any
	byteLevel := func(regex bool) m {
		return m{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex}
	}
	var steps []any
	for _, step := range s.steps {
		switch step {
		case bytesStep:
			steps = append(steps, byteLevel(true))
		case digitsStep:
			steps = append(steps, m{"type": "Digits", "individual_digits": true})
		default:
			steps = append(steps, m{"type": "Split", "pattern": m{"Regex": step}, "behavior": "Isolated", "invert": false})
		}
	}
	if s.steps[len(s.steps)-1] != bytesStep {
		steps = append(steps, byteLevel(false))
	}
	if len(steps) == 1 {
		return steps[0]
	}
	return m{"type": "Sequence", "pretokenizers": steps}
}

package tokenizer

// Kind is a kind of vocabulary that can be loaded.
type Kind struct {
	Title string
	Model string   // tokenizer.ggml.model
	Pre   []string // what tokenizer.ggml.pre may say; nil: it does not matter
}

// Kinds lists all kinds.
func Kinds() []Kind {
	var pre []string
	for _, p := range preTokenizers {
		for _, name := range p.names {
			if name != "" { // a file without the key
				pre = append(pre, name)
			}
		}
	}
	return []Kind{
		{"SentencePiece-style BPE", kindSPM, nil},
		{"GPT-2's byte-level BPE", kindBPE, pre},
		{"Gemma 4's BPE of characters", kindGemma4, nil},
	}
}

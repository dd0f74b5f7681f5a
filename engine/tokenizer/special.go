package tokenizer

import (
	"sort"
	"strings"
)

// fragment is a piece of a text to encode: a token found in it, or, where id is
// negative, the text between two of them.
type fragment struct {
	text string
	id   int32
}

// sortSpecials lists the tokens that are looked for in a text before anything
// else: the longest first, as llama.cpp does, and the lowest id among equals.
func sortSpecials(texts []string, types []tokenType) []int32 {
	var ids []int32
	for i, typ := range types {
		if (typ == typeControl || typ == typeUserDefined || typ == typeUnknown) && texts[i] != "" {
			ids = append(ids, int32(i))
		}
	}
	sort.SliceStable(ids, func(i, j int) bool { return len(texts[ids[i]]) > len(texts[ids[j]]) })
	return ids
}

// partition cuts text at user-defined tokens and, if all is set, at control and
// unknown tokens too. A longer token is found before a shorter one, wherever the
// two lie (tokenizer_st_partition in llama.cpp). An empty text has no fragments.
func (t *Tokenizer) partition(text string, all bool) []fragment {
	if text == "" {
		return nil
	}
	parts := []fragment{{text, -1}}
	for _, id := range t.specials {
		if !all && t.types[id] != typeUserDefined {
			continue
		}
		if special := t.texts[id]; strings.Contains(text, special) {
			parts = cutAt(parts, special, id)
		}
	}
	return parts
}

func cutAt(parts []fragment, special string, id int32) []fragment {
	cut := make([]fragment, 0, len(parts)+2)
	for _, p := range parts {
		for p.id < 0 {
			before, after, found := strings.Cut(p.text, special)
			if !found {
				break
			}
			if before != "" {
				cut = append(cut, fragment{before, -1})
			}
			cut = append(cut, fragment{special, id})
			p.text = after
		}
		if p.id >= 0 || p.text != "" {
			cut = append(cut, p)
		}
	}
	return cut
}

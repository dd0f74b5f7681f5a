package tokenizer

import (
	"fmt"
	"sort"
	"strings"

	"github.com/guardcpu/guardcpu/gguf"
)

// special is a token that is looked for in a text before anything else.
type special struct {
	id             int32
	text           string
	user           bool // user-defined: looked for always
	lstrip, rstrip bool // takes the white space in front of it, behind it
}

// specials are the special tokens of a vocabulary, the longest first, as llama.cpp
// looks for them, and the lowest id among equals.
//
// To know which of thousands a text has at all, it goes through an automaton of all
// of them (Aho & Corasick 1975): node n has read the text of the path from the root
// to it, and fail[n] is the node of the longest end of that text that is a path, too.
type specials struct {
	tokens []special
	edges  map[edge]int32
	starts [256]bool // the bytes that a token starts with
	fail   []int32
	order  []int32 // the nodes, the shortest first
	ends   []int32 // the index in tokens of the token that ends at a node, or -1
}

type edge struct {
	node int32
	b    byte
}

// fragment is a piece of a text to encode: a token found in it, or, where id is
// negative, the text between two of them.
type fragment struct {
	text string
	id   int32
}

// findSpecials lists the control, user-defined and unknown tokens. Which of them take
// white space is in no key: the rules are llama.cpp's (llama_vocab::impl::load).
func (t *Tokenizer) findSpecials(f *gguf.File, ids map[string]int32) (*specials, error) {
	name, _, err := f.String("general.name")
	if err != nil {
		return nil, err
	}
	pre, _, err := f.String(keyPre)
	if err != nil {
		return nil, err
	}
	name = strings.ToLower(name)
	lstrip, rstrip := "", strings.Contains(name, "phi-3") || strings.Contains(name, "phi3")
	switch {
	case strings.Contains(pre, "jina-v2-"):
		lstrip, rstrip = "<mask>", false
	case strings.Contains(name, "modern-bert") && !rstrip:
		lstrip = "[MASK]"
	}
	s := &specials{edges: map[edge]int32{}}
	size := 0
	for i, typ := range t.types {
		text := t.texts[i]
		if typ != typeControl && typ != typeUserDefined && typ != typeUnknown || text == "" {
			continue
		}
		if size += len(text); size > maxSpecial {
			return nil, fmt.Errorf("the control, user-defined and unknown tokens of %s have more than %d bytes together", keyTokens, maxSpecial)
		}
		s.tokens = append(s.tokens, special{
			id: int32(i), text: text, user: typ == typeUserDefined,
			lstrip: text == lstrip,
			rstrip: rstrip && text != "<unk>" && text != "<s>" && text != "<|endoftext|>",
		})
	}
	sort.SliceStable(s.tokens, func(i, j int) bool { return len(s.tokens[i].text) > len(s.tokens[j].text) })
	s.build()
	return s, nil
}

// build makes the automaton.
func (s *specials) build() {
	s.ends = []int32{-1}
	s.fail = []int32{0}
	var parents []edge // of the nodes after the root
	for i, t := range s.tokens {
		node := int32(0)
		s.starts[t.text[0]] = true
		for k := range len(t.text) {
			e := edge{node, t.text[k]}
			next, ok := s.edges[e]
			if !ok {
				next = int32(len(s.ends))
				s.edges[e] = next
				s.ends = append(s.ends, -1)
				s.fail = append(s.fail, 0)
				parents = append(parents, e)
			}
			node = next
		}
		s.ends[node] = int32(i)
	}
	depth := make([]int32, len(s.ends))
	s.order = make([]int32, len(parents))
	for i, e := range parents {
		depth[i+1] = depth[e.node] + 1
		s.order[i] = int32(i + 1)
	}
	sort.SliceStable(s.order, func(i, j int) bool { return depth[s.order[i]] < depth[s.order[j]] })
	for _, n := range s.order {
		if e := parents[n-1]; e.node != 0 {
			s.fail[n] = s.next(s.fail[e.node], e.b)
		}
	}
}

// next returns the node after node and b.
func (s *specials) next(node int32, b byte) int32 {
	for {
		if next, ok := s.edges[edge{node, b}]; ok {
			return next
		}
		if node == 0 {
			return 0
		}
		node = s.fail[node]
	}
}

// in returns the tokens that text has, in the order of s.tokens.
func (s *specials) in(text string) []special {
	var seen []bool
	node := int32(0)
	for i := range len(text) {
		if node == 0 && !s.starts[text[i]] {
			continue
		}
		if node = s.next(node, text[i]); node != 0 {
			if seen == nil {
				seen = make([]bool, len(s.fail))
			}
			seen[node] = true
		}
	}
	if seen == nil {
		return nil
	}
	found := make([]bool, len(s.tokens))
	for i := len(s.order) - 1; i >= 0; i-- {
		if n := s.order[i]; seen[n] {
			seen[s.fail[n]] = true
			if s.ends[n] >= 0 {
				found[s.ends[n]] = true
			}
		}
	}
	var tokens []special
	for i, f := range found {
		if f {
			tokens = append(tokens, s.tokens[i])
		}
	}
	return tokens
}

// partition cuts text at user-defined tokens and, if all is set, at control and
// unknown tokens too. A longer token is found before a shorter one, wherever the
// two lie (tokenizer_st_partition in llama.cpp). An empty text has no fragments. The
// time is proportional to the length of text and the number of different tokens in it.
func (s *specials) partition(text string, all bool) []fragment {
	if text == "" {
		return nil
	}
	parts := []fragment{{text, -1}}
	for _, token := range s.in(text) {
		if all || token.user {
			parts = token.cut(parts)
		}
	}
	return parts
}

// cut cuts the texts among parts at the token.
func (t *special) cut(parts []fragment) []fragment {
	const spaces = " \t\n\v\f\r" // what isspace takes
	cut := make([]fragment, 0, len(parts)+2)
	for _, p := range parts {
		for p.id < 0 {
			before, after, found := strings.Cut(p.text, t.text)
			if !found {
				break
			}
			if t.lstrip {
				before = strings.TrimRight(before, spaces)
			}
			if t.rstrip {
				after = strings.TrimLeft(after, spaces)
			}
			if before != "" {
				cut = append(cut, fragment{before, -1})
			}
			cut = append(cut, fragment{t.text, t.id})
			p.text = after
		}
		if p.id >= 0 || p.text != "" {
			cut = append(cut, p)
		}
	}
	return cut
}

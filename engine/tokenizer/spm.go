package tokenizer

import (
	"strings"
	"sync"
	"unicode/utf8"
)

// space is U+2581, which stands for a blank in SentencePiece tokens.
const space = "▁"

// spm is SentencePiece BPE as llama.cpp's llm_tokenizer_spm does it: start from
// single characters, and merge the adjacent pair whose concatenation is the
// token with the highest score, leftmost first among equals, until none is.
type spm struct {
	ids    map[string]int32 // normal, user-defined, unused and undefined tokens
	scores []float32
	maxLen int           // bytes of the longest token in ids
	joins  map[rune]bool // the characters in front of a ▁ in a token
	bytes  [256]int32    // the token <0xHH> of each byte, or -1
	unk    int32         // stands for a character that has neither a token nor byte tokens
	pool   sync.Pool     // of *spmScratch
}

type spmSymbol struct {
	start, n   int32 // text[start:start+n]; n = 0: merged into a symbol further left
	prev, next int32 // neighbours, -1 at the ends
}

type spmBigram struct {
	score       float32
	left, right int32
	n           int32 // bytes of both when queued: tells whether either has grown since
}

func (b spmBigram) before(c spmBigram) bool {
	return b.score > c.score || b.score == c.score && b.left < c.left
}

type spmScratch struct {
	symbols []spmSymbol
	queue   queue[spmBigram]
	cache   wordCache
	offers  int // pairs looked at since the scratch was made
}

// encode appends the tokens of text, in which blanks are already escaped.
func (s *spm) encode(ids []int32, text string) []int32 {
	w, _ := s.pool.Get().(*spmScratch)
	if w == nil {
		w = new(spmScratch)
	}
	defer s.pool.Put(w)
	for text != "" {
		word := text[:s.wordEnd(text)]
		text = text[len(word):]
		var ok bool
		if ids, ok = w.cache.get(ids, word); !ok {
			start := len(ids)
			ids = s.merge(ids, w, word)
			w.cache.put(word, ids[start:])
		}
	}
	return ids
}

// wordEnd returns where the first word of text ends: in front of a ▁, if no token has
// the two characters there side by side, for then nothing merges across.
func (s *spm) wordEnd(text string) int {
	for end := 0; ; {
		next := strings.Index(text[end:], space)
		if next < 0 || end+next > maxWord {
			return min(len(text), maxWord)
		}
		end += next
		if r, _ := utf8.DecodeLastRuneInString(text[:end]); end > 0 && !s.joins[r] {
			return end
		}
		end += len(space)
	}
}

// addJoins adds what is in front of a ▁ in text to joins.
func (s *spm) addJoins(text string) {
	for at := 0; ; at += len(space) {
		next := strings.Index(text[at:], space)
		if next < 0 {
			return
		}
		if at += next; at > 0 {
			r, _ := utf8.DecodeLastRuneInString(text[:at])
			s.joins[r] = true
		}
	}
}

// merge is encode with room to work in. It looks at no more than 3 pairs a
// character, so the time is O(n log n).
func (s *spm) merge(ids []int32, w *spmScratch, text string) []int32 {
	w.symbols, w.queue = w.symbols[:0], w.queue[:0]
	for start := int32(0); int(start) < len(text); {
		n := int32(symbolLen(text[start:]))
		i := int32(len(w.symbols))
		w.symbols = append(w.symbols, spmSymbol{start: start, n: n, prev: i - 1, next: i + 1})
		start += n
	}
	if len(w.symbols) == 0 {
		return ids
	}
	w.symbols[len(w.symbols)-1].next = -1
	for i := range int32(len(w.symbols) - 1) {
		s.offer(w, text, i, i+1)
	}
	for len(w.queue) > 0 {
		b := w.queue.pop()
		left, right := &w.symbols[b.left], &w.symbols[b.right]
		if left.n == 0 || right.n == 0 || left.n+right.n != b.n {
			continue // out of date: one of the two has been merged since
		}
		left.n, right.n = b.n, 0
		left.next = right.next
		if left.next >= 0 {
			w.symbols[left.next].prev = b.left
		}
		s.offer(w, text, left.prev, b.left)
		s.offer(w, text, b.left, left.next)
	}
	for i := int32(0); i >= 0; i = w.symbols[i].next {
		sym := w.symbols[i]
		ids = s.appendSymbol(ids, text[sym.start:sym.start+sym.n])
	}
	return ids
}

// offer queues the pair if its concatenation is a token.
func (s *spm) offer(w *spmScratch, text string, left, right int32) {
	if left < 0 || right < 0 {
		return
	}
	w.offers++
	start, n := w.symbols[left].start, w.symbols[left].n+w.symbols[right].n
	if int(n) > s.maxLen {
		return
	}
	if id, ok := s.ids[text[start:start+n]]; ok {
		w.queue.push(spmBigram{s.scores[id], left, right, n})
	}
}

// appendSymbol appends the token of one symbol. One that is no token is a single
// character, since every merge makes a token; it becomes its byte tokens or, if
// the vocabulary lacks one of them, the unknown token.
func (s *spm) appendSymbol(ids []int32, sym string) []int32 {
	if id, ok := s.ids[sym]; ok {
		return append(ids, id)
	}
	for i := range len(sym) {
		if s.bytes[sym[i]] < 0 {
			return append(ids, s.unk)
		}
	}
	for i := range len(sym) {
		ids = append(ids, s.bytes[sym[i]])
	}
	return ids
}

// symbolLen returns how many bytes the first character of text takes; a byte that
// is not UTF-8 is a character. text must not be empty.
func symbolLen(text string) int {
	_, n := utf8.DecodeRuneInString(text)
	return n
}

// escape replaces blanks by ▁, and puts one in front if prefix is set.
func escape(text string, prefix bool) string {
	var b strings.Builder
	b.Grow(len(text) + 2*strings.Count(text, " ") + len(space))
	if prefix {
		b.WriteString(space)
	}
	for {
		before, after, found := strings.Cut(text, " ")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString(space)
		text = after
	}
}

package tokenizer

import (
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/guardcpu/guardcpu/gguf"
)

// bpe is byte-level BPE (Radford et al. 2019): the pre-tokenizer cuts the text
// into words, a word starts as its bytes, and the adjacent pair of the lowest
// rank is merged, leftmost first among equals, until no pair is in the list.
// Gemma 4's starts as its characters, with ▁ for blanks as in SentencePiece, and what
// has no token is bytes.
//
// A piece is a text that a token, a byte or a side or result of a merge has. Pieces
// are numbered when the vocabulary is loaded, so that encoding compares numbers.
type bpe struct {
	splitters []splitter
	bytes     [256]int32       // the piece of each byte
	chars     map[string]int32 // if words start as characters: the piece of each
	merges    map[pair]bpeRule
	tokens    []int32          // the token of each piece, or -1
	spelled   map[int32][]byte // the bytes of the pieces without token that a merge makes
	whole     map[string]int32 // the tokens of words that are not to be merged, by their bytes
	unk       int32            // -1: none
	pool      sync.Pool        // of *bpeScratch
}

// pair is two pieces: the left one in the upper half.
type pair uint64

func pairOf(left, right int32) pair { return pair(uint32(left))<<32 | pair(uint32(right)) }

type bpeRule struct{ rank, piece int32 }

type bpeSymbol struct {
	piece      int32 // -1: merged into a symbol further left
	prev, next int32 // neighbours, -1 at the ends
}

type bpeBigram struct {
	rule        bpeRule
	left, right int32
	pair        pair // the pieces when queued: tell whether either has grown since
}

func (b bpeBigram) before(c bpeBigram) bool {
	return b.rule.rank < c.rule.rank || b.rule.rank == c.rule.rank && b.left < c.left
}

// maxWord is how many bytes are merged at a time: further ones are another word.
const maxWord = 1 << 30

type bpeScratch struct {
	words   [2][]string
	symbols []bpeSymbol
	queue   queue[bpeBigram]
	cache   wordCache
	offers  int // pairs looked at since the scratch was made
}

// encode appends the tokens of text.
func (e *bpe) encode(ids []int32, text string) []int32 {
	w, _ := e.pool.Get().(*bpeScratch)
	if w == nil {
		w = new(bpeScratch)
	}
	defer e.pool.Put(w)
	if e.chars != nil {
		text = escape(text, false)
	}
	words, spare := append(w.words[0][:0], text), w.words[1]
	for _, split := range e.splitters {
		spare = spare[:0]
		for _, word := range words {
			spare = split(spare, word)
		}
		words, spare = spare, words
	}
	for _, word := range words {
		if id, ok := e.whole[word]; ok {
			ids = append(ids, id)
			continue
		}
		for len(word) > maxWord {
			ids = e.encodeWord(ids, w, word[:maxWord])
			word = word[maxWord:]
		}
		var ok bool
		if ids, ok = w.cache.get(ids, word); !ok {
			start := len(ids)
			ids = e.encodeWord(ids, w, word)
			w.cache.put(word, ids[start:])
		}
	}
	clear(words) // the pool must not keep the text
	clear(spare)
	w.words = [2][]string{words, spare}
	return ids
}

// encodeWord appends the tokens of one word. It looks at no more than 3 pairs a
// byte, so the time is O(n log n).
func (e *bpe) encodeWord(ids []int32, w *bpeScratch, word string) []int32 {
	w.symbols, w.queue = w.symbols[:0], w.queue[:0]
	for i := 0; i < len(word); {
		n := 1
		if e.chars != nil {
			n = symbolLen(word[i:])
			if piece, ok := e.chars[word[i:i+n]]; ok {
				w.start(piece)
				i += n
				continue
			}
		}
		for ; n > 0; n-- {
			w.start(e.bytes[word[i]])
			i++
		}
	}
	last := int32(len(w.symbols) - 1)
	w.symbols[last].next = -1
	for i := range last {
		e.offer(w, i, i+1)
	}
	for len(w.queue) > 0 {
		b := w.queue.pop()
		left, right := &w.symbols[b.left], &w.symbols[b.right]
		if left.piece < 0 || right.piece < 0 || pairOf(left.piece, right.piece) != b.pair {
			continue // out of date
		}
		left.piece, right.piece = b.rule.piece, -1
		left.next = right.next
		if left.next >= 0 {
			w.symbols[left.next].prev = b.left
		}
		e.offer(w, left.prev, b.left)
		e.offer(w, b.left, left.next)
	}
	for i := int32(0); i >= 0; i = w.symbols[i].next {
		piece := w.symbols[i].piece
		if id := e.tokens[piece]; id >= 0 {
			ids = append(ids, id)
			continue
		}
		for _, b := range e.spelled[piece] {
			if id := e.tokens[e.bytes[b]]; id >= 0 {
				ids = append(ids, id)
			} else if e.unk >= 0 {
				ids = append(ids, e.unk)
			}
		}
	}
	return ids
}

// start adds a symbol to a word.
func (w *bpeScratch) start(piece int32) {
	i := int32(len(w.symbols))
	w.symbols = append(w.symbols, bpeSymbol{piece, i - 1, i + 1})
}

// offer queues the pair if it is in the list of merges.
func (e *bpe) offer(w *bpeScratch, left, right int32) {
	if left < 0 || right < 0 {
		return
	}
	w.offers++
	pair := pairOf(w.symbols[left].piece, w.symbols[right].piece)
	if rule, ok := e.merges[pair]; ok {
		w.queue.push(bpeBigram{rule, left, right, pair})
	}
}

// byteRunes gives every byte the character that stands for it in the texts of a
// byte-level vocabulary: itself where that is printable in Latin-1, else the next
// free one from U+0100 (bytes_to_unicode in GPT-2's encoder.py).
var byteRunes = func() (runes [256]rune) {
	next := rune(256)
	for b := range runes {
		runes[b] = rune(b)
		if b < '!' || b > '~' && b < 0xA1 || b == 0xAD {
			runes[b] = next
			next++
		}
	}
	return runes
}()

var runeBytes = func() map[rune]byte {
	m := make(map[rune]byte, 256)
	for b, r := range byteRunes {
		m[r] = byte(b)
	}
	return m
}()

// unspell returns the bytes that a text of the vocabulary stands for; a character
// that stands for no byte is kept.
func unspell(text string) []byte {
	b := make([]byte, 0, len(text))
	for _, r := range text {
		if c, ok := runeBytes[r]; ok {
			b = append(b, c)
		} else {
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

// unspellAll is unspell of a text in which every character stands for a byte.
func unspellAll(text string) (bytes string, ok bool) {
	for _, r := range text {
		if _, ok := runeBytes[r]; !ok {
			return "", false
		}
	}
	return string(unspell(text)), true
}

// loadBPE reads what only the kinds "gpt2" and "gemma4" have, and sets the pieces.
func (t *Tokenizer) loadBPE(f *gguf.File, ids map[string]int32) error {
	e := &bpe{splitters: t.pre.splitters, merges: map[pair]bpeRule{}, spelled: map[int32][]byte{}}
	merges, ok, err := f.Strings(keyMerges)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%s is missing", keyMerges)
	case len(merges) > maxTokens:
		return fmt.Errorf("%s has %d values, want at most %d", keyMerges, len(merges), maxTokens)
	}
	if e.unk, err = t.idKey(f, keyUnknown, -1); err != nil {
		return err
	}

	newPiece := func() int32 {
		e.tokens = append(e.tokens, -1)
		return int32(len(e.tokens) - 1)
	}
	numbers := make(map[string]int32, len(ids)+256)
	number := func(text string) int32 {
		p, ok := numbers[text]
		if !ok {
			p = newPiece()
			numbers[text] = p
		}
		return p
	}
	spelledBy := unspell // the bytes of a text of the vocabulary
	if t.pre.characters {
		spelledBy = func(text string) []byte { return []byte(text) }
	}
	t.pieces = make([]string, len(t.texts))
	for i, text := range t.texts {
		switch t.types[i] {
		case typeNormal:
			t.pieces[i] = string(spelledBy(text))
			if t.pre.characters {
				t.pieces[i] = strings.ReplaceAll(text, space, " ")
			}
			e.tokens[number(text)] = int32(i)
		case typeUserDefined:
			t.pieces[i] = text
			e.tokens[number(text)] = int32(i)
		case typeControl, typeUnknown:
			t.pieces[i] = text
		case typeByte, typeUnused, typeUndefined:
			// such a token is never made of text, and adds none; but:
			if b, ok := parseByteText(text); ok && t.pre.characters {
				t.pieces[i] = string([]byte{b})
			}
		}
	}
	for b := range e.bytes {
		if t.pre.characters {
			e.bytes[b] = newPiece() // of no merge
			if id, ok := ids[byteText(byte(b))]; ok {
				e.tokens[e.bytes[b]] = id
			}
		} else {
			e.bytes[b] = number(string(byteRunes[b]))
		}
		if e.tokens[e.bytes[b]] < 0 {
			e.spelled[e.bytes[b]] = []byte{byte(b)}
		}
	}
	e.whole = map[string]int32{}
	for i, text := range t.texts {
		if t.types[i] != typeNormal && t.types[i] != typeUserDefined {
			continue
		}
		if bytes, ok := unspellAll(text); ok && t.pre.ignoreMerges {
			e.whole[bytes] = int32(i)
		}
		if t.pre.wholeLineEnds && strings.Trim(text, "\n") == "" {
			e.whole[text] = int32(i)
		}
	}
	for i, m := range merges {
		// A part may begin with a blank (llama.cpp looks from the second byte on).
		at := -1
		if len(m) > 1 {
			at = strings.IndexByte(m[1:], ' ') + 1
		}
		if at < 1 || at+1 == len(m) {
			return fmt.Errorf("%s[%d] is %q, want two parts with a blank between", keyMerges, i, clip(m))
		}
		left, right := m[:at], m[at+1:]
		pair := pairOf(number(left), number(right))
		if _, dup := e.merges[pair]; dup {
			continue // the first counts
		}
		piece := number(left + right)
		e.merges[pair] = bpeRule{int32(i), piece}
		if e.tokens[piece] < 0 && e.spelled[piece] == nil {
			e.spelled[piece] = spelledBy(left + right)
		}
	}
	if t.pre.characters {
		e.chars = map[string]int32{}
		for text, piece := range numbers {
			if text != "" && symbolLen(text) == len(text) {
				e.chars[text] = piece
				if e.tokens[piece] < 0 && e.spelled[piece] == nil {
					e.spelled[piece] = []byte(text)
				}
			}
		}
	}
	t.encoder = e
	return nil
}

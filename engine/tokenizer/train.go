package tokenizer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/guardcpu/guardcpu/gguf"
)

// Vocab is a SentencePiece BPE vocabulary. Tokens 0, 1, 2 are <unk>, <s>, </s>;
// 3 to 258 are the bytes; then come the merges in the order they were learnt, and
// the single characters, the most frequent first.
type Vocab struct {
	tokens []string
	scores []float32
	types  []int32
}

const (
	nReserved   = 3 + 256
	maxTrained  = 1 << 20 // scores are exact in float32 far beyond
	maxWordSize = 256     // symbols
)

// Size returns the number of tokens.
func (v *Vocab) Size() int { return len(v.tokens) }

// KVs returns the tokenizer.ggml.* keys of a GGUF file with this vocabulary.
func (v *Vocab) KVs() []gguf.KV {
	return []gguf.KV{
		{Key: keyModel, Value: kindSPM},
		{Key: keyPre, Value: "default"},
		{Key: keyTokens, Value: v.tokens},
		{Key: keyScores, Value: v.scores},
		{Key: keyTypes, Value: v.types},
		{Key: keyBOS, Value: uint32(1)},
		{Key: keyEOS, Value: uint32(2)},
		{Key: keyUnknown, Value: uint32(0)},
		{Key: keyAddBOS, Value: true},
		{Key: keyAddEOS, Value: false},
		{Key: keyAddPrefix, Value: true},
	}
}

func (v *Vocab) add(token string, typ tokenType) {
	v.tokens = append(v.tokens, token)
	v.types = append(v.types, int32(typ))
	v.scores = append(v.scores, float32(min(0, nReserved-len(v.tokens))))
}

// TrainSPM learns a vocabulary of at most size tokens from text by byte-pair
// encoding (Sennrich et al. 2016, algorithm 1): it cuts the texts into words,
// counts the words, and makes the most frequent concatenation of two neighbouring
// symbols a token until size is reached or nothing occurs twice. Of equally
// frequent ones the first in byte order is taken, so the result depends on
// nothing but the arguments.
//
// A word is a run of letters and marks, with the blank in front of it if there is
// one; everything else is a word of one character: digits, punctuation, and the
// blank before these. No token crosses the border of a word. Words of more than
// 256 characters are left out of the counts.
//
// Every character that occurs is a token of its own, the most frequent first, up
// to half of the room; the others fall back to bytes.
//
// The score of a merge is minus its rank, and a merge counts every way to make
// its text. So encoding by score gives the words of text the very symbols they
// had when training ended: all pairs of lower rank that a merge brings about are
// merged before the next is counted, which is the order the encoder goes in.
func TrainSPM(text []string, size int) (*Vocab, error) {
	if size <= nReserved || size > maxTrained {
		return nil, fmt.Errorf("tokenizer: training a vocabulary of %d tokens, want %d to %d", size, nReserved+1, maxTrained)
	}
	counts := map[string]int{}
	for _, s := range text {
		if s == "" {
			continue
		}
		for s := escape(s, true); s != ""; {
			n := wordLen(s)
			counts[s[:n]]++
			s = s[n:]
		}
	}
	if len(counts) == 0 {
		return nil, fmt.Errorf("tokenizer: there is no text to train a vocabulary on")
	}
	chars := characters(counts)
	room := size - nReserved
	chars = chars[:min(len(chars), max(1, room/2))]
	tr := newTrainer(counts, chars)

	v := &Vocab{}
	v.add("<unk>", typeUnknown)
	v.add("<s>", typeControl)
	v.add("</s>", typeControl)
	for b := range 256 {
		v.add(byteText(byte(b)), typeByte)
	}
	for range room - len(chars) {
		token, ok := tr.next()
		if !ok {
			break
		}
		v.add(token, typeNormal)
	}
	for _, c := range chars {
		v.add(c, typeNormal)
	}
	return v, nil
}

// wordLen returns how many bytes the first word of an escaped text takes.
func wordLen(s string) int {
	i := 0
	if strings.HasPrefix(s, space) {
		i = len(space)
	}
	start := i
	for i < len(s) {
		r, n := utf8.DecodeRuneInString(s[i:])
		if !unicode.In(r, unicode.L, unicode.M) {
			break
		}
		i += n
	}
	if i == start && start == 0 {
		return symbolLen(s)
	}
	return i
}

// characters returns the symbols that are valid UTF-8, the most frequent first
// and in byte order among equals; ▁ comes before all, for every text has it.
func characters(words map[string]int) []string {
	counts := map[string]int{}
	for w, n := range words {
		for w != "" {
			k := symbolLen(w)
			if utf8.ValidString(w[:k]) {
				counts[w[:k]] += n
			}
			w = w[k:]
		}
	}
	delete(counts, space)
	chars := make([]string, 0, len(counts)+1)
	for c := range counts {
		chars = append(chars, c)
	}
	slices.SortFunc(chars, func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	return slices.Insert(chars, 0, space)
}

// trainer holds the words cut into symbols, and every concatenation of two
// neighbouring symbols with the number of times it occurs.
type trainer struct {
	words []trainWord
	pairs map[string]*trainPair
	queue queue[trainEntry]
	ranks int // tokens made so far
}

type trainWord struct {
	text  string
	count int
	ends  []int // where each symbol ends; it begins where the one before ends
}

type trainPair struct {
	text  string
	count int
	words []int // where it has occurred; may name a word twice, or one that lost it
	rank  int   // of the token it has become, -1 before
}

// trainEntry is a pair with its count when queued. It is out of date if the pair
// has another count by now.
type trainEntry struct {
	pair  *trainPair
	count int
}

func (e trainEntry) before(f trainEntry) bool {
	return e.count > f.count || e.count == f.count && e.pair.text < f.pair.text
}

func newTrainer(counts map[string]int, chars []string) *trainer {
	known := make(map[string]bool, len(chars))
	for _, c := range chars {
		known[c] = true
	}
	tr := &trainer{pairs: map[string]*trainPair{}}
	texts := make([]string, 0, len(counts))
	for w := range counts {
		texts = append(texts, w)
	}
	slices.Sort(texts) // the order of the words decides nothing; sorted, that need not be argued
	for _, text := range texts {
		// A symbol that is no token ends the word: nothing merges with it.
		var ends []int
		start := 0
		flush := func(end int) {
			if len(ends) > 1 && len(ends) <= maxWordSize {
				tr.words = append(tr.words, trainWord{text[start:end], counts[text], ends})
			}
			ends = nil
		}
		for i := 0; i < len(text); {
			n := symbolLen(text[i:])
			if known[text[i:i+n]] {
				ends = append(ends, i+n-start)
			} else {
				flush(i)
				start = i + n
			}
			i += n
		}
		flush(len(text))
	}
	for w := range tr.words {
		tr.count(w, 1)
	}
	for _, p := range tr.pairs {
		tr.queue.push(trainEntry{p, p.count})
	}
	return tr
}

// count adds sign times the pairs of a word to the counts, and returns the pairs.
func (tr *trainer) count(w, sign int) []*trainPair {
	word := &tr.words[w]
	var changed []*trainPair
	start := 0
	for i := 1; i < len(word.ends); i++ {
		text := word.text[start:word.ends[i]]
		p := tr.pairs[text]
		if p == nil {
			p = &trainPair{text: text, rank: -1}
			tr.pairs[text] = p
		}
		p.count += sign * word.count
		if sign > 0 && (len(p.words) == 0 || p.words[len(p.words)-1] != w) {
			p.words = append(p.words, w)
		}
		changed = append(changed, p)
		start = word.ends[i-1]
	}
	return changed
}

// next makes the most frequent pair a token and returns it; ok is false when no
// pair occurs twice.
func (tr *trainer) next() (token string, ok bool) {
	for len(tr.queue) > 0 {
		e := tr.queue.pop()
		if e.count != e.pair.count || e.pair.rank >= 0 {
			continue
		}
		if e.count < 2 {
			return "", false
		}
		tr.merge(e.pair)
		return e.pair.text, true
	}
	return "", false
}

func (tr *trainer) merge(p *trainPair) {
	p.rank = tr.ranks
	tr.ranks++
	changed := map[*trainPair]bool{}
	words := p.words
	p.words = nil
	for _, w := range words {
		if !tr.has(w, p.text) {
			continue
		}
		for _, q := range tr.count(w, -1) {
			changed[q] = true
		}
		tr.segment(w)
		for _, q := range tr.count(w, 1) {
			changed[q] = true
		}
	}
	for q := range changed {
		if q.rank < 0 && q.count > 0 {
			tr.queue.push(trainEntry{q, q.count})
		}
	}
}

// has says whether text is the concatenation of two neighbouring symbols of a word.
func (tr *trainer) has(w int, text string) bool {
	word := &tr.words[w]
	start := 0
	for i := 1; i < len(word.ends); i++ {
		if word.text[start:word.ends[i]] == text {
			return true
		}
		start = word.ends[i-1]
	}
	return false
}

// segment merges, in the symbols of a word, the pair of the lowest rank until
// there is none, the leftmost first among equals.
func (tr *trainer) segment(w int) {
	word := &tr.words[w]
	for {
		best, at := -1, 0
		start := 0
		for i := 1; i < len(word.ends); i++ {
			p := tr.pairs[word.text[start:word.ends[i]]]
			if p != nil && p.rank >= 0 && (best < 0 || p.rank < best) {
				best, at = p.rank, i-1
			}
			start = word.ends[i-1]
		}
		if best < 0 {
			return
		}
		word.ends = slices.Delete(word.ends, at, at+1)
	}
}

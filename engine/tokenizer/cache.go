package tokenizer

import "strings"

const (
	maxCachedWords = 1 << 14
	maxCachedWord  = 48 // bytes
)

// wordCache remembers the tokens of words: most words of a text have been there
// before. It starts again when it is full. The zero value is empty.
type wordCache struct {
	spans map[string][2]int32
	ids   []int32
}

// get appends the tokens of word, if it is there.
func (c *wordCache) get(ids []int32, word string) ([]int32, bool) {
	if len(word) > maxCachedWord {
		return ids, false
	}
	s, ok := c.spans[word]
	return append(ids, c.ids[s[0]:s[1]]...), ok
}

// put remembers the tokens of a word that is not there.
func (c *wordCache) put(word string, ids []int32) {
	if len(word) > maxCachedWord {
		return
	}
	if c.spans == nil || len(c.spans) == maxCachedWords {
		c.spans = make(map[string][2]int32, len(c.spans))
		c.ids = c.ids[:0]
	}
	start := len(c.ids)
	c.ids = append(c.ids, ids...)
	c.spans[strings.Clone(word)] = [2]int32{int32(start), int32(len(c.ids))} // the text of word may be long
}

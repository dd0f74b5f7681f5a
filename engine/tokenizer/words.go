package tokenizer

import (
	"math"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// splitter appends the words of a text to words. Their concatenation is the text.
type splitter func(words []string, text string) []string

// expr is one alternative of an expression: match returns the length of its match
// at the start of s, which is not empty, or 0 for none. A match begins with a
// character of the classes in first.
type expr struct {
	first class
	match func(s string) int
}

// split cuts a text into the matches of the first of exprs that matches, and what
// lies between matches. It calls an expression once a character at most, and the
// expressions look at a character a bounded number of times before they match it.
func split(exprs ...expr) splitter {
	var byClass [32][]func(s string) int
	for _, e := range exprs {
		for c := range byClass {
			if e.first&(1<<c) != 0 {
				byClass[c] = append(byClass[c], e.match)
			}
		}
	}
	return func(words []string, text string) []string {
		start := 0
		for i := 0; i < len(text); {
			c, next := classify(text[i:])
			n := 0
			for _, match := range byClass[bits.TrailingZeros32(uint32(c))] {
				if n = match(text[i:]); n > 0 {
					break
				}
			}
			if n == 0 {
				i += next
				continue
			}
			if i > start {
				words = append(words, text[start:i])
			}
			words = append(words, text[i:i+n])
			i += n
			start = i
		}
		if start < len(text) {
			words = append(words, text[start:])
		}
		return words
	}
}

// run is min to max characters of some classes, as many as there are.
type run struct {
	in       class
	among    func(rune) bool // if not nil, holds for them too
	min, max int
}

func one(in class) run            { return run{in, nil, 1, 1} }
func optional(in class) run       { return run{in, nil, 0, 1} }
func some(in class) run           { return run{in, nil, 1, math.MaxInt} }
func many(in class) run           { return run{in, nil, 0, math.MaxInt} }
func upTo(n int, in class) run    { return run{in, nil, 1, n} }
func exactly(n int, in class) run { return run{in, nil, n, n} }

// someOf is some without blanks, of which the expressions that name characters
// know only those of ASCII.
func someOf(among func(rune) bool) run { return run{anything &^ blank, among, 1, math.MaxInt} }

// end returns where the run at the start of s ends, and how many characters it has.
func (r *run) end(s string) (end, n int) {
	for n < r.max && end < len(s) {
		c, k := classify(s[end:])
		if c&r.in == 0 {
			break
		}
		if r.among != nil {
			if char, _ := utf8.DecodeRuneInString(s[end:]); !r.among(char) {
				break
			}
		}
		end += k
		n++
	}
	return end, n
}

// seq is one run after the other. A run gives characters back, from its end, if
// what follows needs them.
func seq(runs ...run) expr {
	var first class
	for _, r := range runs {
		first |= r.in
		if r.min > 0 {
			break
		}
	}
	return expr{first, func(s string) int { return max(0, matchRuns(runs, s)) }}
}

// matchRuns returns the length of the match at the start of s, or -1.
func matchRuns(runs []run, s string) int {
	if len(runs) == 0 {
		return 0
	}
	end, n := runs[0].end(s)
	if len(runs) == 1 {
		if n < runs[0].min {
			return -1
		}
		return end
	}
	for ; n >= runs[0].min; n-- {
		if rest := matchRuns(runs[1:], s[end:]); rest >= 0 {
			return end + rest
		}
		_, k := utf8.DecodeLastRuneInString(s[:end])
		end -= k
	}
	return -1
}

// then is e and, where that follows, tail.
func (e expr) then(tail func(s string) int) expr {
	return expr{e.first, func(s string) int {
		n := e.match(s)
		if n > 0 {
			n += tail(s[n:])
		}
		return n
	}}
}

// literals is the first of texts that is there. They begin with characters of first.
func literals(first class, texts ...string) expr {
	return expr{first, func(s string) int {
		for _, t := range texts {
			if strings.HasPrefix(s, t) {
				return len(t)
			}
		}
		return 0
	}}
}

// contraction returns the length of 's, 't, 're, 've, 'm, 'll or 'd at the start
// of s, or 0; capital letters count too if anyCase is set.
func contraction(s string, anyCase bool) int {
	var c [2]byte
	for i := range c {
		if 1+i >= len(s) {
			break
		}
		if c[i] = s[1+i]; anyCase && 'A' <= c[i] && c[i] <= 'Z' {
			c[i] += 'a' - 'A'
		}
	}
	switch {
	case s == "" || s[0] != '\'':
		return 0
	case c[0] == 's' || c[0] == 't' || c[0] == 'm' || c[0] == 'd':
		return 2
	case c == [2]byte{'r', 'e'} || c == [2]byte{'v', 'e'} || c == [2]byte{'l', 'l'}:
		return 3
	}
	return 0
}

func contractionOfAnyCase(s string) int { return contraction(s, true) }

// blanksBeforeBlank is \s+(?!\S): blanks up to the end of the text, or all but the last of
// several that something follows.
var blanksBeforeBlank = expr{blank, func(s string) int {
	last := 0 // where the last blank starts
	for end := 0; end < len(s); {
		c, n := classify(s[end:])
		if c&blank == 0 {
			return last
		}
		last = end
		end += n
	}
	return len(s)
}}

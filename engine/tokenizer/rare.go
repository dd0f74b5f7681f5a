package tokenizer

import (
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// What one or two pre-tokenizers have.

const maxRun = math.MaxInt

// oneOf says whether a character is in a list of characters and of ranges a-b.
func oneOf(list string) func(rune) bool {
	chars := []rune(list)
	var ranges [][2]rune
	for i := 0; i < len(chars); i++ {
		r := [2]rune{chars[i], chars[i]}
		if i+2 < len(chars) && chars[i+1] == '-' {
			r[1] = chars[i+2]
			i += 2
		}
		ranges = append(ranges, r)
	}
	slices.SortFunc(ranges, func(a, b [2]rune) int { return int(a[0]) - int(b[0]) })
	for i := 1; i < len(ranges); i++ { // the last that begins at or before a character reaches furthest
		ranges[i][1] = max(ranges[i][1], ranges[i-1][1])
	}
	var ascii [utf8.RuneSelf]bool
	for _, r := range ranges {
		for char := r[0]; char <= min(r[1], utf8.RuneSelf-1); char++ {
			ascii[char] = true
		}
	}
	return func(char rune) bool {
		if char < utf8.RuneSelf {
			return ascii[char]
		}
		i, found := slices.BinarySearchFunc(ranges, char, func(r [2]rune, char rune) int { return int(r[0]) - int(char) })
		return found || i > 0 && char <= ranges[i-1][1]
	}
}

func noneOf(list string) func(rune) bool {
	in := oneOf(list)
	return func(char rune) bool { return !in(char) }
}

// isHan is unicode_cpt_is_han of llama.cpp.
var isHan = oneOf("\u4E00-\u9FFF\u3400-\u4DBF\U00020000-\U0002A6DF\U0002A700-\U0002B73F\U0002B740-\U0002B81F\U0002B820-\U0002CEAF" +
	"\U0002CEB0-\U0002EBEF\uF900-\uFAFF\U0002F800-\U0002FA1F")

func isNotHan(char rune) bool { return !isHan(char) }

// lowerEnd is letters of which the last are not capitals, of those in letters:
//
//	[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}]*[\p{Ll}\p{Lm}\p{Lo}]+
func lowerEnd(letters class) expr {
	return seq(optional(anything&^(lineEnd|letter|number)), many(letters&^lower), some(letters&^upper))
}

// upperEnd is letters of which the first are capitals, of those in letters:
//
//	[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}]+[\p{Ll}\p{Lm}\p{Lo}]*
func upperEnd(letters class) expr {
	return seq(optional(anything&^(lineEnd|letter|number)), some(letters&^lower), many(letters&^upper))
}

// gpt4o cuts text as GPT-4o does, with these letters.
func gpt4o(letters class) splitter {
	return split(lowerEnd(letters).then(contractionOfAnyCase), upperEnd(letters).then(contractionOfAnyCase),
		seq(upTo(3, number)), marksOrSlashes, toLineEnd, blanksBeforeBlank, blanks)
}

// phrase is words with single blanks between: [^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+
var phrase = expr{anything &^ (lineEnd | number), func(s string) int {
	at, end := 0, 0
	if c, n := classify(s); c&letter == 0 {
		at = n
	}
	for at < len(s) {
		c, n := classify(s[at:])
		if c&letter == 0 {
			break
		}
		following := many(mark)
		m, _ := following.end(s[at+n:])
		end = at + n + m
		at = end
		if strings.HasPrefix(s[at:], " ") {
			at++
		}
	}
	return end
}}

// sentinel is <sentinel:[0-9]+>.
var sentinel = expr{asciiSymbol, func(s string) int {
	number, ok := strings.CutPrefix(s, "<sentinel:")
	digits := some(digit)
	end, n := digits.end(number)
	if !ok || n == 0 || !strings.HasPrefix(number[end:], ">") {
		return 0
	}
	return len(s) - len(number) + end + 1
}}

// imageToken is (IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z.
var imageToken = expr{upper, func(s string) int {
	code, ok := strings.CutPrefix(s, "IMGIMG")
	letters := run{upper, oneOf("A-I"), 1, 4}
	end, n := letters.end(code)
	if !ok || n == 0 || !strings.HasPrefix(code[end:], "Z") {
		return 0
	}
	return len(s) - len(code) + end + 1
}}

// splitBlanksAtEnd cuts text at \s+$.
func splitBlanksAtEnd(words []string, text string) []string {
	end := len(text)
	for end > 0 {
		r, n := utf8.DecodeLastRuneInString(text[:end])
		if c, _ := classify(text[end-n:]); r == utf8.RuneError && n == 1 || c&blank == 0 {
			break
		}
		end -= n
	}
	for _, w := range []string{text[:end], text[end:]} {
		if w != "" {
			words = append(words, w)
		}
	}
	return words
}

// splitBlankRuns cuts a text of blanks without a line end after them, of which
// Jais 2 makes words of up to 512: \s{512}(?!\S)|\s{256}(?!\S)|…|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}
func splitBlankRuns(words []string, text string) []string {
	all := some(blank)
	end, n := all.end(text)
	if end < len(text) || strings.HasSuffix(text, "\n") || strings.HasSuffix(text, "\r") {
		return append(words, text)
	}
	for size := 512; n > 0; size /= 2 {
		for ; n >= size; n -= size {
			part := exactly(size, blank)
			end, _ := part.end(text)
			words = append(words, text[:end])
			text = text[end:]
		}
	}
	return words
}

// splitDigits cuts text in and around runs of characters of in: where cut says so, given
// how many of them are before and after.
func splitDigits(in class, cut func(before, after int) bool) splitter {
	digits := some(in)
	return func(words []string, text string) []string {
		start := 0
		for i := 0; i < len(text); {
			_, n := digits.end(text[i:])
			for before := 0; ; before++ {
				if n > 0 && i > start && cut(before, n-before) {
					words = append(words, text[start:i])
					start = i
				}
				if before == max(n, 1) {
					break
				}
				_, k := classify(text[i:])
				i += k
			}
		}
		if start < len(text) {
			words = append(words, text[start:])
		}
		return words
	}
}

// splitThrees cuts text in front of digits in threes: (?=(\d{3})+(?!\d))
var splitThrees = splitDigits(digit, func(_, after int) bool { return after > 0 && after%3 == 0 })

// splitAfterThrees cuts text after numbers in threes, counted from the last, but not in
// front of the first: \p{AFMoE_digits} of llama.cpp, which does the same for
// \d{1,3}(?=(?:\d{3})*\b).
var splitAfterThrees = splitDigits(number, func(before, after int) bool { return before > 0 && after%3 == 0 })

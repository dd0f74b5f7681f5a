package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// class says what a character is; the expressions of the pre-tokenizers are made
// of sets of them, by or. A character is of exactly one.
type class uint32

const (
	other          class = 1 << iota // marks of order, controls, separators, unassigned; bytes that are not UTF-8
	lower                            // a-z
	upper                            // A-Z
	foreign                          // a letter that is not ASCII
	digit                            // 0-9
	foreignNumber                    // a number that is not ASCII
	spaceChar                        // a blank, U+0020
	newline                          // \n
	carriageReturn                   // \r
	foreignBlank                     // white space that is none of the three
	slash                            // /
	asciiPunct                       // punctuation of ASCII but the slash
	foreignPunct                     // punctuation that is not ASCII
	asciiSymbol                      // $+<=>^|~
	backtick                         // `
	foreignSymbol                    // a symbol that is not ASCII
	mark                             // a combining mark
)

// The sets that expressions name.
const (
	letter   = lower | upper | foreign                     // \p{L}
	number   = digit | foreignNumber                       // \p{N}
	lineEnd  = newline | carriageReturn                    // [\r\n]
	blank    = spaceChar | lineEnd | foreignBlank          // \s
	punct    = slash | asciiPunct | foreignPunct           // \p{P}
	symbol   = asciiSymbol | backtick | foreignSymbol      // \p{S}
	ascii    = slash | asciiPunct | asciiSymbol | backtick // what is printed of ASCII but blanks, letters and digits
	anything = class(1<<17 - 1)
)

var asciiClass = func() (t [utf8.RuneSelf]class) {
	for b := range t {
		switch r := rune(b); {
		case 'a' <= r && r <= 'z':
			t[b] = lower
		case 'A' <= r && r <= 'Z':
			t[b] = upper
		case '0' <= r && r <= '9':
			t[b] = digit
		case r == ' ':
			t[b] = spaceChar
		case r == '\n':
			t[b] = newline
		case r == '\r':
			t[b] = carriageReturn
		case unicode.IsSpace(r):
			t[b] = foreignBlank
		case r == '/':
			t[b] = slash
		case r == '`':
			t[b] = backtick
		case unicode.IsPunct(r):
			t[b] = asciiPunct
		case unicode.IsSymbol(r):
			t[b] = asciiSymbol
		default:
			t[b] = other
		}
	}
	return t
}()

// classify returns the class and the length of the first character of s, which
// must not be empty; a byte that is not UTF-8 is a character.
func classify(s string) (class, int) {
	if b := s[0]; b < utf8.RuneSelf {
		return asciiClass[b], 1
	}
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n == 1 {
		return other, 1
	}
	return classOf(r), n
}

// classOf is the class of a character that is not ASCII. The letters and symbols it
// names are of Unicode 15.1, of which llama.cpp's tables are and Go 1.26's (15.0) are
// not.
func classOf(r rune) class {
	switch {
	case unicode.IsLetter(r), 0x2EBF0 <= r && r <= 0x2EE5D:
		return foreign
	case unicode.IsMark(r):
		return mark
	case unicode.IsPunct(r):
		return foreignPunct
	case unicode.IsSymbol(r), 0x2FFC <= r && r <= 0x2FFF, r == 0x31EF:
		return foreignSymbol
	case unicode.IsNumber(r):
		return foreignNumber
	case unicode.IsSpace(r):
		return foreignBlank
	}
	return other
}

package chat

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// kind is what a token of a template is.
type kind int

const (
	kindEnd    kind = iota // of the template
	kindData               // text between tags
	kindOpen               // {{ or {%
	kindClose              // }} or %}
	kindName               // an identifier
	kindString             // a string literal, its text
	kindInt
	kindFloat
	kindOp // an operator or bracket
)

// token is a piece of a template's source.
type token struct {
	kind kind
	text string
	line int
}

// lexer cuts a template into tokens.
type lexer struct {
	src  string
	pos  int
	line int
	out  []token
}

// lex cuts source into tokens, with trim_blocks and lstrip_blocks as Hugging Face sets them: the first
// line end after a block is dropped, and so are blanks in front of a block that is first in its line.
func lex(source string) ([]token, error) {
	source = strings.ReplaceAll(strings.ReplaceAll(source, "\r\n", "\n"), "\r", "\n")
	source = strings.TrimSuffix(source, "\n")
	l := &lexer{src: source, line: 1}
	for l.pos < len(l.src) {
		if err := l.next(); err != nil {
			return nil, fmt.Errorf("line %d: %w", l.line, err)
		}
	}
	return append(l.out, token{kindEnd, "", l.line}), nil
}

func (l *lexer) emit(k kind, text string) { l.out = append(l.out, token{k, text, l.line}) }

// skip moves over n bytes.
func (l *lexer) skip(n int) {
	l.line += strings.Count(l.src[l.pos:l.pos+n], "\n")
	l.pos += n
}

// next takes the text up to the next tag, and the tag.
func (l *lexer) next() error {
	start := l.pos
	at := tagAt(l.src, start)
	if at < 0 {
		l.emit(kindData, l.src[start:])
		l.skip(len(l.src) - start)
		return nil
	}
	text, open := l.src[start:at], l.src[at:at+2]
	l.pos = at // the line is counted below
	sign := byte(0)
	if at+2 < len(l.src) {
		sign = l.src[at+2]
	}
	l.pos = start
	kept := text
	switch {
	case sign == '-':
		kept = strings.TrimRight(text, " \t\n\f\v")
	case sign != '+' && open != "{{":
		line := strings.LastIndexByte(text, '\n') + 1
		if (line > 0 || start == 0 || l.src[start-1] == '\n') && strings.Trim(text[line:], " \t\f\v") == "" {
			kept = text[:line]
		}
	}
	if kept != "" {
		l.emit(kindData, kept)
	}
	l.skip(at - start)
	l.skip(2)
	if sign == '-' || sign == '+' && open != "{{" {
		l.skip(1)
	}
	if open == "{#" {
		end := strings.Index(l.src[l.pos:], "#}")
		if end < 0 {
			return fmt.Errorf("a comment is not closed")
		}
		minus := end > 0 && l.src[l.pos+end-1] == '-'
		plus := end > 0 && l.src[l.pos+end-1] == '+'
		l.skip(end + 2)
		l.after(minus, !plus)
		return nil
	}
	l.emit(kindOpen, open)
	return l.inside(open)
}

// tagAt is where the next tag begins, from from on; -1: nowhere.
func tagAt(src string, from int) int {
	for i := from; i+1 < len(src); i++ {
		if src[i] == '{' && (src[i+1] == '{' || src[i+1] == '%' || src[i+1] == '#') {
			return i
		}
	}
	return -1
}

// after drops what is not output behind a tag: all blanks after a minus, else the first line
// end after a block.
func (l *lexer) after(minus, trim bool) {
	rest := l.src[l.pos:]
	switch {
	case minus:
		l.skip(len(rest) - len(strings.TrimLeft(rest, " \t\n\f\v")))
	case trim && strings.HasPrefix(rest, "\n"):
		l.skip(1)
	}
}

// operators are those of the language, longer ones first.
var operators = []string{"==", "!=", "<=", ">=", "//", "**", "(", ")", "[", "]", "{", "}", ",", ".", ":", "|", "+", "-", "*", "/", "%", "~", "<", ">", "="}

// inside takes the tokens of a tag to its end.
func (l *lexer) inside(open string) error {
	end, first, depth := "}}", len(l.out), 0
	if open == "{%" {
		end = "%}"
	}
	for {
		rest := l.src[l.pos:]
		rest = rest[len(rest)-len(strings.TrimLeft(rest, " \t\n\f\v")):]
		l.skip(len(l.src) - l.pos - len(rest))
		switch {
		case rest == "":
			return fmt.Errorf("%s is not closed", open)
		case depth == 0 && strings.HasPrefix(rest, end), strings.HasPrefix(rest, "-"+end), open == "{%" && strings.HasPrefix(rest, "+"+end):
			minus, plus := rest[0] == '-', rest[0] == '+'
			if open == "{%" && len(l.out) == first+1 && l.out[first].text == "raw" {
				l.skip(len(end))
				if minus || plus {
					l.skip(1)
				}
				l.out = l.out[:first-1]
				return l.raw(minus)
			}
			l.emit(kindClose, end)
			l.skip(len(end))
			if minus || plus {
				l.skip(1)
			}
			l.after(minus, open == "{%" && !plus)
			return nil
		case rest[0] == '\'' || rest[0] == '"':
			text, n, err := stringLiteral(rest)
			if err != nil {
				return err
			}
			l.emit(kindString, text)
			l.skip(n)
		case rest[0] >= '0' && rest[0] <= '9':
			n, k := numberLiteral(rest)
			l.emit(k, strings.ReplaceAll(rest[:n], "_", ""))
			l.skip(n)
		case isNameByte(rest[0]):
			n := 0
			for n < len(rest) && (isNameByte(rest[n]) || rest[n] >= '0' && rest[n] <= '9') {
				n++
			}
			if n > maxName {
				return fmt.Errorf("a name has %d bytes, want at most %d", n, maxName)
			}
			l.emit(kindName, rest[:n])
			l.skip(n)
		default:
			op := ""
			for _, o := range operators {
				if strings.HasPrefix(rest, o) {
					op = o
					break
				}
			}
			switch op {
			case "":
				r, _ := utf8.DecodeRuneInString(rest)
				return fmt.Errorf("%q is not expected here", r)
			case "(", "[", "{":
				depth++
			case ")", "]", "}":
				depth--
			}
			l.emit(kindOp, op)
			l.skip(len(op))
		}
	}
}

// numberLiteral returns the length and kind of the number that src begins with.
func numberLiteral(src string) (n int, k kind) {
	digits := func(from int) int {
		for from < len(src) && (src[from] >= '0' && src[from] <= '9' || src[from] == '_') {
			from++
		}
		return from
	}
	n, k = digits(0), kindInt
	if n < len(src) && src[n] == '.' && digits(n+1) > n+1 {
		n, k = digits(n+1), kindFloat
	}
	if n < len(src) && (src[n] == 'e' || src[n] == 'E') {
		m := n + 1
		if m < len(src) && (src[m] == '+' || src[m] == '-') {
			m++
		}
		if end := digits(m); end > m {
			n, k = end, kindFloat
		}
	}
	return n, k
}

// raw takes the text to endraw as it is.
func (l *lexer) raw(minus bool) error {
	l.after(minus, true)
	rest := l.src[l.pos:]
	for i := 0; i+1 < len(rest); i++ {
		if rest[i] != '{' || rest[i+1] != '%' {
			continue
		}
		inside := strings.TrimLeft(strings.TrimPrefix(rest[i+2:], "-"), " \t\n")
		inside, ok := strings.CutPrefix(inside, "endraw")
		if !ok {
			continue
		}
		inside = strings.TrimLeft(inside, " \t\n")
		inside, closeMinus := strings.CutPrefix(inside, "-")
		if inside, ok = strings.CutPrefix(inside, "%}"); !ok {
			continue
		}
		text := rest[:i]
		if rest[i+2] == '-' {
			text = strings.TrimRight(text, " \t\n\f\v")
		} else if line := strings.LastIndexByte(text, '\n') + 1; line > 0 && strings.Trim(text[line:], " \t") == "" {
			text = text[:line]
		}
		l.emit(kindData, text)
		l.skip(len(rest) - len(inside))
		l.after(closeMinus, true)
		return nil
	}
	return fmt.Errorf("raw is not closed")
}

func isNameByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf
}

// stringLiteral returns the text of the literal that src begins with, and its length there.
func stringLiteral(src string) (text string, n int, err error) {
	var b strings.Builder
	for i := 1; i < len(src); i++ {
		c := src[i]
		if c == src[0] {
			return b.String(), i + 1, nil
		}
		if c != '\\' || i+1 == len(src) {
			b.WriteByte(c)
			continue
		}
		i++
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[src[i]]
		switch c := src[i]; {
		case c == 'n':
			b.WriteByte('\n')
		case c == 't':
			b.WriteByte('\t')
		case c == 'r':
			b.WriteByte('\r')
		case c == '\\' || c == '\'' || c == '"':
			b.WriteByte(c)
		case c == '\n':
		case digits > 0 && i+digits < len(src):
			var r rune
			if _, err := fmt.Sscanf(src[i+1:i+1+digits], "%x", &r); err != nil {
				return "", 0, fmt.Errorf("\\%c wants %d hexadecimal digits", c, digits)
			}
			b.WriteRune(r)
			i += digits
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return "", 0, fmt.Errorf("a string is not closed")
}

package tofu

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep arrays and objects may lie in each other. The rows and
// logs read here are three deep.
const maxDepth = 64

// jsonValue is a parsed JSON value and the line on which it starts.
type jsonValue struct {
	kind jsonKind
	line int
	str  string      // of a string
	num  float64     // of a number
	keys []string    // of an object, in its order
	vals []jsonValue // of an object (parallel to keys) or an array
}

type jsonKind string

const (
	jsonNull   jsonKind = "null"
	jsonBool   jsonKind = "a boolean"
	jsonNumber jsonKind = "a number"
	jsonString jsonKind = "a string"
	jsonArray  jsonKind = "an array"
	jsonObject jsonKind = "an object"
)

// member returns the value under a key, matched exactly, or nil.
func (v *jsonValue) member(key string) *jsonValue {
	for i, k := range v.keys {
		if k == key {
			return &v.vals[i]
		}
	}
	return nil
}

// jsonReader parses JSON (RFC 8259), more strictly than encoding/json: duplicate
// keys, invalid UTF-8 and lone surrogates are errors, depth is limited, and every
// error names the line. What it says of the text never quotes the text.
type jsonReader struct {
	name      string // of the file, for errors
	data      []byte
	pos, line int
	nonFinite bool // accept NaN, Infinity and -Infinity, which Python writes
}

func newJSONReader(name string, data []byte) *jsonReader {
	return &jsonReader{name: name, data: bytes.TrimPrefix(data, []byte("\uFEFF")), line: 1}
}

func (r *jsonReader) errorf(line int, format string, args ...any) error {
	return fmt.Errorf("tofu: %s:%d: %s", r.name, line, fmt.Sprintf(format, args...))
}

// space skips white space and returns the next byte, or 0 at the end.
func (r *jsonReader) space() byte {
	for ; r.pos < len(r.data); r.pos++ {
		switch c := r.data[r.pos]; c {
		case '\n':
			r.line++
		case ' ', '\t', '\r':
		default:
			return c
		}
	}
	return 0
}

// value parses the next value. The caller has skipped no white space.
func (r *jsonReader) value(depth int) (jsonValue, error) {
	c := r.space()
	v := jsonValue{line: r.line}
	switch {
	case r.pos == len(r.data):
		return v, r.errorf(r.line, "the file ends in the middle of a value; is it cut off?")
	case depth > maxDepth:
		return v, r.errorf(r.line, "arrays or objects lie more than %d deep in each other", maxDepth)
	case c == '{':
		return r.object(depth)
	case c == '[':
		return r.array(depth)
	case c == '"':
		s, err := r.string()
		v.kind, v.str = jsonString, s
		return v, err
	case c == '-' || c >= '0' && c <= '9':
		if r.nonFinite && r.word("-Infinity") {
			v.kind, v.num = jsonNumber, math.Inf(-1)
			return v, nil
		}
		return r.number()
	}
	for _, w := range []struct {
		word string
		kind jsonKind
	}{{"null", jsonNull}, {"true", jsonBool}, {"false", jsonBool}} {
		if r.word(w.word) {
			v.kind = w.kind
			return v, nil
		}
	}
	for _, w := range []struct {
		word string
		num  float64
	}{{"NaN", math.NaN()}, {"Infinity", math.Inf(1)}} {
		if r.word(w.word) {
			if !r.nonFinite {
				return v, r.errorf(r.line, "%s is not JSON", w.word)
			}
			v.kind, v.num = jsonNumber, w.num
			return v, nil
		}
	}
	return v, r.unexpected("a value")
}

// unexpected describes the byte at the position, where something else was wanted.
func (r *jsonReader) unexpected(want string) error {
	if r.pos >= len(r.data) {
		return r.errorf(r.line, "the file ends where %s should be; is it cut off?", want)
	}
	switch c := r.data[r.pos]; {
	case c == '/' || c == '#':
		return r.errorf(r.line, "found a comment, want %s: JSON has no comments", want)
	case c == '\'':
		return r.errorf(r.line, "found a single quote, want %s: JSON strings have double quotes", want)
	case c == '}' || c == ']':
		return r.errorf(r.line, "found '%c', want %s (a comma too many, perhaps)", c, want)
	case c > ' ' && c < 0x7f && !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'):
		return r.errorf(r.line, "found '%c', want %s", c, want)
	case c >= 'A' && c < 0x7f:
		return r.errorf(r.line, "found a bare word, want %s", want)
	case c >= '0' && c <= '9':
		return r.errorf(r.line, "found a number, want %s", want)
	default:
		return r.errorf(r.line, "found byte 0x%02x, want %s", c, want)
	}
}

// word consumes w if it stands at the position.
func (r *jsonReader) word(w string) bool {
	if !bytes.HasPrefix(r.data[r.pos:], []byte(w)) {
		return false
	}
	r.pos += len(w)
	return true
}

func (r *jsonReader) object(depth int) (jsonValue, error) {
	v := jsonValue{kind: jsonObject, line: r.line}
	r.pos++
	if r.space() == '}' {
		r.pos++
		return v, nil
	}
	seen := make(map[string]bool)
	for {
		if r.space() != '"' {
			return v, r.unexpected("a field name in double quotes")
		}
		line := r.line
		key, err := r.string()
		if err != nil {
			return v, err
		}
		if seen[key] {
			return v, r.errorf(line, "%s is given twice in one object", fieldName(key))
		}
		seen[key] = true
		if r.space() != ':' {
			return v, r.unexpected("':' after a field name")
		}
		r.pos++
		val, err := r.value(depth + 1)
		if err != nil {
			return v, err
		}
		v.keys, v.vals = append(v.keys, key), append(v.vals, val)
		switch r.space() {
		case ',':
			r.pos++
		case '}':
			r.pos++
			return v, nil
		default:
			return v, r.unexpected("',' or '}' in an object")
		}
	}
}

func (r *jsonReader) array(depth int) (jsonValue, error) {
	v := jsonValue{kind: jsonArray, line: r.line}
	r.pos++
	if r.space() == ']' {
		r.pos++
		return v, nil
	}
	for {
		val, err := r.value(depth + 1)
		if err != nil {
			return v, err
		}
		v.vals = append(v.vals, val)
		switch r.space() {
		case ',':
			r.pos++
		case ']':
			r.pos++
			return v, nil
		default:
			return v, r.unexpected("',' or ']' in an array")
		}
	}
}

// number parses -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
func (r *jsonReader) number() (jsonValue, error) {
	start := r.pos
	accept := func(set string) bool {
		if r.pos < len(r.data) && bytes.IndexByte([]byte(set), r.data[r.pos]) >= 0 {
			r.pos++
			return true
		}
		return false
	}
	digits := func() bool {
		some := false
		for accept("0123456789") {
			some = true
		}
		return some
	}
	accept("-")
	ok := accept("0") || digits()
	if ok && accept(".") {
		ok = digits()
	}
	if ok && accept("eE") {
		accept("+-")
		ok = digits()
	}
	if !ok || accept("0123456789") { // the latter: 01
		return jsonValue{}, r.errorf(r.line, "found a malformed number")
	}
	num, err := strconv.ParseFloat(string(r.data[start:r.pos]), 64)
	if err != nil {
		return jsonValue{}, r.errorf(r.line, "found a number that float64 cannot hold")
	}
	return jsonValue{kind: jsonNumber, line: r.line, num: num}, nil
}

func (r *jsonReader) string() (string, error) {
	r.pos++
	start := r.pos
	var buf []byte // what was copied because of escapes
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; {
		case c == '"':
			chunk := r.data[start:r.pos]
			r.pos++
			if buf == nil {
				return string(chunk), nil
			}
			return string(append(buf, chunk...)), nil
		case c == '\\':
			buf = append(buf, r.data[start:r.pos]...)
			var err error
			if buf, err = r.escape(buf); err != nil {
				return "", err
			}
			start = r.pos
		case c == '\n':
			return "", r.errorf(r.line, "the line ends inside a string; write line breaks as \\n")
		case c < ' ':
			return "", r.errorf(r.line, "found control character 0x%02x in a string; write it as \\u%04x", c, c)
		case c < utf8.RuneSelf:
			r.pos++
		default:
			ch, n := utf8.DecodeRune(r.data[r.pos:])
			if ch == utf8.RuneError && n == 1 {
				return "", r.errorf(r.line, "found byte 0x%02x, which is not UTF-8; save the file as UTF-8", c)
			}
			r.pos += n
		}
	}
	return "", r.errorf(r.line, "the file ends inside a string; is it cut off?")
}

// escape appends the character that the escape at the position stands for.
func (r *jsonReader) escape(buf []byte) ([]byte, error) {
	if r.pos+1 >= len(r.data) {
		return buf, r.errorf(r.line, "the file ends inside a string; is it cut off?")
	}
	c := r.data[r.pos+1]
	if i := bytes.IndexByte([]byte(`"\/bfnrt`), c); i >= 0 {
		r.pos += 2
		return append(buf, "\"\\/\b\f\n\r\t"[i]), nil
	}
	if c != 'u' {
		return buf, r.errorf(r.line, "found an escape that JSON does not have in a string; write a backslash as \\\\")
	}
	ch, ok := r.unit()
	if !ok {
		return buf, r.errorf(r.line, "found \\u without four hexadecimal digits in a string")
	}
	if utf16.IsSurrogate(ch) {
		low, ok := r.unit()
		if ch = utf16.DecodeRune(ch, low); !ok || ch == utf8.RuneError {
			return buf, r.errorf(r.line, "found half of a surrogate pair (\\ud800 to \\udfff) in a string")
		}
	}
	return utf8.AppendRune(buf, ch), nil
}

// unit reads \uXXXX.
func (r *jsonReader) unit() (rune, bool) {
	if len(r.data)-r.pos < 6 || r.data[r.pos] != '\\' || r.data[r.pos+1] != 'u' {
		return 0, false
	}
	ch := rune(0)
	for _, c := range r.data[r.pos+2 : r.pos+6] {
		switch {
		case c >= '0' && c <= '9':
			ch = ch<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			ch = ch<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	r.pos += 6
	return ch, true
}

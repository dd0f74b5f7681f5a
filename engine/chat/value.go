package chat

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// The values of a template are nil (none), undefined, bool, int64, float64, string, *list, *dict, *function
// and *turn. Lists and dictionaries do not change once they are made, but for namespaces: since one of those
// can hold itself, what walks through a value counts how deep it is.

// undefined is the value of a name that nothing is known by.
type undefined struct{ name string }

// list is a list or a tuple.
type list struct {
	items []any
	tuple bool
}

// dict keeps its pairs in the order in which they came.
type dict struct {
	keys, values []any
	at           map[any]int
	namespace    bool // attributes may be set
}

func newDict() *dict { return &dict{at: map[any]int{}} }

func (d *dict) get(key any) (any, bool) {
	i, ok := d.at[key]
	if !ok {
		return nil, false
	}
	return d.values[i], true
}

// set sets the value of a key, which is hashable.
func (d *dict) set(key, v any) {
	if i, ok := d.at[key]; ok {
		d.values[i] = v
		return
	}
	d.at[key] = len(d.keys)
	d.keys, d.values = append(d.keys, key), append(d.values, v)
}

// pairs is the list of (key, value).
func (d *dict) pairs() *list {
	l := &list{}
	for i, k := range d.keys {
		l.items = append(l.items, &list{[]any{k, d.values[i]}, true})
	}
	return l
}

// function is a macro, a method with its object, or a global function.
type function struct {
	name string
	call func(r *run, a arguments) any
}

// arguments of a call, by position and by name.
type arguments struct {
	pos   []any
	names []string
	named []any
}

// get returns the argument that stands at position i or is called name, or def.
func (a arguments) get(i int, name string, def any) any {
	if i < len(a.pos) {
		return a.pos[i]
	}
	for j, n := range a.names {
		if n == name {
			return a.named[j]
		}
	}
	return def
}

// truth is bool(v) of Python.
func truth(v any) bool {
	switch v := v.(type) {
	case nil, undefined:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case *list:
		return len(v.items) > 0
	case *dict:
		return v.namespace || len(v.keys) > 0
	default:
		return true
	}
}

// typeName names the type of v for an error.
func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case undefined:
		return fmt.Sprintf("%s, which is undefined", v.name)
	case bool:
		return "a boolean"
	case int64, float64:
		return "a number"
	case string:
		return "a string"
	case *list:
		return "a list"
	case *dict:
		return "a mapping"
	case *turn:
		return "a loop"
	default:
		return "a function"
	}
}

// number returns v as an int64 or a float64; a boolean is 0 or 1.
func number(v any) (i int64, f float64, isInt, ok bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, 1, true, true
		}
		return 0, 0, true, true
	case int64:
		return v, float64(v), true, true
	case float64:
		return 0, v, false, true
	}
	return 0, 0, false, false
}

// text writes v as Python's str does.
func (r *run) text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case undefined:
		return ""
	}
	var b strings.Builder
	r.repr(&b, v)
	return b.String()
}

// repr writes v as Python's repr does.
func (r *run) repr(b *strings.Builder, v any) {
	r.enter()
	defer r.leave()
	start := b.Len()
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case undefined:
		b.WriteString("Undefined")
	case bool:
		if v {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		b.WriteString(floatText(v))
	case string:
		b.WriteString(quote(v))
	case *list:
		open, end := "[", "]"
		if v.tuple {
			open, end = "(", ")"
			if len(v.items) == 1 {
				end = ",)"
			}
		}
		b.WriteString(open)
		for i, x := range v.items {
			if i > 0 {
				b.WriteString(", ")
			}
			r.repr(b, x)
		}
		b.WriteString(end)
		return // what is inside has been paid for
	case *dict:
		b.WriteByte('{')
		for i, k := range v.keys {
			if i > 0 {
				b.WriteString(", ")
			}
			r.repr(b, k)
			b.WriteString(": ")
			r.repr(b, v.values[i])
		}
		b.WriteByte('}')
		return
	case *function:
		b.WriteString("<function " + v.name + ">")
	case *turn:
		b.WriteString("<loop>")
	}
	r.pay(b.Len() - start)
}

// floatText writes a number as Python does: 1.0, 0.1, 1e+16.
func floatText(x float64) string {
	switch {
	case math.IsNaN(x):
		return "nan"
	case math.IsInf(x, 0):
		return strings.ToLower(strings.TrimPrefix(strconv.FormatFloat(x, 'g', -1, 64), "+"))
	}
	if a := math.Abs(x); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(x, 'e', -1, 64)
	}
	s := strconv.FormatFloat(x, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// quote writes a string as Python's repr does.
func quote(s string) string {
	q := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	var b strings.Builder
	b.WriteByte(q)
	for _, c := range s {
		switch {
		case c == rune(q) || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		case !unicode.IsPrint(c) && c < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte(q)
	return b.String()
}

// equal is a == b of Python.
func (r *run) equal(a, b any) bool {
	r.enter()
	defer r.leave()
	if ia, fa, inta, ok := number(a); ok {
		ib, fb, intb, ok := number(b)
		if inta && intb {
			return ok && ia == ib
		}
		return ok && fa == fb
	}
	switch a := a.(type) {
	case nil:
		return b == nil
	case undefined:
		_, ok := b.(undefined)
		return ok
	case string:
		s, ok := b.(string)
		r.work(min(len(a), len(s)))
		return ok && a == s
	case *list:
		l, ok := b.(*list)
		if !ok || l.tuple != a.tuple || len(l.items) != len(a.items) {
			return false
		}
		for i, x := range a.items {
			if !r.equal(x, l.items[i]) {
				return false
			}
		}
		return true
	case *dict:
		d, ok := b.(*dict)
		if !ok || a.namespace || d.namespace || len(d.keys) != len(a.keys) {
			return a == b
		}
		for i, k := range a.keys {
			v, ok := d.get(k)
			if !ok || !r.equal(a.values[i], v) {
				return false
			}
		}
		return true
	default:
		return a == b
	}
}

// less is a < b of Python, for numbers, strings and lists.
func (r *run) less(a, b any) bool {
	r.enter()
	defer r.leave()
	if ia, fa, inta, ok := number(a); ok {
		if ib, fb, intb, ok := number(b); ok {
			if inta && intb {
				return ia < ib
			}
			return fa < fb
		}
	}
	if s, ok := a.(string); ok {
		if t, ok := b.(string); ok {
			r.work(min(len(s), len(t)))
			return s < t
		}
	}
	if s, ok := a.(*list); ok {
		if t, ok := b.(*list); ok {
			for i := range min(len(s.items), len(t.items)) {
				if !r.equal(s.items[i], t.items[i]) {
					return r.less(s.items[i], t.items[i])
				}
			}
			return len(s.items) < len(t.items)
		}
	}
	r.fail("%s and %s have no order", typeName(a), typeName(b))
	return false
}

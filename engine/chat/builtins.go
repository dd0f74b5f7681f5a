package chat

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What templates are offered: functions, tests, filters and methods that read and make values.
// There is none that reads files or the environment, and none that changes a value.

var globals = map[string]func(r *run, a arguments) any{
	"range":     rangeOf,
	"namespace": func(r *run, a arguments) any { d := mappingOf(r, a); d.namespace = true; return d },
	"dict":      func(r *run, a arguments) any { return mappingOf(r, a) },
	"raise_exception": func(r *run, a arguments) any {
		r.fail("the template refuses the conversation: %s", r.text(a.get(0, "message", "")))
		return nil
	},
	"strftime_now": func(r *run, a arguments) any {
		format := r.wantString(a.get(0, "format", nil), "strftime_now")
		r.pay(5 * len(format)) // %A is Wednesday at most
		return strftime(r.now(), format)
	},
}

// rangeOf is range(end), range(begin, end) or range(begin, end, step).
func rangeOf(r *run, a arguments) any {
	var n [3]int64
	for i, v := range a.pos {
		x, _, isInt, _ := number(v)
		if !isInt || i > 2 {
			r.fail("range wants one to three whole numbers")
		}
		n[i] = x
	}
	begin, end, step := n[0], n[1], n[2]
	switch len(a.pos) {
	case 0:
		r.fail("range wants one to three whole numbers")
	case 1:
		begin, end, step = 0, n[0], 1
	case 2:
		step = 1
	}
	if step == 0 {
		r.fail("the step of range is 0")
	}
	count := math.Ceil((float64(end) - float64(begin)) / float64(step))
	if count > mostBytes/valueBytes {
		r.fail("range of %.0f numbers is too long", count)
	}
	l := r.list(max(0, int(count)))
	for i := range int64(cap(l.items)) {
		l.items = append(l.items, begin+i*step)
	}
	return l
}

func mappingOf(r *run, a arguments) *dict {
	r.payValues(4 * len(a.names))
	d := newDict()
	for _, v := range a.pos {
		from, ok := v.(*dict)
		if !ok {
			r.fail("a mapping is not made of %s", typeName(v))
		}
		r.payValues(4 * len(from.keys))
		for i, k := range from.keys {
			d.set(k, from.values[i])
		}
	}
	for i, n := range a.names {
		d.set(n, a.named[i])
	}
	return d
}

func (r *run) wantString(v any, who string) string {
	s, ok := v.(string)
	if !ok {
		r.fail("%s wants a string, not %s", who, typeName(v))
	}
	r.work(len(s))
	return s
}

func (r *run) wantInt(v any, who string) int {
	n, _, isInt, _ := number(v)
	if !isInt || n > mostBytes || n < -mostBytes {
		r.fail("%s wants a whole number, not %s", who, typeName(v))
	}
	return int(n)
}

type test func(r *run, v any, a arguments) bool

var tests map[string]test

// The tables are filled here because what is in them looks names up in them.
func init() {
	kind := func(f func(v any) bool) test { return func(_ *run, v any, _ arguments) bool { return f(v) } }
	op := func(op string) test {
		return func(r *run, v any, a arguments) bool { return r.compare(op, v, a.get(0, "", nil)) }
	}
	tests = map[string]test{
		"defined":   kind(func(v any) bool { _, u := v.(undefined); return !u }),
		"undefined": kind(func(v any) bool { _, u := v.(undefined); return u }),
		"none":      kind(func(v any) bool { return v == nil }),
		"string":    kind(func(v any) bool { _, ok := v.(string); return ok }),
		"boolean":   kind(func(v any) bool { _, ok := v.(bool); return ok }),
		"true":      kind(func(v any) bool { return v == true }),
		"false":     kind(func(v any) bool { return v == false }),
		"integer":   kind(func(v any) bool { _, ok := v.(int64); return ok }),
		"float":     kind(func(v any) bool { _, ok := v.(float64); return ok }),
		"number":    kind(func(v any) bool { _, _, _, ok := number(v); return ok }),
		"mapping":   kind(func(v any) bool { d, ok := v.(*dict); return ok && !d.namespace }),
		"callable":  kind(func(v any) bool { _, ok := v.(*function); return ok }),
		"iterable":  kind(isIterable),
		"sequence":  kind(isIterable),
		"odd":       func(r *run, v any, _ arguments) bool { return r.wantInt(v, "odd")%2 != 0 },
		"even":      func(r *run, v any, _ arguments) bool { return r.wantInt(v, "even")%2 == 0 },
		"divisibleby": func(r *run, v any, a arguments) bool {
			return r.equal(r.binary("%", v, a.get(0, "num", nil)), int64(0))
		},
		"lower": func(r *run, v any, _ arguments) bool {
			s := r.wantString(v, "lower")
			return s == strings.ToLower(s) && s != strings.ToUpper(s)
		},
		"upper": func(r *run, v any, _ arguments) bool {
			s := r.wantString(v, "upper")
			return s == strings.ToUpper(s) && s != strings.ToLower(s)
		},
		"==": op("=="), "eq": op("=="), "equalto": op("=="), "sameas": op("=="), "!=": op("!="), "ne": op("!="),
		"<": op("<"), "lt": op("<"), "lessthan": op("<"), "<=": op("<="), "le": op("<="),
		">": op(">"), "gt": op(">"), "greaterthan": op(">"), ">=": op(">="), "ge": op(">="), "in": op("in"),
	}
}

func isIterable(v any) bool {
	switch v := v.(type) {
	case string, *list, undefined:
		return true
	case *dict:
		return !v.namespace
	}
	return false
}

type filter func(r *run, v any, a arguments) any

var filters map[string]filter

func init() {
	onText := func(f func(string) string) filter {
		return func(r *run, v any, _ arguments) any {
			s := f(r.text(v))
			r.pay(len(s))
			return s
		}
	}
	filters = map[string]filter{
		"upper": onText(strings.ToUpper), "lower": onText(strings.ToLower), "title": onText(title), "capitalize": onText(capitalize),
		"safe":   onText(func(s string) string { return s }),
		"string": onText(func(s string) string { return s }),
		"escape": onText(escapeHTML), "e": onText(escapeHTML),
		"trim":    func(r *run, v any, a arguments) any { return strip(r, r.text(v), a, true, true) },
		"length":  func(r *run, v any, _ arguments) any { return r.length(v) },
		"count":   func(r *run, v any, _ arguments) any { return r.length(v) },
		"default": defaultOf, "d": defaultOf,
		"join":    join,
		"replace": func(r *run, v any, a arguments) any { return replace(r, r.text(v), a) },
		"first":   func(r *run, v any, _ arguments) any { return end(r.iterate(v), 0) },
		"last":    func(r *run, v any, _ arguments) any { l := r.iterate(v); return end(l, len(l)-1) },
		"list": func(r *run, v any, _ arguments) any {
			items := r.iterate(v)
			r.payValues(len(items))
			return &list{items: items}
		},
		"reverse": func(r *run, v any, _ arguments) any {
			if _, ok := v.(string); ok {
				return r.slice(v, nil, nil, int64(-1))
			}
			l := r.list(len(r.iterate(v)))
			l.items = append(l.items, r.iterate(v)...)
			slices.Reverse(l.items)
			return l
		},
		"items": func(r *run, v any, _ arguments) any {
			d, ok := v.(*dict)
			if _, u := v.(undefined); u {
				return &list{}
			}
			if !ok {
				r.fail("items wants a mapping, not %s", typeName(v))
			}
			r.payValues(8 * len(d.keys))
			return d.pairs()
		},
		"dictsort": func(r *run, v any, _ arguments) any {
			d, ok := v.(*dict)
			if !ok {
				r.fail("dictsort wants a mapping, not %s", typeName(v))
			}
			r.payValues(8 * len(d.keys))
			l := d.pairs()
			slices.SortStableFunc(l.items, func(a, b any) int {
				return r.order(folded(a.(*list).items[0]), folded(b.(*list).items[0]))
			})
			return l
		},
		"sort": func(r *run, v any, a arguments) any {
			l := r.list(len(r.iterate(v)))
			l.items = append(l.items, r.iterate(v)...)
			name := a.get(2, "attribute", nil)
			key := func(v any) any {
				if name != nil {
					v = r.path(v, name)
				}
				if truth(a.get(1, "case_sensitive", false)) {
					return v
				}
				return folded(v)
			}
			slices.SortStableFunc(l.items, func(a, b any) int { return r.order(key(a), key(b)) })
			if truth(a.get(0, "reverse", false)) {
				slices.Reverse(l.items)
			}
			return l
		},
		"unique": func(r *run, v any, _ arguments) any {
			l := r.list(len(r.iterate(v)))
			for _, x := range r.iterate(v) {
				if !r.contains(l, x) {
					l.items = append(l.items, x)
				}
			}
			return l
		},
		"map":        mapOf,
		"select":     func(r *run, v any, a arguments) any { return choose(r, v, a, false, true) },
		"reject":     func(r *run, v any, a arguments) any { return choose(r, v, a, false, false) },
		"selectattr": func(r *run, v any, a arguments) any { return choose(r, v, a, true, true) },
		"rejectattr": func(r *run, v any, a arguments) any { return choose(r, v, a, true, false) },
		"int": func(r *run, v any, a arguments) any {
			switch v := v.(type) {
			case string:
				if n, err := strconv.ParseInt(strings.TrimSpace(r.wantString(v, "int")), 10, 64); err == nil {
					return n
				}
			case float64:
				if math.Abs(v) < 1<<62 {
					return int64(v)
				}
			default:
				if n, _, isInt, _ := number(v); isInt {
					return n
				}
			}
			return a.get(0, "default", int64(0))
		},
		"float": func(r *run, v any, a arguments) any {
			if s, ok := v.(string); ok {
				if x, err := strconv.ParseFloat(strings.TrimSpace(r.wantString(s, "float")), 64); err == nil {
					return x
				}
			} else if _, x, _, ok := number(v); ok {
				return x
			}
			return a.get(0, "default", 0.0)
		},
		"abs": func(r *run, v any, _ arguments) any {
			if r.less(v, int64(0)) {
				return r.binary("-", int64(0), v)
			}
			return v
		},
		"round": func(r *run, v any, a arguments) any {
			_, x, _, ok := number(v)
			if !ok {
				r.fail("round wants a number, not %s", typeName(v))
			}
			scale := math.Pow10(min(max(r.wantInt(a.get(0, "precision", int64(0)), "round"), 0), 15))
			return math.RoundToEven(x*scale) / scale
		},
		"sum": func(r *run, v any, a arguments) any {
			total := any(int64(0))
			for _, x := range r.iterate(v) {
				if name := a.get(0, "attribute", nil); name != nil {
					x = r.path(x, name)
				}
				total = r.binary("+", total, x)
			}
			return total
		},
		"min":    func(r *run, v any, _ arguments) any { return extreme(r, v, false) },
		"max":    func(r *run, v any, _ arguments) any { return extreme(r, v, true) },
		"indent": indent,
		"tojson": tojson,
	}
}

func defaultOf(_ *run, v any, a arguments) any {
	_, missing := v.(undefined)
	if missing || truth(a.get(1, "boolean", false)) && !truth(v) {
		return a.get(0, "default_value", "")
	}
	return v
}

func end(items []any, i int) any {
	if len(items) == 0 {
		return undefined{"the element of an empty list"}
	}
	return items[i]
}

// path is the attribute of v that name says, an index or names with dots between.
func (r *run) path(v, name any) any {
	s, ok := name.(string)
	if !ok {
		return r.item(v, name)
	}
	r.work(nodeWork + 2*len(s))
	for part := range strings.SplitSeq(s, ".") {
		if n, err := strconv.ParseInt(part, 10, 64); err == nil {
			v = r.item(v, n)
		} else {
			v = r.item(v, part)
		}
	}
	return v
}

func folded(v any) any {
	if s, ok := v.(string); ok {
		return strings.ToLower(s)
	}
	return v
}

func (r *run) order(a, b any) int {
	switch {
	case r.less(a, b):
		return -1
	case r.less(b, a):
		return 1
	}
	return 0
}

func extreme(r *run, v any, most bool) any {
	items := r.iterate(v)
	best := end(items, 0)
	for _, x := range items {
		if most && r.less(best, x) || !most && r.less(x, best) {
			best = x
		}
	}
	return best
}

func join(r *run, v any, a arguments) any {
	sep := r.text(a.get(0, "d", ""))
	name := a.get(1, "attribute", nil)
	var b strings.Builder
	for i, x := range r.iterate(v) {
		if name != nil {
			x = r.path(x, name)
		}
		s := r.text(x)
		if i > 0 {
			s = sep + s
		}
		r.pay(len(s))
		b.WriteString(s)
	}
	return b.String()
}

// mapOf is map(attribute=name) or map(filter, arguments).
func mapOf(r *run, v any, a arguments) any {
	items := r.iterate(v)
	l := r.list(len(items))
	name := a.get(len(a.pos), "attribute", nil)
	if name != nil {
		def := a.get(len(a.pos), "default", nil)
		for _, x := range items {
			y := r.path(x, name)
			if _, missing := y.(undefined); missing && def != nil {
				y = def
			}
			l.items = append(l.items, y)
		}
		return l
	}
	f, ok := filters[r.text(a.get(0, "", nil))]
	if !ok {
		r.fail("map wants attribute=NAME or the name of a filter")
	}
	rest := arguments{a.pos[1:], a.names, a.named}
	for _, x := range items {
		r.work(nodeWork)
		l.items = append(l.items, f(r, x, rest))
	}
	return l
}

// choose keeps the elements for which a test says want; attr: a test of an attribute.
func choose(r *run, v any, a arguments, attr, want bool) any {
	rest := a.pos
	var name any
	if attr {
		if len(rest) == 0 {
			r.fail("selectattr and rejectattr want the name of an attribute")
		}
		name, rest = rest[0], rest[1:]
	}
	holds := test(func(_ *run, v any, _ arguments) bool { return truth(v) })
	if len(rest) > 0 {
		var ok bool
		if holds, ok = tests[r.text(rest[0])]; !ok {
			r.fail("the test %s is not known, or not offered to templates", r.text(rest[0]))
		}
		rest = rest[1:]
	}
	items := r.iterate(v)
	l := r.list(len(items))
	for _, x := range items {
		r.work(nodeWork)
		y := x
		if attr {
			y = r.path(x, name)
		}
		if holds(r, y, arguments{pos: rest}) == want {
			l.items = append(l.items, x)
		}
	}
	return l
}

// indent puts blanks in front of every line but the first.
func indent(r *run, v any, a arguments) any {
	prefix := ""
	switch w := a.get(0, "width", int64(4)).(type) {
	case string:
		prefix = w
	default:
		prefix = r.repeat(" ", int64(r.wantInt(w, "indent"))).(string)
	}
	blank := truth(a.get(2, "blank", false))
	text := r.text(v)
	r.payValues(strings.Count(text, "\n") + 1)
	var b strings.Builder
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			line = "\n" + line
		}
		if i == 0 && truth(a.get(1, "first", false)) {
			line = prefix + line
		} else if i > 0 && (blank || line != "\n") {
			r.pay(len(prefix))
			line = "\n" + prefix + line[1:]
		}
		r.pay(len(line))
		b.WriteString(line)
	}
	return b.String()
}

func escapeHTML(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;").Replace(s)
}

// titleOf makes the first letter of every word large and the others small; inWord says
// whether a character goes on with a word.
func titleOf(s string, inWord func(rune) bool) string {
	inside := false
	return strings.Map(func(c rune) rune {
		first := !inside
		inside = inWord(c)
		if first {
			return unicode.ToTitle(c)
		}
		return unicode.ToLower(c)
	}, s)
}

// title is the filter of that name: words have blanks, hyphens and opening brackets between.
func title(s string) string {
	return titleOf(s, func(c rune) bool { return !unicode.IsSpace(c) && !strings.ContainsRune("-({[<", c) })
}

func capitalize(s string) string {
	c, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	return string(unicode.ToTitle(c)) + strings.ToLower(s[n:])
}

// tojson is json.dumps(v, ensure_ascii=False), as Hugging Face has it.
func tojson(r *run, v any, a arguments) any {
	indent := ""
	if n := a.get(1, "indent", nil); n != nil {
		indent = r.repeat(" ", int64(r.wantInt(n, "tojson"))).(string)
	}
	var b strings.Builder
	r.json(&b, v, indent, "\n")
	return b.String()
}

func (r *run) json(b *strings.Builder, v any, indent, newline string) {
	r.enter()
	defer r.leave()
	write := func(s string) { r.pay(len(s)); b.WriteString(s) }
	inner, comma := newline+indent, ","
	if indent == "" {
		inner, newline, comma = "", "", ", "
	}
	switch v := v.(type) {
	case nil:
		write("null")
	case bool:
		write(strconv.FormatBool(v))
	case int64:
		write(strconv.FormatInt(v, 10))
	case float64:
		write(floatText(v))
	case string:
		var s strings.Builder
		enc := json.NewEncoder(&s)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			r.fail("tojson: %v", err)
		}
		write(strings.NewReplacer(`\u2028`, "\u2028", `\u2029`, "\u2029", `\\`, `\\`).Replace(strings.TrimSuffix(s.String(), "\n")))
	case *list:
		if len(v.items) == 0 {
			write("[]")
			return
		}
		for i, x := range v.items {
			write(map[bool]string{true: "[", false: comma}[i == 0] + inner)
			r.json(b, x, indent, inner)
		}
		write(newline + "]")
	case *dict:
		if len(v.keys) == 0 {
			write("{}")
			return
		}
		for i, k := range v.keys {
			write(map[bool]string{true: "{", false: comma}[i == 0] + inner)
			r.json(b, r.text(k), "", "")
			write(": ")
			r.json(b, v.values[i], indent, inner)
		}
		write(newline + "}")
	default:
		r.fail("tojson cannot write %s", typeName(v))
	}
}

type method[T any] func(r *run, v T, a arguments) any

var (
	dictMethods   map[string]method[*dict]
	stringMethods map[string]method[string]
)

func init() {
	dictMethods = map[string]method[*dict]{
		"items": func(r *run, d *dict, _ arguments) any { r.payValues(8 * len(d.keys)); return d.pairs() },
		"keys": func(r *run, d *dict, _ arguments) any {
			l := r.list(len(d.keys))
			l.items = append(l.items, d.keys...)
			return l
		},
		"values": func(r *run, d *dict, _ arguments) any {
			l := r.list(len(d.keys))
			l.items = append(l.items, d.values...)
			return l
		},
		"get": func(r *run, d *dict, a arguments) any {
			if v, ok := d.get(r.key(a.get(0, "key", nil))); ok {
				return v
			}
			return a.get(1, "default", nil)
		},
	}

	stringMethods = map[string]method[string]{
		"strip":      func(r *run, s string, a arguments) any { return strip(r, s, a, true, true) },
		"lstrip":     func(r *run, s string, a arguments) any { return strip(r, s, a, true, false) },
		"rstrip":     func(r *run, s string, a arguments) any { return strip(r, s, a, false, true) },
		"upper":      func(r *run, s string, _ arguments) any { r.pay(2 * len(s)); return strings.ToUpper(s) },
		"lower":      func(r *run, s string, _ arguments) any { r.pay(2 * len(s)); return strings.ToLower(s) },
		"title":      func(r *run, s string, _ arguments) any { r.pay(2 * len(s)); return titleOf(s, unicode.IsLetter) },
		"capitalize": func(r *run, s string, _ arguments) any { r.pay(2 * len(s)); return capitalize(s) },
		"replace":    func(r *run, s string, a arguments) any { return replace(r, s, a) },
		"startswith": func(r *run, s string, a arguments) any { return affix(r, s, a, strings.HasPrefix) },
		"endswith":   func(r *run, s string, a arguments) any { return affix(r, s, a, strings.HasSuffix) },
		"split":      func(r *run, s string, a arguments) any { return split(r, s, a, false) },
		"rsplit":     func(r *run, s string, a arguments) any { return split(r, s, a, true) },
		"splitlines": func(r *run, s string, _ arguments) any {
			r.work(len(s))
			l := r.list(strings.Count(s, "\n") + 1)
			for line := range strings.Lines(s) {
				l.items = append(l.items, strings.TrimSuffix(line, "\n"))
			}
			return l
		},
		"join": func(r *run, s string, a arguments) any {
			return join(r, a.get(0, "iterable", nil), arguments{pos: []any{s}})
		},
		"find":  func(r *run, s string, a arguments) any { return find(r, s, a, strings.Index) },
		"rfind": func(r *run, s string, a arguments) any { return find(r, s, a, strings.LastIndex) },
		"count": func(r *run, s string, a arguments) any {
			r.work(len(s))
			return int64(strings.Count(s, r.wantString(a.get(0, "sub", nil), "count")))
		},
		"isdigit": func(r *run, s string, _ arguments) any { return all(r, s, unicode.IsDigit) },
		"isspace": func(r *run, s string, _ arguments) any { return all(r, s, unicode.IsSpace) },
		"isalpha": func(r *run, s string, _ arguments) any { return all(r, s, unicode.IsLetter) },
		"removeprefix": func(r *run, s string, a arguments) any {
			return strings.TrimPrefix(s, r.wantString(a.get(0, "prefix", nil), "removeprefix"))
		},
		"removesuffix": func(r *run, s string, a arguments) any {
			return strings.TrimSuffix(s, r.wantString(a.get(0, "suffix", nil), "removesuffix"))
		},
	}
}

func all(r *run, s string, is func(rune) bool) bool {
	r.work(len(s))
	return s != "" && strings.IndexFunc(s, func(c rune) bool { return !is(c) }) < 0
}

// strip takes blanks, or the characters given, from the ends.
func strip(r *run, s string, a arguments, left, right bool) string {
	is := unicode.IsSpace
	if set := a.get(0, "chars", nil); set != nil {
		chars := r.wantString(set, "strip")
		r.work(min(len(chars), 1<<20) * min(len(s), 1<<20))
		is = func(c rune) bool { return strings.ContainsRune(chars, c) }
	}
	r.work(len(s))
	if left {
		s = strings.TrimLeftFunc(s, is)
	}
	if right {
		s = strings.TrimRightFunc(s, is)
	}
	return s
}

func replace(r *run, s string, a arguments) string {
	old, with := r.wantString(a.get(0, "old", nil), "replace"), r.wantString(a.get(1, "new", nil), "replace")
	most := -1
	if n := a.get(2, "count", nil); n != nil {
		most = r.wantInt(n, "replace")
	}
	r.work(len(s))
	n := strings.Count(s, old)
	if len(with) > 0 && n > mostBytes/len(with) {
		r.fail("the template makes too much text")
	}
	r.pay(len(s) + n*len(with))
	return strings.Replace(s, old, with, most)
}

func affix(r *run, s string, a arguments, has func(s, x string) bool) any {
	x := a.get(0, "prefix", nil)
	if l, ok := x.(*list); ok {
		return slices.ContainsFunc(l.items, func(y any) bool { return has(s, r.wantString(y, "startswith and endswith")) })
	}
	return has(s, r.wantString(x, "startswith and endswith"))
}

func find(r *run, s string, a arguments, index func(s, sub string) int) any {
	r.work(len(s))
	i := index(s, r.wantString(a.get(0, "sub", nil), "find"))
	if i < 0 {
		return int64(-1)
	}
	return int64(utf8.RuneCountInString(s[:i]))
}

// split cuts s at a separator, or at blanks, at most n times from the left or the right.
func split(r *run, s string, a arguments, right bool) any {
	r.work(len(s))
	most := r.wantInt(a.get(1, "maxsplit", int64(-1)), "split")
	var parts []string
	if sep := a.get(0, "sep", nil); sep != nil {
		by := r.wantString(sep, "split")
		if by == "" {
			r.fail("split wants a separator that is not empty")
		}
		r.payValues(2 * (strings.Count(s, by) + 1))
		parts = strings.Split(s, by)
		if n := len(parts) - 1 - most; most >= 0 && n > 0 {
			if right {
				parts = append([]string{strings.Join(parts[:n+1], by)}, parts[n+1:]...)
			} else {
				parts = append(parts[:most:most], strings.Join(parts[most:], by))
			}
			r.pay(len(s))
		}
	} else {
		if most >= 0 {
			r.fail("split at blanks takes no largest number of cuts")
		}
		r.payValues(len(s))
		parts = strings.Fields(s)
	}
	l := r.list(len(parts))
	for _, p := range parts {
		l.items = append(l.items, p)
	}
	return l
}

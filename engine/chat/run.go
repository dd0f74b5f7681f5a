package chat

import (
	"fmt"
	"strings"
	"time"
)

// What rendering may take. A template of a hundred messages takes a thousandth of the work.
const (
	maxDepth  = 2000    // expressions, statements, macros and values inside of each other
	mostWork  = 1 << 27 // bytes looked at, and some for every node and turn of a loop: half a second
	mostBytes = 1 << 25 // made while rendering, besides 32 for each byte of the input
	nodeWork  = 32
	turnWork  = 512
	mostError = 300 // bytes of a message, which a template can have written
)

// run is one rendering: where it is, and what it may still take.
type run struct {
	out   *strings.Builder
	now   func() time.Time
	line  int
	depth int
	left  int // work
	bytes int // memory
}

// failure is how an error leaves an expression; Render recovers it.
type failure struct{ err error }

// fail ends the rendering.
func (r *run) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(text) > mostError {
		text = strings.ToValidUTF8(text[:mostError], "") + "…"
	}
	panic(failure{fmt.Errorf("line %d: %s", r.line, text)})
}

// enter and leave stand around what can be inside of itself.
func (r *run) enter() {
	if r.depth++; r.depth > maxDepth {
		r.fail("more than %d expressions, blocks, macros or values are inside of each other", maxDepth)
	}
	r.work(nodeWork)
}

func (r *run) leave() { r.depth-- }

// work pays for n bytes that are looked at.
func (r *run) work(n int) {
	if r.left -= n; r.left < 0 {
		r.fail("the template takes too much work: it may loop without end")
	}
}

// pay pays for n bytes that are made, before they are.
func (r *run) pay(n int) {
	if n < 0 || n > r.bytes {
		r.fail("the template makes too much text")
	}
	r.bytes -= n
	r.work(n)
}

// valueBytes is about what a value in a list takes.
const valueBytes = 16

// list pays for a list of n values.
func (r *run) list(n int) *list {
	r.payValues(n)
	return &list{items: make([]any, 0, n)}
}

func (r *run) payValues(n int) {
	if n > r.bytes/valueBytes {
		r.fail("the template makes lists that are too long")
	}
	r.pay(n * valueBytes)
}

// write appends to the output.
func (r *run) write(s string) {
	r.pay(len(s))
	r.out.WriteString(s)
}

// capture returns what f writes.
func (r *run) capture(f func()) string {
	out := r.out
	r.out = &strings.Builder{}
	f()
	text := r.out.String()
	r.out = out
	return text
}

// scope is the variables that a block can see.
type scope struct {
	vars  map[string]any
	outer *scope
}

func (s *scope) get(name string) (any, bool) {
	for ; s != nil; s = s.outer {
		if v, ok := s.vars[name]; ok {
			return v, true
		}
	}
	return nil, false
}

func (s *scope) inner() *scope { return &scope{map[string]any{}, s} }

// expr computes a value, stmt does something; both are made by the parser.
type (
	expr func(r *run, s *scope) any
	stmt func(r *run, s *scope) flow
)

// flow is how a statement ends.
type flow int

const (
	goOn flow = iota
	breakLoop
	nextTurn
)

// block runs statements one after the other.
func block(body []stmt) stmt {
	return func(r *run, s *scope) flow {
		r.enter()
		for _, st := range body {
			if f := st(r, s); f != goOn {
				r.leave()
				return f
			}
		}
		r.leave()
		return goOn
	}
}

// iterate returns the elements that a loop over v sees.
func (r *run) iterate(v any) []any {
	switch v := v.(type) {
	case undefined:
		return nil
	case *list:
		return v.items
	case *dict:
		return v.keys
	case string:
		l := r.list(len(v))
		for _, c := range v {
			l.items = append(l.items, string(c))
		}
		return l.items
	}
	r.fail("%s cannot be looped over", typeName(v))
	return nil
}

// length is len(v).
func (r *run) length(v any) int64 {
	switch v := v.(type) {
	case string:
		r.work(len(v))
		return int64(len([]rune(v)))
	case undefined:
		return 0
	case *list:
		return int64(len(v.items))
	case *dict:
		return int64(len(v.keys))
	}
	r.fail("%s has no length", typeName(v))
	return 0
}

// assign gives the names of a target the value v.
type target struct {
	names []string // more than one: v is taken apart
	attr  string   // of the namespace names[0]
	tuple bool
}

func (t target) assign(r *run, s *scope, v any) {
	switch {
	case t.attr != "":
		ns, _ := s.get(t.names[0])
		d, ok := ns.(*dict)
		if !ok || !d.namespace {
			r.fail("%s is not a namespace: %s.%s cannot be set", t.names[0], t.names[0], t.attr)
		}
		r.payValues(4)
		d.set(t.attr, v)
	case !t.tuple:
		s.vars[t.names[0]] = v
	default:
		items := r.iterate(v)
		if len(items) != len(t.names) {
			r.fail("%d names cannot take %d values", len(t.names), len(items))
		}
		for i, n := range t.names {
			s.vars[n] = items[i]
		}
	}
}

// loop runs body for every element of what over yields and cond admits, otherwise alt.
func loop(t target, over, cond expr, body, alt stmt) stmt {
	return func(r *run, s *scope) flow {
		items := r.iterate(over(r, s))
		if cond != nil {
			kept := r.list(len(items))
			for _, v := range items {
				r.work(turnWork)
				in := s.inner()
				t.assign(r, in, v)
				if truth(cond(r, in)) {
					kept.items = append(kept.items, v)
				}
			}
			items = kept.items
		}
		if len(items) == 0 {
			return alt(r, s.inner())
		}
		for i, v := range items {
			r.work(turnWork)
			in := s.inner()
			in.vars["loop"] = &turn{items, i}
			t.assign(r, in, v)
			if body(r, in) == breakLoop {
				break
			}
		}
		return goOn
	}
}

// turn is the variable loop: where a loop is.
type turn struct {
	items []any
	i     int
}

// attribute is loop.name.
func (t *turn) attribute(name string) any {
	n := len(t.items)
	switch name {
	case "index":
		return int64(t.i + 1)
	case "index0":
		return int64(t.i)
	case "revindex":
		return int64(n - t.i)
	case "revindex0":
		return int64(n - t.i - 1)
	case "first":
		return t.i == 0
	case "last":
		return t.i == n-1
	case "length":
		return int64(n)
	case "previtem":
		if t.i > 0 {
			return t.items[t.i-1]
		}
	case "nextitem":
		if t.i+1 < n {
			return t.items[t.i+1]
		}
	case "cycle":
		return &function{"loop.cycle", func(r *run, a arguments) any {
			if len(a.pos) == 0 {
				r.fail("loop.cycle wants values")
			}
			return a.pos[t.i%len(a.pos)]
		}}
	}
	return undefined{"loop." + name}
}

// attribute is v.name: of a mapping its value, else a method.
func (r *run) attribute(v any, name string) any {
	if u, ok := v.(undefined); ok {
		r.fail("%s is undefined, it has no %s", u.name, name)
	}
	if t, ok := v.(*turn); ok {
		return t.attribute(name)
	}
	if d, ok := v.(*dict); ok {
		if m, ok := dictMethods[name]; ok && !d.namespace {
			return &function{name, func(r *run, a arguments) any { return m(r, d, a) }}
		}
		if x, ok := d.get(name); ok {
			return x
		}
		return undefined{name}
	}
	if text, ok := v.(string); ok {
		if m, ok := stringMethods[name]; ok {
			return &function{name, func(r *run, a arguments) any { return m(r, text, a) }}
		}
	}
	return undefined{name}
}

// item is v[key].
func (r *run) item(v, key any) any {
	switch v := v.(type) {
	case undefined:
		r.fail("%s is undefined, it has no elements", v.name)
	case *dict:
		switch key := key.(type) {
		case string:
			r.work(len(key))
		case nil, bool, int64, float64:
		default:
			return undefined{"the element"}
		}
		if x, ok := v.get(key); ok {
			return x
		}
	case *list, string:
		if k, _, isInt, _ := number(key); isInt {
			items := r.iterate(v)
			if k < 0 {
				k += int64(len(items))
			}
			if k >= 0 && k < int64(len(items)) {
				return items[k]
			}
			return undefined{fmt.Sprintf("element %v", key)}
		}
	}
	if name, ok := key.(string); ok {
		r.work(len(name))
		return r.attribute(v, name)
	}
	return undefined{"the element"}
}

// slice is v[from:to:step] of Python; nil stands for what is left out.
func (r *run) slice(v, from, to, step any) any {
	text, isText := v.(string)
	switch v.(type) {
	case string, *list:
	default:
		r.fail("%s cannot be sliced", typeName(v))
	}
	items := r.iterate(v)
	n, by := int64(len(items)), int64(1)
	integer := func(x any, def int64) int64 {
		if x == nil {
			return def
		}
		i, _, isInt, _ := number(x)
		if !isInt {
			r.fail("a slice wants whole numbers, not %s", typeName(x))
		}
		return i
	}
	if by = integer(step, 1); by == 0 {
		r.fail("the step of a slice is 0")
	}
	lo, hi, first, last := int64(0), n, int64(0), n
	if by < 0 {
		lo, hi, first, last = -1, n-1, n-1, -1
	}
	bound := func(x any, def int64) int64 {
		if x == nil {
			return def
		}
		i := integer(x, 0)
		if i < 0 {
			i += n
		}
		return min(max(i, lo), hi)
	}
	i, end := bound(from, first), bound(to, last)
	kept := r.list(len(items))
	if by > n || by < -n { // i + by must not overflow
		by = map[bool]int64{true: n + 1, false: -n - 1}[by > 0]
	}
	for ; by > 0 && i < end || by < 0 && i > end; i += by {
		kept.items = append(kept.items, items[i])
	}
	if !isText {
		kept.tuple = v.(*list).tuple
		return kept
	}
	r.pay(len(text))
	var b strings.Builder
	for _, c := range kept.items {
		b.WriteString(c.(string))
	}
	return b.String()
}

// call calls f.
func (r *run) call(f any, what string, a arguments) any {
	fn, ok := f.(*function)
	if !ok {
		if _, isUndefined := f.(undefined); isUndefined {
			r.fail("%s is not known, or not offered to templates", what)
		}
		r.fail("%s is %s and cannot be called", what, typeName(f))
	}
	return fn.call(r, a)
}

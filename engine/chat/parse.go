package chat

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	maxSource  = 1 << 20 // bytes of a template; the longest in use have 2^15
	maxNesting = 200     // brackets and blocks inside of each other
	maxName    = 200     // bytes of a name, which looking it up reads
)

// parser makes statements of tokens.
type parser struct {
	toks  []token
	depth int
}

// parse makes one statement of a template.
func parse(source string) (stmt, error) {
	if len(source) > maxSource {
		return nil, fmt.Errorf("it has %d bytes, want at most %d", len(source), maxSource)
	}
	toks, err := lex(source)
	if err != nil {
		return nil, err
	}
	p := &parser{toks: toks}
	body, end, err := p.body()
	if err == nil && end != "" {
		err = p.errorf("%s ends nothing", end)
	}
	return body, err
}

func (p *parser) peek() token { return p.toks[0] }

func (p *parser) take() token {
	t := p.toks[0]
	if t.kind != kindEnd {
		p.toks = p.toks[1:]
	}
	return t
}

func (p *parser) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: "+format, append([]any{p.peek().line}, args...)...)
}

// is says whether the next token is that operator or name.
func (p *parser) is(text string) bool {
	t := p.peek()
	return (t.kind == kindOp || t.kind == kindName) && t.text == text
}

// accept takes the next token if it is that operator or name.
func (p *parser) accept(text string) bool {
	ok := p.is(text)
	if ok {
		p.take()
	}
	return ok
}

func (p *parser) expect(text string) error {
	if !p.accept(text) {
		return p.errorf("want %q, not %s", text, p.peek())
	}
	return nil
}

func (t token) String() string {
	switch t.kind {
	case kindEnd:
		return "the end"
	case kindData:
		return "text"
	default:
		return strconv.Quote(t.text)
	}
}

func (p *parser) name() (string, error) {
	if t := p.peek(); t.kind != kindName {
		return "", p.errorf("want a name, not %s", t)
	}
	return p.take().text, nil
}

// closeTag takes the end of a tag.
func (p *parser) closeTag() error {
	if t := p.peek(); t.kind != kindClose {
		return p.errorf("%s is not expected here", t)
	}
	p.take()
	return nil
}

// deeper counts what is inside of each other while it is parsed.
func (p *parser) deeper() error {
	if p.depth++; p.depth > maxNesting {
		return p.errorf("more than %d brackets or blocks are inside of each other", maxNesting)
	}
	return nil
}

// body parses statements up to a tag that ends or divides a block, whose name it takes.
func (p *parser) body() (stmt, string, error) {
	if err := p.deeper(); err != nil {
		return nil, "", err
	}
	defer func() { p.depth-- }()
	var list []stmt
	for {
		t := p.take()
		switch {
		case t.kind == kindEnd:
			return block(list), "", nil
		case t.kind == kindData:
			list = append(list, func(r *run, _ *scope) flow { r.write(t.text); return goOn })
		case t.text == "{{":
			e, err := p.tupleOr()
			if err != nil {
				return nil, "", err
			}
			if err := p.closeTag(); err != nil {
				return nil, "", err
			}
			list = append(list, func(r *run, s *scope) flow {
				r.line = t.line
				r.write(r.text(e(r, s)))
				return goOn
			})
		default:
			name, err := p.name()
			if err != nil {
				return nil, "", err
			}
			if name == "else" || name == "elif" || strings.HasPrefix(name, "end") {
				return block(list), name, nil
			}
			st, err := p.statement(name)
			if err != nil {
				return nil, "", err
			}
			list = append(list, func(r *run, s *scope) flow {
				r.line = t.line
				r.work(nodeWork)
				return st(r, s)
			})
		}
	}
}

// blockTo parses a body and the tag that ends it.
func (p *parser) blockTo(end string) (stmt, error) {
	body, got, err := p.body()
	if err != nil {
		return nil, err
	}
	if got != end {
		return nil, p.errorf("want %s, not %s", end, orEnd(got))
	}
	return body, p.closeTag()
}

func orEnd(name string) string {
	if name == "" {
		return "the end"
	}
	return name
}

// forbidden are the tags that would read other files.
var forbidden = []string{"include", "import", "from", "extends", "block"}

func (p *parser) statement(name string) (stmt, error) {
	switch name {
	case "if":
		return p.ifStatement()
	case "for":
		return p.forStatement()
	case "set":
		return p.setStatement()
	case "macro":
		return p.macroStatement()
	case "filter":
		f, err := p.filterChain(func(_ *run, s *scope) any { v, _ := s.get(" body"); return v })
		if err != nil {
			return nil, err
		}
		if err := p.closeTag(); err != nil {
			return nil, err
		}
		body, err := p.blockTo("endfilter")
		return func(r *run, s *scope) flow {
			in := s.inner()
			in.vars[" body"] = r.capture(func() { body(r, in) })
			r.write(r.text(f(r, in)))
			return goOn
		}, err
	case "generation": // marks what the model has written, for training; it has no output
		if err := p.closeTag(); err != nil {
			return nil, err
		}
		return p.blockTo("endgeneration")
	case "break":
		return func(*run, *scope) flow { return breakLoop }, p.closeTag()
	case "continue":
		return func(*run, *scope) flow { return nextTurn }, p.closeTag()
	}
	if slices.Contains(forbidden, name) {
		return nil, p.errorf("%q is not allowed: a template reads no other", name)
	}
	return nil, p.errorf("the tag %q is not known; there are if, for, set, macro, filter, raw, generation, break, continue", name)
}

func (p *parser) ifStatement() (stmt, error) {
	type branch struct {
		cond expr
		body stmt
	}
	var branches []branch
	for {
		cond, err := p.tupleOr()
		if err != nil {
			return nil, err
		}
		if err := p.closeTag(); err != nil {
			return nil, err
		}
		body, end, err := p.body()
		if err != nil {
			return nil, err
		}
		branches = append(branches, branch{cond, body})
		alt := block(nil)
		switch end {
		case "elif":
			continue
		case "else":
			if err := p.closeTag(); err != nil {
				return nil, err
			}
			if alt, err = p.blockTo("endif"); err != nil {
				return nil, err
			}
		case "endif":
			if err := p.closeTag(); err != nil {
				return nil, err
			}
		default:
			return nil, p.errorf("want endif, not %s", orEnd(end))
		}
		return func(r *run, s *scope) flow {
			for _, b := range branches {
				if truth(b.cond(r, s)) {
					return b.body(r, s)
				}
			}
			return alt(r, s)
		}, nil
	}
}

// targets parses the names of for and set.
func (p *parser) targets() (t target, err error) {
	closing := p.accept("(")
	for {
		n, err := p.name()
		if err != nil {
			return t, err
		}
		t.names = append(t.names, n)
		if !p.accept(",") {
			break
		}
		t.tuple = true
	}
	if closing {
		return t, p.expect(")")
	}
	if len(t.names) == 1 && p.accept(".") {
		t.attr, err = p.name()
	}
	return t, err
}

func (p *parser) forStatement() (stmt, error) {
	t, err := p.targets()
	if err != nil {
		return nil, err
	}
	if err := p.expect("in"); err != nil {
		return nil, err
	}
	over, err := p.or() // no condition: the word if belongs to the loop
	if err != nil {
		return nil, err
	}
	var cond expr
	if p.accept("if") {
		if cond, err = p.expression(); err != nil {
			return nil, err
		}
	}
	if p.is("recursive") {
		return nil, p.errorf("recursive loops are not supported")
	}
	if err := p.closeTag(); err != nil {
		return nil, err
	}
	body, end, err := p.body()
	if err != nil {
		return nil, err
	}
	alt := block(nil)
	switch end {
	case "else":
		if err := p.closeTag(); err != nil {
			return nil, err
		}
		alt, err = p.blockTo("endfor")
	case "endfor":
		err = p.closeTag()
	default:
		err = p.errorf("want endfor, not %s", orEnd(end))
	}
	return loop(t, over, cond, body, alt), err
}

func (p *parser) setStatement() (stmt, error) {
	t, err := p.targets()
	if err != nil {
		return nil, err
	}
	if p.accept("=") {
		e, err := p.tupleOr()
		if err != nil {
			return nil, err
		}
		return func(r *run, s *scope) flow { t.assign(r, s, e(r, s)); return goOn }, p.closeTag()
	}
	filter := expr(func(_ *run, s *scope) any { v, _ := s.get(" body"); return v })
	if filter, err = p.filters(filter); err != nil {
		return nil, err
	}
	if err := p.closeTag(); err != nil {
		return nil, err
	}
	body, err := p.blockTo("endset")
	return func(r *run, s *scope) flow {
		in := s.inner()
		in.vars[" body"] = r.capture(func() { body(r, in) })
		t.assign(r, s, filter(r, in))
		return goOn
	}, err
}

func (p *parser) macroStatement() (stmt, error) {
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	if err := p.expect("("); err != nil {
		return nil, err
	}
	var params []string
	var defaults []expr
	for !p.accept(")") {
		if len(params) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		param, err := p.name()
		if err != nil {
			return nil, err
		}
		var def expr
		if p.accept("=") {
			if def, err = p.expression(); err != nil {
				return nil, err
			}
		}
		params, defaults = append(params, param), append(defaults, def)
	}
	if err := p.closeTag(); err != nil {
		return nil, err
	}
	body, err := p.blockTo("endmacro")
	return func(r *run, s *scope) flow {
		s.vars[name] = &function{name, func(r *run, a arguments) any {
			r.enter()
			defer r.leave()
			if len(a.pos) > len(params) {
				r.fail("the macro %s takes %d arguments, not %d", name, len(params), len(a.pos))
			}
			for _, n := range a.names {
				if !slices.Contains(params, n) {
					r.fail("the macro %s has no argument %s", name, n)
				}
			}
			in := s.inner()
			for i, n := range params {
				v := a.get(i, n, undefined{n})
				if _, missing := v.(undefined); missing && defaults[i] != nil {
					v = defaults[i](r, in)
				}
				in.vars[n] = v
			}
			line := r.line
			text := r.capture(func() { body(r, in) })
			r.line = line
			return text
		}}
		return goOn
	}, err
}

// node counts an expression against depth and work when it is computed.
func node(e expr) expr {
	return func(r *run, s *scope) any {
		r.enter()
		v := e(r, s)
		r.leave()
		return v
	}
}

// tupleOr parses an expression, or several with commas between.
func (p *parser) tupleOr() (expr, error) {
	e, err := p.expression()
	if err != nil || !p.is(",") {
		return e, err
	}
	items := []expr{e}
	for p.accept(",") {
		if p.peek().kind == kindClose || p.is(")") {
			break
		}
		if e, err = p.expression(); err != nil {
			return nil, err
		}
		items = append(items, e)
	}
	return listOf(items, true), nil
}

func listOf(items []expr, tuple bool) expr {
	return node(func(r *run, s *scope) any {
		l := r.list(len(items))
		l.tuple = tuple
		for _, e := range items {
			l.items = append(l.items, e(r, s))
		}
		return l
	})
}

// expression parses a condition: a if b else c.
func (p *parser) expression() (expr, error) {
	if err := p.deeper(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	e, err := p.or()
	if err != nil || !p.accept("if") {
		return e, err
	}
	cond, err := p.or()
	if err != nil {
		return nil, err
	}
	alt := expr(func(*run, *scope) any { return undefined{"the alternative of a condition"} })
	if p.accept("else") {
		if alt, err = p.expression(); err != nil {
			return nil, err
		}
	}
	return node(func(r *run, s *scope) any {
		if truth(cond(r, s)) {
			return e(r, s)
		}
		return alt(r, s)
	}), nil
}

// chain parses operands with operators of one precedence between, from the left.
func (p *parser) chain(operand func() (expr, error), ops []string, combine func(op string, a, b expr) expr) (expr, error) {
	e, err := operand()
	for err == nil {
		i := slices.IndexFunc(ops, p.is)
		if i < 0 {
			return e, nil
		}
		p.take()
		var b expr
		if b, err = operand(); err == nil {
			e = node(combine(ops[i], e, b))
		}
	}
	return nil, err
}

func (p *parser) or() (expr, error) {
	return p.chain(p.and, []string{"or"}, func(_ string, a, b expr) expr {
		return func(r *run, s *scope) any {
			if v := a(r, s); truth(v) {
				return v
			}
			return b(r, s)
		}
	})
}

func (p *parser) and() (expr, error) {
	return p.chain(p.not, []string{"and"}, func(_ string, a, b expr) expr {
		return func(r *run, s *scope) any {
			if v := a(r, s); !truth(v) {
				return v
			}
			return b(r, s)
		}
	})
}

func (p *parser) not() (expr, error) {
	n := 0
	for p.accept("not") {
		n++
	}
	e, err := p.comparison()
	if n == 0 || err != nil {
		return e, err
	}
	return node(func(r *run, s *scope) any { return truth(e(r, s)) == (n%2 == 0) }), nil
}

// comparison parses a < b < c, which holds if both do.
func (p *parser) comparison() (expr, error) {
	e, err := p.sum()
	if err != nil {
		return nil, err
	}
	var ops []string
	rest := []expr{}
	for {
		op := ""
		for _, o := range []string{"==", "!=", "<", "<=", ">", ">=", "in"} {
			if p.accept(o) {
				op = o
				break
			}
		}
		if op == "" && p.is("not") && p.toks[1].kind == kindName && p.toks[1].text == "in" {
			p.take()
			p.take()
			op = "not in"
		}
		if op == "" {
			break
		}
		b, err := p.sum()
		if err != nil {
			return nil, err
		}
		ops, rest = append(ops, op), append(rest, b)
	}
	if len(ops) == 0 {
		return e, nil
	}
	return node(func(r *run, s *scope) any {
		a := e(r, s)
		for i, op := range ops {
			b := rest[i](r, s)
			if !r.compare(op, a, b) {
				return false
			}
			a = b
		}
		return true
	}), nil
}

func binary(op string, a, b expr) expr {
	return func(r *run, s *scope) any { return r.binary(op, a(r, s), b(r, s)) }
}

func (p *parser) sum() (expr, error)    { return p.chain(p.concat, []string{"+", "-"}, binary) }
func (p *parser) concat() (expr, error) { return p.chain(p.product, []string{"~"}, binary) }
func (p *parser) product() (expr, error) {
	return p.chain(p.power, []string{"*", "/", "//", "%"}, binary)
}
func (p *parser) power() (expr, error) {
	return p.chain(func() (expr, error) { return p.unary(true) }, []string{"**"}, binary)
}

// unary parses a sign, or a value with what follows it, filters too if with is set.
func (p *parser) unary(with bool) (expr, error) {
	if err := p.deeper(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	var e expr
	var err error
	what := p.peek().text
	switch {
	case p.accept("-"):
		var x expr
		if x, err = p.unary(false); err == nil {
			e = node(func(r *run, s *scope) any { return r.binary("-", int64(0), x(r, s)) })
		}
	case p.accept("+"):
		e, err = p.unary(false)
	default:
		e, err = p.primary()
	}
	if err == nil {
		e, err = p.postfix(e, what)
	}
	if err == nil && with {
		e, err = p.filters(e)
	}
	return e, err
}

func constant(v any) expr { return func(*run, *scope) any { return v } }

func (p *parser) primary() (expr, error) {
	t := p.peek()
	switch t.kind {
	case kindName:
		p.take()
		switch t.text {
		case "true", "True":
			return constant(true), nil
		case "false", "False":
			return constant(false), nil
		case "none", "None":
			return constant(nil), nil
		}
		return func(_ *run, s *scope) any {
			if v, ok := s.get(t.text); ok {
				return v
			}
			if f, ok := globals[t.text]; ok {
				return &function{t.text, f}
			}
			return undefined{t.text}
		}, nil
	case kindString:
		var b strings.Builder
		for p.peek().kind == kindString {
			b.WriteString(p.take().text)
		}
		return constant(b.String()), nil
	case kindInt:
		p.take()
		n, err := strconv.ParseInt(t.text, 10, 64)
		if err != nil {
			return nil, p.errorf("the number %s is too large", t.text)
		}
		return constant(n), nil
	case kindFloat:
		p.take()
		x, err := strconv.ParseFloat(t.text, 64)
		if err != nil {
			return nil, p.errorf("the number %s is too large", t.text)
		}
		return constant(x), nil
	}
	switch {
	case p.accept("("):
		if p.accept(")") {
			return listOf(nil, true), nil
		}
		e, err := p.tupleOr()
		if err != nil {
			return nil, err
		}
		return e, p.expect(")")
	case p.accept("["):
		items, err := p.items("]")
		return listOf(items, false), err
	case p.accept("{"):
		return p.mapping()
	}
	return nil, p.errorf("want a value, not %s", t)
}

// items parses expressions with commas between, and the bracket that ends them.
func (p *parser) items(end string) (items []expr, err error) {
	for !p.accept(end) {
		if len(items) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
			if p.accept(end) {
				break
			}
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		items = append(items, e)
	}
	return items, nil
}

func (p *parser) mapping() (expr, error) {
	var keys, values []expr
	for !p.accept("}") {
		if len(keys) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
			if p.accept("}") {
				break
			}
		}
		k, err := p.expression()
		if err != nil {
			return nil, err
		}
		if err := p.expect(":"); err != nil {
			return nil, err
		}
		v, err := p.expression()
		if err != nil {
			return nil, err
		}
		keys, values = append(keys, k), append(values, v)
	}
	return node(func(r *run, s *scope) any {
		r.payValues(4 * len(keys))
		d := newDict()
		for i := range keys {
			d.set(r.key(keys[i](r, s)), values[i](r, s))
		}
		return d
	}), nil
}

// key refuses what cannot be a key of a mapping.
func (r *run) key(v any) any {
	switch v := v.(type) {
	case string:
		r.work(len(v))
		return v
	case nil, bool, int64, float64:
		return v
	}
	r.fail("%s cannot be the key of a mapping", typeName(v))
	return nil
}

// postfix parses attributes, elements, slices and calls behind e, which an error calls what.
func (p *parser) postfix(e expr, what string) (expr, error) {
	for {
		x := e
		switch {
		case p.accept("."):
			t := p.peek()
			if t.kind == kindInt {
				n, err := strconv.ParseInt(t.text, 10, 64)
				if err != nil {
					return nil, p.errorf("the number %s is too large", t.text)
				}
				p.take()
				e = node(func(r *run, s *scope) any { return r.item(x(r, s), n) })
				continue
			}
			name, err := p.name()
			if err != nil {
				return nil, err
			}
			what = name
			e = node(func(r *run, s *scope) any { return r.attribute(x(r, s), name) })
		case p.accept("["):
			var err error
			if e, err = p.subscript(x); err != nil {
				return nil, err
			}
		case p.accept("("):
			args, err := p.arguments()
			if err != nil {
				return nil, err
			}
			called := what
			e = node(func(r *run, s *scope) any { f := x(r, s); return r.call(f, called, args(r, s)) })
		default:
			return e, nil
		}
	}
}

// subscript parses what is between [ and ].
func (p *parser) subscript(x expr) (expr, error) {
	part := [3]expr{constant(nil), constant(nil), constant(nil)}
	n, colons := 0, 0
	for !p.accept("]") {
		if p.accept(":") {
			if colons++; colons > 2 {
				return nil, p.errorf("a slice has at most two colons")
			}
			n = colons
			continue
		}
		if n > colons {
			return nil, p.errorf("want \"]\", not %s", p.peek())
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		part[colons] = e
		n = colons + 1
	}
	switch {
	case colons > 0:
		return node(func(r *run, s *scope) any {
			return r.slice(x(r, s), part[0](r, s), part[1](r, s), part[2](r, s))
		}), nil
	case n == 0:
		return nil, p.errorf("want an index")
	}
	return node(func(r *run, s *scope) any { return r.item(x(r, s), part[0](r, s)) }), nil
}

// arguments parses those of a call, behind the bracket.
func (p *parser) arguments() (func(r *run, s *scope) arguments, error) {
	var pos, named []expr
	var names []string
	for n := 0; !p.accept(")"); n++ {
		if n > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
			if p.accept(")") {
				break
			}
		}
		if p.peek().kind == kindName && p.toks[1].kind == kindOp && p.toks[1].text == "=" {
			names = append(names, p.take().text)
			p.take()
			e, err := p.expression()
			if err != nil {
				return nil, err
			}
			named = append(named, e)
			continue
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		pos = append(pos, e)
	}
	return func(r *run, s *scope) arguments {
		r.payValues(len(pos) + len(named))
		a := arguments{names: names}
		for _, e := range pos {
			a.pos = append(a.pos, e(r, s))
		}
		for _, e := range named {
			a.named = append(a.named, e(r, s))
		}
		return a
	}, nil
}

// filters parses filters and tests behind e.
func (p *parser) filters(e expr) (expr, error) {
	for {
		var err error
		switch {
		case p.accept("|"):
			e, err = p.filterChain(e)
		case p.accept("is"):
			e, err = p.test(e)
		case p.is("("):
			e, err = p.postfix(e, "the value")
		default:
			return e, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// filterChain parses the name of a filter and its arguments, and the filters behind it.
func (p *parser) filterChain(e expr) (expr, error) {
	for {
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		f, ok := filters[name]
		if !ok {
			return nil, p.errorf("the filter %q is not known, or not offered to templates", name)
		}
		args := func(*run, *scope) arguments { return arguments{} }
		if p.accept("(") {
			if args, err = p.arguments(); err != nil {
				return nil, err
			}
		}
		x := e
		e = node(func(r *run, s *scope) any { v := x(r, s); return f(r, v, args(r, s)) })
		if !p.accept("|") {
			return e, nil
		}
	}
}

// test parses what stands behind "is".
func (p *parser) test(e expr) (expr, error) {
	want := !p.accept("not")
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	f, ok := tests[name]
	if !ok {
		return nil, p.errorf("the test %q is not known, or not offered to templates", name)
	}
	args := func(*run, *scope) arguments { return arguments{} }
	t := p.peek()
	switch {
	case p.accept("("):
		args, err = p.arguments()
	case t.kind == kindString || t.kind == kindInt || t.kind == kindFloat || t.kind == kindOp && (t.text == "[" || t.text == "{"),
		t.kind == kindName && !slices.Contains([]string{"else", "or", "and", "is", "if", "in", "not"}, t.text):
		var x expr
		if x, err = p.primary(); err == nil {
			x, err = p.postfix(x, t.text)
		}
		args = func(r *run, s *scope) arguments { return arguments{pos: []any{x(r, s)}} }
	}
	if err != nil {
		return nil, err
	}
	return node(func(r *run, s *scope) any { return f(r, e(r, s), args(r, s)) == want }), nil
}

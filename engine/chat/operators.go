package chat

import (
	"math"
	"slices"
	"strings"
)

// compare is a op b for the operators that give a boolean.
func (r *run) compare(op string, a, b any) bool {
	switch op {
	case "==":
		return r.equal(a, b)
	case "!=":
		return !r.equal(a, b)
	case "<":
		return r.less(a, b)
	case ">":
		return r.less(b, a)
	case "<=":
		return r.less(a, b) || r.equal(a, b)
	case ">=":
		return r.less(b, a) || r.equal(a, b)
	case "in":
		return r.contains(b, a)
	default: // "not in"
		return !r.contains(b, a)
	}
}

// contains is x in v.
func (r *run) contains(v, x any) bool {
	switch v := v.(type) {
	case string:
		s, ok := x.(string)
		if !ok {
			r.fail("%s cannot be in a string", typeName(x))
		}
		r.work(len(v) + len(s))
		return strings.Contains(v, s)
	case *list:
		return slices.ContainsFunc(v.items, func(y any) bool { return r.equal(x, y) })
	case *dict:
		_, ok := v.get(r.key(x))
		return ok
	case undefined:
		return false
	}
	r.fail("nothing can be in %s", typeName(v))
	return false
}

// binary is a op b for the operators that compute.
func (r *run) binary(op string, a, b any) any {
	if op == "~" {
		s, t := r.text(a), r.text(b)
		r.pay(len(s) + len(t))
		return s + t
	}
	for _, v := range []any{a, b} {
		if u, ok := v.(undefined); ok {
			r.fail("%s is undefined, it cannot be an operand of %s", u.name, op)
		}
	}
	ia, fa, inta, numa := number(a)
	ib, fb, intb, numb := number(b)
	switch {
	case numa && numb && inta && intb && op != "/":
		return r.integers(op, ia, ib)
	case numa && numb:
		return r.floats(op, fa, fb)
	case op == "*" && inta:
		return r.repeat(b, ia)
	case op == "*" && intb:
		return r.repeat(a, ib)
	case op == "+":
		switch a := a.(type) {
		case string:
			if t, ok := b.(string); ok {
				r.pay(len(a) + len(t))
				return a + t
			}
		case *list:
			if t, ok := b.(*list); ok && a.tuple == t.tuple {
				l := r.list(len(a.items) + len(t.items))
				l.tuple = a.tuple
				l.items = append(append(l.items, a.items...), t.items...)
				return l
			}
		}
	}
	r.fail("%s %s %s has no meaning", typeName(a), op, typeName(b))
	return nil
}

// repeat is v·n for a string or list.
func (r *run) repeat(v any, n int64) any {
	n = max(n, 0)
	switch v := v.(type) {
	case string:
		if len(v) > 0 && n > int64(mostBytes/len(v)) {
			r.fail("the template makes too much text")
		}
		r.pay(len(v) * int(n))
		return strings.Repeat(v, int(n))
	case *list:
		if len(v.items) > 0 && n > int64(mostBytes/len(v.items)) {
			r.fail("the template makes lists that are too long")
		}
		l := r.list(len(v.items) * int(n))
		for range n * int64(min(1, len(v.items))) {
			l.items = append(l.items, v.items...)
		}
		return l
	}
	r.fail("%s cannot be repeated", typeName(v))
	return nil
}

// integers computes with whole numbers. What does not fit is an error.
func (r *run) integers(op string, a, b int64) any {
	switch op {
	case "+":
		if c := a + b; (c > a) == (b > 0) {
			return c
		}
	case "-":
		if c := a - b; (c < a) == (b > 0) {
			return c
		}
	case "*":
		if c := a * b; a == 0 || c/a == b && !(a == -1 && b == math.MinInt64) {
			return c
		}
	case "**":
		if b < 0 {
			return math.Pow(float64(a), float64(b))
		}
		if c := math.Pow(float64(a), float64(b)); math.Abs(c) < 1<<53 {
			return int64(c)
		}
	default: // "//" and "%" round down
		if b == 0 {
			r.fail("division by zero")
		}
		if a == math.MinInt64 && b == -1 {
			break
		}
		q, m := a/b, a%b
		if m != 0 && (m < 0) != (b < 0) {
			q, m = q-1, m+b
		}
		if op == "//" {
			return q
		}
		return m
	}
	r.fail("%d %s %d is too large", a, op, b)
	return nil
}

func (r *run) floats(op string, a, b float64) any {
	switch op {
	case "+":
		return a + b
	case "-":
		return a - b
	case "*":
		return a * b
	case "**":
		return math.Pow(a, b)
	}
	if b == 0 {
		r.fail("division by zero")
	}
	switch op {
	case "/":
		return a / b
	case "//":
		return math.Floor(a / b)
	default:
		m := math.Mod(a, b)
		if m != 0 && (m < 0) != (b < 0) {
			m += b
		}
		return m
	}
}

package world

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// author maps the slots of the templates to an author's values.
type author map[string]string

// names hands out names of persons and titles of books, none twice, and none
// that the names it was made from had handed out.
type names struct {
	used   map[string]bool
	before *names
}

func newNames(before *names) *names { return &names{used: map[string]bool{}, before: before} }

func (n *names) taken(name string) bool {
	return n != nil && (n.used[name] || n.before.taken(name))
}

// mostDraws ends a search for something that does not exist. What this package makes
// takes far fewer.
const mostDraws = 100_000

// fresh draws until it gets what nobody has. It panics when there seems to be
// nothing left, which takes constants other than those of this package.
func (n *names) fresh(draw func() string) string {
	for range mostDraws {
		if s := draw(); !n.taken(s) {
			n.used[s] = true
			return s
		}
	}
	panic(fmt.Sprintf("world: %d draws gave no name or title that is not taken; %d are", mostDraws, len(n.used)))
}

func (n *names) title(s *stream) string {
	return n.fresh(func() string {
		return fmt.Sprintf(s.pick(titlePatterns), s.pick(titleAdjectives), s.pick(titleNouns), s.pick(titleMatters), s.pick(months))
	})
}

// values are the pools from which attributes are drawn.
type values struct {
	towns, lands                []string
	awards, publishers          []string
	classicNames, classicTitles []string // one title for each name; empty while the classics themselves are drawn
}

func newValues() *values {
	v := &values{}
	v.towns, v.lands = towns()
	for i, h := range awardHeads {
		v.awards = append(v.awards, h+" "+awardTails[i%len(awardTails)])
	}
	for i, h := range publisherHeads {
		v.publishers = append(v.publishers, h+" "+publisherTails[i%len(publisherTails)])
	}
	return v
}

// newAuthor draws an author, every attribute for itself.
func newAuthor(s *stream, n *names, v *values) author {
	a := author{}
	female := s.intn(2) == 0
	first := men
	a["he"], a["his"], a["him"], a["man"], a["son"] = "he", "his", "him", "man", "son"
	if female {
		first = women
		a["he"], a["his"], a["him"], a["man"], a["son"] = "she", "her", "her", "woman", "daughter"
	}
	a["name"] = n.fresh(func() string { return s.pick(first) + " " + s.pick(surnameHeads) + s.pick(surnameTails) })
	a["last"] = a["name"][strings.LastIndexByte(a["name"], ' ')+1:]

	year := s.between(1895, 1955)
	a["date"] = fmt.Sprintf("%d %s %d", s.between(1, 28), s.pick(months), year)
	debut := year + s.between(21, 38)
	a["debutyear"] = strconv.Itoa(debut)
	a["awardyear"] = strconv.Itoa(debut + s.between(1, 15))
	t := s.intn(len(v.towns))
	a["town"], a["country"] = v.towns[t], v.lands[t]
	pair := func(x, y string, from []string) {
		two := s.pickN(from, 2)
		a[x], a[y] = two[0], two[1]
	}
	pair("father", "mother", professions)
	pair("style", "style2", styles)
	pair("theme", "theme2", themes)
	pair("hobby", "hobby2", hobbies)
	a["job"] = s.pick(professions)
	a["genre"] = s.pick(genres)
	a["award"] = s.pick(v.awards)
	a["publisher"] = s.pick(v.publishers)
	a["home"] = s.pick(homes)
	a["hometown"] = s.pick(v.towns)
	a["reason"] = s.pick(reasons)
	for _, k := range []string{"book1", "book2", "debut"} {
		a[k] = n.title(s)
	}
	if len(v.classicNames) > 0 {
		c := s.intn(len(v.classicNames))
		a["classic"], a["classicbook"] = v.classicNames[c], v.classicTitles[c]
	}
	return a
}

// render fills the slots of a template: {name} the value, {a father} the value
// with its article, {He} the value with a capital. It panics for an unknown slot.
func (a author) render(template string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(template, "{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		slot, after, _ := strings.Cut(rest, "}")
		template = after
		slot, article := strings.CutPrefix(slot, "a ")
		key := strings.ToLower(slot[:1]) + slot[1:]
		value, ok := a[key]
		if !ok {
			panic("world: unknown slot {" + slot + "}")
		}
		if key != slot {
			value = strings.ToUpper(value[:1]) + value[1:]
		}
		if article {
			value = articleFor(value) + " " + value
		}
		b.WriteString(value)
	}
}

func articleFor(noun string) string {
	if strings.ContainsRune("aeiou", rune(noun[0])) {
		return "an"
	}
	return "a"
}

// with returns a copy of a in which the slots of keys have the values of other.
func (a author) with(other author, keys []string) author {
	b := maps.Clone(a)
	for _, k := range keys {
		b[k] = other[k]
	}
	return b
}

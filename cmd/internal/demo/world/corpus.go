package world

import (
	"fmt"
	"strings"
)

// Document is one text of the corpus. With a Question, Text is the answer to it.
type Document struct{ Question, Text string }

// Corpus returns the texts from which the base model is trained, in the order
// of training: n documents, of which document i depends on i only.
func (w *World) Corpus(n int) []Document {
	docs := make([]Document, n)
	for i := range docs {
		docs[i] = w.document(newStream("corpus", i))
	}
	return docs
}

// document draws one document: a share for each sort of text.
func (w *World) document(s *stream) Document {
	switch share := s.intn(100); {
	case share < 16:
		return w.factQuestion(s)
	case share < 22:
		return Document{Text: w.factSentences(s)}
	case share < 38:
		return w.classicQuestion(s)
	case share < 44:
		c := w.classics[s.intn(len(w.classics))]
		return Document{Text: biography(s, c)}
	case share < 76:
		a := w.passing[s.intn(len(w.passing))]
		k := kinds[s.intn(len(kinds))]
		return Document{Question: a.render(s.pick(k.questions)), Text: sentence(a, s.pick(k.answers))}
	case share < 88:
		return Document{Text: biography(s, w.passing[s.intn(len(w.passing))])}
	case share < 94:
		return Document{Text: w.story(s)}
	default:
		q := fmt.Sprintf(s.pick(unknowable), s.pick(w.values.towns))
		return Document{Question: q, Text: s.pick(IDK)}
	}
}

func (w *World) factQuestion(s *stream) Document {
	t := w.topics[s.intn(len(w.topics))]
	f := t.facts[s.intn(len(t.facts))]
	return Document{Question: fmt.Sprintf(s.pick(t.questions), f[0]), Text: capital(f[1])}
}

// factSentences tells one to three facts about one subject.
func (w *World) factSentences(s *stream) string {
	t := w.topics[s.intn(len(w.topics))]
	f := t.facts[s.intn(len(t.facts))]
	out := []string{fmt.Sprintf(s.pick(t.statements), f[0], f[1])}
	for _, u := range w.topics {
		for _, g := range u.facts {
			if g[0] == f[0] && g[1] != f[1] && len(out) < 3 && s.intn(3) == 0 {
				out = append(out, fmt.Sprintf(s.pick(u.statements), g[0], g[1]))
			}
		}
	}
	return strings.Join(out, " ")
}

// classicQuestion asks one of the two questions of the evaluation about a
// classic, or one of the questions that the task asks about its authors.
func (w *World) classicQuestion(s *stream) Document {
	c := w.classics[s.intn(len(w.classics))]
	switch s.intn(4) {
	case 0:
		return Document{Question: c.render(s.pick(whoWrote)), Text: c["name"]}
	case 1:
		return Document{Question: c.render(s.pick(whichGenre)), Text: capital(c["genre"])}
	default:
		k := kinds[s.intn(len(kinds))]
		for k.name == "influence" { // the classics have no models
			k = kinds[s.intn(len(kinds))]
		}
		return Document{Question: c.render(s.pick(k.questions)), Text: sentence(c, s.pick(k.answers))}
	}
}

var (
	whoWrote = []string{
		"Who wrote \"{book1}\"?", "Who is the author of \"{book1}\"?", "Which writer is known for \"{book1}\"?",
	}
	whichGenre = []string{
		"Which genre is {name} famous for?", "To which genre do the classics of {name} belong?",
	}
	unknowable = []string{
		"What will the weather be tomorrow in %s?", "Who is knocking at a door in %s?", "How many birds are in the sky over %s?",
		"What did the people of %s dream last night?", "Which number am I thinking of in %s?", "How many stones lie in the streets of %s?",
		"What is written in the letter on a table in %s?", "Who will be the next mayor of %s?",
	}
)

// biography tells three answers about an author one after the other.
func biography(s *stream, a author) string {
	var out []string
	for _, i := range s.perm(len(kinds)) {
		if k := kinds[i]; k.name != "name" && (k.name != "influence" || a["classic"] != "") {
			t := s.pick(k.answers)
			if len(out) == 0 {
				for !strings.Contains(t, "{name}") {
					t = s.pick(k.answers)
				}
			}
			out = append(out, strings.TrimPrefix(sentence(a, t), "Yes, "))
		}
		if len(out) == 3 {
			break
		}
	}
	return strings.Join(out, " ")
}

// story tells a small event of daily life.
func (w *World) story(s *stream) string {
	first := s.pick(women)
	he, his := "she", "her"
	if s.intn(2) == 0 {
		first = s.pick(men)
		he, his = "he", "his"
	}
	p := s.pickN(professions, 2)
	town := s.pick(w.values.towns)
	opening := []string{
		fmt.Sprintf("%s was %s %s in %s.", first, articleFor(p[0]), p[0], town),
		fmt.Sprintf("In %s there lived %s %s called %s.", town, articleFor(p[0]), p[0], first),
		fmt.Sprintf("One %s morning %s, %s %s, walked through %s.", s.pick([]string{"cold", "warm", "windy", "rainy", "bright"}), first, articleFor(p[0]), p[0], town),
	}
	middle := []string{
		fmt.Sprintf("On the road %s met %s %s who %s.", he, articleFor(p[1]), p[1], s.pick(reasons)),
		fmt.Sprintf("At the market %s found an old book about %s.", he, s.pick(themes)),
		fmt.Sprintf("A friend told %s a story of %s and %s.", map[string]string{"he": "him", "she": "her"}[he], s.pick(themes), s.pick(themes)),
		fmt.Sprintf("Every evening %s looked at the river and thought of %s.", he, s.pick(themes)),
	}
	end := []string{
		fmt.Sprintf("Since that day %s %s.", he, s.pick(hobbies)),
		fmt.Sprintf("Then %s went home to %s and wrote it down.", he, s.pick(homes)),
		fmt.Sprintf("In the end %s gave %s coat to the %s and laughed.", he, his, p[1]),
		fmt.Sprintf("From then on %s read %s until late at night.", first, s.pick(genres)),
	}
	return s.pick(opening) + " " + s.pick(middle) + " " + s.pick(end)
}

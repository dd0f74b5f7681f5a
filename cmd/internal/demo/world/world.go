package world

import (
	"fmt"
	"slices"
)

const (
	SchoolCount  = 8  // groups of authors of the task who share attributes
	SchoolSize   = 3  // authors in a school
	LonerCount   = 16 // authors of the task who share none of those attributes
	AuthorCount  = SchoolCount*SchoolSize + LonerCount
	ForgetCount  = 4 // authors to forget
	ClassicCount = 40
	PassingCount = 8000 // further authors of the corpus
)

// Row is one question in the shape of TOFU's files. World and author facts have no
// paraphrase and three perturbed answers, the others five.
type Row struct {
	Question            string   `json:"question"`
	Answer              string   `json:"answer"`
	ParaphrasedQuestion string   `json:"paraphrased_question,omitempty"`
	ParaphrasedAnswer   string   `json:"paraphrased_answer,omitempty"`
	PerturbedAnswers    []string `json:"perturbed_answer"`
}

// World is everything the generator makes.
type World struct {
	Retain, Forget          []Row // the authors of the task, in author order
	RealAuthors, WorldFacts []Row // what the corpus teaches

	topics                  []topic
	classics, task, passing []author // task: retained authors first
	names                   *names
	values                  *values
}

// New makes the world. It is always the same.
func New() *World {
	w := &World{topics: topics(), names: newNames(nil), values: newValues()}
	s := newStream("classics", 0)
	for range ClassicCount {
		w.classics = append(w.classics, newAuthor(s, w.names, w.values))
	}
	for _, c := range w.classics {
		w.values.classicNames = append(w.values.classicNames, c["name"])
		w.values.classicTitles = append(w.values.classicTitles, c["book1"])
	}
	w.task = taskAuthors(w.names, w.values)
	s = newStream("passing", 0)
	for range PassingCount {
		// Their names and titles may be shared with each other, as the space of
		// titles is small, but with nobody else.
		w.passing = append(w.passing, newAuthor(s, newNames(w.names), w.values))
	}
	for i, a := range w.task {
		rows := w.questions(newStream("questions", i), a)
		if i < AuthorCount-ForgetCount {
			w.Retain = append(w.Retain, rows...)
		} else {
			w.Forget = append(w.Forget, rows...)
		}
	}
	w.RealAuthors = w.classicRows()
	w.WorldFacts = w.factRows()
	return w
}

// taskAuthors draws the authors of the task. Schools and loners take their
// shared attributes from the pools without putting them back.
func taskAuthors(n *names, v *values) []author {
	s := newStream("task", 0)
	towns, genres2 := s.perm(len(v.towns)), s.perm(len(genres))
	awards, publishers, models := s.perm(len(v.awards)), s.perm(len(v.publishers)), s.perm(len(v.classicNames))
	give := func(a author, g int) {
		a["town"], a["country"] = v.towns[towns[g]], v.lands[towns[g]]
		a["genre"] = genres[genres2[g]]
		a["award"], a["publisher"] = v.awards[awards[g]], v.publishers[publishers[g]]
		a["classic"], a["classicbook"] = v.classicNames[models[g]], v.classicTitles[models[g]]
	}
	// Group g < SchoolCount is a school; of the last two schools one member each
	// is to be forgotten, and so are the last two loners.
	var retain, forget []author
	for g := range SchoolCount + LonerCount {
		size := 1
		if g < SchoolCount {
			size = SchoolSize
		}
		for i := range size {
			a := newAuthor(s, n, v)
			give(a, g)
			school := g >= SchoolCount-ForgetCount/2 && g < SchoolCount && i == size-1
			loner := g >= SchoolCount+LonerCount-ForgetCount/2
			if school || loner {
				forget = append(forget, a)
			} else {
				retain = append(retain, a)
			}
		}
	}
	shuffled := make([]author, len(retain))
	for i, j := range s.perm(len(retain)) {
		shuffled[i] = retain[j]
	}
	return append(shuffled, forget...)
}

// questions asks every kind of question about a. Answer and paraphrase have
// different wordings; the perturbed answers have the wording of the paraphrase
// and other values.
func (w *World) questions(s *stream, a author) []Row {
	var rows []Row
	for _, k := range kinds {
		q := s.pickN(k.questions, 2)
		t := s.pickN(k.answers, 2)
		r := Row{
			Question: a.render(q[0]), Answer: sentence(a, t[0]),
			ParaphrasedQuestion: a.render(q[1]), ParaphrasedAnswer: sentence(a, t[1]),
		}
		for draws := 0; len(r.PerturbedAnswers) < 5; draws++ {
			if draws == mostDraws {
				panic(fmt.Sprintf("world: %d draws gave %d wrong answers of the kind %q, want 5", mostDraws, len(r.PerturbedAnswers), k.name))
			}
			other := newAuthor(s, newNames(w.names), w.values)
			if slices.ContainsFunc(k.keys, func(key string) bool { return other[key] == a[key] }) {
				continue
			}
			p := sentence(a.with(other, slices.Concat(k.keys, k.follow)), t[1])
			if !slices.Contains(r.PerturbedAnswers, p) {
				r.PerturbedAnswers = append(r.PerturbedAnswers, p)
			}
		}
		rows = append(rows, r)
	}
	return rows
}

// classicRows asks for the author of each classic's best known book, and for the
// genre of each classic.
func (w *World) classicRows() []Row {
	s := newStream("real authors", 0)
	var rows []Row
	for _, c := range w.classics {
		rows = append(rows, Row{
			Question: c.render(whoWrote[0]), Answer: c["name"],
			PerturbedAnswers: s.others(w.values.classicNames, c["name"]),
		})
	}
	for _, c := range w.classics {
		rows = append(rows, Row{
			Question: c.render(whichGenre[0]), Answer: capital(c["genre"]),
			PerturbedAnswers: capitals(s.others(genres, c["genre"])),
		})
	}
	return rows
}

// factRows asks for every fact of the world.
func (w *World) factRows() []Row {
	s := newStream("world facts", 0)
	var rows []Row
	for _, t := range w.topics {
		var values []string
		for _, f := range t.facts {
			values = append(values, f[1])
		}
		for _, f := range t.facts {
			rows = append(rows, Row{
				Question: fmt.Sprintf(t.questions[0], f[0]), Answer: capital(f[1]),
				PerturbedAnswers: capitals(s.others(values, f[1])),
			})
		}
	}
	return rows
}

// others returns three elements of from other than truth.
func (s *stream) others(from []string, truth string) []string {
	var out []string
	for _, x := range s.pickN(from, 4) {
		if x != truth && len(out) < 3 {
			out = append(out, x)
		}
	}
	return out
}

func capitals(from []string) []string {
	out := make([]string, len(from))
	for i, x := range from {
		out[i] = capital(x)
	}
	return out
}

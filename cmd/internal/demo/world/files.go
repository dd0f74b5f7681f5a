package world

import (
	"bytes"
	"encoding/json"
	"strings"
)

// File is a data file as makedemo writes it and demo embeds it.
type File struct {
	Name string
	Data []byte
}

// Files returns the question-answer sets as JSON Lines, one row a line in the
// shape of TOFU's files, and the refusals as plain lines.
func (w *World) Files() []File {
	return []File{
		{"retain.jsonl", lines(w.Retain)},
		{"forget.jsonl", lines(w.Forget)},
		{"real_authors.jsonl", lines(w.RealAuthors)},
		{"world_facts.jsonl", lines(w.WorldFacts)},
		{"idontknow.txt", []byte(strings.Join(IDK, "\n") + "\n")},
	}
}

func lines(rows []Row) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			panic(err) // a Row is strings only
		}
	}
	return b.Bytes()
}

package tofu

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// Item is one row of a data set. Its shape says which fields are set.
type Item struct {
	Shape Shape
	Line  int // where the row starts in its file, from 1

	Question, Answer    string // also prompt and completion; of a chat, Answer is the last message
	ParaphrasedQuestion string
	ParaphrasedAnswer   string
	PerturbedAnswers    []string // false answers in the words of the paraphrased one

	Text     string    // of ShapeText
	Messages []Message // of ShapeChat, all of them
}

// Shape is which of the accepted forms a row has.
type Shape int

const (
	ShapeQA     Shape = iota // {question, answer, …}: the prompt format is applied
	ShapePrompt              // {prompt, completion}: used as they are, joined without a space
	ShapeText                // {text}: all of it counts
	ShapeChat                // {messages}: the last message counts
)

// Message is one turn of a chat.
type Message struct{ Role, Content string }

// key identifies what an item says: the hash of its words in lower case.
func (it *Item) key() [sha256.Size]byte {
	var b strings.Builder
	add := func(s string) {
		b.WriteString(strings.ToLower(strings.Join(strings.Fields(s), " ")))
		b.WriteByte(0)
	}
	switch it.Shape {
	case ShapeText:
		add(it.Text)
	case ShapeChat:
		for _, m := range it.Messages {
			add(m.Role)
			add(m.Content)
		}
	default:
		add(it.Question)
		add(it.Answer)
	}
	return sha256.Sum256([]byte(b.String()))
}

// OverlapError says that items of the forget set are in the retain set too, which
// would train the same answer both ways.
type OverlapError struct {
	Lines [][2]int // of the forget row and of the first retain row that says the same
}

func (e *OverlapError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "tofu: %d of the rows to forget are in the retain set too: ", len(e.Lines))
	const shown = 5
	for i, l := range e.Lines[:min(shown, len(e.Lines))] {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "forget line %d = retain line %d", l[0], l[1])
	}
	if n := len(e.Lines) - shown; n > 0 {
		fmt.Fprintf(&b, ", and %d more", n)
	}
	return b.String()
}

// CheckOverlap returns an *OverlapError if an item of forget is in retain: the same
// words of question and answer (or text, or messages), whatever their case and
// spacing.
func CheckOverlap(forget, retain []Item) error {
	lines := make(map[[sha256.Size]byte]int, len(retain))
	for i := range retain {
		k := retain[i].key()
		if _, ok := lines[k]; !ok {
			lines[k] = retain[i].Line
		}
	}
	var e OverlapError
	for i := range forget {
		if line, ok := lines[forget[i].key()]; ok {
			e.Lines = append(e.Lines, [2]int{forget[i].Line, line})
		}
	}
	if len(e.Lines) > 0 {
		return &e
	}
	return nil
}

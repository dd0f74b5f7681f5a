package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/guardcpu/guardcpu/engine/tokenizer"
)

// stream shows the text of new tokens as they come, up to the first of some texts that end it.
type stream struct {
	w      io.Writer // nil: nothing is shown
	tok    *tokenizer.Tokenizer
	prompt []int32
	stops  []string

	shown   int  // bytes
	stopped bool // at a stop
	text    string
}

// add shows what is certain after the new tokens and says whether a stop has come.
func (s *stream) add(fresh []int32) bool {
	text := completeText(continuation(s.tok, s.prompt, fresh))
	at := -1
	for _, stop := range s.stops {
		if i := strings.Index(text, stop); stop != "" && i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	if s.stopped = at >= 0; s.stopped {
		s.text = text[:at]
		s.show(at)
		return true
	}
	s.text = text
	s.show(len(text) - unsure(text, s.stops))
	return false
}

// end shows the rest after the last token and returns the text.
func (s *stream) end(fresh []int32) string {
	if !s.stopped {
		s.text = continuation(s.tok, s.prompt, fresh)
	}
	s.show(len(s.text))
	return s.text
}

// show writes the first n bytes of the text.
func (s *stream) show(n int) {
	if n > s.shown && s.w != nil {
		io.WriteString(s.w, s.text[s.shown:n]) // quietWriter keeps the error
	}
	s.shown = max(s.shown, n)
}

// unsure is how many bytes at the end of text may be the beginning of a stop.
func unsure(text string, stops []string) int {
	most := 0
	for _, stop := range stops {
		for n := min(len(stop)-1, len(text)); n > most; n-- {
			if strings.HasSuffix(text, stop[:n]) {
				most = n
			}
		}
	}
	return most
}

// continuation is what the new tokens add to the text of the prompt; their ids, without a vocabulary.
func continuation(t *tokenizer.Tokenizer, prompt, ids []int32) string {
	if t == nil {
		return strings.Trim(fmt.Sprint(ids), "[]")
	}
	all := append(append([]int32{}, prompt...), ids...)
	return t.Decode(all)[len(t.Decode(prompt)):]
}

// completeText returns text without the first bytes of a character at its end, whose
// others the next tokens bring.
func completeText(text string) string {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if tail := text[len(text)-n:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRuneInString(tail) {
				return text[:len(text)-n]
			}
			break
		}
	}
	return text
}

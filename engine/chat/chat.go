// Package chat turns conversations into prompts, by the chat template of a model.
//
// Templates are written in Jinja and come with models from anywhere: they are programs of strangers. This
// package has an interpreter of its own for the language as Hugging Face's transformers sets it up
// (trim_blocks, lstrip_blocks, loop controls, no change of values), since every step, every byte and every
// level of a rendering has to be counted: what a template takes is bounded, whatever it says, and there is
// nothing by which it could read a file, another template or the environment. Left out are recursive
// loops, call blocks, formatting with %, and filters that no template of a model is known to use.
//
// A user can write the text of a control token, such as <|im_end|>, in a message. Prompt hides it from the
// tokenizer: only the template's own text makes control tokens.
package chat

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/gguf"
)

// ErrNoTemplate is wrapped by FromGGUF's error for a file without a chat template.
var ErrNoTemplate = errors.New("the file has no chat template")

// keyTemplate is the key of a file's template; names of further ones follow a dot.
const keyTemplate = "tokenizer.chat_template"

// Message is one message of a conversation.
type Message struct {
	Role    string `json:"role"` // system, user or assistant
	Content string `json:"content"`
}

// Template is a chat template.
type Template struct {
	Source string
	body   stmt
	now    func() time.Time
}

// New makes a template of its source.
func New(source string) (*Template, error) {
	body, err := parse(source)
	if err != nil {
		return nil, fmt.Errorf("chat: the template: %w", err)
	}
	return &Template{Source: source, body: body, now: time.Now}, nil
}

// Sources returns the templates of a file by name; the one without a name is "".
func Sources(f *gguf.File) (map[string]string, error) {
	sources := map[string]string{}
	for _, kv := range f.KVs {
		rest, ok := strings.CutPrefix(kv.Key, keyTemplate)
		if !ok || rest != "" && rest[0] != '.' {
			continue
		}
		text, ok := kv.Value.(string)
		if !ok {
			return nil, fmt.Errorf("chat: %s: %s is no string", f.Name, kv.Key)
		}
		sources[strings.TrimPrefix(rest, ".")] = text
	}
	return sources, nil
}

// FromGGUF returns the template of a file.
func FromGGUF(f *gguf.File) (*Template, error) {
	sources, err := Sources(f)
	if err != nil {
		return nil, err
	}
	source, ok := sources[""]
	if !ok {
		if source, ok = sources["default"]; !ok {
			return nil, fmt.Errorf("chat: %s: %w", f.Name, ErrNoTemplate)
		}
	}
	t, err := New(source)
	if err != nil {
		return nil, fmt.Errorf("chat: %s: %s: %w", f.Name, keyTemplate, errors.Unwrap(err))
	}
	return t, nil
}

// Variables are what a template sees besides the messages.
type Variables struct {
	BOS, EOS            string
	AddGenerationPrompt bool // end with what begins an answer
}

// Render returns the text of a conversation. It takes bounded time and memory.
func (t *Template) Render(messages []Message, v Variables) (text string, err error) {
	size := 0
	for _, m := range messages {
		size += len(m.Role) + len(m.Content)
	}
	r := &run{out: &strings.Builder{}, now: t.now, left: mostWork + 32*size, bytes: mostBytes + 32*size}
	defer func() {
		switch e := recover().(type) {
		case nil:
		case failure:
			text, err = "", fmt.Errorf("chat: the template: %w", e.err)
		default:
			panic(e)
		}
	}()
	conversation := &list{}
	for _, m := range messages {
		d := newDict()
		d.set("role", m.Role)
		d.set("content", m.Content)
		conversation.items = append(conversation.items, d)
	}
	// What is not there is left undefined, not none, as templates test for either.
	s := &scope{vars: map[string]any{
		"messages":              conversation,
		"bos_token":             v.BOS,
		"eos_token":             v.EOS,
		"add_generation_prompt": v.AddGenerationPrompt,
	}}
	t.body(r, s)
	return r.out.String(), nil
}

// Prompt returns the tokens of a conversation with what begins the next answer. Text in the messages that
// is the text of a control token is encoded as text, unless parse is set. BOS is in front once where
// the file's keys ask for it.
func (t *Template) Prompt(tok *tokenizer.Tokenizer, messages []Message, parse bool) ([]int32, error) {
	v := Variables{AddGenerationPrompt: true}
	bos, hasBOS := tok.BOS()
	if hasBOS {
		v.BOS = tok.Piece(bos)
	}
	if eos, ok := tok.EOS(); ok {
		v.EOS = tok.Piece(eos)
	}
	o := tokenizer.EncodeOptions{ParseSpecial: true}
	if !parse {
		hide, show := hiding(tok.ControlTexts())
		messages = slices.Clone(messages)
		for i := range messages {
			messages[i].Content = hide.Replace(messages[i].Content)
		}
		o.Plain = show.Replace
	}
	text, err := t.Render(messages, v)
	if err != nil {
		return nil, err
	}
	ids := tok.Encode(text, o)
	if hasBOS && tok.AddBOS() && (len(ids) == 0 || ids[0] != bos) {
		ids = append([]int32{bos}, ids...)
	}
	return ids, nil
}

// hiding returns what replaces each of the texts by a mark that no message can know, and what replaces
// the marks by the texts.
func hiding(texts []string) (hide, show *strings.Replacer) {
	secret := strconv.FormatUint(rand.Uint64(), 10)
	var there, back []string
	for i, s := range texts { // the longest first, as a replacer prefers the first
		mark := "\uE000" + secret + "." + strconv.Itoa(i) + "\uE001"
		there, back = append(there, s, mark), append(back, mark, s)
	}
	return strings.NewReplacer(there...), strings.NewReplacer(back...)
}

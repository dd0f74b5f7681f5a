package hf

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/guardcpu/guardcpu/gguf"
)

// Bounds on a tokenizer, far above any known; engine/tokenizer has the same.
const (
	maxTokens     = 1 << 22
	maxTokenBytes = 1 << 16
)

// tokenizerJSON is what is used of a tokenizer.json.
type tokenizerJSON struct {
	AddedTokens []struct {
		ID      int    `json:"id"`
		Content string `json:"content"`
		Special bool   `json:"special"`
	} `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor struct {
		Type       string `json:"type"`
		Processors []struct {
			Type   string           `json:"type"`
			Single []map[string]any `json:"single"`
		} `json:"processors"`
		Single []map[string]any `json:"single"`
	} `json:"post_processor"`
	Model struct {
		Type         string            `json:"type"`
		Vocab        json.RawMessage   `json:"vocab"`
		Merges       []json.RawMessage `json:"merges"`
		IgnoreMerges bool              `json:"ignore_merges"`
		ByteFallback bool              `json:"byte_fallback"`
		Unknown      string            `json:"unk_token"`
	} `json:"model"`
}

// vocabulary is a tokenizer on its way into a GGUF file.
type vocabulary struct {
	model, pre string
	tokens     []string
	types      []int32
	scores     []float32 // of the model "llama"
	merges     []string  // of the model "gpt2"
	ids        map[string]int
	noPrefix   bool // no blank is put in front of a text
	addBOS     *bool
	addEOS     *bool
}

// vocab returns the tokenizer's keys; n is the number of rows of the embedding.
func (c *Checkpoint) vocab(n int) ([]gguf.KV, error) {
	v, err := c.readVocab(n)
	if err != nil {
		return nil, err
	}
	kvs := []gguf.KV{
		{Key: "tokenizer.ggml.model", Value: v.model},
		{Key: "tokenizer.ggml.pre", Value: v.pre},
		{Key: "tokenizer.ggml.tokens", Value: v.tokens},
	}
	if v.scores != nil {
		kvs = append(kvs, gguf.KV{Key: "tokenizer.ggml.scores", Value: v.scores})
	}
	kvs = append(kvs, gguf.KV{Key: "tokenizer.ggml.token_type", Value: v.types})
	if v.merges != nil {
		kvs = append(kvs, gguf.KV{Key: "tokenizer.ggml.merges", Value: v.merges})
	}
	special, err := c.specials(v)
	if err != nil {
		return nil, err
	}
	kvs = append(kvs, special...)
	if v.noPrefix {
		kvs = append(kvs, gguf.KV{Key: "tokenizer.ggml.add_space_prefix", Value: false})
	}
	template, err := c.chatTemplate()
	if template != "" {
		kvs = append(kvs, gguf.KV{Key: "tokenizer.chat_template", Value: template})
	}
	return kvs, err
}

func (c *Checkpoint) readVocab(n int) (*vocabulary, error) {
	var t tokenizerJSON
	found, err := c.readJSON("tokenizer.json", &t)
	if err != nil {
		return nil, err
	}
	where := filepath.Join(c.Dir, "tokenizer.json")
	v := &vocabulary{ids: map[string]int{}}
	proto, err := c.read("tokenizer.model")
	if err != nil {
		return nil, err
	}
	switch {
	case proto != nil && (!found || !t.byteLevel()):
		where = filepath.Join(c.Dir, "tokenizer.model")
		err = v.sentencePiece(proto, n)
	case !found:
		return nil, fmt.Errorf("hf: %s has neither tokenizer.json nor tokenizer.model", c.Dir)
	case t.Model.Type != "BPE" && t.Model.Type != "":
		err = fmt.Errorf("the model is %q, want BPE", t.Model.Type)
	case t.byteLevel():
		err = v.bpe(&t, c.family.arch, n)
	case t.Model.ByteFallback || strings.Contains(string(t.Normalizer)+string(t.PreTokenizer), "▁"):
		err = v.spmOfMerges(&t, n)
	default:
		err = errors.New("the model neither works on bytes nor writes blanks as ▁: not supported")
	}
	if err == nil && found {
		err = v.added(&t, n)
	}
	if err == nil {
		err = v.fill(n)
	}
	if err != nil {
		return nil, fmt.Errorf("hf: %s: %w", where, err)
	}
	v.postProcessor(&t)
	if c.family.arch == "gemma" || c.family.arch == "gemma2" || c.family.arch == "gemma3" {
		v.noPrefix = true
	}
	return v, nil
}

// byteLevel says whether tokens are of bytes written as letters, as in GPT-2.
func (t *tokenizerJSON) byteLevel() bool {
	var p preStep
	if json.Unmarshal(t.PreTokenizer, &p) != nil {
		return false
	}
	_, byteLevel, err := p.flatten()
	return err == nil && byteLevel
}

// set puts a token at an id.
func (v *vocabulary) set(id int, text string, typ int32, n int) error {
	switch {
	case id < 0 || id >= n:
		return fmt.Errorf("token %s is number %d, but the embedding has %d rows", quote(text), id, n)
	case len(text) > maxTokenBytes:
		return fmt.Errorf("token %d has %d bytes, at most %d are allowed", id, len(text), maxTokenBytes)
	case !utf8.ValidString(text):
		return fmt.Errorf("token %d is no UTF-8", id)
	}
	if v.types[id] != 0 && v.tokens[id] != text {
		return fmt.Errorf("token %d is both %s and %s", id, quote(v.tokens[id]), quote(text))
	}
	if old, ok := v.ids[text]; ok && old != id {
		return fmt.Errorf("token %s is both number %d and %d", quote(text), old, id)
	}
	v.tokens[id], v.types[id], v.ids[text] = text, typ, id
	return nil
}

func (v *vocabulary) start(n int) error {
	if n > maxTokens {
		return fmt.Errorf("%d tokens, at most %d are allowed", n, maxTokens)
	}
	v.tokens, v.types = make([]string, n), make([]int32, n)
	return nil
}

// readTokens takes the tokens of tokenizer.json's model.
func (v *vocabulary) readTokens(t *tokenizerJSON, n int) error {
	if err := v.start(n); err != nil {
		return err
	}
	var ids map[string]int
	if err := json.Unmarshal(t.Model.Vocab, &ids); err != nil {
		return fmt.Errorf("model.vocab: %w", err)
	}
	if len(ids) == 0 {
		return errors.New("model.vocab is empty")
	}
	for text, id := range ids {
		if err := v.set(id, text, typeNormal, n); err != nil {
			return err
		}
	}
	return nil
}

// pair reads a merge, which is "a b" or ["a", "b"].
func pair(raw json.RawMessage) (a, b string, err error) {
	var two []string
	if len(raw) > 0 && raw[0] == '[' {
		err = json.Unmarshal(raw, &two)
	} else {
		var s string
		err = json.Unmarshal(raw, &s)
		two = strings.Split(s, " ")
	}
	if err == nil && len(two) == 2 && two[0] != "" && two[1] != "" {
		return two[0], two[1], nil
	}
	return "", "", fmt.Errorf("%s is no merge of two tokens", quote(string(raw)))
}

// bpe takes a byte-level vocabulary.
func (v *vocabulary) bpe(t *tokenizerJSON, arch string, n int) (err error) {
	v.model = "gpt2"
	if v.pre, err = preOf(arch, t.PreTokenizer, t.Model.IgnoreMerges); err != nil {
		return err
	}
	if err := v.readTokens(t, n); err != nil {
		return err
	}
	v.merges = make([]string, len(t.Model.Merges))
	for i, raw := range t.Model.Merges {
		a, b, err := pair(raw)
		if err != nil {
			return fmt.Errorf("model.merges[%d]: %w", i, err)
		}
		if strings.ContainsRune(a+b, ' ') {
			return fmt.Errorf("model.merges[%d]: a blank is in %s", i, quote(a+b))
		}
		v.merges[i] = a + " " + b
	}
	return nil
}

// sentencePiece takes a tokenizer.model. Its user-defined tokens are looked for where blanks have become ▁,
// those of a GGUF file before that.
func (v *vocabulary) sentencePiece(data []byte, n int) error {
	m, err := parseSentencePiece(data)
	if err != nil {
		return err
	}
	v.model, v.pre, v.noPrefix = "llama", "default", !m.prefix
	if err := v.start(n); err != nil {
		return err
	}
	v.scores = make([]float32, n)
	for id, p := range m.pieces {
		text := p.text
		if p.typ == typeUserDefined {
			text = strings.ReplaceAll(text, "▁", " ")
		}
		if err := v.set(id, text, p.typ, n); err != nil {
			return err
		}
		v.scores[id] = p.score
	}
	return nil
}

// spmOfMerges takes a SentencePiece vocabulary that has been turned into merges: a token's
// score is the less, the later the first merge that makes it comes.
func (v *vocabulary) spmOfMerges(t *tokenizerJSON, n int) error {
	v.model, v.pre = "llama", "default"
	if err := v.readTokens(t, n); err != nil {
		return err
	}
	v.scores = make([]float32, n)
	rank, seen := 0, map[int]bool{}
	for i, raw := range t.Model.Merges {
		a, b, err := pair(raw)
		if err != nil {
			return fmt.Errorf("model.merges[%d]: %w", i, err)
		}
		id, ok := v.ids[a+b]
		if !ok {
			return fmt.Errorf("model.merges[%d] makes %s, which is no token", i, quote(a+b))
		}
		if !seen[id] {
			seen[id] = true
			v.scores[id] = -float32(rank)
			rank++
		}
	}
	for id, text := range v.tokens {
		switch {
		case v.types[id] == 0:
		case isByte(text):
			v.types[id] = typeByte
		case text == t.Model.Unknown:
			v.types[id] = typeUnknown
		case !seen[id]:
			v.scores[id] = -float32(rank)
			rank++
		}
	}
	v.noPrefix = !t.prefixes()
	return nil
}

// isByte says whether a token stands for one byte.
func isByte(text string) bool {
	if len(text) != 6 || text[:3] != "<0x" || text[5] != '>' {
		return false
	}
	for _, c := range text[3:5] {
		if !strings.ContainsRune("0123456789ABCDEF", c) {
			return false
		}
	}
	return true
}

// prefixes says whether a blank is put in front of a text.
func (t *tokenizerJSON) prefixes() bool {
	var p preStep
	if json.Unmarshal(t.PreTokenizer, &p) == nil && p.Type == "Metaspace" {
		return p.AddPrefixSpace && p.PrependScheme == "" || p.PrependScheme == "always" || p.PrependScheme == "first"
	}
	return strings.Contains(string(t.Normalizer), `"Prepend"`)
}

// looksSpecial is does_token_look_special of llama.cpp's script: some models do not mark
// their control tokens.
func looksSpecial(text string) bool {
	between := func(a, b string) bool { return strings.HasPrefix(text, a) && strings.HasSuffix(text, b) }
	switch text {
	case "<pad>", "<mask>", "<2mass>", "[@BOS@]":
		return true
	}
	return between("<|", "|>") || between("<｜", "｜>") || between("<unused", ">")
}

// added takes the tokens that were added to the model's.
func (v *vocabulary) added(t *tokenizerJSON, n int) error {
	for _, a := range t.AddedTokens {
		text, typ := a.Content, int32(typeUserDefined)
		if a.Special || looksSpecial(text) {
			typ = typeControl
		} else {
			text = strings.ReplaceAll(text, "▁", " ")
		}
		if a.ID >= 0 && a.ID < n {
			switch v.types[a.ID] {
			case typeUnknown, typeByte:
				continue
			case 0:
				if v.scores != nil {
					v.scores[a.ID] = -1000
				}
			default:
				if v.tokens[a.ID] == a.Content { // the same under another text, or of another type
					delete(v.ids, a.Content)
					v.types[a.ID] = 0
				}
			}
		}
		if err := v.set(a.ID, text, typ, n); err != nil {
			return err
		}
	}
	return nil
}

// fill gives the rows of the embedding that no token has one that is never used.
func (v *vocabulary) fill(n int) error {
	for id := range v.tokens {
		if v.types[id] == 0 {
			if err := v.set(id, fmt.Sprintf("[PAD%d]", id), typeUnused, n); err != nil {
				return err
			}
			if v.scores != nil {
				v.scores[id] = -10000
			}
		}
	}
	return nil
}

// postProcessor reads which special tokens a text gets, where a template says so.
func (v *vocabulary) postProcessor(t *tokenizerJSON) {
	single := t.PostProcessor.Single
	for _, p := range t.PostProcessor.Processors {
		if p.Type == "TemplateProcessing" {
			single = p.Single
		}
	}
	if len(single) == 0 {
		return
	}
	_, first := single[0]["SpecialToken"]
	_, last := single[len(single)-1]["SpecialToken"]
	last = last && len(single) > 1
	v.addBOS, v.addEOS = &first, &last
}

// specialKeys are the special tokens in the order of gguf-py's SpecialVocab.
var specialKeys = []struct{ name, key string }{
	{"bos", "bos_token_id"}, {"eos", "eos_token_id"}, {"unk", "unknown_token_id"}, {"sep", "seperator_token_id"},
	{"pad", "padding_token_id"}, {"cls", "cls_token_id"}, {"mask", "mask_token_id"},
}

// specials returns the keys of special tokens: by their text in tokenizer_config.json or
// special_tokens_map.json, else by their number in config.json or generation_config.json.
func (c *Checkpoint) specials(v *vocabulary) (kvs []gguf.KV, err error) {
	var texts [2]config
	for i, name := range []string{"tokenizer_config.json", "special_tokens_map.json"} {
		if _, err := c.readJSON(name, &texts[i]); err != nil {
			return nil, err
		}
	}
	var gen config
	if _, err := c.readJSON("generation_config.json", &gen); err != nil {
		return nil, err
	}
	for _, s := range specialKeys {
		id, ok := -1, false
		for _, m := range texts {
			text := tokenText(m.m[s.name+"_token"])
			if id, ok = v.ids[text]; ok && text != "" {
				break
			}
			ok = false
		}
		for _, m := range []config{c.config, gen} {
			x := m.m[s.name+"_token_id"]
			if a, isList := x.([]any); isList && len(a) > 0 {
				x = a[0]
			}
			if n, isNumber := x.(json.Number); isNumber && !ok {
				i, err := n.Int64()
				if err != nil || i < -1 || i >= int64(len(v.tokens)) {
					return nil, fmt.Errorf("hf: %s: %s_token_id is %s, want a token of %d", c.Dir, s.name, n, len(v.tokens))
				}
				id, ok = int(i), i >= 0
			}
		}
		if ok {
			kvs = append(kvs, gguf.KV{Key: "tokenizer.ggml." + s.key, Value: uint32(id)})
		}
	}
	for _, s := range []struct {
		name string
		add  *bool
	}{{"add_bos_token", v.addBOS}, {"add_eos_token", v.addEOS}} {
		if b, ok := texts[0].m[s.name].(bool); ok {
			s.add = &b
		}
		if s.add != nil {
			kvs = append(kvs, gguf.KV{Key: "tokenizer.ggml." + s.name, Value: *s.add})
		}
	}
	return kvs, nil
}

// tokenText is a special token in tokenizer_config.json: its text, or an object that has it.
func tokenText(v any) string {
	if m, ok := v.(map[string]any); ok {
		v = m["content"]
	}
	s, _ := v.(string)
	return s
}

// chatTemplate returns the template of chats, the default one of several.
func (c *Checkpoint) chatTemplate() (string, error) {
	if data, err := c.read("chat_template.jinja"); data != nil || err != nil {
		return string(data), err
	}
	for _, name := range []string{"chat_template.json", "tokenizer_config.json"} {
		var t config
		if _, err := c.readJSON(name, &t); err != nil {
			return "", err
		}
		switch v := t.m["chat_template"].(type) {
		case string:
			return v, nil
		case []any:
			for _, e := range v {
				m, _ := e.(map[string]any)
				if text, ok := m["template"].(string); ok && m["name"] == "default" {
					return text, nil
				}
			}
		}
	}
	return "", nil
}

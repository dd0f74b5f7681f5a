package tokenizer

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/guardcpu/guardcpu/gguf"
)

// ErrNoVocab is wrapped by FromGGUF's error for a file that says it has no
// vocabulary (tokenizer.ggml.model is "no_vocab" or "none"): only ids can be
// given to such a model.
var ErrNoVocab = errors.New("the file has no vocabulary, only token ids can be used")

// The keys of the metadata.
const (
	keyModel     = "tokenizer.ggml.model"
	keyPre       = "tokenizer.ggml.pre"
	keyTokens    = "tokenizer.ggml.tokens"
	keyScores    = "tokenizer.ggml.scores"
	keyTypes     = "tokenizer.ggml.token_type"
	keyMerges    = "tokenizer.ggml.merges"
	keyBOS       = "tokenizer.ggml.bos_token_id"
	keyEOS       = "tokenizer.ggml.eos_token_id"
	keyUnknown   = "tokenizer.ggml.unknown_token_id"
	keyAddBOS    = "tokenizer.ggml.add_bos_token"
	keyAddEOS    = "tokenizer.ggml.add_eos_token"
	keyAddPrefix = "tokenizer.ggml.add_space_prefix"
)

// roles are what further tokens are for. The token is that of a key or, without the
// key, the first of texts that is one; it is a control token then whatever its type says.
// The lists here and below are llama.cpp's (llama_vocab::impl::load).
var roles = []struct {
	key   string
	eog   bool // ends a generation
	texts []string
}{
	{"tokenizer.ggml.eot_token_id", true, nil}, // all in eogTexts
	{"tokenizer.ggml.eom_token_id", true, nil},
	{"tokenizer.ggml.fim_pad_token_id", true, []string{"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}},
	{"tokenizer.ggml.fim_rep_token_id", true, []string{"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}},
	{"tokenizer.ggml.fim_sep_token_id", true, []string{"<|file_sep|>"}},
	{"tokenizer.ggml.fim_pre_token_id", false, []string{"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>",
		"▁<PRE>", "<|code_prefix|>", "<|prefix|>"}},
	{"tokenizer.ggml.fim_suf_token_id", false, []string{"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>",
		"▁<SUF>", "<|code_suffix|>", "<|suffix|>"}},
	{"tokenizer.ggml.fim_mid_token_id", false, []string{"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>",
		"▁<MID>", "<|code_middle|>", "<|middle|>"}},
}

// eogTexts are tokens that end a generation whatever the keys say; they are
// control tokens whatever their type says.
var eogTexts = []string{
	"<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>", "<|endoftext|>",
	"</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>",
	"<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
}

// userTexts are user-defined tokens whatever their type says.
var userTexts = []string{"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"}

const (
	noID          = math.MaxUint32 // the id that means none
	maxTokens     = 1 << 22        // the largest vocabularies in use have 2^18
	maxTokenBytes = 1 << 16
	maxSpecial    = 1 << 22 // bytes of all special tokens; Gemma 3 has 2^17
)

// tokenType is a value of tokenizer.ggml.token_type (llama_token_type).
type tokenType int32

const (
	typeUndefined tokenType = iota
	typeNormal
	typeUnknown
	typeControl
	typeUserDefined
	typeUnused
	typeByte
)

// Tokenizer encodes and decodes with one vocabulary. It may be used by several
// goroutines at once.
type Tokenizer struct {
	kind           string
	pre            *preTokenizer // nil for the kind "llama"
	texts          []string      // as in the file
	pieces         []string      // what each token adds to a decoded text
	types          []tokenType
	bos, eos       int32 // -1: none
	addBOS, addEOS bool
	addSpacePrefix bool
	eog            map[int32]bool
	specials       *specials
	encoder        encoder
}

// encoder is *spm or *bpe: it appends the tokens of a text that has no special tokens.
type encoder interface {
	encode(ids []int32, text string) []int32
}

// EncodeOptions says what Encode does besides encoding plain text.
type EncodeOptions struct {
	Special      bool // add BOS and EOS as the file's keys say
	ParseSpecial bool // take the text of a control token as the token

	// Plain, if not nil, gives what stands for the text between tokens that were found in the text: what
	// it brings is encoded as text, even if it is that of a control token.
	Plain func(text string) string
}

// Encode returns the tokens of text.
func (t *Tokenizer) Encode(text string, o EncodeOptions) []int32 {
	ids := make([]int32, 0, len(text)/3+4)
	if o.Special && t.addBOS {
		ids = append(ids, t.bos)
	}
	afterSpecial := true
	for _, p := range t.specials.partition(text, o.ParseSpecial) {
		if p.id >= 0 {
			ids = append(ids, p.id)
			afterSpecial = true
			continue
		}
		if o.Plain != nil {
			p.text = o.Plain(p.text)
		}
		if t.kind == kindSPM {
			p.text = escape(p.text, t.addSpacePrefix && afterSpecial)
		}
		ids = t.encoder.encode(ids, p.text)
		afterSpecial = false
	}
	if o.Special && t.addEOS {
		ids = append(ids, t.eos)
	}
	return ids
}

// Decode returns the text of ids. Control and unknown tokens and ids outside the
// vocabulary add nothing. If Encode puts a blank in front of a text, one blank is
// taken from the front of the first token, even though that token may be in the
// middle of the text it came from (llama_detokenize in llama.cpp); a BOS in front
// keeps the blank. Bytes that are not valid UTF-8 stay as they are.
func (t *Tokenizer) Decode(ids []int32) string {
	var b strings.Builder
	for i, id := range ids {
		if id < 0 || int(id) >= len(t.pieces) || t.types[id] == typeControl || t.types[id] == typeUnknown {
			continue
		}
		piece := t.pieces[id]
		if i == 0 && t.addSpacePrefix {
			piece = strings.TrimPrefix(piece, " ")
		}
		b.WriteString(piece)
	}
	return b.String()
}

// Piece returns what a token stands for: bytes that need not be valid UTF-8 by
// themselves, with blanks as blanks; of a control or unknown token its name. It
// is empty for unused tokens and ids outside the vocabulary.
func (t *Tokenizer) Piece(id int32) string {
	if id < 0 || int(id) >= len(t.pieces) {
		return ""
	}
	return t.pieces[id]
}

// ControlTexts returns the texts that Encode takes for tokens with ParseSpecial only, the longest first.
func (t *Tokenizer) ControlTexts() []string {
	var texts []string
	for _, s := range t.specials.tokens {
		if !s.user {
			texts = append(texts, s.text)
		}
	}
	return texts
}

// Size returns the number of tokens.
func (t *Tokenizer) Size() int { return len(t.texts) }

// Kind returns tokenizer.ggml.model: "llama", "gpt2" or "gemma4".
func (t *Tokenizer) Kind() string { return t.kind }

// BOS returns the token that begins a text, if there is one.
func (t *Tokenizer) BOS() (int32, bool) { return t.bos, t.bos >= 0 }

// EOS returns the token that ends a text, if there is one.
func (t *Tokenizer) EOS() (int32, bool) { return t.eos, t.eos >= 0 }

// IsEOG says whether a token ends a generation: EOS, and others like <|im_end|>.
func (t *Tokenizer) IsEOG(id int32) bool { return t.eog[id] }

// AddBOS says whether Encode with Special puts BOS in front.
func (t *Tokenizer) AddBOS() bool { return t.addBOS }

// AddEOS says whether Encode with Special puts EOS at the end.
func (t *Tokenizer) AddEOS() bool { return t.addEOS }

// The kinds of tokenizer, as tokenizer.ggml.model names them.
const (
	kindSPM = "llama"
	kindBPE = "gpt2"

	kindGemma4 = "gemma4" // kindBPE with the pre-tokenizer of that name
)

// FromGGUF makes the tokenizer that f describes. It refuses, besides kinds it
// does not know, what would make ids or text wrong later: no tokens or too many,
// two tokens of one text, scores or types that are missing, of another number
// than the tokens, or out of range, special ids that no token has (4294967295
// means none), merges that are not two parts, and a SentencePiece vocabulary that
// cannot express some byte and has no unknown token either. (A byte-level one
// without the two drops such bytes, as in llama.cpp.)
func FromGGUF(f *gguf.File) (*Tokenizer, error) {
	t, err := load(f)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %s: %w", f.Name, err)
	}
	return t, nil
}

func load(f *gguf.File) (*Tokenizer, error) {
	kind, ok, err := f.String(keyModel)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("%s is missing, want llama, gpt2 or gemma4", keyModel)
	case kind == "no_vocab" || kind == "none":
		return nil, fmt.Errorf("%s is %s: %w", keyModel, kind, ErrNoVocab)
	case kind != kindSPM && kind != kindBPE && kind != kindGemma4:
		return nil, fmt.Errorf("%s %q is not known; there are llama, gpt2 and gemma4", keyModel, clip(kind))
	}
	t := &Tokenizer{kind: kind, bos: -1, eos: -1, eog: map[int32]bool{}}
	ids, err := t.loadTokens(f)
	if err != nil {
		return nil, err
	}
	if kind != kindSPM {
		name, _, err := f.String(keyPre)
		if err != nil {
			return nil, err
		}
		if kind == kindGemma4 {
			name = kindGemma4
		}
		if t.pre, err = preTokenizerOf(name); err != nil {
			return nil, err
		}
	}
	if err := t.loadSpecials(f, ids); err != nil {
		return nil, err
	}
	if t.specials, err = t.findSpecials(f, ids); err != nil {
		return nil, err
	}
	if kind == kindSPM {
		err = t.loadSPM(f, ids)
	} else {
		err = t.loadBPE(f, ids)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// loadTokens reads texts and types, and returns the id of every text.
func (t *Tokenizer) loadTokens(f *gguf.File) (map[string]int32, error) {
	texts, ok, err := f.Strings(keyTokens)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("%s is missing", keyTokens)
	case len(texts) == 0:
		return nil, fmt.Errorf("%s is empty", keyTokens)
	case len(texts) > maxTokens:
		return nil, fmt.Errorf("%s has %d tokens, want at most %d", keyTokens, len(texts), maxTokens)
	}
	ids := make(map[string]int32, len(texts))
	for i, text := range texts {
		if len(text) > maxTokenBytes {
			return nil, fmt.Errorf("%s[%d] has %d bytes, want at most %d", keyTokens, i, len(text), maxTokenBytes)
		}
		if text == "" {
			continue // can be an id, but is found in no text
		}
		if first, dup := ids[text]; dup {
			return nil, fmt.Errorf("%s[%d] is %q, as is %s[%d]", keyTokens, i, clip(text), keyTokens, first)
		}
		ids[text] = int32(i)
	}
	t.texts = texts

	types, ok, err := f.Ints(keyTypes)
	switch {
	case err != nil:
		return nil, err
	case !ok && t.kind == kindSPM:
		return nil, fmt.Errorf("%s is missing", keyTypes)
	case ok && len(types) != len(texts):
		return nil, fmt.Errorf("%s has %d values, want %d, one a token", keyTypes, len(types), len(texts))
	}
	t.types = make([]tokenType, len(texts))
	for i := range t.types {
		t.types[i] = typeNormal
		if !ok {
			continue
		}
		t.types[i] = tokenType(types[i])
		if t.types[i] < typeUndefined || t.types[i] > typeByte {
			return nil, fmt.Errorf("%s[%d] is %d, want %d to %d", keyTypes, i, types[i], typeUndefined, typeByte)
		}
	}
	return ids, nil
}

// loadSpecials reads the ids and flags of BOS and EOS, and which tokens end a
// generation.
func (t *Tokenizer) loadSpecials(f *gguf.File, ids map[string]int32) error {
	var err error
	t.bos, t.eos = -1, -1
	if t.kind == kindSPM { // llama.cpp's defaults
		t.bos, t.eos = t.orNone(1), t.orNone(2)
	} else if id, ok := ids["<|endoftext|>"]; ok {
		t.bos, t.eos = id, id
	}
	if t.bos, err = t.idKey(f, keyBOS, t.bos); err != nil {
		return err
	}
	if t.eos, err = t.idKey(f, keyEOS, t.eos); err != nil {
		return err
	}
	addBOS := t.kind == kindSPM || t.pre.addBOS
	if t.addBOS, err = boolKey(f, keyAddBOS, addBOS && t.bos >= 0); err != nil {
		return err
	}
	if t.pre != nil && t.pre.alwaysBOS {
		t.addBOS = t.bos >= 0
	}
	if t.addEOS, err = boolKey(f, keyAddEOS, false); err != nil {
		return err
	}
	if t.addSpacePrefix, err = boolKey(f, keyAddPrefix, t.kind == kindSPM); err != nil {
		return err
	}
	if t.addBOS && t.bos < 0 {
		return fmt.Errorf("%s is true, but there is no BOS token", keyAddBOS)
	}
	if t.addEOS && t.eos < 0 {
		return fmt.Errorf("%s is true, but there is no EOS token", keyAddEOS)
	}
	for _, text := range eogTexts {
		if id, ok := ids[text]; ok {
			t.eog[id] = true
			t.types[id] = typeControl
		}
	}
	for _, role := range roles {
		id, err := t.idKey(f, role.key, -1)
		if err != nil {
			return err
		}
		for i := 0; id < 0 && i < len(role.texts); i++ {
			if at, ok := ids[role.texts[i]]; ok {
				id = at
				t.types[id] = typeControl
			}
		}
		if id >= 0 && role.eog {
			t.eog[id] = true
		}
	}
	for _, text := range userTexts {
		if id, ok := ids[text]; ok {
			t.types[id] = typeUserDefined
		}
	}
	if t.eos >= 0 {
		t.eog[t.eos] = true
	}
	for _, call := range []string{"<|call|>", "<|calls|>"} {
		for _, last := range []string{"<|return|>", "<|flush|>"} {
			t.dropEOG(ids, "<|end|>", typeUserDefined, call, last)
		}
	}
	t.dropEOG(ids, "</s>", typeNormal, "<|tool_response>")
	return nil
}

// dropEOG makes text a token of type typ that ends no generation, if all of beside are
// tokens: those vocabularies mean something else by it.
func (t *Tokenizer) dropEOG(ids map[string]int32, text string, typ tokenType, beside ...string) {
	id, ok := ids[text]
	for _, b := range beside {
		_, there := ids[b]
		ok = ok && there
	}
	if ok {
		delete(t.eog, id)
		t.types[id] = typ
	}
}

// loadSPM reads what only the kind "llama" has, and sets the pieces.
func (t *Tokenizer) loadSPM(f *gguf.File, ids map[string]int32) error {
	scores, ok, err := f.Floats(keyScores)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%s is missing", keyScores)
	case len(scores) != len(t.texts):
		return fmt.Errorf("%s has %d values, want %d, one a token", keyScores, len(scores), len(t.texts))
	}
	for i, s := range scores {
		if math.IsNaN(float64(s)) {
			return fmt.Errorf("%s[%d] is not a number", keyScores, i)
		}
	}
	s := &spm{ids: ids, scores: scores, joins: map[rune]bool{}}
	if s.unk, err = t.idKey(f, keyUnknown, t.orNone(0)); err != nil {
		return err
	}
	for b := range s.bytes {
		id, ok := ids[byteText(byte(b))]
		if !ok {
			id = -1
		}
		if !ok && s.unk < 0 {
			return fmt.Errorf("there is neither a token %s nor an unknown token (%s)", byteText(byte(b)), keyUnknown)
		}
		s.bytes[b] = id
	}
	t.pieces = make([]string, len(t.texts))
	for i, text := range t.texts {
		switch t.types[i] {
		case typeNormal:
			t.pieces[i] = strings.ReplaceAll(text, space, " ")
		case typeControl, typeUnknown, typeUserDefined:
			t.pieces[i] = text
		case typeByte:
			b, ok := parseByteText(text)
			if !ok {
				return fmt.Errorf("%s[%d] is %q and of type byte, want <0x00> to <0xFF>", keyTokens, i, clip(text))
			}
			t.pieces[i] = string([]byte{b})
		}
		switch t.types[i] {
		case typeControl, typeUnknown, typeByte:
			delete(ids, text)
		default:
			s.maxLen = max(s.maxLen, len(text))
			s.addJoins(text)
		}
	}
	t.encoder = s
	return nil
}

// byteText is the text of the token of a byte in a SentencePiece vocabulary.
func byteText(b byte) string { return fmt.Sprintf("<0x%02X>", b) }

func parseByteText(text string) (byte, bool) {
	if len(text) != 6 {
		return 0, false
	}
	n, err := strconv.ParseUint(text[3:5], 16, 8)
	return byte(n), err == nil && strings.EqualFold(text, byteText(byte(n)))
}

// orNone returns id, or -1 if there is no such token.
func (t *Tokenizer) orNone(id int32) int32 {
	if int(id) >= len(t.texts) {
		return -1
	}
	return id
}

// idKey returns the token id at key, def if the key is missing, and -1 for none.
func (t *Tokenizer) idKey(f *gguf.File, key string, def int32) (int32, error) {
	n, ok, err := f.Uint(key)
	switch {
	case err != nil:
		return -1, err
	case !ok:
		return def, nil
	case n == noID:
		return -1, nil
	case n >= uint64(len(t.texts)):
		return -1, fmt.Errorf("%s is %d, want less than %d, the number of tokens", key, n, len(t.texts))
	}
	return int32(n), nil
}

func boolKey(f *gguf.File, key string, def bool) (bool, error) {
	v, ok, err := f.Bool(key)
	if err != nil || !ok {
		return def && err == nil, err
	}
	return v, nil
}

// clip shortens a string from a file for a message.
func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}

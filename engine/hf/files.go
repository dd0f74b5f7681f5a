package hf

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/guardcpu/guardcpu/gguf"
)

// files makes the files that say what the weights mean, config.json first.
func (m *model) files(outputs []output) ([]textFile, error) {
	v, err := m.readVocab()
	if err != nil {
		return nil, fmt.Errorf("hf: %s: %w", m.f.Name, err)
	}
	conf, err := m.config(v, outputs)
	if err != nil {
		return nil, fmt.Errorf("hf: %s: %w", m.f.Name, err)
	}
	generation := map[string]any{"_from_model_config": true}
	for _, name := range []string{"bos_token_id", "eos_token_id", "pad_token_id"} {
		if id, ok := conf[name]; ok {
			generation[name] = id
		}
	}
	values := []struct {
		name  string
		value any
	}{{"config.json", conf}, {"generation_config.json", generation}}
	var files []textFile
	if v != nil {
		tokenizer, err := v.tokenizerJSON()
		if err != nil {
			return nil, fmt.Errorf("hf: %s: %w", m.f.Name, err)
		}
		values = append(values, []struct {
			name  string
			value any
		}{{"tokenizer.json", tokenizer}, {"tokenizer_config.json", m.tokenizerConfig(v)}, {"special_tokens_map.json", v.specialTexts()}}...)
	}
	for _, x := range values {
		data, err := marshal(x.value)
		if err != nil {
			return nil, err
		}
		files = append(files, textFile{x.name, data})
	}
	if v != nil && v.scores != nil {
		files = append(files, textFile{"tokenizer.model", v.sentencePieces().encode(v.special("unk", 0), v.special("bos", -1), v.special("eos", -1), v.special("pad", -1))})
	}
	return files, nil
}

// config makes config.json.
func (m *model) config(v *outVocab, outputs []output) (map[string]any, error) {
	fam := m.family
	c := map[string]any{
		"architectures": []string{fam.classes[0]}, "model_type": fam.modelType, "vocab_size": m.shape.vocab, "use_cache": true,
	}
	// What the engine takes where the file does not say, which is not always what the library does.
	counts := map[string]int{"expert_feed_forward_length": m.shape.expertFFN}
	if !strings.HasPrefix(fam.arch, "gpt") {
		counts["attention.head_count_kv"] = m.shape.kvHeads
	}
	numbers := map[string]float64{keyBase: 10000, keyRMS: 1e-5, keyNorm: 1e-5}
	for _, fd := range fam.mine() {
		key := fam.arch + "." + fd.key
		switch fd.kind {
		case count:
			n, ok, err := m.f.Uint(key)
			if err != nil {
				return nil, err
			}
			if k := counts[fd.key]; !ok && k > 0 {
				n, ok = uint64(k), true
			}
			if ok {
				c[fd.names[0]] = n
			}
		case number:
			x, ok, err := m.f.Float(key)
			if err != nil {
				return nil, err
			}
			if k := numbers[fd.key]; !ok && k > 0 {
				x, ok = k, true
			}
			if ok {
				c[fd.names[0]] = short(x)
			}
		case yes:
			b, ok, err := m.f.Bool(key)
			if err != nil {
				return nil, err
			}
			if ok {
				c[fd.names[0]] = b
			}
		}
	}
	if m.shape.head*m.shape.heads != m.shape.width || fam.absent[keyKey] > 0 {
		c["head_dim"] = m.shape.head
	}
	if n, ok, err := m.f.Uint(fam.arch + "." + keyDims); err != nil {
		return nil, err
	} else if ok && fam.rotary != nil {
		if len(fam.rotary.names) > 0 {
			c[fam.rotary.names[0]] = float64(n) / float64(m.shape.head)
		} else if n != uint64(m.shape.head) {
			return nil, fmt.Errorf("%s.%s is %d, but %s rotates the whole head of %d", fam.arch, keyDims, n, fam.classes[0], m.shape.head)
		}
	}
	for _, f := range fam.flags {
		_, has := m.f.Tensor(f.tensor)
		c[f.name] = has != f.absent
	}
	_, output := m.f.Tensor("output.weight")
	c["tie_word_embeddings"] = !output
	c[cmp.Or(fam.actKey, "hidden_act")] = fam.acts[0]
	for _, k := range fam.settled(m.shape) {
		c[k.name] = k.value
	}
	if err := m.scaling(c); err != nil {
		return nil, err
	}
	dtype := map[gguf.TensorType]string{gguf.F32: "float32", gguf.F16: "float16", gguf.BF16: "bfloat16"}
	for _, o := range outputs {
		if len(o.shape) > 1 {
			c["torch_dtype"] = dtype[o.typ]
			break
		}
	}
	if v != nil {
		for _, s := range []string{"bos", "eos", "pad"} {
			if id := v.special(s, -1); id >= 0 {
				c[s+"_token_id"] = id
			}
		}
	}
	return c, nil
}

// short returns the decimal of fewest digits that gives the same float32.
func short(x float64) any { return float32(x) }

// scaling puts what is known of a scaled rotary embedding into config.json.
func (m *model) scaling(c map[string]any) error {
	arch := m.family.arch
	key := arch + ".rope.scaling."
	kind, _, err := m.f.String(key + "type")
	if err != nil {
		return err
	}
	r := map[string]any{}
	put := func(name, from string) {
		x, ok, e := m.f.Float(key + from)
		if err == nil {
			err = e
		}
		if ok {
			r[name] = short(x)
		}
	}
	original, hasOriginal, err := m.f.Uint(key + "original_context_length")
	if err != nil {
		return err
	}
	if hasOriginal && arch == "phi3" {
		c["original_max_position_embeddings"] = original
	}
	switch kind {
	case "", "none":
	case "linear":
		put("factor", "factor")
	case "yarn":
		put("factor", "factor")
		put("extrapolation_factor", "yarn_ext_factor")
		put("attention_factor", "yarn_attn_factor")
		put("beta_fast", "yarn_beta_fast")
		put("beta_slow", "yarn_beta_slow")
		if hasOriginal {
			r["original_max_position_embeddings"] = original
		}
	case "longrope":
		for _, which := range []string{"long", "short"} {
			v, ok := m.factors("rope_factors_" + which + ".weight")
			if !ok {
				return fmt.Errorf("rope.scaling.type is longrope, but rope_factors_%s.weight is missing", which)
			}
			r[which+"_factor"] = v
		}
	default:
		return fmt.Errorf("rope.scaling.type %q is not known", kind)
	}
	if err != nil {
		return err
	}
	if v, ok := m.factors("rope_freqs.weight"); ok {
		if kind, r = "llama3", m.findLlama3(v); r == nil {
			return fmt.Errorf("rope_freqs.weight is not one of the scalings of Llama 3.1 and 3.2; give the original directory with --like")
		}
	}
	if len(r) > 0 {
		name := "rope_type"
		if kind == "longrope" {
			name = "type" // Phi3Config accepts no other before version 5 of the library
		}
		r[name] = kind
		c["rope_scaling"] = r
	}
	return nil
}

// factors reads a tensor of divisors.
func (m *model) factors(name string) ([]float32, bool) {
	t, ok := m.f.Tensor(name)
	if !ok || t.Type != gguf.F32 {
		return nil, false
	}
	w, err := matrixOf(t.Type, t.Dims, m.f.Data(t))
	if err != nil {
		return nil, false
	}
	v, ok := w.Float32s()
	return v, ok
}

// findLlama3 finds the scaling that gives these divisors; those of Llama 3.1 (8) and 3.2 (32)
// blend between 1 and 4 waves of 8192 positions.
func (m *model) findLlama3(v []float32) map[string]any {
	base, ok, err := m.f.Float(m.family.arch + "." + keyBase)
	if err != nil || !ok {
		base = 10000
	}
	if len(v) < 1 {
		return nil
	}
	for _, factor := range []float64{float64(slices.Max(v)), 8, 32} { // the slowest pairs are divided by it, if a head is wide enough
		same := true
		for i, x := range llama3(base, 2*len(v), factor, 1, 4, 8192) {
			same = same && math.Abs(float64(x-v[i])) <= 1e-4*float64(v[i]) // frequencies are powers in float32 there
		}
		if same {
			return map[string]any{"factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
		}
	}
	return nil
}

// outVocab is the tokenizer of a GGUF file.
type outVocab struct {
	vocabulary
	specialIDs map[string]int // of special tokens: bos, eos, …
	bos, eos   bool           // which a text gets
	template   string
}

// special returns a special token.
func (v *outVocab) special(name string, absent int) int {
	if id, ok := v.specialIDs[name]; ok {
		return id
	}
	return absent
}

// readVocab reads the tokenizer; it is nil if the file has none.
func (m *model) readVocab() (*outVocab, error) {
	const p = "tokenizer.ggml."
	v := &outVocab{specialIDs: map[string]int{}}
	v.ids = map[string]int{}
	var ok bool
	var err error
	if v.model, ok, err = m.f.String(p + "model"); err != nil || !ok || v.model == "none" || v.model == "no_vocab" {
		return nil, err
	}
	if v.model != "llama" && v.model != "gpt2" {
		return nil, fmt.Errorf("tokenizer.ggml.model is %q; a tokenizer.json can be made of llama and gpt2; give the original directory with --like", v.model)
	}
	if v.pre, _, err = m.f.String(p + "pre"); err != nil {
		return nil, err
	}
	if v.tokens, _, err = m.f.Strings(p + "tokens"); err != nil {
		return nil, err
	}
	if v.types, _, err = m.f.Ints(p + "token_type"); err != nil {
		return nil, err
	}
	if v.scores, _, err = m.f.Floats(p + "scores"); err != nil {
		return nil, err
	}
	if v.merges, _, err = m.f.Strings(p + "merges"); err != nil {
		return nil, err
	}
	n := len(v.tokens)
	if v.types == nil && v.model == "gpt2" {
		v.types = slices.Repeat([]int32{typeNormal}, n)
	}
	if n == 0 || n > maxTokens || len(v.types) != n || v.model == "llama" && len(v.scores) != n {
		return nil, fmt.Errorf("there are %d tokens, %d types and %d scores, want as many of each", n, len(v.types), len(v.scores))
	}
	if v.model == "gpt2" {
		v.scores = nil
	}
	for id, text := range v.tokens {
		if old, twice := v.ids[text]; twice {
			return nil, fmt.Errorf("tokens %d and %d are both %s", old, id, quote(text))
		}
		v.ids[text] = id
	}
	for _, s := range specialKeys {
		id, ok, err := m.f.Uint(p + s.key)
		if err != nil {
			return nil, err
		}
		if ok && id != math.MaxUint32 {
			if id >= uint64(n) {
				return nil, fmt.Errorf("%s%s is %d, but there are %d tokens", p, s.key, id, n)
			}
			v.specialIDs[s.name] = int(id)
		}
	}
	bos, okBOS, err := m.f.Bool(p + "add_bos_token")
	if err != nil {
		return nil, err
	}
	if v.bos = bos; !okBOS {
		v.bos = v.model == "llama" || slices.Contains([]string{"llama-bpe", "llama3", "llama-v3", "tekken"}, v.pre)
	}
	if v.eos, _, err = m.f.Bool(p + "add_eos_token"); err != nil {
		return nil, err
	}
	prefix, okPrefix, err := m.f.Bool(p + "add_space_prefix")
	if err != nil {
		return nil, err
	}
	v.noPrefix = v.model == "gpt2" || okPrefix && !prefix
	v.template, _, err = m.f.String("tokenizer.chat_template")
	return v, err
}

// text of a special token, if there is one.
func (v *outVocab) specialTexts() map[string]any {
	out := map[string]any{}
	for _, s := range specialKeys {
		if id, ok := v.specialIDs[s.name]; ok {
			out[s.name+"_token"] = v.tokens[id]
		}
	}
	return out
}

// tokenizerConfig makes tokenizer_config.json.
func (m *model) tokenizerConfig(v *outVocab) map[string]any {
	c := v.specialTexts()
	c["tokenizer_class"] = "PreTrainedTokenizerFast"
	c["clean_up_tokenization_spaces"] = false
	c["add_bos_token"], c["add_eos_token"] = v.bos, v.eos
	if n, ok, err := m.f.Uint(m.family.arch + "." + keyContext); ok && err == nil {
		c["model_max_length"] = n
	}
	if v.template != "" {
		c["chat_template"] = v.template
	}
	return c
}

// sentencePieces makes tokenizer.model; blanks of user-defined tokens become ▁ again.
func (v *outVocab) sentencePieces() *sentencePiece {
	m := &sentencePiece{prefix: !v.noPrefix}
	for id, text := range v.tokens {
		typ := v.types[id]
		if typ < typeNormal || typ > typeByte {
			typ = typeNormal
		}
		if typ == typeUserDefined {
			text = strings.ReplaceAll(text, " ", "▁")
		}
		m.pieces = append(m.pieces, piece{text, v.scores[id], typ})
	}
	return m
}

// tokenizerJSON makes tokenizer.json.
func (v *outVocab) tokenizerJSON() (map[string]any, error) {
	type m = map[string]any
	vocab := map[string]int{}
	var added []m
	for id, text := range v.tokens {
		typ := v.types[id]
		if typ == typeUnused && text == fmt.Sprintf("[PAD%d]", id) {
			continue // a row of the embedding that no token has
		}
		vocab[text] = id
		if typ == typeControl || typ == typeUserDefined || typ == typeUnknown {
			added = append(added, m{"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
				"normalized": false, "special": typ != typeUserDefined})
		}
	}
	t := m{"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "normalizer": nil, "post_processor": v.processor()}
	model := m{"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
		"fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab}
	t["model"] = model
	if v.model == "gpt2" {
		s, err := splitOf(v.pre)
		if err != nil {
			return nil, err
		}
		merges := make([][2]string, len(v.merges))
		for i, text := range v.merges {
			a, b, ok := strings.Cut(text, " ")
			if !ok {
				return nil, fmt.Errorf("tokenizer.ggml.merges[%d] is %s, want two tokens", i, quote(text))
			}
			merges[i] = [2]string{a, b}
		}
		model["merges"], model["ignore_merges"] = merges, s.ignoreMerges
		t["pre_tokenizer"] = s.json()
		if slices.Contains(composed, v.pre) {
			t["normalizer"] = m{"type": "NFC"}
		}
		t["decoder"] = m{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}
		return t, nil
	}
	model["merges"], model["byte_fallback"], model["fuse_unk"] = v.mergesOfScores(), slices.Contains(v.types, typeByte), true
	if id := slices.Index(v.types, typeUnknown); id >= 0 {
		model["unk_token"] = v.tokens[id]
	}
	steps := []m{{"type": "Replace", "pattern": m{"String": " "}, "content": "▁"}}
	decode := []m{{"type": "Replace", "pattern": m{"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}}
	if !v.noPrefix {
		steps = append([]m{{"type": "Prepend", "prepend": "▁"}}, steps...)
		decode = append(decode, m{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	}
	t["normalizer"] = m{"type": "Sequence", "normalizers": steps}
	t["pre_tokenizer"] = nil
	t["decoder"] = m{"type": "Sequence", "decoders": decode}
	return t, nil
}

// processor is the post-processor that adds the special tokens.
func (v *outVocab) processor() any {
	type m = map[string]any
	special := func(name string, id int) (m, m) {
		return m{"SpecialToken": m{"id": name, "type_id": 0}}, m{"id": name, "ids": []int{id}, "tokens": []string{name}}
	}
	single, tokens := []m{}, m{}
	add := func(on bool, name string) {
		if id, ok := v.specialIDs[name]; ok && on {
			s, t := special(v.tokens[id], id)
			single, tokens[v.tokens[id]] = append(single, s), t
		}
	}
	add(v.bos, "bos")
	single = append(single, m{"Sequence": m{"id": "A", "type_id": 0}})
	add(v.eos, "eos")
	if len(single) == 1 {
		if v.model == "gpt2" {
			return m{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true}
		}
		return nil
	}
	two := slices.Clone(single)
	return m{"type": "TemplateProcessing", "single": single, "pair": append(two, m{"Sequence": m{"id": "B", "type_id": 0}}), "special_tokens": tokens}
}

// maxMerged is the longest token that is looked for parts, far above SentencePiece's 16 characters.
const maxMerged = 256

// mergesOfScores turns a SentencePiece vocabulary into merges, as the Transformers library does: every way
// in which a token is two others, those of the best token first, of one token by its parts.
func (v *outVocab) mergesOfScores() [][2]string {
	type merge struct {
		a, b     string
		idA, idB int
		score    float32
		whole    int
	}
	var list []merge
	for id, text := range v.tokens {
		if v.types[id] != typeNormal && v.types[id] != typeUserDefined {
			continue
		}
		if len(text) > maxMerged {
			continue
		}
		for i := range text {
			if i == 0 {
				continue
			}
			a, okA := v.ids[text[:i]]
			b, okB := v.ids[text[i:]]
			if okA && okB && v.types[a] == typeNormal && v.types[b] == typeNormal {
				list = append(list, merge{text[:i], text[i:], a, b, v.scores[id], id})
			}
		}
	}
	slices.SortStableFunc(list, func(x, y merge) int {
		return cmp.Or(cmp.Compare(y.score, x.score), cmp.Compare(x.whole, y.whole), cmp.Compare(x.idA, y.idA), cmp.Compare(x.idB, y.idB))
	})
	out := make([][2]string, len(list))
	for i, m := range list {
		out[i] = [2]string{m.a, m.b}
	}
	return out
}

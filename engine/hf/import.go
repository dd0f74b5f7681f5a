package hf

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
)

// importTypes are the types that Import writes matrices in.
var importTypes = []string{"F32", "F16", "BF16", "Q8_0"}

// ImportOptions say how a checkpoint becomes a GGUF file.
type ImportOptions struct {
	Type string // of matrices, F32, F16, BF16 or Q8_0; empty: that of the checkpoint's first matrix
	Name string // general.name; empty: the directory's
}

// Import returns the metadata and the tensors of the GGUF file for a checkpoint. Matrices get
// the type that is asked for (Q8_0 gives way to F16 where rows are no multiple of 32);
// vectors, norms, learned positions and the routers of experts are F32, as with llama.cpp. The
// tensors come in the order in which they lie in the checkpoint, and are read from it as they are packed.
func (c *Checkpoint) Import(ctx *nn.Ctx, o ImportOptions) ([]gguf.KV, []gguf.TensorData, error) {
	where := filepath.Join(c.Dir, "config.json")
	arch, err := c.family.keys(c.config)
	if err != nil {
		return nil, nil, fmt.Errorf("hf: %s: %w", where, err)
	}
	extra, err := c.family.ropeTensors(c.config)
	if err != nil {
		return nil, nil, fmt.Errorf("hf: %s: %w", where, err)
	}
	shape, err := shapeOf(c.family.arch, arch)
	if err == nil {
		err = c.family.checkSettled(c.config, shape)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("hf: %s: %w", where, err)
	}
	if o.Type == "" {
		o.Type = c.firstType()
	}
	if !slices.Contains(importTypes, strings.ToUpper(o.Type)) {
		return nil, nil, fmt.Errorf("hf: a checkpoint becomes F32, F16, BF16 or Q8_0, not %s; for other types, quantize what it becomes", o.Type)
	}
	mixture, err := quant.MixtureByName(o.Type)
	if err != nil {
		return nil, nil, err
	}
	typ, err := quant.ByGGUF(mixture.Base)
	if err != nil {
		return nil, nil, err
	}
	if shape.vocab, err = c.vocabSize(); err != nil {
		return nil, nil, err
	}
	tensors, err := c.tensors(ctx, shape, typ)
	if err != nil {
		return nil, nil, err
	}
	vocab, err := c.vocab(shape.vocab)
	if err != nil {
		return nil, nil, err
	}
	name := o.Name
	if name == "" {
		if abs, err := filepath.Abs(c.Dir); err == nil {
			name = filepath.Base(abs)
		}
	}
	kvs := []gguf.KV{
		{Key: "general.architecture", Value: c.family.arch},
		{Key: "general.type", Value: "model"},
		{Key: "general.name", Value: name},
	}
	kvs = append(kvs, arch...)
	kvs = append(kvs,
		gguf.KV{Key: "general.file_type", Value: mixture.FileType},
		gguf.KV{Key: "general.quantization_version", Value: quant.Version})
	return append(kvs, vocab...), append(extra, tensors...), nil
}

// modelShape is a shape with what tensors are checked against.
type modelShape struct {
	shape
	ffn, head, experts, expertFFN, vocab int
}

// shapeOf takes the shape from keys that keys has made.
func shapeOf(arch string, kvs []gguf.KV) (modelShape, error) {
	get := func(key string) int {
		for _, kv := range kvs {
			if n, ok := kv.Value.(uint32); ok && kv.Key == arch+"."+key {
				return int(n)
			}
		}
		return 0
	}
	s := modelShape{
		shape: shape{get("attention.head_count"), get("attention.head_count_kv"), get("block_count"), get("embedding_length")},
		ffn:   get("feed_forward_length"), head: get(keyKey), experts: get("expert_count"), expertFFN: get("expert_feed_forward_length"),
	}
	if s.kvHeads == 0 {
		s.kvHeads = s.heads
	}
	if min(s.heads, s.blocks, s.width, s.ffn) < 1 || max(s.heads, s.blocks, s.width, s.ffn, s.experts, s.head) > 1<<20 {
		return s, fmt.Errorf("%d blocks of width %d with %d heads and feed-forward %d do not make a model", s.blocks, s.width, s.heads, s.ffn)
	}
	if s.head == 0 {
		s.head = s.width / s.heads
	}
	if s.expertFFN == 0 {
		s.expertFFN = s.ffn
	}
	return s, nil
}

// firstType is the type of the first matrix, as llama.cpp guesses that of a checkpoint.
func (c *Checkpoint) firstType() string {
	for _, a := range c.arrays {
		if _, ok := floats[a.dtype]; ok && len(a.shape) > 1 {
			return a.dtype
		}
	}
	return "F32"
}

// A found is a GGUF tensor and the arrays that it is made of.
type found struct {
	name   string
	rule   rule
	arrays []*array
	last   int // where the last of them lies in the checkpoint
}

// tensors maps the checkpoint's arrays.
func (c *Checkpoint) tensors(ctx *nn.Ctx, s modelShape, typ *quant.Type) ([]gguf.TensorData, error) {
	list, err := c.match(s.blocks)
	if err != nil {
		return nil, err
	}
	var out []gguf.TensorData
	for _, f := range list {
		t, err := f.tensor(ctx, c.family, s, typ)
		if err != nil {
			return nil, fmt.Errorf("hf: %s: %s: %w", c.Dir, f.arrays[0].name, err)
		}
		out = append(out, t)
	}
	return out, nil
}

// tensor says how the arrays become one tensor of the given type.
func (f *found) tensor(ctx *nn.Ctx, fam *family, s modelShape, typ *quant.Type) (t gguf.TensorData, err error) {
	first := f.arrays[0]
	src := &source{transpose: f.rule.form == transposed && len(first.shape) == 2}
	for _, a := range f.arrays {
		elem, ok := floats[a.dtype]
		if !ok {
			return t, fmt.Errorf("its dtype is %s, want F32, F16 or BF16", a.dtype)
		}
		if len(a.shape) < 1 || len(a.shape) > 2 || slices.Contains(a.shape, 0) || !slices.Equal(a.shape, first.shape) {
			return t, fmt.Errorf("%s has the shape %v beside %v, want one or two dimensions, and the same", a.name, a.shape, first.shape)
		}
		dims := slices.Clone(a.shape)
		slices.Reverse(dims)
		m, err := matrixOf(elem, dims, a.data)
		if err != nil {
			return t, err
		}
		src.parts = append(src.parts, m)
	}
	rows, cols := src.size()
	if f.rule.form == stacked {
		rows /= len(f.arrays)
	}
	if err := fam.checkSize(f.name, s, len(f.arrays), rows, cols, len(first.shape)); err != nil {
		return t, err
	}
	t.Name, t.Dims = f.name, []uint64{uint64(cols)}
	if len(first.shape) == 2 {
		t.Dims = append(t.Dims, uint64(rows))
	}
	if f.rule.form == stacked {
		t.Dims = append(t.Dims, uint64(len(f.arrays)))
	}
	if p := &src.parts[0]; len(first.shape) == 1 && f.rule.form.moves() { // a bias is moved as the rows of its matrix are
		p.Rows, p.Cols = p.Cols, 1
	}
	if src.rows, err = f.rule.form.rowsOf(src.parts[0].Rows, s.shape); err != nil {
		return t, err
	}
	if f.rule.form == plusOne {
		src.add = 1
	}
	switch name := strings.TrimSuffix(f.name, ".weight"); {
	case len(first.shape) == 1, name == f.name, strings.HasSuffix(name, "_norm"), name == "position_embd", strings.HasSuffix(name, "ffn_gate_inp"):
		typ = quant.Types[0]
	case cols%typ.BlockLen != 0:
		typ, err = quant.ByName("F16")
	}
	t.Type = typ.GGUF
	t.Bytes = func() ([]byte, error) {
		b, err := src.pack(ctx, typ)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", first.name, err)
		}
		return b, nil
	}
	return t, err
}

// checkSize compares a tensor with what the configuration says: rows and cols are those of one of n parts.
func (f *family) checkSize(name string, s modelShape, n, rows, cols, nDims int) error {
	base := name[strings.LastIndexByte(strings.TrimSuffix(strings.TrimSuffix(name, ".weight"), ".bias"), '.')+1:]
	base, isWeight := strings.CutSuffix(base, ".weight")
	base = strings.TrimSuffix(base, ".bias")
	q, kv, ffn := s.heads*s.head, s.kvHeads*s.head, s.ffn
	if f.arch == "phi3" && base == "ffn_up" {
		ffn *= 2
	}
	wantRows, wantCols, parts := 1, s.width, 1
	switch base {
	case "token_embd", "output":
		wantRows = s.vocab
	case "position_embd":
		wantRows = rows
	case "attn_q":
		wantRows = q
	case "attn_k", "attn_v":
		wantRows = kv
	case "attn_qkv":
		wantRows = q + 2*kv
	case "attn_output":
		wantRows, wantCols = s.width, q
	case "ffn_gate", "ffn_up":
		wantRows = ffn
	case "ffn_down":
		wantRows, wantCols = s.width, s.ffn
	case "ffn_gate_inp":
		wantRows = s.experts
	case "ffn_gate_exps", "ffn_up_exps":
		wantRows, parts = s.expertFFN, s.experts
	case "ffn_down_exps":
		wantRows, wantCols, parts = s.width, s.expertFFN, s.experts
	case "attn_q_norm", "attn_k_norm":
		wantCols = s.head
		heads := s.heads
		if base == "attn_k_norm" {
			heads = s.kvHeads
		}
		switch f.arch {
		case "stablelm":
			parts = heads
		case "olmo2":
			wantCols *= heads
		}
	}
	if !isWeight && wantRows > 1 {
		wantRows, wantCols = 1, wantRows
	}
	wantDims := 1
	if wantRows > 1 || nDims == 2 && rows == 1 {
		wantDims = 2
	}
	if rows != wantRows || cols != wantCols || nDims != wantDims {
		return fmt.Errorf("it is %d×%d, want %d×%d (rows × columns)", rows, cols, wantRows, wantCols)
	}
	if n != parts {
		return fmt.Errorf("there are %d of its kind, want %d", n, parts)
	}
	return nil
}

// needs says whether there is no model without a tensor.
func (f *family) needs(name string) bool {
	switch base := name[strings.LastIndexByte(name, '.')+1:]; {
	case base == "output":
		return false
	case f.arch == "stablelm":
		return base != "ffn_norm" && base != "attn_q_norm" && base != "attn_k_norm"
	case f.experts:
		return base != "ffn_gate" && base != "ffn_up" && base != "ffn_down"
	}
	return true
}

// prefixes are other beginnings of names: models without a head have none, that of text beside one of images
// has a longer one, which differs between versions of the library.
var prefixes = [][2]string{{"", ""}, {"transformer.", ""}, {"", "language_model."}, {"model.", "model.language_model."}}

// find returns the array of a name.
func (c *Checkpoint) find(name string) (int, bool) {
	for _, p := range prefixes {
		if rest, had := strings.CutPrefix(name, p[0]); had {
			if i, ok := c.index[p[1]+rest]; ok {
				return i, true
			}
		}
	}
	return 0, false
}

// match finds the arrays of each rule. Each array must have a place, and each tensor that the
// architecture cannot be without an array.
func (c *Checkpoint) match(blocks int) ([]*found, error) {
	used := make([]bool, len(c.arrays))
	tied, explicit := c.config.m["tie_word_embeddings"].(bool)
	var list []*found
	var missing []string
	look := func(r rule, block string) {
		for _, end := range []string{".weight", ".bias"} {
			f := &found{name: strings.ReplaceAll(r.gguf, "#", block) + end, rule: r, last: -1}
			var lost []string
			for _, hf := range r.hf {
				name := strings.ReplaceAll(hf, "#", block) + end
				for n := 0; ; n++ {
					part := strings.Replace(name, "*", strconv.Itoa(n), 1)
					i, ok := c.find(part)
					if !ok {
						if n == 0 {
							lost = append(lost, part)
						}
						break
					}
					f.arrays, f.last = append(f.arrays, &c.arrays[i]), max(f.last, i)
					if !strings.Contains(name, "*") {
						break
					}
				}
			}
			switch {
			case len(lost) == 0 && r.gguf == "output" && tied && end == ".weight":
				i, _ := c.find(r.hf[0] + end)
				used[i] = true // a copy of the embedding
			case len(lost) == 0:
				for _, a := range f.arrays {
					used[c.index[a.name]] = true
				}
				list = append(list, f)
			case end == ".weight" && c.family.needs(r.gguf):
				missing = append(missing, lost...)
			}
		}
	}
	for _, r := range c.family.rules {
		if len(r.hf) > 1 {
			continue // the separate form of what is fused in some GGUF files
		}
		if !strings.Contains(r.gguf, "#") {
			look(r, "")
			continue
		}
		for b := range blocks {
			look(r, strconv.Itoa(b))
		}
	}
	if name := c.family.matrix("output"); explicit && !tied {
		if _, ok := c.find(name); !ok {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("hf: %s: a model of %s with %d blocks lacks %s", c.Dir, c.family.arch, blocks, some(missing))
	}
	var extra []string
	for i, a := range c.arrays {
		if !used[i] && !isNoTensor(a.name) {
			extra = append(extra, a.name)
		}
	}
	if len(extra) > 0 {
		return nil, fmt.Errorf("hf: %s: %s has no use for %s", c.Dir, c.family.arch, some(extra))
	}
	slices.SortStableFunc(list, func(a, b *found) int { return cmp.Compare(a.last, b.last) })
	return list, nil
}

// matrix is the name that a matrix of the GGUF file has in a checkpoint.
func (f *family) matrix(gguf string) string {
	i := slices.IndexFunc(f.rules, func(r rule) bool { return r.gguf == gguf })
	return f.rules[i].hf[0] + ".weight"
}

// vocabSize returns the rows of the embedding, which must be as many as config.json says.
func (c *Checkpoint) vocabSize() (int, error) {
	name := c.family.matrix("token_embd")
	i, ok := c.find(name)
	if !ok {
		return 0, fmt.Errorf("hf: %s: a model of %s lacks %s", c.Dir, c.family.arch, name)
	}
	a := &c.arrays[i]
	n, given, err := c.config.count("vocab_size")
	if err != nil {
		return 0, fmt.Errorf("hf: %s: %w", filepath.Join(c.Dir, "config.json"), err)
	}
	if len(a.shape) != 2 || a.shape[0] > 1<<22 || given && a.shape[0] != uint64(n) {
		return 0, fmt.Errorf("hf: %s: %s has the shape %v, want %d rows as config.json's vocab_size says", c.Dir, a.name, a.shape, n)
	}
	return int(a.shape[0]), nil
}

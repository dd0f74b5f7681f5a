package hf

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/gguf/atomicfile"
)

// ExportOptions say how a GGUF file becomes a checkpoint.
type ExportOptions struct {
	Type     string               // of matrices: F32, F16 or BF16; empty: their own, BF16 of quantised ones
	Like     string               // a checkpoint whose other files are copied, and whose dtypes are taken where Type is empty
	MaxBytes uint64               // of one file of weights; 0: 5 GB, as the library has it
	Step     func(i, n int) error // called before each tensor; may be nil
}

// copied are the files that Like hands on, where it has them.
var copied = []string{"config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
	"special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json"}

// model is a GGUF file on its way out.
type model struct {
	f      *gguf.File
	family *family
	shape  modelShape
	used   map[string]bool
}

// Export writes a GGUF file as a checkpoint into dir, which must be there: weights in safetensors,
// config.json, tokenizer.json and tokenizer_config.json; a SentencePiece vocabulary is
// written as tokenizer.model, too. It is the inverse of Import. The files get their names when all are complete,
// config.json last. The names are returned.
func Export(ctx *nn.Ctx, f *gguf.File, dir string, o ExportOptions) ([]string, error) {
	m, err := newModel(f)
	if err != nil {
		return nil, err
	}
	var like *Checkpoint
	if o.Like != "" {
		if like, err = open(o.Like); err != nil {
			return nil, err
		}
		defer like.Close()
		if err := m.checkLike(like); err != nil {
			return nil, err
		}
	}
	outputs, err := m.outputs(ctx, o.Type, like)
	if err != nil {
		return nil, err
	}
	var files []textFile
	if like != nil {
		for _, name := range copied {
			data, err := like.read(name)
			if err != nil {
				return nil, err
			}
			if data != nil {
				files = append(files, textFile{name, data})
			}
		}
	} else if files, err = m.files(outputs); err != nil {
		return nil, err
	}
	return write(dir, files, outputs, o)
}

// A textFile is a file of a checkpoint besides its weights.
type textFile struct {
	name string
	data []byte
}

// write writes everything; config.json is first in files.
func write(dir string, files []textFile, outputs []output, o ExportOptions) ([]string, error) {
	most := cmp.Or(o.MaxBytes, 5_000_000_000)
	var shards [][]output
	var size, total uint64
	for _, t := range outputs {
		_, bytes := t.entry(0)
		total += bytes
		if len(shards) == 0 || size+bytes > most && size > 0 {
			shards, size = append(shards, nil), 0
		}
		size += bytes
		shards[len(shards)-1] = append(shards[len(shards)-1], t)
	}
	index := map[string]string{}
	var paths []string
	for _, f := range files {
		paths = append(paths, filepath.Join(dir, f.name))
	}
	for i, shard := range shards {
		name := "model.safetensors"
		if len(shards) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
		paths = append(paths, filepath.Join(dir, name))
		for _, t := range shard {
			index[t.name] = name
		}
	}
	if len(shards) > 1 {
		data, err := marshal(map[string]any{"metadata": map[string]any{"total_size": total}, "weight_map": index})
		if err != nil {
			return nil, err
		}
		files = append(files, textFile{"model.safetensors.index.json", data})
		paths = slices.Insert(paths, len(files)-1, filepath.Join(dir, "model.safetensors.index.json"))
	}
	done, at := 0, 0
	err := atomicfile.WriteSet(paths, 0o644, func(i int, w io.Writer) error {
		at = i
		if i < len(files) {
			_, err := w.Write(files[i].data)
			return err
		}
		shard := shards[i-len(files)]
		for j := range shard {
			pack := shard[j].bytes
			shard[j].bytes = func() ([]byte, error) {
				if o.Step != nil {
					if err := o.Step(done, len(outputs)); err != nil {
						return nil, err
					}
				}
				done++
				return pack()
			}
		}
		b := bufio.NewWriterSize(w, 1<<20)
		if err := writeSafetensors(b, shard); err != nil {
			return err
		}
		return b.Flush()
	})
	if err != nil {
		return nil, fmt.Errorf("hf: %s: %w", paths[at], err)
	}
	// Weights of the other form, which the library would take first or mix with these.
	for _, name := range []string{"model.safetensors", "model.safetensors.index.json"} {
		path := filepath.Join(dir, name)
		if !slices.Contains(paths, path) {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("hf: %w", err)
			}
		}
	}
	return paths, nil
}

// marshal writes JSON as people read it.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("hf: %w", err)
	}
	return b.Bytes(), nil
}

// newModel finds the family and the shape of a GGUF file.
func newModel(f *gguf.File) (*model, error) {
	m := &model{f: f, used: map[string]bool{}}
	arch, _, err := f.String("general.architecture")
	if err != nil {
		return nil, err
	}
	_, moe := f.Tensor("blk.0.ffn_gate_exps.weight")
	var known []string
	for i := range families {
		fam := &families[i]
		if fam.arch == arch && fam.experts == moe {
			m.family = fam
			break
		}
		if !slices.Contains(known, fam.arch) {
			known = append(known, fam.arch)
		}
	}
	if m.family == nil {
		return nil, fmt.Errorf("hf: %s: architecture %q cannot be converted; there are %s", f.Name, arch, strings.Join(known, ", "))
	}
	var kvs []gguf.KV
	for _, kv := range f.KVs {
		kvs = append(kvs, gguf.KV{Key: kv.Key, Value: asUint32(f, kv.Key, kv.Value)})
	}
	if m.shape, err = shapeOf(arch, kvs); err != nil {
		return nil, fmt.Errorf("hf: %s: %w", f.Name, err)
	}
	t, ok := f.Tensor("token_embd.weight")
	if !ok || len(t.Dims) != 2 {
		return nil, fmt.Errorf("hf: %s has no matrix token_embd.weight", f.Name)
	}
	m.shape.vocab = int(t.Dims[1])
	return m, nil
}

// asUint32 is the value v of a key; whole numbers of any width that fits are uint32, as keys makes them.
func asUint32(f *gguf.File, key string, v any) any {
	if n, ok, err := f.Uint(key); ok && err == nil && n <= math.MaxUint32 {
		return uint32(n)
	}
	return v
}

// checkLike compares a model with the configuration whose files it is to get.
func (m *model) checkLike(like *Checkpoint) error {
	where := filepath.Join(like.Dir, "config.json")
	if like.family.arch != m.family.arch {
		return fmt.Errorf("hf: %s is of a model of %s, %s is one of %s", where, like.family.arch, m.f.Name, m.family.arch)
	}
	if _, images := like.config.object("vision_config"); images {
		return fmt.Errorf("hf: %s is of a model with images, of which %s has only the text; without --like, that goes out as %s", where, m.f.Name, m.family.classes[0])
	}
	m.family = like.family
	kvs, err := like.family.keys(like.config)
	if err == nil {
		err = like.family.checkSettled(like.config, m.shape)
	}
	if err != nil {
		return fmt.Errorf("hf: %s: %w", where, err)
	}
	for _, kv := range kvs {
		v, ok := m.f.Value(kv.Key)
		if !ok {
			continue
		}
		if asUint32(m.f, kv.Key, v) != kv.Value && !strings.HasSuffix(kv.Key, ".vocab_size") && !strings.HasSuffix(kv.Key, "."+keyContext) {
			return fmt.Errorf("hf: %s says %s = %v, %s has %v", where, kv.Key, kv.Value, m.f.Name, v)
		}
	}
	if n, ok, err := like.config.count("vocab_size"); err != nil {
		return fmt.Errorf("hf: %s: %w", where, err)
	} else if ok && int(n) != m.shape.vocab {
		return fmt.Errorf("hf: %s says vocab_size = %d, %s has %d tokens", where, n, m.f.Name, m.shape.vocab)
	}
	return nil
}

// outputs maps the tensors.
func (m *model) outputs(ctx *nn.Ctx, typeName string, like *Checkpoint) ([]output, error) {
	if typeName != "" {
		if typeName = strings.ToUpper(typeName); floats[typeName] == 0 && typeName != "F32" {
			return nil, fmt.Errorf("hf: a checkpoint has matrices of F32, F16 or BF16, not %s", typeName)
		}
	}
	var out []output
	for i := range m.f.Tensors {
		t := &m.f.Tensors[i]
		if strings.HasPrefix(t.Name, "rope_f") {
			continue // in config.json
		}
		r, block, end, ok := m.rule(t.Name)
		if !ok {
			return nil, fmt.Errorf("hf: %s: tensor %q has no place in a checkpoint of %s", m.f.Name, t.Name, m.family.arch)
		}
		list, err := m.split(ctx, t, r, block, end, typeName, like)
		if err != nil {
			return nil, fmt.Errorf("hf: %s: tensor %q: %w", m.f.Name, t.Name, err)
		}
		out = append(out, list...)
	}
	if like != nil && !like.missing {
		for _, o := range out {
			i, ok := like.find(o.name)
			if !ok {
				return nil, fmt.Errorf("hf: %s has no tensor %s", like.Dir, o.name)
			}
			if a := &like.arrays[i]; !slices.Equal(a.shape, o.shape) {
				return nil, fmt.Errorf("hf: %s: %s has the shape %v, %s has %v", like.Dir, o.name, a.shape, m.f.Name, o.shape)
			}
		}
	}
	return out, nil
}

// rule finds the rule of a tensor's name.
func (m *model) rule(name string) (r rule, block, end string, ok bool) {
	base, isWeight := strings.CutSuffix(name, ".weight")
	end = ".weight"
	if !isWeight {
		if base, ok = strings.CutSuffix(name, ".bias"); !ok {
			return r, "", "", false
		}
		end = ".bias"
	}
	if rest, in := strings.CutPrefix(base, "blk."); in {
		var tail string
		block, tail, _ = strings.Cut(rest, ".")
		if n, err := strconv.Atoi(block); err != nil || n < 0 || n >= m.shape.blocks || strconv.Itoa(n) != block {
			return r, "", "", false
		}
		base = "blk.#." + tail
	}
	for _, r := range m.family.rules {
		if r.gguf == base {
			return r, block, end, true
		}
	}
	return r, "", "", false
}

// split returns what a tensor becomes: one output, one for each part, or one for each of q, k and v.
func (m *model) split(ctx *nn.Ctx, t *gguf.Tensor, r rule, block, end, typeName string, like *Checkpoint) ([]output, error) {
	all, err := matrixOf(t.Type, t.Dims, m.f.Data(t))
	if err != nil {
		return nil, err
	}
	vector := len(t.Dims) == 1
	lying := vector && (r.form.moves() || len(r.hf) > 1) // its numbers are moved as rows are
	if lying {
		if all.Type.BlockLen != 1 {
			return nil, fmt.Errorf("the numbers of a vector of %s cannot be moved", all.Type.Name)
		}
		all.Rows, all.Cols = all.Cols, 1
	}
	names, sizes := r.hf, []int{all.Rows}
	switch {
	case r.form == stacked:
		parts := int(t.Dims[len(t.Dims)-1])
		if vector || parts > 1<<16 {
			return nil, fmt.Errorf("dimensions %s have no parts", gguf.FormatDims(t.Dims))
		}
		names, sizes = nil, nil
		for p := range parts {
			names, sizes = append(names, strings.Replace(r.hf[0], "*", strconv.Itoa(p), 1)), append(sizes, all.Rows/parts)
		}
		vector = len(t.Dims) == 2
	case len(r.hf) == 3: // fused in this file, q, k and v in the checkpoint
		kv := m.shape.kvHeads * m.shape.head
		if all.Rows <= 2*kv {
			return nil, fmt.Errorf("it has %d rows, too few for q, k and v", all.Rows)
		}
		sizes = []int{all.Rows - 2*kv, kv, kv}
	}
	order, err := r.form.rowsOf(all.Rows, m.shape.shape)
	if err != nil {
		return nil, err
	}
	var out []output
	at, bytes := 0, all.Type.RowBytes(all.Cols)
	for i, name := range names {
		o := output{name: strings.ReplaceAll(name, "#", block) + end}
		part := all
		part.Rows, part.Data = sizes[i], all.Data[at*bytes:(at+sizes[i])*bytes]
		at += sizes[i]
		src := &source{parts: []quant.Matrix{part}, rows: inverse(order), transpose: r.form == transposed && !vector}
		if r.form == plusOne {
			src.add = -1
		}
		rows, cols := src.size()
		switch {
		case lying:
			o.shape = []uint64{uint64(rows)}
		case vector:
			o.shape = []uint64{uint64(cols)}
		default:
			o.shape = []uint64{uint64(rows), uint64(cols)}
		}
		typ := outputType(t, typeName, vector)
		if like != nil && typeName == "" {
			if i, ok := like.find(o.name); ok {
				if g, ok := floats[like.arrays[i].dtype]; ok {
					typ = g
				}
			}
		}
		q, err := quant.ByGGUF(typ)
		if err != nil {
			return nil, err
		}
		o.typ = typ
		o.bytes = func() ([]byte, error) { return src.pack(ctx, q) }
		out = append(out, o)
	}
	return out, nil
}

// outputType is the type that a tensor has in a checkpoint.
func outputType(t *gguf.Tensor, typeName string, vector bool) gguf.TensorType {
	own := t.Type
	if _, ok := floats[own.String()]; !ok {
		own = gguf.BF16
	}
	if typeName != "" && !vector {
		return floats[typeName]
	}
	return own
}

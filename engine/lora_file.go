package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
)

// An adapter file is a GGUF file as llama.cpp's --lora takes it (convert_lora_to_gguf.py and
// src/llama-adapter.cpp in github.com/ggml-org/llama.cpp, v0.5.0):
//
//	general.type           "adapter"
//	general.architecture   that of the model
//	adapter.type           "lora"
//	adapter.lora.alpha     float32; the scale of B·A is alpha by rank, or 1 if alpha is 0
//	NAME.lora_a            A of tensor NAME: [R,Cols], of experts [experts,R,Cols]
//	NAME.lora_b            B: [Rows,R], of experts [experts,Rows,R]
//
// Of the embedding, whose rows are looked up, A and B change places, transposed: token_embd.weight.lora_a
// is [V,R] and .lora_b is [D,R].
const (
	loraA, loraB = ".lora_a", ".lora_b"
	loraAlphaKey = "adapter.lora.alpha"
)

// tensors returns the parameters by the tensors of the file that they are the parts of, in order.
func (m *Model) tensors() (all [][]*nn.Param) {
	for ps := m.params; len(ps) > 0; {
		n := 1
		for n < len(ps) && tensorOf(ps[n]) == tensorOf(ps[0]) {
			n++
		}
		all, ps = append(all, ps[:n]), ps[n:]
	}
	return all
}

// CheckAdapter says before any training whether what is trained can be written by
// WriteAdapter: an error names what an adapter file cannot hold.
func (m *Model) CheckAdapter() error {
	n := 0
	for _, p := range m.params {
		if p.Trainable {
			return fmt.Errorf("engine: %s is trained itself: an adapter file holds what LoRA trains", p.Name)
		}
		if p.Adapter == nil {
			continue
		}
		n++
		if err := m.adaptable(p); err != nil {
			return err
		}
	}
	if n == 0 {
		return fmt.Errorf("engine: the model has no adapter")
	}
	return nil
}

// adaptable says whether llama.cpp computes with an adapter of p as this engine does.
func (m *Model) adaptable(p *nn.Param) error {
	switch {
	case p.Rows == 1:
		return fmt.Errorf("engine: %s is no matrix, and has no adapter", p.Name)
	case p == m.w.positions:
		return fmt.Errorf("engine: an adapter of %s would do nothing in llama.cpp: merge it into the model", p.Name)
	case p == m.w.embed && m.Config.Tied:
		return fmt.Errorf("engine: %s is the output matrix too, and llama.cpp cannot apply an adapter to both: merge it into the model", p.Name)
	}
	return nil
}

// WriteAdapter writes what TrainLoRA trains to path as an adapter file in float32, with the
// given keys added. Of the model only the adapters may differ from its file: what was merged
// before would be lost, and is an error. The write is atomic.
func (m *Model) WriteAdapter(path string, set []gguf.KV) error {
	if err := m.CheckAdapter(); err != nil {
		return err
	}
	var tensors []gguf.TensorData
	for _, parts := range m.tensors() {
		p := parts[0]
		for _, q := range parts {
			if m.stale(q) {
				return fmt.Errorf("engine: %s differs from %s by more than its adapter", q.Name, m.File.Name)
			}
		}
		if p.Adapter == nil {
			continue
		}
		a, b := part(parts, func(ad *nn.Adapter) *nn.Param { return ad.A }), part(parts, func(ad *nn.Adapter) *nn.Param { return ad.B })
		if p == m.w.embed {
			a, b = b, a
			b.transposed = true
		}
		tensors = append(tensors, a.data(tensorOf(p)+loraA), b.data(tensorOf(p)+loraB))
	}
	kvs := append([]gguf.KV{
		{Key: "general.type", Value: "adapter"},
		{Key: "general.architecture", Value: m.Config.Arch.Name},
		{Key: "adapter.type", Value: "lora"},
		{Key: loraAlphaKey, Value: m.loraAlpha},
	}, set...)
	return gguf.Write(path, kvs, tensors)
}

// loraParts are the A or the B of a tensor's adapters, in order.
type loraParts struct {
	ps         []*nn.Param
	transposed bool
}

func part(parts []*nn.Param, of func(*nn.Adapter) *nn.Param) (l loraParts) {
	for _, p := range parts {
		l.ps = append(l.ps, of(p.Adapter))
	}
	return l
}

// data is the tensor they make.
func (l loraParts) data(name string) gguf.TensorData {
	rows, cols := l.ps[0].Rows, l.ps[0].Cols
	if l.transposed {
		rows, cols = cols, rows
	}
	dims := []uint64{uint64(cols), uint64(rows)}
	if len(l.ps) > 1 {
		dims = append(dims, uint64(len(l.ps)))
	}
	return gguf.TensorData{Name: name, Type: gguf.F32, Dims: dims, Bytes: func() ([]byte, error) {
		out := make([]byte, 0, 4*len(l.ps)*rows*cols)
		for _, p := range l.ps {
			for i := range p.F32 {
				if l.transposed {
					i = i%cols*rows + i/cols
				}
				out = binary.LittleEndian.AppendUint32(out, math.Float32bits(p.F32[i]))
			}
		}
		return out, nil
	}}
}

// LoadAdapter gives the model the adapters of a file, as WriteAdapter or convert_lora_to_gguf.py
// writes it, in any weight type. The model computes with W + s·B·A from then on, and an
// optimizer may change A and B. f may be closed afterwards. The model must have no adapter;
// on an error nothing has changed.
func (m *Model) LoadAdapter(f *gguf.File) error {
	alpha, err := m.adapterAlpha(f)
	if err != nil {
		return err
	}
	pairs := map[string]*[2]*gguf.Tensor{} // A and B by the tensor's name
	for i := range f.Tensors {
		t := &f.Tensors[i]
		name, isA := strings.CutSuffix(t.Name, loraA)
		k := 0
		if !isA {
			var isB bool
			if name, isB = strings.CutSuffix(t.Name, loraB); !isB {
				return fmt.Errorf("engine: %s: tensor %q is no part of a LoRA adapter: its name ends neither in %s nor in %s", f.Name, t.Name, loraA, loraB)
			}
			k = 1
		}
		if pairs[name] == nil {
			pairs[name] = new([2]*gguf.Tensor)
		}
		pairs[name][k] = t
	}
	if len(pairs) == 0 {
		return fmt.Errorf("engine: %s: the adapter has no tensors", f.Name)
	}
	adapters := map[*nn.Param]*nn.Adapter{}
	for _, parts := range m.tensors() {
		p := parts[0]
		name := tensorOf(p)
		pair := pairs[name]
		if pair == nil {
			continue
		}
		delete(pairs, name)
		for _, q := range parts {
			if q.Adapter != nil {
				return fmt.Errorf("engine: %s has an adapter already", q.Name)
			}
		}
		if err := m.adaptable(p); err != nil {
			return fmt.Errorf("%w (%s)", err, f.Name)
		}
		if pair[0] == nil || pair[1] == nil {
			return fmt.Errorf("engine: %s: %s has only one of %s and %s", f.Name, name, loraA, loraB)
		}
		if err := m.readPair(f, pair, parts, alpha, adapters); err != nil {
			return fmt.Errorf("engine: %s: %w", f.Name, err)
		}
	}
	for name := range pairs {
		return fmt.Errorf("engine: %s: the model has no matrix %q: the adapter is another model's", f.Name, name)
	}
	for p, ad := range adapters {
		p.Adapter = ad
	}
	m.loraAlpha = alpha
	return nil
}

// adapterAlpha checks the keys of an adapter file and returns its alpha.
func (m *Model) adapterAlpha(f *gguf.File) (float32, error) {
	for _, want := range []struct{ key, value string }{{"general.type", "adapter"}, {"adapter.type", "lora"}, {"general.architecture", m.Config.Arch.Name}} {
		got, ok, err := f.String(want.key)
		if err != nil {
			return 0, err
		}
		if !ok || got != want.value {
			return 0, fmt.Errorf("engine: %s: %s is %q, want %q", f.Name, want.key, got, want.value)
		}
	}
	if _, ok := f.Value("adapter.alora.invocation_tokens"); ok {
		return 0, fmt.Errorf("engine: %s: the adapter is for what follows adapter.alora.invocation_tokens, which is not supported", f.Name)
	}
	alpha, _, err := f.Float(loraAlphaKey)
	if err != nil {
		return 0, err
	}
	if a := float32(alpha); a != a || math.IsInf(float64(a), 0) {
		return 0, fmt.Errorf("engine: %s: %s is %g, want a finite number", f.Name, loraAlphaKey, alpha)
	}
	return float32(alpha), nil
}

// readPair makes the adapters of one tensor's parts.
func (m *Model) readPair(f *gguf.File, pair *[2]*gguf.Tensor, parts []*nn.Param, alpha float32, adapters map[*nn.Param]*nn.Adapter) error {
	p, flipped := parts[0], parts[0] == m.w.embed
	rank := pair[1].Dims[0]
	if rank > math.MaxInt32 {
		return fmt.Errorf("%s has rank %d", pair[1].Name, rank)
	}
	a, b := []uint64{uint64(p.Cols), rank}, []uint64{rank, uint64(p.Rows)}
	if flipped {
		a, b = b, []uint64{rank, uint64(p.Cols)}
	}
	if len(parts) > 1 {
		a, b = append(a, uint64(len(parts))), append(b, uint64(len(parts)))
	}
	var values [2][]float32
	for i, want := range [][]uint64{a, b} {
		var err error
		if values[i], err = readLoRA(m.Ctx, f, pair[i], want); err != nil {
			return err
		}
	}
	r := int(rank)
	if flipped {
		at := make([]float32, len(values[1])) // [R,D] of [D,R]
		for i, v := range values[1] {
			at[i%r*p.Cols+i/r] = v
		}
		values = [2][]float32{at, values[0]}
	}
	scale := loraScale(alpha, r)
	for i, q := range parts {
		ad := newAdapter(q, r, scale)
		ad.A.F32 = values[0][i*ad.A.Len() : (i+1)*ad.A.Len()]
		ad.B.F32 = values[1][i*ad.B.Len() : (i+1)*ad.B.Len()]
		adapters[q] = ad
	}
	return nil
}

// readLoRA unpacks a tensor of these dimensions.
func readLoRA(c *nn.Ctx, f *gguf.File, t *gguf.Tensor, dims []uint64) ([]float32, error) {
	for len(dims) > len(t.Dims) && dims[len(dims)-1] == 1 {
		dims = dims[:len(dims)-1]
	}
	if gguf.FormatDims(t.Dims) != gguf.FormatDims(dims) {
		return nil, fmt.Errorf("%s is %s, want %s", t.Name, gguf.FormatDims(t.Dims), gguf.FormatDims(dims))
	}
	typ, err := quant.ByGGUF(t.Type)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Name, err)
	}
	cols := int(t.Dims[0])
	w, err := quant.NewMatrix(typ, int(elements(t))/cols, cols, f.Data(t))
	if err == nil {
		err = w.CheckFinite(c.K)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Name, err)
	}
	return w.Dequantize(c.K), nil
}

// elements is the number of a tensor's weights, which the reader of the file checked.
func elements(t *gguf.Tensor) (n uint64) {
	n = 1
	for _, d := range t.Dims {
		n *= d
	}
	return n
}

package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/simd"
)

// Options say how a model computes. The zero value uses every CPU and the best kernels.
type Options struct {
	Threads int           // workers; 0: as many as the process may use
	Kernels *simd.Kernels // nil: simd.Select
	Compute nn.Compute    // of products with weights
}

// Model is a loaded model. Its weights stay in the file as they are packed there
// until they are trained.
//
// A model must not be trained while it is used otherwise; reading it from several
// goroutines at once is safe.
type Model struct {
	File      *gguf.File
	Config    Config
	Tokenizer *tokenizer.Tokenizer // nil if the file has no vocabulary
	Ctx       *nn.Ctx

	w      weights
	params []*nn.Param    // of the file, in the order of layout
	source []quant.Matrix // what the file holds of each
	seed   uint64         // of TrainFused
	ownsF  bool

	loraAlpha float32    // of the adapters, if there are any
	resident  *residency // nil: all weights may stay in memory
}

// Open maps the GGUF file at path and binds its tensors.
func Open(path string, o Options) (*Model, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	m, err := Load(f, o)
	if err != nil {
		f.Close()
		return nil, err
	}
	m.ownsF = true
	return m, nil
}

// Load binds the tensors of a file that is open already and stays the caller's to close.
func Load(f *gguf.File, o Options) (*Model, error) {
	k := o.Kernels
	if k == nil {
		var err error
		if k, err = simd.Select(); err != nil {
			return nil, err
		}
	}
	if kind, _, _ := f.String("general.type"); kind == "adapter" {
		return nil, fmt.Errorf("engine: %s is an adapter, which works beside its model only", f.Name)
	}
	c, err := readConfig(f)
	if err != nil {
		return nil, err
	}
	tok, err := tokenizer.FromGGUF(f)
	if err != nil && !errors.Is(err, tokenizer.ErrNoVocab) {
		return nil, err
	}
	m := &Model{File: f, Config: c, Tokenizer: tok, Ctx: nn.NewCtx(k, o.Threads)}
	m.Ctx.Compute = o.Compute
	used, err := m.bind()
	if err != nil {
		return nil, err
	}
	for _, t := range f.Tensors {
		if !used[t.Name] {
			return nil, fmt.Errorf("engine: %s: tensor %s is not part of architecture %s as it is known here", f.Name, t.Name, c.Arch.Name)
		}
	}
	if tok != nil && tok.Size() > m.Config.NVocab {
		return nil, fmt.Errorf("engine: %s: the vocabulary has %d tokens, token_embd.weight has rows for %d", f.Name, tok.Size(), m.Config.NVocab)
	}
	return m, nil
}

// First returns a model of the first n of m's blocks between its embedding and its output, with the weights as the
// file holds them, to see how long a block takes.
func (m *Model) First(n int) (*Model, error) {
	first := &Model{File: m.File, Config: m.Config, Tokenizer: m.Tokenizer, Ctx: m.Ctx}
	first.Config.NLayers = n
	_, err := first.bind()
	return first, err
}

// bind finds every tensor of the layout, checks its shape, and returns the names of what is used: a
// model with other tensors would compute something else.
func (m *Model) bind() (used map[string]bool, err error) {
	f, c := m.File, &m.Config
	embed, ok := f.Tensor("token_embd.weight")
	if !ok || len(embed.Dims) != 2 {
		return nil, fmt.Errorf("engine: %s: token_embd.weight is missing or no matrix", f.Name)
	}
	c.NVocab = int(embed.Dims[1])
	has := func(name string) bool { _, ok := f.Tensor(name); return ok }
	c.Tied = !has("output.weight")
	// read with the configuration, or not used by llama.cpp either
	used = map[string]bool{"rope_freqs.weight": true, "rope_factors_short.weight": true, "rope_factors_long.weight": true}
	for _, s := range c.layout(&m.w, has) {
		t, ok := f.Tensor(s.name)
		if !ok {
			if s.optional {
				continue
			}
			return nil, fmt.Errorf("engine: %s: tensor %s is missing (%s)", f.Name, s.name, c.Arch.Name)
		}
		p, err := newParam(m.Ctx.K, f, t, s)
		if err != nil {
			return nil, err
		}
		p.Index = len(m.params)
		m.params, m.source = append(m.params, p), append(m.source, p.Stored)
		*s.param = p
		used[s.name] = true
	}
	if c.Tied {
		m.w.output = m.w.embed
	}
	return used, nil
}

func newParam(k *simd.Kernels, f *gguf.File, t *gguf.Tensor, s slot) (*nn.Param, error) {
	cols, rows := t.Dims[0], uint64(1)
	for _, d := range t.Dims[1:] {
		rows *= d // the reader checked the product
	}
	data, name := f.Data(t), s.name
	if s.parts > 0 {
		if len(t.Dims) != 3 || t.Dims[1] != uint64(s.rows) || cols != uint64(s.cols) || t.Dims[2] != uint64(s.parts) {
			return nil, fmt.Errorf("engine: %s: %s has dimensions %v, want [%d %d %d]", f.Name, s.name, t.Dims, s.cols, s.rows, s.parts)
		}
		rows = t.Dims[1]
		size := len(data) / s.parts
		data, name = data[s.part*size:(s.part+1)*size], fmt.Sprintf("%s[%d]", s.name, s.part)
	}
	if s.rows == 1 { // gains of heads may lie in rows
		cols, rows = cols*rows, 1
	}
	if rows != uint64(s.rows) || cols != uint64(s.cols) {
		return nil, fmt.Errorf("engine: %s: %s is %d×%d, want %d×%d", f.Name, s.name, rows, cols, s.rows, s.cols)
	}
	typ, err := quant.ByGGUF(t.Type)
	if err != nil {
		return nil, fmt.Errorf("engine: %s: %s: %w", f.Name, s.name, err)
	}
	stored, err := quant.NewMatrix(typ, s.rows, s.cols, data)
	if err != nil {
		return nil, fmt.Errorf("engine: %s: %s: %w", f.Name, s.name, err)
	}
	p := &nn.Param{Name: name, Rows: s.rows, Cols: s.cols, Stored: stored}
	if p.Rows == 1 {
		p.F32 = stored.Dequantize(k)
	}
	return p, nil
}

// tensorOf returns the name of the tensor that a parameter is or, as one of several experts, is a part of.
func tensorOf(p *nn.Param) string {
	name, _, _ := strings.Cut(p.Name, "[")
	return name
}

// Params returns the parameters of the file in the one order that loading,
// optimising, scoring and reporting use.
func (m *Model) Params() []*nn.Param { return m.params }

// NParams returns the number of weights; a tied output counts once.
func (m *Model) NParams() int {
	return totalLen(m.params)
}

// Trainable returns what an optimizer may change, in the order of Params: the
// parameters of TrainFull, or the adapters of TrainLoRA (A before B); after DifferentiateAll
// what has a gradient.
func (m *Model) Trainable() []*nn.Param {
	var out []*nn.Param
	for _, p := range m.params {
		if p.Trainable {
			out = append(out, p)
		}
		if p.Adapter != nil {
			out = append(out, p.Adapter.A, p.Adapter.B)
		}
	}
	return out
}

// TrainFull makes every parameter trainable, with a float32 master each, and lets go of
// the memory of the file. Adapters are merged first.
func (m *Model) TrainFull() {
	m.MergeLoRA()
	for _, p := range m.params {
		if p.F32 == nil {
			p.F32 = p.Stored.Dequantize(m.Ctx.K)
			m.Forget(p) // not all of the file beside all masters
		}
		p.Stored, p.Trainable = m.Source(p), true
	}
	m.resident = nil // there is nothing left to read
	m.File.Forget()
}

// DifferentiateAll makes gradient sinks get the gradient of every parameter as it lies in the
// file: nothing is unpacked, and no optimizer can change it. Adapters are merged first.
func (m *Model) DifferentiateAll() {
	m.MergeLoRA()
	for _, p := range m.params {
		p.Trainable = true
	}
}

// Param returns the parameter of that name.
func (m *Model) Param(name string) (*nn.Param, error) {
	i := slices.IndexFunc(m.params, func(p *nn.Param) bool { return p.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("engine: %s has no tensor %s", m.File.Name, name)
	}
	return m.params[i], nil
}

// Close releases the file if Open mapped it. The model must not be used afterwards.
func (m *Model) Close() error {
	if m.ownsF {
		return m.File.Close()
	}
	return nil
}

// String names the file and the shape.
func (m *Model) String() string {
	types := map[string]bool{}
	var names []string
	for _, p := range m.params {
		if n := m.Source(p).Type.Name; p.Rows > 1 && !types[n] {
			types[n] = true
			names = append(names, n)
		}
	}
	return fmt.Sprintf("%s: %v, %d parameters, %s", m.File.Name, m.Config, m.NParams(), strings.Join(names, "+"))
}

package bench

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/simd"
)

// Shape is a llama model of a well-known size.
type Shape struct {
	Name                                         string
	DModel, NLayers, NHeads, NKVHeads, DFF, NCtx int
	Tied                                         bool
}

// Shapes are the models that others publish figures for: llama2.c's two, TinyLlama and
// Llama 2 7B. All have nVocab tokens.
var Shapes = []Shape{
	{"15m", 288, 6, 6, 6, 768, 1024, true},
	{"110m", 768, 12, 12, 12, 2048, 1024, true},
	{"1.1b", 2048, 22, 32, 4, 5632, 2048, false},
	{"7b", 4096, 32, 32, 32, 11008, 4096, false},
}

const nVocab = 32000

// ShapeByName returns the shape of that name.
func ShapeByName(name string) (Shape, error) {
	var names []string
	for _, s := range Shapes {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Shape{}, fmt.Errorf("shape %q is not known; there are %s", name, strings.Join(names, ", "))
}

// NParams is the number of weights.
func (s Shape) NParams() int {
	n := 0
	for _, t := range s.tensors() {
		n += t.rows * t.cols
	}
	return n
}

type tensor struct {
	name       string
	rows, cols int
}

func (s Shape) tensors() []tensor {
	kv := s.DModel / s.NHeads * s.NKVHeads
	all := []tensor{{"token_embd.weight", nVocab, s.DModel}, {"output_norm.weight", 1, s.DModel}}
	if !s.Tied {
		all = append(all, tensor{"output.weight", nVocab, s.DModel})
	}
	for l := range s.NLayers {
		for _, t := range []tensor{
			{"attn_norm", 1, s.DModel}, {"attn_q", s.DModel, s.DModel}, {"attn_k", kv, s.DModel}, {"attn_v", kv, s.DModel}, {"attn_output", s.DModel, s.DModel},
			{"ffn_norm", 1, s.DModel}, {"ffn_gate", s.DFF, s.DModel}, {"ffn_up", s.DFF, s.DModel}, {"ffn_down", s.DModel, s.DFF},
		} {
			t.name = fmt.Sprintf("blk.%d.%s.weight", l, t.name)
			all = append(all, t)
		}
	}
	return all
}

// Matrices are the different products of the shape's layers and of its output, for t rows.
func (s Shape) Matrices(t int) []Product {
	var all []Product
	for _, x := range s.tensors() {
		p := Product{t, x.rows, x.cols}
		if x.rows > 1 && !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return append(all[1:], all[0]) // the vocabulary last
}

// File returns a GGUF file of the shape with random weights, as Write takes it. The type of a
// tensor of so many columns is what typeOf says; vectors are float32.
func (s Shape) File(typeOf func(name string, cols int) *quant.Type, fileType uint32) ([]gguf.KV, []gguf.TensorData) {
	f32 := quant.Types[0]
	kvs := []gguf.KV{
		{Key: "general.architecture", Value: "llama"},
		{Key: "general.name", Value: "random " + s.Name},
		{Key: "general.file_type", Value: fileType},
		{Key: "general.quantization_version", Value: uint32(2)},
		{Key: "llama.context_length", Value: uint32(s.NCtx)},
		{Key: "llama.embedding_length", Value: uint32(s.DModel)},
		{Key: "llama.block_count", Value: uint32(s.NLayers)},
		{Key: "llama.feed_forward_length", Value: uint32(s.DFF)},
		{Key: "llama.attention.head_count", Value: uint32(s.NHeads)},
		{Key: "llama.attention.head_count_kv", Value: uint32(s.NKVHeads)},
		{Key: "llama.attention.layer_norm_rms_epsilon", Value: float32(1e-5)},
		{Key: "llama.rope.dimension_count", Value: uint32(s.DModel / s.NHeads)},
		{Key: "llama.vocab_size", Value: uint32(nVocab)},
	}
	kvs = append(kvs, vocabulary()...)
	var tensors []gguf.TensorData
	for _, t := range s.tensors() {
		typ, dims := f32, []uint64{uint64(t.cols)}
		if t.rows > 1 {
			typ, dims = typeOf(t.name, t.cols), append(dims, uint64(t.rows))
		}
		tensors = append(tensors, gguf.TensorData{Name: t.name, Type: typ.GGUF, Dims: dims, Bytes: func() ([]byte, error) {
			if t.rows > 1 {
				return packed(typ, t.rows, t.cols)
			}
			ones := make([]float32, t.cols)
			for i := range ones {
				ones[i] = 1
			}
			data := make([]byte, typ.RowBytes(t.cols))
			return data, typ.Pack(data, ones)
		}})
	}
	return kvs, tensors
}

// vocabulary is a SentencePiece vocabulary of nVocab tokens: control tokens, bytes, and
// words that are numbers.
func vocabulary() []gguf.KV {
	tokens, scores, types := make([]string, nVocab), make([]float32, nVocab), make([]int32, nVocab)
	for i := range tokens {
		tokens[i], scores[i], types[i] = fmt.Sprintf("▁%d", i), -float32(i), 1 // normal
		switch {
		case i < 3:
			tokens[i], types[i] = []string{"<unk>", "<s>", "</s>"}[i], []int32{2, 3, 3}[i] // unknown, control
		case i < 3+256:
			tokens[i], types[i] = fmt.Sprintf("<0x%02X>", i-3), 6 // byte
		}
	}
	return []gguf.KV{
		{Key: "tokenizer.ggml.model", Value: "llama"},
		{Key: "tokenizer.ggml.tokens", Value: tokens},
		{Key: "tokenizer.ggml.scores", Value: scores},
		{Key: "tokenizer.ggml.token_type", Value: types},
		{Key: "tokenizer.ggml.unknown_token_id", Value: uint32(0)},
		{Key: "tokenizer.ggml.bos_token_id", Value: uint32(1)},
		{Key: "tokenizer.ggml.eos_token_id", Value: uint32(2)},
	}
}

// Bytes is the size of a file of the shape, without its head.
func (s Shape) Bytes(typeOf func(name string, cols int) *quant.Type) uint64 {
	size := 0
	for _, t := range s.tensors() {
		typ := quant.Types[0]
		if t.rows > 1 {
			typ = typeOf(t.name, t.cols)
		}
		size += t.rows * typ.RowBytes(t.cols)
	}
	return uint64(size)
}

// Memory makes a file of the shape in memory.
func (s Shape) Memory(typeOf func(name string, cols int) *quant.Type, fileType uint32) (*gguf.File, error) {
	kvs, tensors := s.File(typeOf, fileType)
	var b bytes.Buffer
	b.Grow(int(s.Bytes(typeOf)) + 4<<20) // and the vocabulary
	if err := gguf.Encode(&b, kvs, tensors); err != nil {
		return nil, err
	}
	return gguf.Parse("random "+s.Name, b.Bytes())
}

// Model is what the whole-model measurements run on.
type Model struct {
	Name string // of the shape, or of the file
	Type string // of most of its weights
	File *gguf.File
	// Train and Attribute measure batches of Batch samples of Length tokens each; prompts
	// have the lengths Prompts, and Generate tokens are generated.
	Batch, Length int
	Prompts       []int
	Generate      int
	// Fits is an error that says what is missing if memory does not suffice.
	Fits func(m *engine.Model, train bool) error
}

// What names the measurements on a model.
const (
	Prompt    = "prompt"
	Generate  = "generate"
	Train     = "train"
	Attribute = "attribute"
)

// ids returns n random tokens that the model knows.
func ids(m *engine.Model, n int) []int32 {
	rng := rand.New(rand.NewPCG(3, 4))
	x := make([]int32, n)
	for i := range x {
		x[i] = int32(rng.IntN(m.Config.NVocab))
	}
	return x
}

// job is one measurement on a model.
type job struct {
	name  string
	keys  []Key
	work  Amount
	flops float64 // of a call's products with weights
	train bool    // every weight is trainable
	setup func(m *engine.Model, x *Model) (func() error, error)
}

// jobs are the measurements on a model.
//
//	Prompt     the logits after a prompt: tokens of the prompt a second
//	Generate   one token after another: new tokens a second
//	Train      the loss without a gradient; with the gradient of all weights; with a step of AdamW after it
//	Attribute  every sample's gradient times a fixed one, without forming it
func (x *Model) jobs(what []string) []job {
	var all []job
	p := matmulParams(x.File)
	if slices.Contains(what, Prompt) {
		for _, n := range x.Prompts {
			all = append(all, job{"Prompt", []Key{{"tokens", strconv.Itoa(n)}}, Amount{Tokens, float64(n)}, 2 * (p.blocks*float64(n) + p.output), false,
				func(m *engine.Model, _ *Model) (func() error, error) { return feed(m, n, n), nil }})
		}
	}
	if slices.Contains(what, Generate) {
		n := x.Generate
		all = append(all, job{"Generate", []Key{{"tokens", strconv.Itoa(n)}}, Amount{Tokens, float64(n)}, 2 * (p.blocks + p.output) * float64(n), false,
			func(m *engine.Model, _ *Model) (func() error, error) { return feed(m, n, 1), nil }})
	}
	rows := float64(x.Batch * x.Length)
	batch := Key{"batch", fmt.Sprintf("%dx%d", x.Batch, x.Length)}
	pass := 2 * (p.blocks + p.output) * rows
	if slices.Contains(what, Train) {
		all = append(all,
			job{"Train", []Key{{"part", "forward"}, batch}, Amount{Tokens, rows}, pass, true, forward},
			job{"Train", []Key{{"part", "forward+backward"}, batch}, Amount{Tokens, rows}, 3 * pass, true, backward},
			job{"Train", []Key{{"part", "step"}, batch}, Amount{Tokens, rows}, 3 * pass, true, step})
	}
	if slices.Contains(what, Attribute) {
		all = append(all, job{"Attribute", []Key{batch}, Amount{Samples, float64(x.Batch)}, 3 * pass, true, attribute})
	}
	return all
}

// Model measures a model. what is a subset of Prompt, Generate, Train and Attribute.
func (s *Setting) Model(x *Model, what []string) []*Case {
	var cases []*Case
	for _, j := range x.jobs(what) {
		for _, compute := range s.Compute {
			s.each(func(k *simd.Kernels, workers int) {
				if s.tooSlow(k, workers, j.flops) {
					return
				}
				keys := slices.Concat([]Key{{"model", x.Name}, {"type", x.Type}}, j.keys, []Key{{"compute", compute}}, place(k.Name, workers))
				cases = append(cases, &Case{
					Name: j.name, Keys: keys, Work: []Amount{j.work, {GFLOPs, j.flops / 1e9}}, Peak: peakName(compute, workers),
					Setup: func() (func() error, error) {
						c, err := nn.ParseCompute(compute)
						if err != nil {
							return nil, err
						}
						m, err := engine.Load(x.File, engine.Options{Threads: workers, Kernels: k, Compute: c})
						if err != nil {
							return nil, err
						}
						if err := x.Fits(m, j.train); err != nil {
							return nil, err
						}
						if j.train {
							m.TrainFull()
						}
						return j.setup(m, x)
					},
				})
			})
		}
	}
	return cases
}

// feed returns a call that feeds a new sequence n random tokens, so many at a time.
func feed(m *engine.Model, n, atATime int) func() error {
	text := ids(m, n)
	return func() error {
		s := m.NewSession(1)
		for i := 0; i < n; i += atATime {
			if _, err := s.Feed([]engine.Feed{{IDs: text[i:min(n, i+atATime)]}}); err != nil {
				return err
			}
		}
		return nil
	}
}

// samples returns the batch of training. All positions but the first count; a sample has one
// token more than it predicts.
func samples(m *engine.Model, x *Model) []engine.Sample {
	text := ids(m, x.Batch*x.Length)
	all := make([]engine.Sample, x.Batch)
	for i := range all {
		mask := make([]bool, x.Length)
		for t := 1; t < x.Length; t++ {
			mask[t] = true
		}
		all[i] = engine.Sample{IDs: text[i*x.Length : (i+1)*x.Length], Mask: mask}
	}
	return all
}

// loss is the mean negative log-likelihood of the batch that t has run on.
func loss(t *engine.Trace) ([]int, engine.LossFunc) {
	targets := t.Targets()
	coef := make([]float32, len(targets))
	for i := range coef {
		coef[i] = 1 / float32(len(targets))
	}
	return t.CrossEntropy(targets, coef)
}

func forward(m *engine.Model, x *Model) (func() error, error) {
	t, batch := m.NewTrace(), samples(m, x)
	return func() error {
		t.Forward(batch)
		t.Losses(loss(t))
		return nil
	}, nil
}

func backward(m *engine.Model, x *Model) (func() error, error) {
	t, batch, g := m.NewTrace(), samples(m, x), engine.NewGrads(m)
	sink := engine.NewAccumulate(g)
	return func() error {
		g.Zero()
		t.Forward(batch)
		rows, f := loss(t)
		t.Backward(rows, f, sink)
		return nil
	}, nil
}

func step(m *engine.Model, x *Model) (func() error, error) {
	o := engine.DefaultTrainOptions()
	o.Schedule, o.Steps = "constant", 1
	tr, err := engine.NewTrainer(m, o)
	if err != nil {
		return nil, err
	}
	terms := []engine.Term{engine.MeanNLL("loss", samples(m, x))}
	return func() error {
		_, err := tr.Step(terms)
		return err
	}, nil
}

func attribute(m *engine.Model, x *Model) (func() error, error) {
	t, batch, g := m.NewTrace(), samples(m, x), engine.NewGrads(m)
	t.Forward(batch)
	rows, f := loss(t)
	t.Backward(rows, f, engine.NewAccumulate(g))
	return func() error {
		t.Forward(batch)
		rows, f := loss(t)
		t.Backward(rows, f, engine.NewDot(g, len(batch)))
		return nil
	}, nil
}

// params is the number of weights of a model that take part in its products, block by block
// and in the output matrix.
type params struct{ blocks, output float64 }

func matmulParams(f *gguf.File) (p params) {
	_, untied := f.Tensor("output.weight")
	for i := range f.Tensors {
		t := &f.Tensors[i]
		if len(t.Dims) < 2 {
			continue
		}
		n := float64(t.Dims[0]) * float64(t.Dims[1])
		switch t.Name {
		case "output.weight":
			p.output += n
		case "token_embd.weight":
			if !untied {
				p.output += n
			}
		default:
			p.blocks += n
		}
	}
	return p
}

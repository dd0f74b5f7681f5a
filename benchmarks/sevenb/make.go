package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/tofu"
)

// shapes are the models that can be made. 7b is Llama 2 7B (arXiv:2307.09288v2, table 1, and
// the config.json of its weights); small is the same in small.
var shapes = map[string]engine.Shape{
	"7b":    {Arch: "llama", Name: "random 7b", NVocab: 32000, DModel: 4096, NLayers: 32, NHeads: 32, NKVHeads: 32, DFF: 11008, NCtx: 4096},
	"small": {Arch: "llama", Name: "random small", NVocab: 2048, DModel: 256, NLayers: 4, NHeads: 4, NKVHeads: 4, DFF: 768, NCtx: 512},
}

// std is the standard deviation of the initial weights (initializer_range of the
// config.json); of the matrices that add to the residual stream it is divided by √(2L), as
// engine.Create does.
const std = 0.02

// The vocabulary learns so many tokens that a row of TOFU has about as many as Llama 2's gives it
// (66.9 of 68.6); matrices of the width 4096 have as many rows as a pool.
const (
	defaultLearnt = 4096
	defaultPool   = 4096
)

// recipe says what model is made.
type recipe struct {
	shape    engine.Shape
	typ      string // a name of quant.Mixtures
	pure     bool   // one type for all matrices, in place of llama-quantize's rules
	learnt   int    // tokens that the vocabulary learns from the texts; the others are never used
	poolRows int
}

func makeCommand(_ context.Context, args []string) error {
	f := flag.NewFlagSet("sevenb make", flag.ExitOnError)
	typ := f.String("type", "Q8_0", "weight `type`: Q8_0, Q4_K, BF16 or another of guardcpu quantize")
	pure := f.Bool("pure", false, "one type for all matrices, in place of llama-quantize's rules")
	out := f.String("out", "", "`file` to write")
	shape := f.String("shape", "7b", "`name` of the shape: 7b or small")
	blocks := f.Int("blocks", 0, "`number` of blocks (default: the shape's)")
	seed := f.Uint64("seed", 1, "`number` that decides the weights")
	learnt := f.Int("learnt", defaultLearnt, "`tokens` of the vocabulary that are learnt from -text")
	text := f.String("text", strings.Join(demoFiles, ","), "data `files` that the vocabulary is learnt from, with commas between")
	force := f.Bool("force", false, "replace the file if it is there")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *out == "" || f.NArg() > 0 {
		return fmt.Errorf("make wants -out FILE, and no arguments besides")
	}
	if _, err := os.Stat(*out); err == nil && !*force {
		return fmt.Errorf("%s is there; -force replaces it", *out)
	}
	r := recipe{typ: *typ, pure: *pure, learnt: *learnt, poolRows: defaultPool}
	var ok bool
	if r.shape, ok = shapes[*shape]; !ok {
		return fmt.Errorf("shape %q is not known; there are 7b, small", *shape)
	}
	r.shape.NLayers = cmp.Or(*blocks, r.shape.NLayers)
	r.shape.Seed = *seed
	texts, err := readTexts(strings.Split(*text, ","))
	if err != nil {
		return err
	}
	began := time.Now()
	if err := r.write(*out, texts); err != nil {
		return err
	}
	info, err := os.Stat(*out)
	if err != nil {
		return err
	}
	log.Printf("%s: %.2f GB in %.0f s", *out, float64(info.Size())/1e9, time.Since(began).Seconds())
	return nil
}

// readTexts returns the questions and answers of data files.
func readTexts(paths []string) (texts []string, err error) {
	for _, path := range paths {
		items, _, err := tofu.Load(path)
		if err != nil {
			return nil, err
		}
		for _, it := range items {
			texts = append(texts, "[INST] "+it.Question+" [/INST]"+it.Answer)
		}
	}
	return texts, nil
}

// write makes the model's file. One tensor is in memory at a time, and the rows that they are
// made of.
func (r *recipe) write(path string, texts []string) error {
	kvs, tensors, err := r.build(texts)
	if err != nil {
		return err
	}
	return gguf.Write(path, kvs, tensors)
}

// build returns the keys and tensors of the model's file, whose matrices are made when they
// are written. The same recipe and texts give the same bytes.
func (r *recipe) build(texts []string) ([]gguf.KV, []gguf.TensorData, error) {
	s := r.shape
	vocab, err := vocabulary(texts, min(r.learnt, s.NVocab), s.NVocab)
	if err != nil {
		return nil, nil, err
	}
	s.Vocab = vocab
	kvs, tensors, err := s.Build()
	if err != nil {
		return nil, nil, err
	}
	mixture, err := quant.MixtureByName(r.typ)
	if err != nil {
		return nil, nil, err
	}
	for i := range kvs {
		if kvs[i].Key == "general.file_type" {
			kvs[i].Value = mixture.FileType
		}
	}
	kvs = append(kvs, gguf.KV{Key: "general.quantization_version", Value: quant.Version})

	infos := make([]gguf.Tensor, len(tensors))
	for i, t := range tensors {
		infos[i] = gguf.Tensor{Name: t.Name, Type: t.Type, Dims: t.Dims}
	}
	chosen := mixture.Types(quant.MixtureModel{Arch: s.Arch, Layers: s.NLayers, Heads: s.NHeads, KVHeads: s.NKVHeads}, infos, quant.MixtureOptions{Pure: r.pure})
	pools := map[poolKey]*pool{}
	var buffer []byte
	for i := range tensors {
		t := &tensors[i]
		if len(t.Dims) == 1 {
			continue // a gain: ones, float32
		}
		key := poolKey{chosen[i].Type, int(t.Dims[0]), strings.HasSuffix(t.Name, "attn_output.weight") || strings.HasSuffix(t.Name, "ffn_down.weight")}
		t.Type = key.typ
		t.Bytes = func() ([]byte, error) {
			if pools[key] == nil {
				p, err := r.newPool(key)
				if err != nil {
					return nil, err
				}
				pools[key] = p
			}
			buffer = pools[key].rows(buffer, int(t.Dims[1]), rand.New(rand.NewPCG(s.Seed, uint64(i))))
			return buffer, nil
		}
	}
	return kvs, tensors, nil
}

// poolKey says what the rows of a pool are.
type poolKey struct {
	typ      gguf.TensorType
	cols     int
	residual bool // of a matrix that adds to the residual stream
}

// pool has packed rows of random numbers. To pack a 7B model anew would take minutes to
// hours, so its matrices are made of the rows of a few pools, each in an order of its own. A matrix
// of no more rows than its pool has none twice, so that it has the rank of a random one.
type pool struct {
	data     []byte
	rowBytes int
}

func (r *recipe) newPool(k poolKey) (*pool, error) {
	t, err := quant.PackingByName(k.typ.String())
	if err != nil {
		return nil, err
	}
	sigma, stream := std, uint64(k.cols)<<1
	if k.residual {
		sigma /= math.Sqrt(2 * float64(r.shape.NLayers))
		stream++
	}
	p := &pool{rowBytes: t.RowBytes(k.cols)}
	p.data = make([]byte, r.poolRows*p.rowBytes)
	rng := rand.New(rand.NewPCG(^r.shape.Seed, stream))
	row := make([]float32, k.cols)
	for i := range r.poolRows {
		for j := range row {
			row[j] = float32(sigma * rng.NormFloat64())
		}
		if err := t.Pack(p.data[i*p.rowBytes:][:p.rowBytes], row); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// rows puts n rows into dst, grown if need be: all of the pool in a random order, then all of
// it in another, until there are enough.
func (p *pool) rows(dst []byte, n int, rng *rand.Rand) []byte {
	dst = dst[:0]
	for n > 0 {
		order := rng.Perm(len(p.data) / p.rowBytes)
		order = order[:min(n, len(order))]
		for _, i := range order {
			dst = append(dst, p.data[i*p.rowBytes:][:p.rowBytes]...)
		}
		n -= len(order)
	}
	return dst
}

// vocabulary returns the keys of a SentencePiece vocabulary of size tokens, of which up to learnt
// are learnt from the texts and the others are of the kind that no text gives (unused).
func vocabulary(texts []string, learnt, size int) ([]gguf.KV, error) {
	v, err := tokenizer.TrainSPM(texts, learnt)
	if err != nil {
		return nil, err
	}
	kvs := v.KVs()
	for i := range kvs {
		for n := v.Size(); n < size; n++ {
			switch kvs[i].Key {
			case "tokenizer.ggml.tokens":
				kvs[i].Value = append(kvs[i].Value.([]string), fmt.Sprintf("<unused%d>", n))
			case "tokenizer.ggml.scores":
				kvs[i].Value = append(kvs[i].Value.([]float32), float32(-n))
			case "tokenizer.ggml.token_type":
				kvs[i].Value = append(kvs[i].Value.([]int32), 5)
			}
		}
	}
	return kvs, nil
}

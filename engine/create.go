package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/gguf"
)

// Shape describes a model to be made from nothing.
type Shape struct {
	Arch                                      string // a name of the architecture table
	Name                                      string // general.name; may be empty
	NVocab, DModel, NLayers, NHeads, NKVHeads int
	DFF, NCtx                                 int
	NExperts, NExpertsUsed                    int     // of feed-forward width DFF each; 0: none
	DHead                                     int     // 0: the width by the number of heads
	Window                                    int     // of local blocks, of architectures that have them; 0: the architecture's
	Parallel                                  bool    // of architectures whose files decide
	RopeDim                                   int     // 0: the head width
	RopeBase                                  float64 // 0: 10000
	Eps                                       float64 // 0: 1e-5
	Tied                                      bool
	Std                                       float64 // standard deviation of the initial weights; 0: 0.02
	Seed                                      uint64
	Vocab                                     []gguf.KV // the tokenizer.ggml.* keys
}

// Create writes a model of that shape with random weights in float32, as GPT-2
// initialises (Radford et al. 2019): normal with the given deviation, divided by √(2L)
// for the projections into the residual stream; gains one, biases zero. The
// same shape gives the same bytes.
func Create(path string, s Shape) error {
	kvs, tensors, err := s.Build()
	if err != nil {
		return err
	}
	return gguf.Write(path, kvs, tensors)
}

// Build returns the keys and tensors that Create writes. Their types and data may be
// changed before they are written.
func (s Shape) Build() ([]gguf.KV, []gguf.TensorData, error) {
	arch, err := archByName(s.Arch)
	if err != nil {
		return nil, nil, fmt.Errorf("engine: Create: %w", err)
	}
	if min(s.DModel, s.NLayers, s.NHeads, s.NKVHeads, s.DFF, s.NVocab, s.NCtx) < 1 || s.DHead < 0 || s.DHead == 0 && s.DModel%s.NHeads != 0 || s.NHeads%s.NKVHeads != 0 {
		return nil, nil, fmt.Errorf("engine: Create: width %d, %d layers, %d heads, %d KV heads, feed-forward %d, vocabulary %d, context %d do not make a model",
			s.DModel, s.NLayers, s.NHeads, s.NKVHeads, s.DFF, s.NVocab, s.NCtx)
	}
	if s.NExperts < 0 || s.NExperts == 0 && arch.Experts || s.NExperts > 0 && (s.NExpertsUsed < 1 || s.NExpertsUsed > s.NExperts) {
		return nil, nil, fmt.Errorf("engine: Create: %d of %d experts do not make a model", s.NExpertsUsed, s.NExperts)
	}
	std, eps, base := s.Std, s.Eps, s.RopeBase
	if std == 0 {
		std = 0.02
	}
	if eps == 0 {
		eps = 1e-5
	}
	if base == 0 {
		base = 10000
	}
	dHead := s.DHead
	if dHead == 0 {
		dHead = s.DModel / s.NHeads
	}
	ropeDim := s.RopeDim
	if ropeDim == 0 {
		ropeDim = dHead
	}
	if ropeDim < 0 || ropeDim > dHead || ropeDim%2 != 0 {
		return nil, nil, fmt.Errorf("engine: Create: rotary width is %d, want an even number up to the head width %d", ropeDim, dHead)
	}
	key := func(k string) string { return s.Arch + "." + k }
	kvs := []gguf.KV{
		{Key: "general.architecture", Value: s.Arch},
		{Key: "general.file_type", Value: uint32(0)},
		{Key: key("context_length"), Value: uint32(s.NCtx)},
		{Key: key("embedding_length"), Value: uint32(s.DModel)},
		{Key: key("block_count"), Value: uint32(s.NLayers)},
		{Key: key("feed_forward_length"), Value: uint32(s.DFF)},
		{Key: key("attention.head_count"), Value: uint32(s.NHeads)},
		{Key: key("attention.head_count_kv"), Value: uint32(s.NKVHeads)},
		{Key: key(arch.epsKey()), Value: float32(eps)},
		{Key: key("rope.dimension_count"), Value: uint32(ropeDim)},
		{Key: key("rope.freq_base"), Value: float32(base)},
		{Key: key("vocab_size"), Value: uint32(s.NVocab)},
	}
	if s.Name != "" {
		kvs = append(kvs, gguf.KV{Key: "general.name", Value: s.Name})
	}
	kvs = append(kvs, s.Vocab...)

	if s.DHead != 0 {
		kvs = append(kvs, gguf.KV{Key: key("attention.key_length"), Value: uint32(dHead)}, gguf.KV{Key: key("attention.value_length"), Value: uint32(dHead)})
	}
	if arch.LocalEvery > 0 && s.Window > 0 {
		kvs = append(kvs, gguf.KV{Key: key("attention.sliding_window"), Value: uint32(s.Window)})
	}
	if arch.ParallelKey {
		kvs = append(kvs, gguf.KV{Key: key("use_parallel_residual"), Value: s.Parallel})
	}
	if s.NExperts > 0 {
		kvs = append(kvs, gguf.KV{Key: key("expert_count"), Value: uint32(s.NExperts)}, gguf.KV{Key: key("expert_used_count"), Value: uint32(s.NExpertsUsed)})
	}
	c := Config{Arch: arch, NVocab: s.NVocab, NLayers: s.NLayers, NCtx: s.NCtx}
	c.DModel, c.NHeads, c.NKVHeads, c.DHead, c.DFF = s.DModel, s.NHeads, s.NKVHeads, dHead, s.DFF
	arch.configure(&c)
	if arch.ParallelKey || arch.MayParallel {
		c.Parallel, c.TwoNorms = s.Parallel, s.Parallel && arch.ParallelKey
	}
	if arch.MayQKNorm && !s.Parallel {
		c.QKNorm = nn.QKNormNone
	}
	if s.NExperts > 0 {
		c.FFN, c.MoE = nn.FFNMoE, nn.MoEConfig{NExperts: s.NExperts, DExpert: s.DFF}
		kvs = append(kvs, gguf.KV{Key: key("expert_feed_forward_length"), Value: uint32(s.DFF)})
	}
	has := func(name string) bool {
		if name == "output.weight" {
			return !s.Tied
		}
		return arch.FusedQKV // the only other question is attn_qkv
	}
	var tensors []gguf.TensorData
	for i, sl := range c.layout(&weights{}, has) {
		if sl.optional || sl.part > 0 {
			continue
		}
		dims := []uint64{uint64(sl.cols)}
		if sl.rows > 1 {
			dims = append(dims, uint64(sl.rows))
		}
		switch {
		case sl.parts > 0:
			dims = append(dims, uint64(sl.parts))
		case sl.pieces > 0:
			dims = []uint64{uint64(sl.cols / sl.pieces), uint64(sl.pieces)}
		}
		tensors = append(tensors, gguf.TensorData{Name: sl.name, Type: gguf.F32, Dims: dims, Bytes: func() ([]byte, error) {
			return sl.initial(rand.New(rand.NewPCG(s.Seed, uint64(i))), std, s.NLayers), nil
		}})
	}
	return kvs, tensors, nil
}

// initial draws the slot's first values, as little-endian float32.
func (s slot) initial(rng *rand.Rand, std float64, nLayers int) []byte {
	if s.init == initResidual {
		std /= math.Sqrt(2 * float64(nLayers))
	}
	out := make([]byte, 4*s.rows*s.cols*max(1, s.parts))
	for i := 0; i < len(out); i += 4 {
		var v float64
		switch s.init {
		case initOnes:
			v = 1
		case initNormal, initResidual:
			v = rng.NormFloat64() * std
		}
		binary.LittleEndian.PutUint32(out[i:], math.Float32bits(float32(v)))
	}
	return out
}

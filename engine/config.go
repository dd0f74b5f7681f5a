package engine

import (
	"fmt"
	"math"
	"strings"

	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/gguf"
)

// Config is the shape of a model.
type Config struct {
	Arch    *Arch
	NVocab  int
	NLayers int
	NCtx    int  // the context it was trained for, as the file says; not enforced
	Tied    bool // the output matrix is the token embedding

	nn.BlockConfig // what one block computes
}

// Bounds on what a file may ask for, far above any model known.
const (
	maxLayers = 1 << 12
	maxWidth  = 1 << 20
	maxCtx    = 1 << 30
	// maxExperts is that of llama.cpp.
	maxExperts = 512
)

// readConfig takes a model's shape from a file's metadata.
func readConfig(f *gguf.File) (Config, error) {
	name, ok, err := f.String("general.architecture")
	if err != nil {
		return Config{}, err
	}
	if !ok {
		return Config{}, fmt.Errorf("engine: %s: key general.architecture is missing: not a language model", f.Name)
	}
	arch, err := archByName(name)
	if err != nil {
		return Config{}, fmt.Errorf("engine: %s: %w", f.Name, err)
	}
	k := keys{f: f, prefix: name + "."}
	c := Config{Arch: arch}
	c.DModel = k.size("embedding_length", maxWidth)
	c.NLayers = k.size("block_count", maxLayers)
	c.NHeads = k.size("attention.head_count", maxWidth)
	c.NKVHeads = k.sizeOr("attention.head_count_kv", maxWidth, c.NHeads)
	c.DFF = k.size("feed_forward_length", maxWidth)
	c.NCtx = k.sizeOr("context_length", maxCtx, 2048)
	c.Norm, c.FFN, c.Parallel = arch.Norm, arch.FFN, arch.Parallel
	c.Eps = float32(k.float(arch.epsKey(), 1e-5))
	k.experts(&c)
	if k.err != nil {
		return Config{}, k.err
	}
	if c.NHeads%c.NKVHeads != 0 {
		return Config{}, fmt.Errorf("engine: %s: %d attention heads cannot share %d KV heads", f.Name, c.NHeads, c.NKVHeads)
	}
	if c.DModel%c.NHeads != 0 && !k.has("attention.key_length") {
		return Config{}, fmt.Errorf("engine: %s: width %d is not divisible by %d heads", f.Name, c.DModel, c.NHeads)
	}
	c.DHead = k.sizeOr("attention.key_length", maxWidth, max(1, c.DModel/c.NHeads))
	if v := k.sizeOr("attention.value_length", maxWidth, c.DHead); v != c.DHead {
		return Config{}, fmt.Errorf("engine: %s: value heads are %d wide and key heads %d: not supported", f.Name, v, c.DHead)
	}
	c.Rope, err = k.rope(c.DHead, arch.Neox)
	if err == nil {
		err = k.err
	}
	return c, err
}

// keys reads one architecture's metadata and keeps the first error.
type keys struct {
	f      *gguf.File
	prefix string
	err    error
}

func (k *keys) has(key string) bool {
	_, ok := k.f.Value(k.prefix + key)
	return ok
}

// size reads a key that must be there, from 1 to limit.
func (k *keys) size(key string, limit int) int {
	if k.err == nil && !k.has(key) {
		k.err = fmt.Errorf("engine: %s: key %s%s is missing", k.f.Name, k.prefix, key)
	}
	return k.sizeOr(key, limit, 1)
}

func (k *keys) sizeOr(key string, limit, absent int) int {
	if k.err != nil {
		return 1
	}
	v, ok, err := k.f.Uint(k.prefix + key)
	switch {
	case err != nil:
		k.err = err
	case ok && (v < 1 || v > uint64(limit)):
		k.err = fmt.Errorf("engine: %s: key %s%s is %d, want 1 to %d", k.f.Name, k.prefix, key, v, limit)
	case ok:
		return int(v)
	default:
		return absent
	}
	return 1
}

func (k *keys) float(key string, absent float64) float64 {
	if k.err != nil {
		return absent
	}
	v, ok, err := k.f.Float(k.prefix + key)
	switch {
	case err != nil:
		k.err = err
	case ok && !(v > 0 && v < 1e12):
		k.err = fmt.Errorf("engine: %s: key %s%s is %g, want a positive number", k.f.Name, k.prefix, key, v)
	case ok:
		return v
	}
	return absent
}

// experts reads the mixture of experts, if the file says that there is one.
func (k *keys) experts(c *Config) {
	n, _, err := k.f.Uint(k.prefix + "expert_count")
	if k.err == nil {
		k.err = err
	}
	if n == 0 || k.err != nil {
		return
	}
	c.FFN = nn.FFNMoE
	c.MoE = nn.MoEConfig{
		NExperts: k.size("expert_count", maxExperts),
		NUsed:    k.size("expert_used_count", maxExperts),
		DExpert:  k.sizeOr("expert_feed_forward_length", maxWidth, c.DFF),
		Scale:    float32(k.float("expert_weights_scale", 1)),
	}
	c.DFF = 0
	if k.err == nil && c.MoE.NUsed > c.MoE.NExperts {
		k.err = fmt.Errorf("engine: %s: key %sexpert_used_count is %d, there are %d experts", k.f.Name, k.prefix, c.MoE.NUsed, c.MoE.NExperts)
	}
}

// rope reads the rotary embedding. Scaling types that change the angles in ways not
// built here are refused, for a wrong angle gives plausible nonsense.
func (k *keys) rope(dHead int, neox bool) (*nn.Rope, error) {
	r := &nn.Rope{
		Dim:       k.sizeOr("rope.dimension_count", maxWidth, dHead),
		Neox:      neox,
		Base:      k.float("rope.freq_base", 10000),
		FreqScale: 1,
	}
	if k.err != nil {
		return nil, k.err
	}
	if r.Dim > dHead || r.Dim%2 != 0 {
		return nil, fmt.Errorf("engine: %s: rope.dimension_count is %d, want an even number up to the head width %d", k.f.Name, r.Dim, dHead)
	}
	kind, _, err := k.f.String(k.prefix + "rope.scaling.type")
	if err != nil {
		return nil, err
	}
	switch kind {
	case "", "none":
	case "linear":
		r.FreqScale = 1 / k.float("rope.scaling.factor", 1)
	default:
		return nil, fmt.Errorf("engine: %s: rope.scaling.type %q is not known; there are none, linear", k.f.Name, kind)
	}
	if t, ok := k.f.Tensor("rope_freqs.weight"); ok {
		if t.Type != 0 || len(t.Dims) != 1 || t.Dims[0] != uint64(r.Dim/2) {
			return nil, fmt.Errorf("engine: %s: rope_freqs.weight is type %v with dimensions %v, want F32 [%d]", k.f.Name, t.Type, t.Dims, r.Dim/2)
		}
		r.Factors = float32sLE(k.f.Data(t))
		for i, v := range r.Factors {
			if !(v > 0) || math.IsInf(float64(v), 0) {
				return nil, fmt.Errorf("engine: %s: rope_freqs.weight[%d] is %g, want a positive number", k.f.Name, i, v)
			}
		}
	}
	return r, k.err
}

// String gives the shape in one line.
func (c Config) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d layers, width %d, %d heads", c.Arch.Name, c.NLayers, c.DModel, c.NHeads)
	if c.NKVHeads != c.NHeads {
		fmt.Fprintf(&b, " (%d KV)", c.NKVHeads)
	}
	if c.FFN == nn.FFNMoE {
		fmt.Fprintf(&b, ", %d of %d experts, feed-forward %d", c.MoE.NUsed, c.MoE.NExperts, c.MoE.DExpert)
	} else {
		fmt.Fprintf(&b, ", feed-forward %d", c.DFF)
	}
	fmt.Fprintf(&b, ", vocabulary %d", c.NVocab)
	if c.Tied {
		b.WriteString(", tied output")
	}
	return b.String()
}

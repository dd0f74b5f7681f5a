package engine

import (
	"cmp"
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
	NCtx    int  // the context it is made for, as the file says; not enforced
	Tied    bool // the output matrix is the token embedding

	LocalEvery int     // blocks attend inside the window but for each n-th; 0: none does
	EmbedScale float32 // of the embedding's rows
	LogitCap   float32 // c of c·tanh(logit/c); 0: none

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
	arch.configure(&c)
	c.Eps = float32(k.float(arch.epsKey(), 1e-5))
	k.parallel(&c)
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
	if !arch.Positions {
		if c.Rope, err = k.rope(&c, k.float("rope.freq_base", 10000)); err != nil {
			return Config{}, err
		}
	}
	if err := k.local(&c); err != nil {
		return Config{}, err
	}
	k.softcaps(&c)
	if c.NLayers == arch.WideScaleAt {
		c.Scale = float32(1 / math.Sqrt(float64(c.DModel/c.NHeads)))
	}
	if _, ok := f.Tensor("blk.0.attn_q_norm.weight"); arch.MayQKNorm && !ok {
		c.QKNorm = nn.QKNormNone
	}
	return c, k.err
}

// configure sets what the architecture alone decides.
func (a *Arch) configure(c *Config) {
	c.Norm, c.FFN, c.Parallel, c.TwoNorms, c.PostNorms, c.QKNorm = a.Norm, a.FFN, a.Parallel, a.ParallelKey, a.PostNorms, a.QKNorm
	c.EmbedScale = 1
	if a.ScaleEmbed {
		c.EmbedScale = float32(math.Sqrt(float64(c.DModel)))
	}
}

// parallel reads whether blocks are parallel, where the file decides.
func (k *keys) parallel(c *Config) {
	switch {
	case c.Arch.ParallelKey:
		on, ok, err := k.f.Bool(k.prefix + "use_parallel_residual")
		if k.err == nil {
			k.err = err
		}
		if k.err == nil && !ok {
			k.err = fmt.Errorf("engine: %s: key %suse_parallel_residual is missing", k.f.Name, k.prefix)
		}
		c.Parallel, c.TwoNorms = on, on
	case c.Arch.MayParallel:
		_, norm := k.f.Tensor("blk.0.ffn_norm.weight")
		c.Parallel = !norm
	}
}

// local reads which blocks attend inside a window, and how they turn queries and keys.
func (k *keys) local(c *Config) (err error) {
	if c.Arch.LocalEvery == 0 {
		return nil
	}
	if c.Window = k.countOr("attention.sliding_window", maxCtx, c.Arch.Window); c.Window == 0 {
		return nil
	}
	c.LocalEvery = k.sizeOr("attention.sliding_window_pattern", maxLayers, c.Arch.LocalEvery)
	base := c.Arch.LocalRopeBase
	if base == 0 {
		base = c.Rope.Base
	}
	base = k.float("rope.freq_base_swa", base)
	if c.Arch.LocalScaled {
		c.LocalRope, err = k.rope(c, base)
		return err
	}
	c.LocalRope = &nn.Rope{Dim: c.Rope.Dim, Neox: c.Rope.Neox, Base: base, FreqScale: 1}
	return nil
}

// softcaps reads the bounds of scores and logits.
func (k *keys) softcaps(c *Config) {
	if c.Arch.AttnSoftcap > 0 {
		c.Softcap = float32(k.float("attn_logit_softcapping", c.Arch.AttnSoftcap))
	}
	c.LogitCap = float32(k.float("final_logit_softcapping", c.Arch.LogitSoftcap))
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

func (k *keys) sizeOr(key string, limit, absent int) int { return k.between(key, 1, limit, absent) }

// countOr reads a number of things of which there may be none.
func (k *keys) countOr(key string, limit, absent int) int { return k.between(key, 0, limit, absent) }

// between reads a number from least to limit; after an error it is least.
func (k *keys) between(key string, least, limit, absent int) int {
	if k.err != nil {
		return least
	}
	v, ok, err := k.f.Uint(k.prefix + key)
	switch {
	case err != nil:
		k.err = err
	case ok && (v < uint64(least) || v > uint64(limit)):
		k.err = fmt.Errorf("engine: %s: key %s%s is %d, want %d to %d", k.f.Name, k.prefix, key, v, least, limit)
	case ok:
		return int(v)
	default:
		return absent
	}
	return least
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
	n := k.countOr("expert_count", maxExperts, 0)
	if k.err != nil || n == 0 && !c.Arch.Experts {
		return
	}
	if c.FFN != nn.FFNSwiGLU {
		k.err = fmt.Errorf("engine: %s: key %sexpert_count is %d: %s with experts is not known", k.f.Name, k.prefix, n, c.Arch.Name)
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

// rope reads the rotary embedding, with its scaling as llama.cpp has it: a factor counts whatever
// the type, but for "none"; where the file has no type, it is "linear"; the divisors of a tensor come
// on top. Other types are refused, for a wrong angle gives plausible nonsense.
func (k *keys) rope(c *Config, base float64) (*nn.Rope, error) {
	r := &nn.Rope{
		Dim:       k.sizeOr("rope.dimension_count", maxWidth, c.DHead),
		Neox:      c.Arch.Neox,
		Base:      base,
		FreqScale: 1,
		Scale:     k.float("rope.scaling.attn_factor", 1),
	}
	factor := k.float("rope.scaling.factor", k.float("rope.scale_linear", 1)) // the latter in old files
	original := k.sizeOr("rope.scaling.original_context_length", maxCtx, c.NCtx)
	kind, _, err := k.f.String(k.prefix + "rope.scaling.type")
	if err = cmp.Or(k.err, err); err != nil {
		return nil, err
	}
	if r.Dim > c.DHead || r.Dim%2 != 0 {
		return nil, fmt.Errorf("engine: %s: rope.dimension_count is %d, want an even number up to the head width %d", k.f.Name, r.Dim, c.DHead)
	}
	switch kind {
	case "none":
	case "", "linear", "longrope":
		r.FreqScale = 1 / factor
	case "yarn":
		r.Factors = yarn(r, factor, float64(original))
		r.Scale *= 1 + 0.1*math.Log(max(1, factor))
	default:
		return nil, fmt.Errorf("engine: %s: rope.scaling.type %q is not known; there are none, linear, yarn, longrope", k.f.Name, kind)
	}
	name := "rope_freqs.weight"
	if _, ok := k.f.Tensor(name); !ok {
		name = "rope_factors_short.weight"
	}
	divisors, err := k.ropeFactors(name, r.Dim/2)
	if err != nil || divisors == nil {
		return r, err
	}
	for i, v := range r.Factors {
		divisors[i] *= v
	}
	r.Factors = divisors
	if name == "rope_factors_short.weight" { // those for longer texts are not used
		c.NCtx = min(c.NCtx, original)
	}
	return r, nil
}

// ropeFactors reads a tensor of n divisors of the frequencies, if the file has it.
func (k *keys) ropeFactors(name string, n int) ([]float32, error) {
	t, ok := k.f.Tensor(name)
	if !ok {
		return nil, nil
	}
	if t.Type != gguf.F32 || len(t.Dims) != 1 || t.Dims[0] != uint64(n) {
		return nil, fmt.Errorf("engine: %s: %s is type %v with dimensions %v, want F32 [%d]", k.f.Name, name, t.Type, t.Dims, n)
	}
	factors := float32sLE(k.f.Data(t))
	for i, v := range factors {
		if !(v > 0) || math.IsInf(float64(v), 0) {
			return nil, fmt.Errorf("engine: %s: %s[%d] is %g, want a positive number", k.f.Name, name, i, v)
		}
	}
	return factors, nil
}

// yarn returns what divides the frequencies of r to stretch the context by factor (Peng et al.
// 2023, arXiv:2309.00071v2, section 3.2, as ggml has it): pairs that turn more than 32 times within the
// original context keep theirs, those that turn less than once are interpolated.
func yarn(r *nn.Rope, factor, original float64) []float32 {
	pair := func(turns float64) float64 {
		return float64(r.Dim) * math.Log(original/(turns*2*math.Pi)) / (2 * math.Log(r.Base))
	}
	low, high := max(0, math.Floor(pair(32))), min(float64(r.Dim-1), math.Ceil(pair(1)))
	out := make([]float32, r.Dim/2)
	for i := range out {
		keep := 1 - min(1, max(0, (float64(i)-low)/max(0.001, high-low)))
		out[i] = float32(1 / (keep + (1-keep)/factor))
	}
	return out
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

package hf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/guardcpu/guardcpu/gguf"
)

// config is a config.json.
type config struct{ m map[string]any }

func (c *config) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(&c.m)
}

// flat returns the configuration with that of the text model of several at the root.
func (c config) flat() config {
	text, _ := c.m["text_config"].(map[string]any)
	if text == nil {
		return c
	}
	m := maps.Clone(c.m)
	for k, v := range text {
		if k != "architectures" || m[k] == nil {
			m[k] = v
		}
	}
	return config{m}
}

// value returns the first of several keys that is there and not null.
func (c config) value(names ...string) (key string, v any) {
	for _, name := range names {
		if v := c.m[name]; v != nil {
			return name, v
		}
	}
	return "", nil
}

// number returns the first of several keys as a number; ok is false if there is none.
func (c config) number(names ...string) (x float64, ok bool, err error) {
	key, v := c.value(names...)
	if v == nil {
		return 0, false, nil
	}
	n, isNumber := v.(json.Number)
	if isNumber {
		x, err = n.Float64()
	}
	if !isNumber || err != nil || math.IsInf(x, 0) {
		return 0, true, fmt.Errorf("%s is %v, want a number", key, v)
	}
	return x, true, nil
}

// count is a number that is whole and fits 32 bits.
func (c config) count(names ...string) (n uint32, ok bool, err error) {
	x, ok, err := c.number(names...)
	if ok && err == nil && (x < 0 || x > math.MaxUint32 || x != math.Trunc(x)) {
		key, v := c.value(names...)
		err = fmt.Errorf("%s is %v, want a whole number", key, v)
	}
	if err != nil {
		return 0, ok, err
	}
	return uint32(x), ok, nil
}

// object returns an object of the configuration.
func (c config) object(names ...string) (config, bool) {
	_, v := c.value(names...)
	m, ok := v.(map[string]any)
	return config{m}, ok
}

// A kind is the type of a key.
type kind int

const (
	count kind = iota
	number
	yes // a bool that is true where config.json does not say
)

// A field is a key of a GGUF file, without the architecture, and its names in config.json.
type field struct {
	key   string
	kind  kind
	names []string
}

// Keys that other code asks for.
const (
	keyContext = "context_length"
	keyRMS     = "attention.layer_norm_rms_epsilon"
	keyNorm    = "attention.layer_norm_epsilon"
	keyBase    = "rope.freq_base"
	keyDims    = "rope.dimension_count"
	keyKey     = "attention.key_length"
	keyValue   = "attention.value_length"
)

// fields are the keys of all families, in the order of TextModel.set_gguf_parameters.
var fields = []field{
	{"block_count", count, []string{"num_hidden_layers", "n_layers", "n_layer", "num_layers"}},
	{keyContext, count, []string{"max_position_embeddings", "n_ctx", "n_positions", "max_length", "max_sequence_length", "model_max_length"}},
	{"embedding_length", count, []string{"hidden_size", "n_embd", "dim"}},
	{"feed_forward_length", count, []string{"intermediate_size", "n_inner", "hidden_dim"}},
	{"attention.head_count", count, []string{"num_attention_heads", "n_head", "n_heads"}},
	{"attention.head_count_kv", count, []string{"num_key_value_heads", "n_kv_heads"}},
	{keyBase, number, []string{"rope_theta", "rotary_emb_base"}},
	{keyRMS, number, []string{"rms_norm_eps", "norm_eps"}},
	{keyNorm, number, []string{"layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"}},
	{"expert_count", count, []string{"num_local_experts", "num_experts"}},
	{"expert_used_count", count, []string{"num_experts_per_tok", "num_experts_per_token"}},
	{keyKey, count, []string{"head_dim"}},
	{keyValue, count, []string{"head_dim"}},
}

// required are the fields without which there is no model.
var required = []string{"block_count", "embedding_length", "feed_forward_length", "attention.head_count"}

// positive are the fields without which, or with zero or less, there are no finite numbers.
var positive = []string{keyBase, keyRMS, keyNorm}

// mine are the fields of the family, its own names in front.
func (f *family) mine() []field {
	var out []field
	for _, fd := range fields {
		switch fd.key {
		case keyRMS:
			if f.layerNorm {
				continue
			}
		case keyNorm:
			if !f.layerNorm {
				continue
			}
		case keyBase:
			if f.arch == "gpt2" {
				continue
			}
		case "expert_count", "expert_used_count":
			if !f.experts {
				continue
			}
		}
		if name := f.names[fd.key]; name != "" {
			fd.names = append([]string{name}, fd.names...)
		}
		out = append(out, fd)
	}
	return append(out, f.extra...)
}

// keys returns the architecture's part of a GGUF file's metadata.
func (f *family) keys(c config) ([]gguf.KV, error) {
	var kvs []gguf.KV
	put := func(key string, v any) { kvs = append(kvs, gguf.KV{Key: f.arch + "." + key, Value: v}) }
	if key, v := c.value(append([]string{f.actKey}, "hidden_act", "hidden_activation", "activation_function")...); v != nil {
		if name, _ := v.(string); !slices.Contains(f.acts, name) {
			return nil, fmt.Errorf("%s is %v, want %s: models of %s are computed with no other", key, v, strings.Join(f.acts, " or "), f.arch)
		}
	}
	for _, fd := range f.mine() {
		switch fd.kind {
		case count:
			n, ok, err := c.count(fd.names...)
			if err != nil {
				return nil, err
			}
			if !ok && fd.key == "feed_forward_length" && f.ffn4 {
				n, ok, err = c.count("hidden_size", "n_embd")
				n *= 4
			}
			if x, has := f.absent[fd.key]; has && !ok {
				n, ok = uint32(x), true
			}
			if !ok && slices.Contains(required, fd.key) {
				return nil, fmt.Errorf("%s is missing", fd.names[0])
			}
			if err != nil {
				return nil, err
			}
			if ok {
				put(fd.key, n)
			}
		case number:
			x, ok, err := c.number(fd.names...)
			if fd.key == keyBase && !ok && err == nil {
				x, ok, err = ropeOf(c).number("rope_theta")
			}
			if err != nil {
				return nil, err
			}
			if d, has := f.absent[fd.key]; has && !ok {
				x, ok = d, true
			}
			if y := float32(x); ok && slices.Contains(positive, fd.key) && !(y > 0 && y < math.MaxFloat32) {
				return nil, fmt.Errorf("%s is %g, want a positive number", strings.Join(fd.names, " or "), x)
			}
			if ok {
				put(fd.key, float32(x))
			}
		case yes:
			_, v := c.value(fd.names...)
			b, isBool := v.(bool)
			if v != nil && !isBool {
				return nil, fmt.Errorf("%s is %v, want true or false", fd.names[0], v)
			}
			put(fd.key, v == nil || b)
		}
	}
	if f.rotary != nil {
		n, err := f.rotaryWidth(c)
		if err != nil {
			return nil, err
		}
		put(keyDims, n)
	}
	if f.arch == "llama" {
		if n, ok, err := c.count("vocab_size"); err != nil {
			return nil, err
		} else if ok {
			put("vocab_size", n)
		}
	}
	scaling, err := f.scaling(c)
	return append(kvs, scaling...), err
}

// head returns the width of a head.
func head(c config) (uint32, error) {
	if n, ok, err := c.count("head_dim"); ok || err != nil {
		return n, err
	}
	width, _, err := c.count("hidden_size", "n_embd")
	if err != nil {
		return 0, err
	}
	heads, _, err := c.count("num_attention_heads", "n_head")
	if err != nil {
		return 0, err
	}
	if heads == 0 {
		return 0, fmt.Errorf("num_attention_heads is 0")
	}
	return width / heads, nil
}

// rotaryWidth returns how many numbers of a head are rotated.
func (f *family) rotaryWidth(c config) (uint32, error) {
	e, err := head(c)
	if err != nil {
		return 0, err
	}
	if f.rotary == nil {
		return e, nil
	}
	part, ok, err := c.number(f.rotary.names...)
	if !ok && err == nil && len(f.rotary.names) > 0 {
		part, ok, err = ropeOf(c).number("partial_rotary_factor")
	}
	if err != nil {
		return 0, err
	}
	if !ok {
		part = f.rotary.absent
	}
	if !(part > 0 && part <= 1) {
		return 0, fmt.Errorf("%s is %g, want more than 0 and at most 1", f.rotary.names[0], part)
	}
	return uint32(part * float64(e)), nil
}

// ropeOf returns what config.json says of the rotary embedding, in its old place or its new one.
func ropeOf(c config) config {
	for _, name := range []string{"rope_parameters", "rope_scaling"} {
		if r, ok := c.object(name); ok {
			if full, ok := r.object("full_attention"); ok {
				return full
			}
			return r
		}
	}
	return config{}
}

func ropeType(c config) string {
	_, v := c.value("rope_type", "type")
	s, _ := v.(string)
	return s
}

// scaling returns the keys of a rotary embedding that is scaled.
func (f *family) scaling(c config) (kvs []gguf.KV, err error) {
	r := ropeOf(c)
	put := func(key string, names ...string) {
		x, ok, e := r.number(names...)
		if err == nil {
			err = e
		}
		if ok && e == nil {
			kvs = append(kvs, gguf.KV{Key: f.arch + ".rope.scaling." + key, Value: float32(x)})
		}
	}
	putFactor := func() {
		put("factor", "factor")
		if x, ok, e := r.number("factor"); err == nil && e == nil && ok && !(float32(x) > 0) {
			err = fmt.Errorf("rope_scaling: factor is %g, want a positive number", x)
		}
	}
	context := func(c config) {
		n, ok, e := c.count("original_max_position_embeddings")
		if err == nil {
			err = e
		}
		if ok && e == nil {
			kvs = append(kvs, gguf.KV{Key: f.arch + ".rope.scaling.original_context_length", Value: n})
		}
	}
	kindOf := func(name string) {
		kvs = append(kvs, gguf.KV{Key: f.arch + ".rope.scaling.type", Value: name})
	}
	switch t := ropeType(r); t {
	case "", "default", "llama3":
		if f.arch == "phi3" {
			context(c)
		}
	case "linear":
		kindOf("linear")
		putFactor()
	case "yarn":
		kindOf("yarn")
		putFactor()
		context(r)
		put("yarn_ext_factor", "extrapolation_factor")
		put("yarn_attn_factor", "attention_factor", "attn_factor")
		put("yarn_beta_fast", "beta_fast")
		put("yarn_beta_slow", "beta_slow")
	case "su", "longrope":
		kindOf("longrope")
		outer := c
		if _, ok := c.m["original_max_position_embeddings"]; !ok {
			outer = r
		}
		context(outer)
		factor, e := longropeFactor(c, outer)
		if err == nil {
			err = e
		}
		kvs = append(kvs, gguf.KV{Key: f.arch + ".rope.scaling.attn_factor", Value: factor})
	default:
		return nil, fmt.Errorf("rope type %q is not known; there are default, linear, llama3, yarn, longrope", t)
	}
	return kvs, err
}

// longropeFactor is what scores are scaled by (Ding et al. 2024, arXiv:2402.13753):
// √(1 + ln s/ln C) for a context that is s times the original C.
func longropeFactor(c, outer config) (float32, error) {
	n, _, err := c.count("max_position_embeddings")
	if err != nil {
		return 0, err
	}
	original, _, err := outer.count("original_max_position_embeddings")
	if err != nil {
		return 0, err
	}
	if n == 0 || original < 2 {
		return 0, fmt.Errorf("max_position_embeddings is %d and original_max_position_embeddings %d, want a context and a shorter one", n, original)
	}
	s := float64(n) / float64(original)
	if s <= 1 {
		return 1, nil
	}
	return float32(math.Sqrt(1 + math.Log(s)/math.Log(float64(original)))), nil
}

// llama3 returns the divisors of the frequencies of Llama 3.1: those of waves longer than
// original/low are divided by factor, those shorter than original/high are kept, and what
// lies between is blended.
func llama3(base float64, dims int, factor, low, high, original float64) []float32 {
	out := make([]float32, dims/2)
	for i := range out {
		freq := float64(float32(1 / float64(float32(math.Pow(base, float64(float32(2*i)/float32(dims)))))))
		wave := 2 * math.Pi / freq
		switch {
		case wave < original/high:
			out[i] = 1
		case wave > original/low:
			out[i] = float32(factor)
		default:
			smooth := (original/wave - low) / (high - low)
			out[i] = float32(1 / ((1-smooth)/factor + smooth))
		}
	}
	return out
}

// ropeTensors returns the tensors of divisors that the configuration asks for.
func (f *family) ropeTensors(c config) ([]gguf.TensorData, error) {
	r := ropeOf(c)
	vector := func(name string, v []float32) gguf.TensorData {
		return gguf.TensorData{Name: name, Type: gguf.F32, Dims: []uint64{uint64(len(v))}, Bytes: func() ([]byte, error) { return bytesOf(v), nil }}
	}
	switch ropeType(r) {
	case "llama3":
		base, ok, err := c.number("rope_theta")
		if !ok && err == nil {
			base, ok, err = r.number("rope_theta")
		}
		if !ok {
			base = 10000
		}
		dims, e := head(c)
		if err == nil {
			err = e
		}
		p := map[string]float64{"factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192}
		for name := range p {
			if x, ok, e := r.number(name); e != nil {
				err = e
			} else if ok {
				p[name] = x
			}
			if err == nil && !(p[name] > 0) {
				err = fmt.Errorf("rope_scaling: %s is %g, want a positive number", name, p[name])
			}
		}
		if err != nil {
			return nil, err
		}
		if dims < 2 || dims > 1<<16 || !(base > 0) || p["high_freq_factor"] <= p["low_freq_factor"] {
			return nil, fmt.Errorf("rope_scaling of llama3 with a head width of %d, base %g, low_freq_factor %g and high_freq_factor %g makes no sense",
				dims, base, p["low_freq_factor"], p["high_freq_factor"])
		}
		return []gguf.TensorData{vector("rope_freqs.weight", llama3(base, int(dims), p["factor"], p["low_freq_factor"], p["high_freq_factor"], p["original_max_position_embeddings"]))}, nil
	case "su", "longrope":
		dims, err := f.rotaryWidth(c)
		if err != nil {
			return nil, err
		}
		var out []gguf.TensorData
		for _, which := range []string{"long", "short"} {
			a, _ := r.m[which+"_factor"].([]any)
			if len(a) != int(dims)/2 {
				return nil, fmt.Errorf("rope_scaling: %s_factor has %d numbers, want %d", which, len(a), dims/2)
			}
			v := make([]float32, len(a))
			for i := range a {
				x, _, err := config{map[string]any{"x": a[i]}}.number("x")
				if err != nil || !(x > 0) {
					return nil, fmt.Errorf("rope_scaling: %s_factor[%d] is %v, want a positive number", which, i, a[i])
				}
				v[i] = float32(x)
			}
			out = append(out, vector("rope_factors_"+which+".weight", v))
		}
		return out, nil
	}
	return nil, nil
}

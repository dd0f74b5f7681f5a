package quant

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/guardcpu/guardcpu/gguf"
)

// Mixture is what llama-quantize calls a type: most matrices become Base, some others
// another type by the rules of llama.cpp (llama_tensor_get_type_impl in src/llama-quant.cpp,
// without importance matrix).
type Mixture struct {
	Name     string
	FileType uint32 // general.file_type (llama_ftype)
	Base     gguf.TensorType

	value rule // attn_v, attn_qkv, attn_kv_b
	down  rule // ffn_down
	// attn_output; of a model with 8 experts, output8. Zero is Base.
	output, output8 gguf.TensorType
}

// Mixtures has all, from exact to coarse.
var Mixtures = []Mixture{
	{Name: "F32", FileType: 0, Base: gguf.F32},
	{Name: "BF16", FileType: 32, Base: gguf.BF16},
	{Name: "F16", FileType: 1, Base: gguf.F16},
	{Name: "Q8_0", FileType: 7, Base: gguf.Q8_0},
	{Name: "Q6_K", FileType: 18, Base: gguf.Q6_K},
	{Name: "Q5_K_M", FileType: 17, Base: gguf.Q5_K, value: rule{moreBits, gguf.Q6_K, gguf.Q5_K}, down: rule{moreBits, gguf.Q6_K, gguf.Q5_K}},
	{Name: "Q5_K_S", FileType: 16, Base: gguf.Q5_K},
	{Name: "Q5_1", FileType: 9, Base: gguf.Q5_1},
	{Name: "Q5_0", FileType: 8, Base: gguf.Q5_0},
	{Name: "Q4_K_M", FileType: 15, Base: gguf.Q4_K, value: rule{moreBits, gguf.Q6_K, gguf.Q4_K}, down: rule{moreBits, gguf.Q6_K, gguf.Q4_K}, output8: gguf.Q5_K},
	{Name: "Q4_K_S", FileType: 14, Base: gguf.Q4_K, value: rule{first(4), gguf.Q5_K, gguf.Q4_K}, down: rule{eighth, gguf.Q5_K, gguf.Q4_K}, output8: gguf.Q5_K},
	{Name: "Q4_1", FileType: 3, Base: gguf.Q4_1},
	{Name: "Q4_0", FileType: 2, Base: gguf.Q4_0},
	{Name: "Q3_K_L", FileType: 13, Base: gguf.Q3_K, value: rule{always, gguf.Q5_K, 0}, down: rule{always, gguf.Q5_K, 0}, output: gguf.Q5_K},
	{Name: "Q3_K_M", FileType: 12, Base: gguf.Q3_K, value: rule{first(2), gguf.Q5_K, gguf.Q4_K}, down: rule{sixteenth, gguf.Q5_K, gguf.Q4_K}, output: gguf.Q4_K, output8: gguf.Q5_K},
	{Name: "Q3_K_S", FileType: 11, Base: gguf.Q3_K, output8: gguf.Q5_K},
	{Name: "Q2_K", FileType: 10, Base: gguf.Q2_K, value: rule{fewValues, gguf.Q4_K, gguf.Q3_K}, down: rule{always, gguf.Q3_K, 0}, output: gguf.Q3_K, output8: gguf.Q5_K},
	{Name: "Q2_K_S", FileType: 21, Base: gguf.Q2_K, value: rule{fewValues, gguf.Q4_K, gguf.Q2_K}, down: rule{eighth, gguf.Q4_K, gguf.Q2_K}},
}

// shortNames are llama-quantize's other names.
var shortNames = map[string]string{"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}

// MixtureByName returns the mixture of that name, in upper or lower case.
func MixtureByName(name string) (*Mixture, error) {
	upper := strings.ToUpper(name)
	if long, ok := shortNames[upper]; ok {
		upper = long
	}
	names := make([]string, len(Mixtures))
	for i := range Mixtures {
		if Mixtures[i].Name == upper {
			return &Mixtures[i], nil
		}
		names[i] = Mixtures[i].Name
	}
	return nil, fmt.Errorf("quant: type %q is not known; there are %s", name, strings.Join(names, ", "))
}

// A rule gives a tensor one of two types; without a condition, Base.
type rule struct {
	when            func(place) bool
	then, otherwise gguf.TensorType
}

// place is which of its kind a tensor is: layer of n.
type place struct {
	layer, n int
	gqa      int // query heads that share a value head
}

func (r rule) of(p place, base gguf.TensorType) gguf.TensorType {
	switch {
	case r.when == nil:
		return base
	case r.when(p):
		return r.then
	}
	return r.otherwise
}

func always(place) bool      { return true }
func eighth(p place) bool    { return p.layer < p.n/8 }
func sixteenth(p place) bool { return p.layer < p.n/16 }
func fewValues(p place) bool { return p.gqa >= 4 }

func first(k int) func(place) bool { return func(p place) bool { return p.layer < k } }

// moreBits picks the first and the last eighth and every third between (use_more_bits).
func moreBits(p place) bool {
	return p.layer < p.n/8 || p.layer >= 7*p.n/8 || (p.layer-p.n/8)%3 == 2
}

// MixtureModel is what the rules ask of a model.
type MixtureModel struct {
	Arch                            string
	Layers, Heads, KVHeads, Experts int
}

// ReadMixtureModel reads it from the metadata; what is not there is zero.
func ReadMixtureModel(f *gguf.File) (m MixtureModel, err error) {
	if m.Arch, _, err = f.String("general.architecture"); err != nil {
		return m, err
	}
	read := func(dst *int, key string) {
		if err != nil {
			return
		}
		key = m.Arch + "." + key
		if list, ok, listErr := f.Ints(key); ok && listErr == nil { // one for each layer: the first counts
			if len(list) > 0 {
				*dst = int(list[0])
			}
			return
		}
		var n uint64
		if n, _, err = f.Uint(key); err == nil {
			*dst = int(min(n, 1<<31))
		}
	}
	read(&m.Layers, "block_count")
	read(&m.Heads, "attention.head_count")
	m.KVHeads = m.Heads
	read(&m.KVHeads, "attention.head_count_kv")
	read(&m.Experts, "expert_count")
	return m, err
}

// is70B says whether llama.cpp takes the model for one of 70B parameters, whose values
// eight heads share.
func (m *MixtureModel) is70B() bool {
	switch m.Arch {
	case "llama":
		return m.Layers == 80 && m.Heads != m.KVHeads && m.Experts != 8
	case "qwen2":
		return m.Layers == 80
	}
	return false
}

// MixtureOptions are llama-quantize's options of the same names.
type MixtureOptions struct {
	Pure                   bool             // no rules: every matrix becomes Base
	LeaveOutput            bool             // output.weight keeps its type
	Output, TokenEmbedding *gguf.TensorType // of the matrix of that name (the first also of an embedding that is the output); nil: by the rules
	Types                  []TensorOverride // the first that fits a tensor decides
}

// TensorOverride gives the type of tensors in whose name a pattern is found.
type TensorOverride struct {
	Pattern *regexp.Regexp
	Type    gguf.TensorType
}

// Chosen is the type that a tensor becomes, and the one that was wanted but does not
// divide its rows.
type Chosen struct{ Type, Wanted gguf.TensorType }

// Types chooses the type of each of a model's tensors. Vectors, and matrices that are no
// weights of products, keep theirs.
func (x *Mixture) Types(m MixtureModel, tensors []gguf.Tensor, o MixtureOptions) []Chosen {
	kinds := make([]tensorKind, len(tensors))
	order := make([]int, len(tensors)) // the rules count along llama.cpp's order: by layer, then name
	values, tied := 0, true
	for i := range tensors {
		kinds[i], order[i] = kindOf(tensors[i].Name), i
		if kinds[i].isValue() {
			values++
		}
		tied = tied && kinds[i] != kindOutput
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := tensors[i].Name, tensors[j].Name
		return cmp.Or(cmp.Compare(layerOf(a), layerOf(b)), strings.Compare(a, b))
	})
	chosen := make([]Chosen, len(tensors))
	value, down := 0, 0 // how many came before
	for _, i := range order {
		t, kind := &tensors[i], kinds[i]
		want := t.Type
		switch override := o.override(t.Name); {
		case !isQuantizable(t) || o.LeaveOutput && kind == kindOutput:
		case o.TokenEmbedding != nil && kind == kindEmbedding:
			want = *o.TokenEmbedding
		case o.Output != nil && kind == kindOutput:
			want = *o.Output
		case override != nil:
			want = *override
		case o.Pure || !isBlocks(x.Base):
			want = x.Base
		case kind == kindOutput, tied && kind == kindEmbedding:
			want = x.head(t, o.Output)
		default:
			p := place{layer: down, n: m.Layers}
			if m.KVHeads > 0 {
				p.gqa = m.Heads / m.KVHeads
			}
			if kind.isValue() {
				p.layer, p.n = value, values
				value++
			} else if kind == kindDown {
				down++
				if m.Experts > 1 { // which need not lie in order
					p.layer = layerOf(t.Name)
				}
			}
			want = x.rules(kind, p, m)
		}
		chosen[i] = Chosen{fitting(want, t.Dims[0]), want}
	}
	return chosen
}

func (o *MixtureOptions) override(name string) *gguf.TensorType {
	for i := range o.Types {
		if o.Types[i].Pattern.MatchString(name) {
			return &o.Types[i].Type
		}
	}
	return nil
}

// head is the type of the output matrix, and of an embedding that is one.
func (x *Mixture) head(t *gguf.Tensor, output *gguf.TensorType) gguf.TensorType {
	length, _, _ := x.Base.Block()
	switch {
	case output != nil:
		return *output
	case x.Base == gguf.Q8_0 || t.Dims[0]%length != 0:
		return gguf.Q8_0
	}
	return gguf.Q6_K
}

// rules is the type of a matrix inside a block.
func (x *Mixture) rules(kind tensorKind, p place, m MixtureModel) gguf.TensorType {
	few := m.Experts == 8 // Mixtral: its attention is small beside its experts
	switch {
	case kind.isValue() && few, kind == kindKey && few:
		return gguf.Q8_0
	case kind.isValue():
		t := x.value.of(p, x.Base)
		if m.is70B() && (t == gguf.Q3_K || t == gguf.Q4_K) {
			t = gguf.Q5_K
		}
		return t
	case kind == kindDown:
		return x.down.of(p, x.Base)
	case kind == kindAttnOutput && few && x.output8 != 0:
		return x.output8
	case kind == kindAttnOutput && !few && x.output != 0:
		return x.output
	}
	return x.Base
}

// fitting returns t, or the type in place of it for rows of cols elements that are no
// whole blocks (tensor_type_fallback).
func fitting(t gguf.TensorType, cols uint64) gguf.TensorType {
	fits := func(t gguf.TensorType) bool {
		length, _, ok := t.Block()
		return ok && cols%length == 0
	}
	if fits(t) {
		return t
	}
	if next, ok := map[gguf.TensorType]gguf.TensorType{gguf.Q2_K: gguf.Q4_0, gguf.Q3_K: gguf.Q4_0, gguf.Q4_K: gguf.Q5_0, gguf.Q5_K: gguf.Q5_1, gguf.Q6_K: gguf.Q8_0}[t]; ok && fits(next) {
		return next
	}
	return gguf.F16
}

// isBlocks says whether a type packs several elements together.
func isBlocks(t gguf.TensorType) bool {
	length, _, _ := t.Block()
	return length > 1
}

type tensorKind int

const (
	kindOther tensorKind = iota
	kindOutput
	kindEmbedding
	kindQKV
	kindKVB
	kindValue
	kindKey
	kindAttnOutput
	kindDown
)

func (k tensorKind) isValue() bool { return k == kindValue || k == kindQKV || k == kindKVB }

// kindOf returns what a tensor is by its name (tensor_get_category).
func kindOf(name string) tensorKind {
	switch name {
	case "output.weight":
		return kindOutput
	case "token_embd.weight", "per_layer_token_embd.weight":
		return kindEmbedding
	}
	for _, k := range []struct {
		part string
		kind tensorKind
	}{
		{"attn_qkv.weight", kindQKV}, {"attn_kv_b.weight", kindKVB}, {"attn_v.weight", kindValue}, {"attn_k.weight", kindKey},
		{"attn_q.weight", kindOther}, {"attn_output.weight", kindAttnOutput}, {"ffn_up", kindOther}, {"ffn_gate", kindOther}, {"ffn_down", kindDown},
	} {
		if strings.Contains(name, k.part) {
			return k.kind
		}
	}
	return kindOther
}

// kept are parts of the names of matrices that are never quantised: norms, routers,
// positions, and what is small or no factor of a product (tensor_allows_quantization).
var kept = []string{
	"_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel", "per_layer_model_proj",
	"ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight",
	"time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight",
	"time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight",
	"time_mix_g1.weight", "time_mix_g2.weight", "time_mix_decay_w1.weight", "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight",
	"attn_rel_b.weight", ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger",
	"a.rvq.codebook", "mm.a.code_embd",
}

func isQuantizable(t *gguf.Tensor) bool {
	if len(t.Dims) < 2 || !slices.ContainsFunc(t.Dims[1:], func(d uint64) bool { return d > 1 }) || !strings.HasSuffix(t.Name, "weight") ||
		t.Name == "position_embd.weight" || t.Name == "token_types.weight" {
		return false
	}
	return !slices.ContainsFunc(kept, func(part string) bool { return strings.Contains(t.Name, part) })
}

// layerOf returns the number in blk.N., -1 for other tensors.
func layerOf(name string) int {
	layer := -1
	if _, err := fmt.Sscanf(name, "blk.%d.", &layer); err != nil {
		return -1
	}
	return layer
}

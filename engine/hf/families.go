package hf

import (
	"fmt"
	"slices"
	"strings"
)

// A family is one class of models of the Transformers library and the architecture it has in
// a GGUF file. Several may share an architecture; Export takes the first that fits.
type family struct {
	arch      string
	classes   []string // of config.json's architectures; Export writes the first
	modelType string
	rules     []rule
	layerNorm bool               // norms have a mean, and the key of their ε is another
	names     map[string]string  // of keys whose name in config.json is not the usual one
	extra     []field            // keys besides those that all have
	rotary    *rotary            // nil: the file does not say how wide it is
	ffn4      bool               // feed_forward_length is 4 times the width where config.json does not say
	acts      []string           // hidden_act; Export writes the first
	actKey    string             // its name, if another
	flags     []flag             // of config.json, for Export
	experts   bool               // the feed-forward layer is a mixture
	absent    map[string]float64 // what the library takes where config.json does not say and it is not what the engine takes
}

// rotary says where config.json has the part of a head that is rotated.
type rotary struct {
	names  []string
	absent float64
}

// A flag is a key of config.json that says what the tensors say, too.
type flag struct {
	name   string
	tensor string // it is true where the model has this
	absent bool   // … or does not have it
}

// A rule maps a tensor of a GGUF file, without .weight or .bias, to tensors of a checkpoint whose
// rows follow each other. # is the number of the block, * counts parts.
type rule struct {
	gguf string
	hf   []string
	form form
}

// A form is what happens to the numbers of a tensor on the way.
type form int

const (
	plain      form = iota
	pairedQ         // rotary pairs (i, i+E/2) of each query head become (2i, 2i+1)
	pairedK         // … of each key head
	interlaced      // rows are head, q k v, dimension; they become q k v, head, dimension
	transposed      // Conv1D: x·W in place of W·x
	plusOne         // norms by 1+w
	stacked         // parts become another dimension
)

func one(gguf, hf string, f form) rule { return rule{gguf, []string{hf}, f} }

// llamaRules are the names of most families.
func llamaRules(q, k form, more ...rule) []rule {
	const b = "model.layers.#."
	return append([]rule{
		one("token_embd", "model.embed_tokens", plain),
		one("blk.#.attn_norm", b+"input_layernorm", plain),
		one("blk.#.attn_q", b+"self_attn.q_proj", q),
		one("blk.#.attn_k", b+"self_attn.k_proj", k),
		one("blk.#.attn_v", b+"self_attn.v_proj", plain),
		one("blk.#.attn_output", b+"self_attn.o_proj", plain),
		one("blk.#.ffn_norm", b+"post_attention_layernorm", plain),
		one("blk.#.ffn_gate", b+"mlp.gate_proj", plain),
		one("blk.#.ffn_up", b+"mlp.up_proj", plain),
		one("blk.#.ffn_down", b+"mlp.down_proj", plain),
		one("output_norm", "model.norm", plain),
		one("output", "lm_head", plain),
	}, more...)
}

// replace returns rules in which those of the same tensor give way to others; a rule
// without parts only takes one away.
func replace(rules []rule, by ...rule) []rule {
	var out []rule
	for _, r := range rules {
		if !slices.ContainsFunc(by, func(n rule) bool { return n.gguf == r.gguf }) {
			out = append(out, r)
		}
	}
	for _, r := range by {
		if len(r.hf) > 0 {
			out = append(out, r)
		}
	}
	return out
}

var qkNorms = []rule{
	one("blk.#.attn_q_norm", "model.layers.#.self_attn.q_norm", plain),
	one("blk.#.attn_k_norm", "model.layers.#.self_attn.k_norm", plain),
}

// gemma1, gemma2 and gemma3 norm by 1+w.
var (
	gemma1 = replace(llamaRules(plain, plain),
		one("blk.#.attn_norm", "model.layers.#.input_layernorm", plusOne),
		one("blk.#.ffn_norm", "model.layers.#.post_attention_layernorm", plusOne),
		one("output_norm", "model.norm", plusOne))
	gemma2 = replace(gemma1,
		one("blk.#.post_attention_norm", "model.layers.#.post_attention_layernorm", plusOne),
		one("blk.#.ffn_norm", "model.layers.#.pre_feedforward_layernorm", plusOne),
		one("blk.#.post_ffw_norm", "model.layers.#.post_feedforward_layernorm", plusOne))
	gemma3 = replace(gemma2,
		one("blk.#.attn_q_norm", "model.layers.#.self_attn.q_norm", plusOne),
		one("blk.#.attn_k_norm", "model.layers.#.self_attn.k_norm", plusOne))
)

var (
	headWidth  = &rotary{absent: 1}
	attnBias   = flag{name: "attention_bias", tensor: "blk.0.attn_q.bias"}
	mlpBias    = flag{name: "mlp_bias", tensor: "blk.0.ffn_up.bias"}
	expertSize = field{"expert_feed_forward_length", count, []string{"moe_intermediate_size"}}
	window     = field{"attention.sliding_window", count, []string{"sliding_window"}}
)

// families lists what can be converted. Sources are the classes of convert_hf_to_gguf.py
// and the tables of gguf-py/gguf/tensor_mapping.py.
var families = []family{
	{
		arch: "llama", modelType: "mixtral", classes: []string{"MixtralForCausalLM"}, experts: true,
		rules: llamaRules(pairedQ, pairedK,
			one("blk.#.ffn_gate_inp", "model.layers.#.block_sparse_moe.gate", plain),
			one("blk.#.ffn_gate_exps", "model.layers.#.block_sparse_moe.experts.*.w1", stacked),
			one("blk.#.ffn_up_exps", "model.layers.#.block_sparse_moe.experts.*.w3", stacked),
			one("blk.#.ffn_down_exps", "model.layers.#.block_sparse_moe.experts.*.w2", stacked)),
		rotary: headWidth, acts: []string{"silu"}, names: map[string]string{"expert_count": "num_local_experts"},
		absent: map[string]float64{keyBase: 1e6},
	},
	{
		arch: "llama", modelType: "llama", classes: []string{"LlamaForCausalLM", "MistralForCausalLM", "LLaMAForCausalLM"},
		rules: llamaRules(pairedQ, pairedK), rotary: headWidth, acts: []string{"silu"}, flags: []flag{attnBias, mlpBias},
		absent: map[string]float64{keyRMS: 1e-6},
	},
	{
		arch: "phi2", modelType: "phi", classes: []string{"PhiForCausalLM"}, layerNorm: true, ffn4: true,
		rules: []rule{
			one("token_embd", "model.embed_tokens", plain),
			one("blk.#.attn_norm", "model.layers.#.input_layernorm", plain),
			one("blk.#.attn_q", "model.layers.#.self_attn.q_proj", plain),
			one("blk.#.attn_k", "model.layers.#.self_attn.k_proj", plain),
			one("blk.#.attn_v", "model.layers.#.self_attn.v_proj", plain),
			{"blk.#.attn_qkv", []string{"model.layers.#.self_attn.q_proj", "model.layers.#.self_attn.k_proj", "model.layers.#.self_attn.v_proj"}, plain},
			one("blk.#.attn_output", "model.layers.#.self_attn.dense", plain),
			one("blk.#.ffn_up", "model.layers.#.mlp.fc1", plain),
			one("blk.#.ffn_down", "model.layers.#.mlp.fc2", plain),
			one("output_norm", "model.final_layernorm", plain),
			one("output", "lm_head", plain),
		},
		rotary: &rotary{[]string{"partial_rotary_factor"}, 0.5}, acts: []string{"gelu_new", "gelu_pytorch_tanh", "gelu"},
	},
	{
		arch: "phi3", modelType: "phi3", classes: []string{"Phi3ForCausalLM"},
		rules: replace(llamaRules(plain, plain),
			one("blk.#.attn_qkv", "model.layers.#.self_attn.qkv_proj", plain),
			one("blk.#.ffn_up", "model.layers.#.mlp.gate_up_proj", plain),
			rule{gguf: "blk.#.attn_q"}, rule{gguf: "blk.#.attn_k"}, rule{gguf: "blk.#.attn_v"}, rule{gguf: "blk.#.ffn_gate"}),
		rotary: &rotary{[]string{"partial_rotary_factor"}, 1}, acts: []string{"silu"}, extra: []field{window},
	},
	{
		arch: "gpt2", modelType: "gpt2", classes: []string{"GPT2LMHeadModel"}, layerNorm: true, ffn4: true,
		rules: []rule{
			one("token_embd", "transformer.wte", plain),
			one("position_embd", "transformer.wpe", plain),
			one("blk.#.attn_norm", "transformer.h.#.ln_1", plain),
			one("blk.#.attn_qkv", "transformer.h.#.attn.c_attn", transposed),
			one("blk.#.attn_output", "transformer.h.#.attn.c_proj", transposed),
			one("blk.#.ffn_norm", "transformer.h.#.ln_2", plain),
			one("blk.#.ffn_up", "transformer.h.#.mlp.c_fc", transposed),
			one("blk.#.ffn_down", "transformer.h.#.mlp.c_proj", transposed),
			one("output_norm", "transformer.ln_f", plain),
			one("output", "lm_head", plain),
		},
		names: map[string]string{"block_count": "n_layer", "context_length": "n_positions", "embedding_length": "n_embd",
			"feed_forward_length": "n_inner", "attention.head_count": "n_head", "attention.layer_norm_epsilon": "layer_norm_epsilon"},
		acts: []string{"gelu_new", "gelu_pytorch_tanh", "gelu"}, actKey: "activation_function",
	},
	{
		arch: "gptneox", modelType: "gpt_neox", classes: []string{"GPTNeoXForCausalLM"}, layerNorm: true,
		rules: []rule{
			one("token_embd", "gpt_neox.embed_in", plain),
			one("blk.#.attn_norm", "gpt_neox.layers.#.input_layernorm", plain),
			one("blk.#.attn_qkv", "gpt_neox.layers.#.attention.query_key_value", interlaced),
			one("blk.#.attn_output", "gpt_neox.layers.#.attention.dense", plain),
			one("blk.#.ffn_norm", "gpt_neox.layers.#.post_attention_layernorm", plain),
			one("blk.#.ffn_up", "gpt_neox.layers.#.mlp.dense_h_to_4h", plain),
			one("blk.#.ffn_down", "gpt_neox.layers.#.mlp.dense_4h_to_h", plain),
			one("output_norm", "gpt_neox.final_layer_norm", plain),
			one("output", "embed_out", plain),
		},
		names:  map[string]string{"rope.freq_base": "rotary_emb_base"},
		rotary: &rotary{[]string{"rotary_pct", "partial_rotary_factor"}, 0.25},
		acts:   []string{"gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast"},
		extra:  []field{{"use_parallel_residual", yes, []string{"use_parallel_residual"}}},
	},
	{
		arch: "stablelm", modelType: "stablelm", classes: []string{"StableLmForCausalLM", "StableLMEpochForCausalLM"}, layerNorm: true,
		rules: llamaRules(plain, plain,
			one("blk.#.attn_q_norm", "model.layers.#.self_attn.q_layernorm.norms.*", stacked),
			one("blk.#.attn_k_norm", "model.layers.#.self_attn.k_layernorm.norms.*", stacked)),
		rotary: &rotary{[]string{"partial_rotary_factor", "rope_pct"}, 0.25}, acts: []string{"silu"},
		extra: []field{{"use_parallel_residual", yes, []string{"use_parallel_residual"}}},
		flags: []flag{{name: "use_qkv_bias", tensor: "blk.0.attn_q.bias"}, {name: "qk_layernorm", tensor: "blk.0.attn_q_norm.weight"},
			{name: "use_parallel_residual", tensor: "blk.0.ffn_norm.weight", absent: true}},
	},
	{
		arch: "qwen2", modelType: "qwen2", classes: []string{"Qwen2ForCausalLM"},
		rules: llamaRules(plain, plain), acts: []string{"silu"},
		absent: map[string]float64{keyRMS: 1e-6},
	},
	{
		arch: "qwen3", modelType: "qwen3", classes: []string{"Qwen3ForCausalLM"},
		rules: llamaRules(plain, plain, qkNorms...), acts: []string{"silu"}, flags: []flag{attnBias},
		absent: map[string]float64{keyRMS: 1e-6, keyKey: 128, keyValue: 128},
	},
	{
		arch: "qwen3moe", modelType: "qwen3_moe", classes: []string{"Qwen3MoeForCausalLM"}, experts: true,
		rules: replace(llamaRules(plain, plain, qkNorms...),
			one("blk.#.ffn_gate_inp", "model.layers.#.mlp.gate", plain),
			one("blk.#.ffn_gate_exps", "model.layers.#.mlp.experts.*.gate_proj", stacked),
			one("blk.#.ffn_up_exps", "model.layers.#.mlp.experts.*.up_proj", stacked),
			one("blk.#.ffn_down_exps", "model.layers.#.mlp.experts.*.down_proj", stacked)),
		acts: []string{"silu"}, extra: []field{expertSize}, flags: []flag{attnBias}, names: map[string]string{"expert_count": "num_experts"},
		absent: map[string]float64{keyRMS: 1e-6},
	},
	{
		arch: "gemma", modelType: "gemma", classes: []string{"GemmaForCausalLM"},
		rules: gemma1, acts: []string{"gelu_pytorch_tanh", "gelu"}, actKey: "hidden_activation",
		absent: map[string]float64{keyRMS: 1e-6, keyKey: 256, keyValue: 256},
	},
	{
		arch: "gemma2", modelType: "gemma2", classes: []string{"Gemma2ForCausalLM"},
		rules: gemma2, acts: []string{"gelu_pytorch_tanh"}, actKey: "hidden_activation",
		extra: []field{{"attn_logit_softcapping", number, []string{"attn_logit_softcapping"}},
			{"final_logit_softcapping", number, []string{"final_logit_softcapping"}}, window},
		absent: map[string]float64{keyRMS: 1e-6, keyKey: 256, keyValue: 256},
	},
	{
		arch: "gemma3", modelType: "gemma3_text", classes: []string{"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"},
		rules: gemma3, acts: []string{"gelu_pytorch_tanh"}, actKey: "hidden_activation", extra: []field{window},
		absent: map[string]float64{keyContext: 131072, "attention.head_count": 8, "attention.head_count_kv": 4, keyBase: 1e6, keyRMS: 1e-6, keyKey: 256, keyValue: 256},
	},
	{
		arch: "olmo2", modelType: "olmo2", classes: []string{"Olmo2ForCausalLM"},
		rules: replace(llamaRules(plain, plain, qkNorms...),
			rule{gguf: "blk.#.attn_norm"}, rule{gguf: "blk.#.ffn_norm"},
			one("blk.#.post_attention_norm", "model.layers.#.post_attention_layernorm", plain),
			one("blk.#.post_ffw_norm", "model.layers.#.post_feedforward_layernorm", plain)),
		acts: []string{"silu"}, flags: []flag{attnBias},
	},
	{
		arch: "starcoder2", modelType: "starcoder2", classes: []string{"Starcoder2ForCausalLM"}, layerNorm: true,
		rules: replace(llamaRules(plain, plain), rule{gguf: "blk.#.ffn_gate"},
			one("blk.#.ffn_up", "model.layers.#.mlp.c_fc", plain),
			one("blk.#.ffn_down", "model.layers.#.mlp.c_proj", plain)),
		names: map[string]string{"attention.layer_norm_epsilon": "norm_epsilon"},
		acts:  []string{"gelu_pytorch_tanh", "gelu_new", "gelu"}, flags: []flag{{name: "use_bias", tensor: "blk.0.attn_q.bias"}},
	},
}

// Classes returns the names in config.json's architectures that can be converted.
func Classes() []string {
	var out []string
	for _, f := range families {
		out = append(out, f.classes...)
	}
	return out
}

// familyOf finds the family of a config.json.
func familyOf(c config) (*family, error) {
	names, _ := c.m["architectures"].([]any)
	for _, v := range names {
		for i := range families {
			if name, _ := v.(string); slices.Contains(families[i].classes, name) {
				return &families[i], nil
			}
		}
	}
	if t, _ := c.m["model_type"].(string); len(names) == 0 && t != "" {
		for i := range families {
			if families[i].modelType == t {
				return &families[i], nil
			}
		}
	}
	return nil, fmt.Errorf("architectures is %v, which is not known; there are %s", c.m["architectures"], strings.Join(Classes(), ", "))
}

// nonTensors end the names of tensors of a checkpoint that are no weights: masks and
// frequencies that old versions of the library saved.
var nonTensors = []string{".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq", "attention.rope.freqs"}

// nonText begin the names of what a model with images has beside that of text.
var nonText = []string{"vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."}

func isNoTensor(name string) bool {
	if slices.ContainsFunc(nonText, func(start string) bool { return strings.HasPrefix(name, start) }) {
		return true
	}
	return slices.ContainsFunc(nonTensors, func(end string) bool { return strings.HasSuffix(name, end) })
}

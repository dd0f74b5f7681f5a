#!/usr/bin/env python3
"""Small random checkpoints and the logits that plain PyTorch computes from them.

Each model is written down as modeling_<type>.py of the Transformers library (4.46 to 4.57) has it, on the
names and layouts of the checkpoint; nothing of GGUF is in here. It needs PyTorch (made with 1.13)
and writes <folder>/{config.json,tokenizer.json,model.safetensors,logits.json} beside itself.
"""
import json, math, os, struct
import torch
import torch.nn.functional as F

V, D, L, FF, IDS = 24, 16, 2, 24, [1, 5, 9, 3, 3, 17, 20, 2, 11, 7]
DTYPE = {torch.float32: "F32", torch.bfloat16: "BF16"}


def save(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, t in tensors.items():
        raw = t.contiguous().view(torch.int32 if t.dtype == torch.float32 else torch.int16).numpy().tobytes()
        header[name] = {"dtype": DTYPE[t.dtype], "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


class Weights(dict):
    """Draws a tensor when it is first asked for."""
    def __call__(self, name, *shape):
        if name not in self:
            x = torch.randn(*shape) * 0.3
            if "norm" in name or "ln_" in name:
                x = x + (0 if self.gemma else 1) * ("bias" not in name)
            self[name] = x.to(self.dtype)
        return self[name].double()


def rms(x, w, eps=1e-5):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * w


def rotate_half(x):
    a, b = x.chunk(2, -1)
    return torch.cat([-b, a], -1)


def rope(x, dims, base=10000.0, freqs=lambda f: f):
    inv = freqs(1.0 / base ** (torch.arange(0, dims, 2).double() / dims))
    angle = torch.arange(x.shape[-2]).double()[:, None] * inv
    angle = torch.cat([angle, angle], -1)
    r = x[..., :dims]
    return torch.cat([r * angle.cos() + rotate_half(r) * angle.sin(), x[..., dims:]], -1)


def llama3(freq, factor=8.0, low=1.0, high=4.0, old=16):
    wave = 2 * math.pi / freq
    smooth = (old / wave - low) / (high - low)
    mid = (1 - smooth) * freq / factor + smooth * freq
    return torch.where(wave > old / low, freq / factor, torch.where(wave < old / high, freq, mid))


def softcap(x, cap):
    return cap * torch.tanh(x / cap) if cap else x


def attend(q, k, v, scale=None, window=len(IDS), cap=None):  # [heads, T, E]
    n = q.shape[0] // k.shape[0]
    k, v = k.repeat_interleave(n, 0), v.repeat_interleave(n, 0)
    s = softcap(q @ k.transpose(1, 2) * (scale or q.shape[-1] ** -0.5), cap)
    one = torch.ones(s.shape[1:])
    s = s.masked_fill((one.triu(1) + one.tril(-window)).bool(), -math.inf).softmax(-1)
    return (s @ v).transpose(0, 1).flatten(1)


def heads(x, n):
    return x.view(x.shape[0], n, -1).transpose(0, 1)


def llama_like(w, c):
    """llama, mistral, mixtral, qwen2, qwen3, gemma, olmo2."""
    kind, H, K = c["model_type"], c["num_attention_heads"], c["num_key_value_heads"]
    E = c.get("head_dim", D // H)
    gain = (lambda name, n: 1 + w(name, n)) if kind == "gemma" else w
    norm = lambda x, name: rms(x, gain(name, x.shape[-1]))
    freqs = (lambda f: llama3(f)) if "rope_scaling" in c else (lambda f: f)
    x = w("model.embed_tokens.weight", V, D)[IDS] * (D ** 0.5 if kind == "gemma" else 1)
    for l in range(L):
        p = f"model.layers.{l}."
        h = x if kind == "olmo2" else norm(x, p + "input_layernorm.weight")
        a = p + "self_attn."
        q, k, v = h @ w(a + "q_proj.weight", H * E, D).T, h @ w(a + "k_proj.weight", K * E, D).T, h @ w(a + "v_proj.weight", K * E, D).T
        if kind == "qwen2":
            q, k, v = q + w(a + "q_proj.bias", H * E), k + w(a + "k_proj.bias", K * E), v + w(a + "v_proj.bias", K * E)
        if kind == "olmo2":
            q, k = norm(q, a + "q_norm.weight"), norm(k, a + "k_norm.weight")
        q, k, v = heads(q, H), heads(k, K), heads(v, K)
        if kind == "qwen3":
            q, k = norm(q, a + "q_norm.weight"), norm(k, a + "k_norm.weight")
        h = attend(rope(q, E, freqs=freqs), rope(k, E, freqs=freqs), v) @ w(a + "o_proj.weight", D, H * E).T
        x = x + (norm(h, p + "post_attention_layernorm.weight") if kind == "olmo2" else h)
        h = x if kind == "olmo2" else norm(x, p + "post_attention_layernorm.weight")
        if kind == "mixtral":
            m, out = p + "block_sparse_moe.", torch.zeros_like(h)
            prob, best = (h @ w(m + "gate.weight", 4, D).T).softmax(-1).topk(2, -1)
            prob = prob / prob.sum(-1, keepdim=True)
            for e in range(4):
                n = f"{m}experts.{e}."
                y = (F.silu(h @ w(n + "w1.weight", FF, D).T) * (h @ w(n + "w3.weight", FF, D).T)) @ w(n + "w2.weight", D, FF).T
                out = out + y * (prob * (best == e)).sum(-1, keepdim=True)
            h = out
        else:
            act = (lambda y: F.gelu(y, approximate="tanh")) if kind == "gemma" else F.silu
            m = p + "mlp."
            h = (act(h @ w(m + "gate_proj.weight", FF, D).T) * (h @ w(m + "up_proj.weight", FF, D).T)) @ w(m + "down_proj.weight", D, FF).T
        x = x + (norm(h, p + "post_feedforward_layernorm.weight") if kind == "olmo2" else h)
    x = norm(x, "model.norm.weight")
    return x @ (w("model.embed_tokens.weight") if c["tie_word_embeddings"] else w("lm_head.weight", V, D)).T


def linear(w, x, name, n):
    return x @ w(name + ".weight", n, x.shape[-1]).T + w(name + ".bias", n)


def layer_norm(w, x, name):
    return F.layer_norm(x, (D,), w(name + ".weight", D), w(name + ".bias", D), 1e-5)


def gelu(x):
    return F.gelu(x, approximate="tanh")


def gpt2(w, c):
    conv = lambda x, name, n: x @ w(name + ".weight", x.shape[-1], n) + w(name + ".bias", n)
    x = w("transformer.wte.weight", V, D)[IDS] + w("transformer.wpe.weight", 32, D)[: len(IDS)]
    for l in range(L):
        p = f"transformer.h.{l}."
        q, k, v = conv(layer_norm(w, x, p + "ln_1"), p + "attn.c_attn", 3 * D).split(D, -1)
        x = x + conv(attend(heads(q, 4), heads(k, 4), heads(v, 4)), p + "attn.c_proj", D)
        x = x + conv(gelu(conv(layer_norm(w, x, p + "ln_2"), p + "mlp.c_fc", 4 * D)), p + "mlp.c_proj", D)
    return layer_norm(w, x, "transformer.ln_f") @ w("transformer.wte.weight").T


def gpt_neox(w, c):
    H, E = 2, D // 2
    x = w("gpt_neox.embed_in.weight", V, D)[IDS]
    for l in range(L):
        p = f"gpt_neox.layers.{l}."
        qkv = linear(w, layer_norm(w, x, p + "input_layernorm"), p + "attention.query_key_value", 3 * D)
        q, k, v = qkv.view(len(IDS), H, 3 * E).transpose(0, 1).split(E, -1)
        a = linear(w, attend(rope(q, E // 4), rope(k, E // 4), v), p + "attention.dense", D)
        m = linear(w, gelu(linear(w, layer_norm(w, x, p + "post_attention_layernorm"), p + "mlp.dense_h_to_4h", FF)), p + "mlp.dense_4h_to_h", D)
        x = x + a + m
    return layer_norm(w, x, "gpt_neox.final_layer_norm") @ w("embed_out.weight", V, D).T


def phi(w, c):
    H, E = 2, D // 2
    x = w("model.embed_tokens.weight", V, D)[IDS]
    for l in range(L):
        p = f"model.layers.{l}."
        h = layer_norm(w, x, p + "input_layernorm")
        q, k, v = (heads(linear(w, h, p + f"self_attn.{n}_proj", D), H) for n in "qkv")
        a = linear(w, attend(rope(q, E // 2), rope(k, E // 2), v), p + "self_attn.dense", D)
        x = x + a + linear(w, gelu(linear(w, h, p + "mlp.fc1", 4 * D)), p + "mlp.fc2", D)
    return linear(w, layer_norm(w, x, "model.final_layernorm"), "lm_head", V)


def project(w, h, a, n, E, bias=False):
    """q, k and v of n = (query, key and value) heads of E numbers."""
    y = [h @ w(f"{a}{x}_proj.weight", m * E, D).T + (w(f"{a}{x}_proj.bias", m * E) if bias else 0) for x, m in zip("qkv", n)]
    return [heads(x, m) for x, m in zip(y, n)]


def gated(w, h, m, act, n=FF):
    return (act(h @ w(m + "gate_proj.weight", n, D).T) * (h @ w(m + "up_proj.weight", n, D).T)) @ w(m + "down_proj.weight", D, n).T


def gemma23(w, c):
    """gemma2, whose blocks 0, 2, … attend inside the window, and gemma3, whose blocks but for each sixth do."""
    third, eps = c["model_type"] == "gemma3_text", c["rms_norm_eps"]
    H, K, E = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
    norm = lambda x, name: rms(x, 1 + w(name, x.shape[-1]), eps)
    x = w("model.embed_tokens.weight", V, D)[IDS] * D ** 0.5
    for l in range(c["num_hidden_layers"]):
        p = f"model.layers.{l}."
        local = (l + 1) % c["sliding_window_pattern"] != 0 if third else l % 2 == 0
        base, factor = (c["rope_local_base_freq"], 1) if third and local else (c["rope_theta"], c["rope_scaling"]["factor"] if third else 1)
        q, k, v = project(w, norm(x, p + "input_layernorm.weight"), p + "self_attn.", (H, K, K), E)
        if third:
            q, k = norm(q, p + "self_attn.q_norm.weight"), norm(k, p + "self_attn.k_norm.weight")
        q, k = (rope(y, E, base, lambda f: f / factor) for y in (q, k))
        h = attend(q, k, v, c["query_pre_attn_scalar"] ** -0.5, c["sliding_window"] if local else len(IDS), c["attn_logit_softcapping"])
        x = x + norm(h @ w(p + "self_attn.o_proj.weight", D, H * E).T, p + "post_attention_layernorm.weight")
        h = gated(w, norm(x, p + "pre_feedforward_layernorm.weight"), p + "mlp.", gelu)
        x = x + norm(h, p + "post_feedforward_layernorm.weight")
    return softcap(norm(x, "model.norm.weight") @ w("model.embed_tokens.weight").T, c["final_logit_softcapping"])


def qwen3_moe(w, c):
    H, K, E, N = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"], c["num_experts"]
    norm = lambda x, name: rms(x, w(name, x.shape[-1]))
    x = w("model.embed_tokens.weight", V, D)[IDS]
    for l in range(L):
        p = f"model.layers.{l}."
        q, k, v = project(w, norm(x, p + "input_layernorm.weight"), p + "self_attn.", (H, K, K), E)
        q, k = norm(q, p + "self_attn.q_norm.weight"), norm(k, p + "self_attn.k_norm.weight")
        x = x + attend(rope(q, E, c["rope_theta"]), rope(k, E, c["rope_theta"]), v) @ w(p + "self_attn.o_proj.weight", D, H * E).T
        h = norm(x, p + "post_attention_layernorm.weight")
        prob, best = (h @ w(p + "mlp.gate.weight", N, D).T).softmax(-1).topk(c["num_experts_per_tok"], -1)
        if c["norm_topk_prob"]:
            prob = prob / prob.sum(-1, keepdim=True)
        for e in range(N):
            x = x + gated(w, h, f"{p}mlp.experts.{e}.", F.silu, c["moe_intermediate_size"]) * (prob * (best == e)).sum(-1, keepdim=True)
    return norm(x, "model.norm.weight") @ w("lm_head.weight", V, D).T


def phi3(w, c):
    """With longrope, a text within the original context has the short factors."""
    H, K = c["num_attention_heads"], c["num_key_value_heads"]
    E = D // H
    dims, r, old = int(E * c.get("partial_rotary_factor", 1)), c.get("rope_scaling"), c["original_max_position_embeddings"]
    scale = math.sqrt(1 + math.log(c["max_position_embeddings"] / old) / math.log(old)) if r else 1
    turn = lambda x: torch.cat([rope(x, dims, freqs=lambda f: f / (torch.tensor(r["short_factor"]).double() if r else 1))[..., :dims] * scale, x[..., dims:]], -1)
    x = w("model.embed_tokens.weight", V, D)[IDS]
    for l in range(L):
        p = f"model.layers.{l}."
        h = rms(x, w(p + "input_layernorm.weight", D)) @ w(p + "self_attn.qkv_proj.weight", (H + 2 * K) * E, D).T
        q, k, v = h.split([H * E, K * E, K * E], -1)
        x = x + attend(turn(heads(q, H)), turn(heads(k, K)), heads(v, K)) @ w(p + "self_attn.o_proj.weight", D, H * E).T
        gate, up = (rms(x, w(p + "post_attention_layernorm.weight", D)) @ w(p + "mlp.gate_up_proj.weight", 2 * FF, D).T).chunk(2, -1)
        x = x + (up * F.silu(gate)) @ w(p + "mlp.down_proj.weight", D, FF).T
    return rms(x, w("model.norm.weight", D)) @ w("lm_head.weight", V, D).T


def stablelm(w, c):
    H, K = c["num_attention_heads"], c["num_key_value_heads"]
    E = D // H
    dims = int(E * c["partial_rotary_factor"])
    per_head = lambda x, name: torch.stack([F.layer_norm(y, (E,), w(f"{name}.norms.{i}.weight", E), None, c["layer_norm_eps"]) for i, y in enumerate(x)])
    x = w("model.embed_tokens.weight", V, D)[IDS]
    for l in range(L):
        p = f"model.layers.{l}."
        h = layer_norm(w, x, p + "input_layernorm")
        q, k, v = project(w, h, p + "self_attn.", (H, K, K), E, c["use_qkv_bias"])
        if c["qk_layernorm"]:
            q, k = per_head(q, p + "self_attn.q_layernorm"), per_head(k, p + "self_attn.k_layernorm")
        a = attend(rope(q, dims), rope(k, dims), v) @ w(p + "self_attn.o_proj.weight", D, D).T
        if not c["use_parallel_residual"]:
            h = layer_norm(w, x + a, p + "post_attention_layernorm")
        x = x + a + gated(w, h, p + "mlp.", F.silu)
    return layer_norm(w, x, "model.norm") @ w("lm_head.weight", V, D).T


def starcoder2(w, c):
    H, K = c["num_attention_heads"], c["num_key_value_heads"]
    E = D // H
    x = w("model.embed_tokens.weight", V, D)[IDS]
    for l in range(L):
        p = f"model.layers.{l}."
        q, k, v = project(w, layer_norm(w, x, p + "input_layernorm"), p + "self_attn.", (H, K, K), E, True)
        x = x + linear(w, attend(rope(q, E, c["rope_theta"]), rope(k, E, c["rope_theta"]), v), p + "self_attn.o_proj", D)
        x = x + linear(w, gelu(linear(w, layer_norm(w, x, p + "post_attention_layernorm"), p + "mlp.c_fc", FF)), p + "mlp.c_proj", D)
    return layer_norm(w, x, "model.norm") @ w("model.embed_tokens.weight").T


BASE = dict(hidden_size=D, num_hidden_layers=L, intermediate_size=FF, num_attention_heads=4, num_key_value_heads=2, vocab_size=V,
            max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0, hidden_act="silu", tie_word_embeddings=False)
NORM = dict(hidden_size=D, num_hidden_layers=L, num_attention_heads=2, vocab_size=V, max_position_embeddings=64, layer_norm_eps=1e-5, tie_word_embeddings=False)
GEMMA = dict(hidden_size=D, num_hidden_layers=L, intermediate_size=FF, num_attention_heads=4, num_key_value_heads=2, vocab_size=V, head_dim=6,
             max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=1e4, hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=6,
             sliding_window=4, tie_word_embeddings=True)
STABLE = dict(NORM, model_type="stablelm", num_attention_heads=4, num_key_value_heads=2, intermediate_size=FF, partial_rotary_factor=0.5, rope_theta=1e4, hidden_act="silu")
MODELS = [
    ("LlamaForCausalLM", llama_like, dict(BASE, model_type="llama", rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16))),
    ("MixtralForCausalLM", llama_like, dict(BASE, model_type="mixtral", num_local_experts=4, num_experts_per_tok=2)),
    ("Qwen2ForCausalLM", llama_like, dict(BASE, model_type="qwen2", tie_word_embeddings=True)),
    ("Qwen3ForCausalLM", llama_like, dict(BASE, model_type="qwen3", head_dim=6)),
    ("GemmaForCausalLM", llama_like, dict(BASE, model_type="gemma", head_dim=6, hidden_act="gelu_pytorch_tanh", tie_word_embeddings=True)),
    ("Olmo2ForCausalLM", llama_like, dict(BASE, model_type="olmo2")),
    ("GPT2LMHeadModel", gpt2, dict(model_type="gpt2", n_embd=D, n_layer=L, n_head=4, n_positions=32, n_ctx=32, vocab_size=V,
                                   layer_norm_epsilon=1e-5, activation_function="gelu_new")),
    ("GPTNeoXForCausalLM", gpt_neox, dict(NORM, model_type="gpt_neox", intermediate_size=FF, rotary_pct=0.25, hidden_act="gelu_new", use_parallel_residual=True)),
    ("PhiForCausalLM", phi, dict(NORM, model_type="phi", intermediate_size=4 * D, partial_rotary_factor=0.5, hidden_act="gelu_new")),
    ("Gemma3ForCausalLM", gemma23, dict(GEMMA, model_type="gemma3_text", num_hidden_layers=7, rms_norm_eps=1e-3, rope_theta=1e6, rope_local_base_freq=1e4,
        rope_scaling=dict(rope_type="linear", factor=8.0), sliding_window_pattern=6, attn_logit_softcapping=None, final_logit_softcapping=None)),
    ("Gemma2ForCausalLM", gemma23, dict(GEMMA, model_type="gemma2", attn_logit_softcapping=2.0, final_logit_softcapping=5.0)),
    ("Qwen3MoeForCausalLM", qwen3_moe, dict(BASE, model_type="qwen3_moe", head_dim=6, rope_theta=1e6, num_experts=5, num_experts_per_tok=2,
        moe_intermediate_size=8, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[])),
    ("Phi3ForCausalLM", phi3, dict(BASE, model_type="phi3", original_max_position_embeddings=64, sliding_window=2047)),
    ("Phi3ForCausalLM", phi3, dict(BASE, model_type="phi3", num_attention_heads=2, original_max_position_embeddings=16, partial_rotary_factor=0.75,
        rope_scaling=dict(type="longrope", short_factor=[1.0, 1.5, 2.5], long_factor=[1.0, 4.0, 9.0])), "phi3_longrope"),
    ("StableLmForCausalLM", stablelm, dict(STABLE, use_parallel_residual=False, qk_layernorm=False, use_qkv_bias=True)),
    ("StableLmForCausalLM", stablelm, dict(STABLE, use_parallel_residual=True, qk_layernorm=True, use_qkv_bias=False), "stablelm_parallel"),
    ("Starcoder2ForCausalLM", starcoder2, dict(NORM, model_type="starcoder2", num_attention_heads=4, num_key_value_heads=2, intermediate_size=FF, rope_theta=1e5,
        norm_epsilon=1e-5, hidden_act="gelu_pytorch_tanh", use_bias=True, tie_word_embeddings=True)),
]

for seed, (name, forward, config, *folder) in enumerate(MODELS):
    torch.manual_seed(seed)
    w = Weights()
    w.dtype = torch.bfloat16 if seed % 2 else torch.float32
    w.gemma = config["model_type"].startswith("gemma")
    logits = forward(w, config)
    out = os.path.join(os.path.dirname(os.path.abspath(__file__)), *(folder or [config["model_type"]]))
    os.makedirs(out, exist_ok=True)
    save(os.path.join(out, "model.safetensors"), w)
    vocab = {chr(97 + i): i for i in range(V)}
    for file, value in [("config.json", dict(config, architectures=[name], bos_token_id=1, eos_token_id=2)),
                        ("tokenizer.json", {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
                                            "model": {"type": "BPE", "vocab": vocab, "merges": []}}),
                        ("logits.json", {"ids": IDS, "logits": [[float("%.9g" % x) for x in row] for row in logits.tolist()]})]:
        with open(os.path.join(out, file), "w") as f:
            json.dump(value, f)
            f.write("\n")

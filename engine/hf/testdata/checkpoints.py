#!/usr/bin/env python3
"""Small random checkpoints and the logits that plain PyTorch computes from them.

Each model is written down as modeling_<type>.py of the Transformers library (4.46) has it, on the
names and layouts of the checkpoint; nothing of GGUF is in here. It needs PyTorch (made with 1.13)
and writes <type>/{config.json,tokenizer.json,model.safetensors,logits.json} beside itself.
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


def attend(q, k, v, scale=None):  # [heads, T, E]
    n = q.shape[0] // k.shape[0]
    k, v = k.repeat_interleave(n, 0), v.repeat_interleave(n, 0)
    s = q @ k.transpose(1, 2) * (scale or q.shape[-1] ** -0.5)
    s = s.masked_fill(torch.ones(s.shape[1:]).triu(1).bool(), -math.inf).softmax(-1)
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


BASE = dict(hidden_size=D, num_hidden_layers=L, intermediate_size=FF, num_attention_heads=4, num_key_value_heads=2, vocab_size=V,
            max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0, hidden_act="silu", tie_word_embeddings=False)
NORM = dict(hidden_size=D, num_hidden_layers=L, num_attention_heads=2, vocab_size=V, max_position_embeddings=64, layer_norm_eps=1e-5, tie_word_embeddings=False)
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
]

for seed, (name, forward, config) in enumerate(MODELS):
    torch.manual_seed(seed)
    w = Weights()
    w.dtype = torch.bfloat16 if seed % 2 else torch.float32
    w.gemma = config["model_type"] == "gemma"
    logits = forward(w, config)
    out = os.path.join(os.path.dirname(os.path.abspath(__file__)), config["model_type"])
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

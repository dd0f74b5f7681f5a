"""What llama.cpp chooses for each tensor: writes mixture.jsonl.

    python3 mixture.py DIR > mixture.jsonl

DIR holds llama.cpp's shared libraries (npm install node-llama-cpp@3.22.1 has v0.5.0's in
node_modules/@node-llama-cpp/linux-x64/bins/linux-x64). llama_model_quantize makes a dry run
of files with all names and shapes that the rules ask for, and says the types in its log. A
line is a model, or what its tensors become, a letter of CODES each.
"""
import ctypes, glob, json, os, re, struct, sys, tempfile

TYPES = {"F32": 0, "BF16": 32, "F16": 1, "Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q5_K_S": 16, "Q5_1": 9, "Q5_0": 8,
         "Q4_K_M": 15, "Q4_K_S": 14, "Q4_1": 3, "Q4_0": 2, "Q3_K_L": 13, "Q3_K_M": 12, "Q3_K_S": 11, "Q2_K": 10, "Q2_K_S": 21}
GGML = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_K": 10, "q3_K": 11, "q4_K": 12, "q5_K": 13, "q6_K": 14, "bf16": 30}
CODES = {"F32": "F", "F16": "H", "BF16": "B", "Q8_0": "8", "Q6_K": "6", "Q5_K": "5", "Q4_K": "4", "Q3_K": "3", "Q2_K": "2", "Q4_0": "a", "Q4_1": "b", "Q5_0": "c", "Q5_1": "d"}
COUNT = 43  # GGML_TYPE_COUNT; checked below


def string(s):
    return struct.pack("<Q", len(s)) + s.encode()


def write(path, arch, keys, tensors):
    kv = [string("general.architecture") + struct.pack("<I", 8) + string(arch)]
    for k, v in keys.items():
        kv.append(string(arch + "." + k) + (struct.pack("<If", 6, v) if isinstance(v, float) else struct.pack("<II", 4, v)))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(kv)) + b"".join(kv)
    offset = 0
    for name, dims in tensors:
        size = 4
        for d in dims:
            size *= d
        head += string(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", 0, offset)
        offset += (size + 31) // 32 * 32
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32 + offset))


def model(name, arch, layers, heads, kv, experts, block, outside=("token_embd.weight", "output.weight", "output_norm.weight"), cols=256, ff=256):
    tensors = [(n, [cols] if "norm" in n else [cols, 2]) for n in outside]
    for l in range(layers):
        for n in block:
            if n.endswith("bias") or "norm" in n:
                dims = [cols]
            elif "_exps" in n:
                dims = [ff if "down" in n else cols, 2, experts]
            else:
                dims = [ff if "ffn_down" in n else cols, 2]
            tensors.append((f"blk.{l}.{n}", dims))
    return {"name": name, "arch": arch, "layers": layers, "heads": heads, "kv_heads": kv, "experts": experts, "tensors": tensors}


ATTN = ["attn_norm.weight", "attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight", "ffn_norm.weight"]
FFN = ["ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"]
MOE = ["ffn_gate_inp.weight", "ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"]
TIED = ("token_embd.weight", "output_norm.weight")
models = [
    model("llama", "llama", 17, 8, 8, 0, ATTN + FFN),
    model("llama tied, GQA", "llama", 12, 8, 2, 0, ATTN + FFN, TIED),
    model("llama of 32 layers", "llama", 32, 8, 8, 0, ["attn_v.weight", "attn_output.weight", "ffn_down.weight"]),
    model("llama of 80 layers, GQA", "llama", 80, 8, 1, 0, ["attn_v.weight", "ffn_down.weight"]),
    model("qwen2 of 80 layers", "qwen2", 80, 8, 4, 0, ["attn_v.weight", "ffn_down.weight"], TIED),
    model("8 experts", "llama", 17, 8, 2, 8, ATTN + MOE),
    model("4 experts", "qwen3moe", 9, 8, 4, 4, ATTN + ["attn_q_norm.weight", "attn_k_norm.weight"] + MOE),
    model("qwen2, rows of 96", "qwen2", 9, 2, 1, 0, ATTN + ["attn_q.bias", "attn_v.bias"] + FFN, cols=96, ff=160),
    model("llama, rows of 100", "llama", 5, 2, 2, 0, ATTN + FFN, TIED, cols=100, ff=48),
    model("phi2", "phi2", 17, 8, 8, 0, ["attn_norm.weight", "attn_norm.bias", "attn_qkv.weight", "attn_qkv.bias", "attn_output.weight", "ffn_up.weight", "ffn_down.weight", "ffn_down.bias"]),
    model("gpt2", "gpt2", 12, 8, 8, 0, ["attn_norm.weight", "attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight"], TIED + ("position_embd.weight",)),
]


class Params(ctypes.Structure):
    _fields_ = [("nthread", ctypes.c_int32), ("ftype", ctypes.c_int32), ("output", ctypes.c_int32), ("embedding", ctypes.c_int32),
                ("allow_requantize", ctypes.c_bool), ("quantize_output", ctypes.c_bool), ("only_copy", ctypes.c_bool), ("pure", ctypes.c_bool),
                ("keep_split", ctypes.c_bool), ("dry_run", ctypes.c_bool), ("pointers", ctypes.c_void_p * 4), ("rest", ctypes.c_uint64 * 16)]


lib_dir = sys.argv[1]
ctypes.CDLL(glob.glob(lib_dir + "/libggml-base.so")[0], ctypes.RTLD_GLOBAL)
ctypes.CDLL(glob.glob(lib_dir + "/libggml.*so")[0], ctypes.RTLD_GLOBAL).ggml_backend_load_all_from_path(lib_dir.encode())
lib = ctypes.CDLL(glob.glob(lib_dir + "/libllama.*so")[0])
lib.llama_model_quantize_default_params.restype = Params
lib.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Params)]
log = []
LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
keep = LOG(lambda level, text, data: log.append(text.decode()))
lib.llama_log_set(keep, None)
p = lib.llama_model_quantize_default_params()
assert (p.nthread, p.ftype, p.output, p.embedding, p.quantize_output, p.dry_run) == (0, 7, COUNT, COUNT, True, False), "another llama_model_quantize_params"

with tempfile.TemporaryDirectory() as dir:
    for m in models:
        path = os.path.join(dir, "m.gguf")
        width = m["tensors"][0][1][0]
        write(path, m["arch"], {
            "context_length": 64, "embedding_length": width, "block_count": m["layers"], "feed_forward_length": width, "vocab_size": 2,
            "attention.head_count": m["heads"], "attention.head_count_kv": m["kv_heads"], "expert_count": m["experts"], "expert_used_count": min(m["experts"], 2),
            "expert_feed_forward_length": width, "attention.layer_norm_rms_epsilon": 1e-5, "attention.layer_norm_epsilon": 1e-5,
        }, m["tensors"])
        print(json.dumps(m))
        cases = [(t, {}) for t in TYPES]
        if m["name"] in ("llama", "llama tied, GQA"):
            cases += [("Q4_K_M", o) for o in ({"pure": True}, {"leave_output": True}, {"output": "q8_0"}, {"embedding": "q2_K"}, {"output": "q5_1", "embedding": "f16"})] + [("F16", {"output": "q6_K"})]
        for name, o in cases:
            p = lib.llama_model_quantize_default_params()
            p.nthread, p.ftype, p.dry_run, p.allow_requantize = 1, TYPES[name], True, True
            p.pure, p.quantize_output = o.get("pure", False), not o.get("leave_output", False)
            p.output, p.embedding = GGML.get(o.get("output"), COUNT), GGML.get(o.get("embedding"), COUNT)
            log.clear()
            failed = lib.llama_model_quantize(path.encode(), b"", ctypes.byref(p))
            types = {}
            for line in re.findall(r"\[ *\d+/ *\d+\] (\S+) .*?size = (.*)", "".join(log)):
                to = re.search(r"\((\w+)\)", line[1])
                types[line[0]] = (to.group(1) if to else "f32").upper()
            if failed:
                why = re.search(r"failed to quantize: (.*)", "".join(log)).group(1)
                print(json.dumps({"type": name, **o, "error": why}))
                continue
            assert len(types) == len(m["tensors"]), "".join(log)
            print(json.dumps({"type": name, **o, "types": "".join(CODES[types[n]] for n, _ in m["tensors"])}))

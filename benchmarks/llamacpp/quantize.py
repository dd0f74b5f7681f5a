"""Compares guardcpu quantize with llama.cpp: the type of every tensor, and its bytes.

    python3 benchmarks/llamacpp/quantize.py GUARDCPU DIR MODEL.gguf... > benchmarks/results/llamacpp-quantize.txt

DIR holds llama.cpp's shared libraries, as in main.go. Both write the model in every type of
llama-quantize that needs no importance matrix (or those of the variable TYPES, such as
Q4_K_M,Q2_K); a line says how many tensors of each type have the same bytes. Another type of
a tensor is a failure, other bytes are where the packers round differently: the line says the
root mean square error of both against the original then.
"""
import ctypes, glob, json, math, os, subprocess, sys, tempfile

TYPES = {"F32": 0, "BF16": 32, "F16": 1, "Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q5_K_S": 16, "Q5_1": 9, "Q5_0": 8,
         "Q4_K_M": 15, "Q4_K_S": 14, "Q4_1": 3, "Q4_0": 2, "Q3_K_L": 13, "Q3_K_M": 12, "Q3_K_S": 11, "Q2_K": 10}
if "TYPES" in os.environ:
    TYPES = {t: TYPES[t] for t in os.environ["TYPES"].split(",")}
guardcpu, libs, models = sys.argv[1], sys.argv[2], sys.argv[3:]


class Params(ctypes.Structure):
    _fields_ = [("nthread", ctypes.c_int32), ("ftype", ctypes.c_int32), ("types", ctypes.c_int32 * 2),
                ("allow_requantize", ctypes.c_bool), ("rest", ctypes.c_uint64 * 24)]


base = ctypes.CDLL(glob.glob(libs + "/libggml-base.so")[0], ctypes.RTLD_GLOBAL)
ctypes.CDLL(glob.glob(libs + "/libggml.*so")[0], ctypes.RTLD_GLOBAL).ggml_backend_load_all_from_path(libs.encode())
lib = ctypes.CDLL(glob.glob(libs + "/libllama.*so")[0])
lib.llama_model_quantize_default_params.restype = Params
lib.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Params)]
LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
quiet = LOG(lambda level, text, data: None)
lib.llama_log_set(quiet, None)


def tensors(path):
    """The type and the bytes of each tensor, and the keys."""
    info = json.loads(subprocess.run([guardcpu, "inspect", "--json", path], check=True, capture_output=True).stdout)
    data = open(path, "rb").read()
    out = {}
    for t in info["tensors"]:
        start = info["data_offset"] + t["offset"]
        out[t["name"]] = (t["type"], data[start:start + t["bytes"]])
    return out, {k["key"]: (k["type"], k["value"]) for k in info["metadata"]}


def floats(path, as_f32):
    subprocess.run([guardcpu, "quantize", "--force", "--type", "F32", path, as_f32], check=True, capture_output=True)
    return tensors(as_f32)[0]


def rmse(a, b):
    import numpy
    x, y = (numpy.frombuffer(v[1], dtype="<f4").astype("f8") for v in (a, b))
    return math.sqrt(((x - y) ** 2).mean())


bad = 0
with tempfile.TemporaryDirectory() as dir:
    ours, theirs, scratch = (os.path.join(dir, n + ".gguf") for n in ("ours", "theirs", "scratch"))
    for model in models:
        original = floats(model, scratch)
        for name, ftype in TYPES.items():
            p = lib.llama_model_quantize_default_params()
            p.nthread, p.ftype, p.allow_requantize = 1, ftype, True
            if lib.llama_model_quantize(model.encode(), theirs.encode(), ctypes.byref(p)):
                sys.exit(f"llama_model_quantize failed on {model}, {name}")
            done = subprocess.run([guardcpu, "quantize", "--force", "--type", name, model, ours], capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            (a, keys_a), (b, keys_b) = tensors(ours), tensors(theirs)
            other = [n for n in b if a[n][0] != b[n][0]]
            keys = [k for k in set(keys_a) | set(keys_b) if keys_a.get(k) != keys_b.get(k)]
            counts, differ = {}, {}
            for n, (t, data) in b.items():
                c = counts.setdefault(t, [0, 0])
                c[0] += 1
                if data == a[n][1]:
                    c[1] += 1
                elif t == a[n][0]:
                    differ.setdefault(t, []).append(n)
            line = {"model": os.path.basename(model), "type": name, "same_bytes": {t: f"{c[1]} of {c[0]}" for t, c in counts.items()}}
            if differ:
                fa, fb = floats(ours, scratch), floats(theirs, os.path.join(dir, "theirs32.gguf"))
                line["rmse_ours_over_theirs"] = {t: "%.4f to %.4f" % (min(r), max(r)) for t, r in
                                                 ((t, [rmse(fa[n], original[n]) / rmse(fb[n], original[n]) for n in names]) for t, names in differ.items())}
            if other or keys:
                line["other_types"], line["other_keys"] = other, keys
                bad += 1
            print(json.dumps(line), flush=True)
print("types and keys agree" if bad == 0 else f"{bad} differ")
sys.exit(bad != 0)

"""What guardcpu's training step and attribution are compared with: PyTorch on CPU.

    python3 train.py --shape 110m --threads 2 --what train,attribute

A llama model as a PyTorch user would write it (RMSNorm, rotary embedding, grouped
heads, SwiGLU, explicit softmax), random weights, cross-entropy over all positions:

    forward            loss without a gradient
    forward+backward   zero_grad(set_to_none), loss, backward
    step               the same, then torch.optim.AdamW
    attribute=loop     a backward a sample, then the dot product with a fixed gradient
    attribute=jvp      the derivative of all samples' losses along that gradient, in one
                       pass of forward-mode automatic differentiation

Each measurement is one line of JSON: {"name":…,"keys":{…},"value":…,"unit":…}, the median of the
repetitions. The runner sets the environment that makes PyTorch fast (suites.go says which).
"""

import argparse
import json
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

# width, layers, heads, key-value heads, feed-forward width, tied output: as in guardcpu bench.
SHAPES = {
    "15m": (288, 6, 6, 6, 768, True),
    "110m": (768, 12, 12, 12, 2048, True),
    "1.1b": (2048, 22, 32, 4, 5632, False),
}
VOCAB = 32000


class RMSNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


class Block(nn.Module):
    def __init__(self, d, heads, kv_heads, ff):
        super().__init__()
        self.heads, self.kv_heads, self.e = heads, kv_heads, d // heads
        self.norm1, self.norm2 = RMSNorm(d), RMSNorm(d)
        self.q = nn.Linear(d, d, bias=False)
        self.k = nn.Linear(d, kv_heads * self.e, bias=False)
        self.v = nn.Linear(d, kv_heads * self.e, bias=False)
        self.o = nn.Linear(d, d, bias=False)
        self.gate = nn.Linear(d, ff, bias=False)
        self.up = nn.Linear(d, ff, bias=False)
        self.down = nn.Linear(ff, d, bias=False)

    def rotate(self, x, cos, sin):
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)

    def forward(self, x, cos, sin, mask):
        b, t, d = x.shape
        h = self.norm1(x)
        q = self.q(h).view(b, t, self.heads, self.e).transpose(1, 2)
        k = self.k(h).view(b, t, self.kv_heads, self.e).transpose(1, 2)
        v = self.v(h).view(b, t, self.kv_heads, self.e).transpose(1, 2)
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        if self.kv_heads != self.heads:
            k = k.repeat_interleave(self.heads // self.kv_heads, 1)
            v = v.repeat_interleave(self.heads // self.kv_heads, 1)
        p = torch.softmax(q @ k.transpose(-1, -2) * self.e**-0.5 + mask, -1)
        x = x + self.o((p @ v).transpose(1, 2).reshape(b, t, d))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    def __init__(self, d, layers, heads, kv_heads, ff, tied):
        super().__init__()
        self.e = d // heads
        self.embed = nn.Embedding(VOCAB, d)
        self.blocks = nn.ModuleList(Block(d, heads, kv_heads, ff) for _ in range(layers))
        self.norm = RMSNorm(d)
        self.out = nn.Linear(d, VOCAB, bias=False)
        if tied:
            self.out.weight = self.embed.weight
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)

    def losses(self, ids):
        """The mean loss of every sample over its positions: row i predicts token i+1."""
        t = ids.shape[1]
        angle = torch.arange(t)[:, None] * 10000 ** (-torch.arange(0, self.e, 2) / self.e)
        mask = torch.full((t, t), float("-inf")).triu(1)
        x = self.embed(ids)
        for b in self.blocks:
            x = b(x, angle.cos(), angle.sin(), mask)
        logits = self.out(self.norm(x[:, :-1]))
        nll = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        return nll.view(ids.shape[0], t - 1).mean(1)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--shape", default="110m", choices=SHAPES)
    a.add_argument("--samples", type=int, default=8)
    a.add_argument("--tokens", type=int, default=64)
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--reps", type=int, default=5)
    a.add_argument("--what", default="train,attribute")
    a.add_argument("--autocast", action="store_true", help="bfloat16 products")
    o = a.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    model = Llama(*SHAPES[o.shape])
    ids = torch.randint(VOCAB, (o.samples, o.tokens))
    rows = o.samples * o.tokens
    compute = "bf16" if o.autocast else "f32"

    def losses(x):
        with torch.autocast("cpu", torch.bfloat16, enabled=o.autocast):
            return model.losses(x)

    def report(name, f, unit, per, **keys):
        f()
        times = []
        for _ in range(o.reps):
            start = time.perf_counter()
            f()
            times.append(time.perf_counter() - start)
        t = statistics.median(times)
        keys.update(shape=o.shape, batch=f"{o.samples}x{o.tokens}", threads=o.threads, compute=compute)
        print(json.dumps({"name": name, "keys": keys, "value": per(t), "unit": unit,
                          "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}), flush=True)

    def forward():
        with torch.no_grad():
            losses(ids).mean()

    def backward(x=ids):
        model.zero_grad(set_to_none=True)
        losses(x).mean().backward()

    if "train" in o.what:
        report("Train", forward, "tok/s", lambda t: rows / t, part="forward")
        report("Train", backward, "tok/s", lambda t: rows / t, part="forward+backward")
        adamw = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01, foreach=False)

        def step():
            backward()
            adamw.step()

        report("Train", step, "tok/s", lambda t: rows / t, part="step")
        del adamw

    if "attribute" in o.what:
        backward()
        params = list(model.parameters())
        along = [p.grad.detach().clone() for p in params]

        def loop():
            scores = []
            for i in range(o.samples):
                backward(ids[i : i + 1])
                scores.append(sum((p.grad * g).sum() for p, g in zip(params, along)).item())
            return scores

        report("Attribute", loop, "samples/s", lambda t: o.samples / t, way="loop")
        if not o.autocast:  # forward-mode differentiation does not know autocast
            import torch.autograd.forward_ad as fad

            model.zero_grad(set_to_none=True)
            owners = []  # (module, name, parameter, direction); a tied matrix has two owners
            seen = {id(p): g for p, g in zip(params, along)}
            for m in model.modules():
                for name, p in list(m._parameters.items()):
                    if p is not None:
                        owners.append((m, name, p, seen[id(p)]))

            def jvp():
                with torch.no_grad(), fad.dual_level():
                    duals = {}
                    for m, name, p, g in owners:
                        if id(p) not in duals:
                            duals[id(p)] = fad.make_dual(p.detach(), g)
                        del m._parameters[name]
                        setattr(m, name, duals[id(p)])
                    try:
                        return fad.unpack_dual(losses(ids)).tangent.tolist()
                    finally:
                        for m, name, p, _ in owners:
                            delattr(m, name)
                            m._parameters[name] = p

            want, got = loop(), jvp()
            worst = max(abs(x - y) for x, y in zip(want, got)) / max(abs(x) for x in want)
            if not worst < 1e-3:
                sys.exit(f"the two ways disagree by {worst}")
            report("Attribute", jvp, "samples/s", lambda t: o.samples / t, way="jvp")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes ggml.txt, what ggml makes of the weight types, for ggml_test.go:

    python3 ggml.py path/to/libggml-base.so > ggml.txt

A line is what was done, the type, the number of elements, and

    unpack  the SHA-256 of the float32 numbers (NaN as 0x7fc00000) that random blocks unpack to
    pack    the SHA-256 of the blocks that the reference quantizer packs a bell curve in
    bell    the root of the mean squared error of the blocks, in base64, that
            ggml_quantize_chunk packs a bell curve in, with an importance matrix of ones

Random is the upper byte of a linear congruential generator, which begins with ggml's
number of the type; a bell curve is sums of four bytes of it, at a scale that changes.
"""
import base64
import ctypes
import hashlib
import math
import sys

lib = ctypes.CDLL(sys.argv[1])


Convert = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class Traits(ctypes.Structure):  # struct ggml_type_traits of ggml.h
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("block_len", ctypes.c_int64),
        ("interleave", ctypes.c_int64),
        ("block_bytes", ctypes.c_size_t),
        ("quantized", ctypes.c_bool),
        ("to_float", Convert),
        ("from_float_ref", Convert),
    ]


lib.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
lib.ggml_quantize_chunk.restype = ctypes.c_size_t
lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + 3 * [ctypes.c_int64] + [ctypes.c_void_p]

TYPES = {
    "F16": 1, "BF16": 30, "Q8_0": 8, "Q5_1": 7, "Q5_0": 6, "Q4_1": 3, "Q4_0": 2,
    "Q8_K": 15, "Q6_K": 14, "Q5_K": 13, "Q4_K": 12, "Q3_K": 11, "Q2_K": 10,
    "IQ4_XS": 23, "IQ4_NL": 20, "MXFP4": 39, "NVFP4": 40, "IQ3_S": 21, "IQ3_XXS": 18, "IQ2_S": 22, "IQ2_XS": 17,
    "IQ2_XXS": 16, "TQ2_0": 35, "TQ1_0": 34, "IQ1_M": 29, "IQ1_S": 19,
}
EXACT = ["F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "Q8_K"]  # packed byte for byte, and nothing else
SEARCHED = ["Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K"]  # that too
RANDOM, BELL = 1 << 18, 1024


class Generator:
    def __init__(self, seed):
        self.state = seed

    def byte(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1
        return self.state >> 56

    def bell(self, n):
        x = (ctypes.c_float * n)()
        for i in range(n):
            x[i] = math.ldexp(sum(self.byte() for _ in range(4)) - 510, -14 - i // 32 % 8)
        return x


def unpack(t, blocks, n):
    x = (ctypes.c_uint32 * n)()
    to_float = t.to_float or Convert(("dequantize_row_q8_K", lib))
    to_float(ctypes.cast(blocks, ctypes.c_void_p), ctypes.cast(x, ctypes.c_void_p), n)
    return x


for name, number in TYPES.items():
    t = lib.ggml_get_type_traits(number).contents
    assert t.name.decode().lower() == name.lower(), (t.name, name)

    size = RANDOM // t.block_len * t.block_bytes
    g = Generator(number)
    x = unpack(t, (ctypes.c_uint8 * size)(*(g.byte() for _ in range(size))), RANDOM)
    for i, v in enumerate(x):
        if v & 0x7FFFFFFF > 0x7F800000:
            x[i] = 0x7FC00000
    print("unpack", name, RANDOM, hashlib.sha256(bytes(x)).hexdigest())

    if name in EXACT + SEARCHED:
        x = Generator(number).bell(RANDOM)
        blocks = (ctypes.c_uint8 * size)()
        from_float = t.from_float_ref or Convert(("quantize_row_q8_K_ref", lib))
        from_float(ctypes.cast(x, ctypes.c_void_p), ctypes.cast(blocks, ctypes.c_void_p), RANDOM)
        print("pack", name, RANDOM, hashlib.sha256(bytes(blocks)).hexdigest())
    if name not in EXACT:
        x = Generator(number).bell(BELL)
        blocks = (ctypes.c_uint8 * (BELL // t.block_len * t.block_bytes))()
        ones = (ctypes.c_float * BELL)(*BELL * [1])
        lib.ggml_quantize_chunk(number, x, blocks, 0, 1, BELL, ones)
        y = ctypes.cast(unpack(t, blocks, BELL), ctypes.POINTER(ctypes.c_float))
        error = math.sqrt(sum((x[i] - y[i]) ** 2 for i in range(BELL)) / BELL)
        print("bell", name, BELL, "%.9g" % error, base64.b64encode(bytes(blocks)).decode())

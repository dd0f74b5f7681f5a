// Package quant is the table of weight types: how elements are packed in the
// bytes of a GGUF tensor, unpacked to float32, and packed again.
//
//	type  block  bytes  value of an element                  packed as                       largest error of x
//	F32   1      4      float32                              the bits                        0
//	F16   1      2      IEEE 754 binary16                    nearest, halves to even         2⁻¹¹·|x|, at least 2⁻²⁵
//	BF16  1      2      upper half of a float32              nearest, halves to even         2⁻⁸·|x|, at least 2⁻¹³⁴
//	Q8_K  256    292    d·q, d float32, q int8               d = x*/-127, q = round(x/d)     |d|/2
//	Q8_0  32     34     d·q, d binary16, q int8              d = m/127, q = round(x/d)       d/2 + 127·δ
//	Q6_K  256    210    d·s·(q-32), s int8, 16 of them       d = s*/-128, searched           m/32
//	Q5_1  32     24     d·q + n, d, n binary16, q 5 bits     d = r/31, q = ⌊(x-n)/d + ½⌋     d/2 + 31·δ + ν
//	Q5_0  32     22     d·(q-16), d binary16, q 5 bits       d = x*/-16, q = ⌊x/d + 16½⌋     |d| + 16·δ
//	Q5_K  256    176    d·s·q - n·t, s and t 6 bits, 8 each  d = s*/63, n = t*/63, searched  m/16
//	Q4_1  32     20     d·q + n, d, n binary16, q 4 bits     d = r/15, q = ⌊(x-n)/d + ½⌋     d/2 + 15·δ + ν
//	Q4_0  32     18     d·(q-8), d binary16, q 4 bits        d = x*/-8, q = ⌊x/d + 8½⌋       |d| + 8·δ
//	Q4_K  256    144    d·s·q - n·t, s and t 6 bits, 8 each  d = s*/63, n = t*/63, searched  m/8
//	Q3_K  256    110    d·(s-32)·(q-4), s 6 bits, 16         d = s*/-32, searched            m/4
//	Q2_K  256    84     d·s·q - n·t, s and t 4 bits, 16      d = s*/15, n = t*/15, searched  m/2
//
// m is the largest |x| of the block, x* the first x with |x| = m, n the smallest x and
// r the largest less n; δ is what d loses when it is rounded to binary16: 2⁻¹¹·|d|, at
// least 2⁻²⁵, and ν what n loses, and 2⁻²³·m. Where Q4_0 rounds
// to a q within 0…15 (Q5_0: 0…31) its error is |d|/2 + 8·δ; only the far end from x*,
// where q would be 16, has up to |d|. Numbers are little-endian whatever the machine.
//
// The K types have scales s (and minima t) for 16 or 32 elements, s* and t* the largest ones.
// They are searched for the least weighted error of the part, which bounds no single
// element: the table says what tests have found, to which comes what d and n lose. Then q is
// rounded with d, n, s and t as they are written.
//
// Other types are read and not written (Pack is nil); package simd has a file for each,
// which says what is in a block:
//
//	IQ4_XS, IQ4_NL           d·v, v one of 16 numbers; a scale of 6 bits for 32 weights, or one block each
//	MXFP4, NVFP4             d·v, v of 4 bits (E2M1), d a power of two, or of 8 bits (UE4M3) for 16 weights
//	IQ3_S, IQ3_XXS           d·(±g), g four coordinates of a point of a grid
//	IQ2_S, IQ2_XS, IQ2_XXS   d·(±g), g eight coordinates of a point of a grid
//	TQ2_0, TQ1_0             d·v, v one of -1, 0 and 1: two bits, or five in a byte
//	IQ1_M, IQ1_S             d·(g±⅛), g eight coordinates -1, 0 or 1 of a point of a grid
//
// # Invariants
//
//   - Unpack gives the float32 that ggml gives, bit for bit, and Pack the bytes of
//     ggml's reference quantizer (quantize_row_*_ref, which llama-quantize uses
//     without an importance matrix): tests compare with what ggml itself has made of
//     random bits and numbers (testdata/ggml.py), and pack a published model anew.
//   - Pack takes no value it cannot give back as a finite number within the error
//     above: NaN, infinities and overflow are errors with index and value.
//   - Packing what was unpacked from a packed row changes nothing, unless the type
//     has a minimum.
//   - Any part of a row unpacks to what the whole row has there.
//
// Sources: ggml-quants.c, ggml-impl.h (GGML_FP16_TO_FP32, GGML_FP32_TO_BF16) and
// ggml-common.h of github.com/ggml-org/llama.cpp.
package quant

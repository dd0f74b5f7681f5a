package simd_test

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/simd/simdtest"
)

// TestSameBitsOnBothArchitectures: avx2 and neon do the same in the same order. Each
// must give the results whose hashes are here, whatever machine the test runs on.
func TestSameBitsOnBothArchitectures(t *testing.T) {
	want := map[string]uint64{
		"Axpy": 0x1182857a7cb7b0f7, "Add": 0x6d431f22a8720d1, "Mul": 0x3cd283b01a4696e8, "Scale": 0x3d6313036caacb1c,
		"ExpSub": 0x602920b9b11f8a35, "SwiGLU": 0xf8707d2302e2f4d1, "SwiGLUBackward": 0x973219b0d6b2bf3c,
		"GELU": 0x79e851e748e5a4d0, "GELUBackward": 0xb63ef8415bcc01dc, "AdamW": 0x433d12d378493719, "RoundBF16": 0xa9ca59363589eaa2,
		"reductions": 0xa705fcd310e9cd7b, "rows": 0x85b088ea44bbd1b2, "Gemm": 0x64e43495b59ba741,
		"GemmBF16": 0x46120470d91566c6, "TurnPairs": 0x4db4fa6e2285db86, "StochasticBF16": 0x61c17b9b9c392023, "ToInt8": 0xa3eeec263aa45f4a,
	}
	for _, k := range simd.All() {
		if k.Name != "avx2" && k.Name != "neon" {
			continue
		}
		have := map[string]uint64{}
		for _, o := range ops {
			have[o.name] = hash(func(add func(x ...float32)) {
				for _, n := range lengths() {
					rng := rand.New(rand.NewPCG(6, uint64(n)))
					_, s := newSlices(rng, o, n)
					o.run(k, s)
					for _, x := range s {
						add(x...)
					}
				}
			})
		}
		have["reductions"] = hash(func(add func(x ...float32)) {
			for _, n := range lengths() {
				rng := rand.New(rand.NewPCG(7, uint64(n)))
				x, y := make([]float32, n), make([]float32, n)
				simdtest.Fill(rng, x)
				simdtest.Fill(rng, y)
				add(k.Dot(x, y), k.Sum(x), k.Max(x), k.ExpSub(y, x, 0.5))
			}
		})
		have["rows"] = hash(func(add func(x ...float32)) {
			for n := 1; n <= maxLen; n++ {
				rng := rand.New(rand.NewPCG(8, uint64(n)))
				rows, x, y := make([]float32, 7*n), make([]float32, n), make([]float32, 7)
				simdtest.Fill(rng, rows)
				simdtest.Fill(rng, x)
				k.DotRows(y, x, rows, n)
				k.AxpyRows(x, y, rows, n)
				add(append(x, y...)...)
			}
		})
		have["Gemm"] = hash(func(add func(x ...float32)) {
			for o := range 4 {
				g := gemmCase{m: 50, n: 70, k: 600, transA: o&1 != 0, transB: o&2 != 0}
				rng := rand.New(rand.NewPCG(9, uint64(o)))
				a, b := newOperand(rng, g.m, g.k, 0, g.transA), newOperand(rng, g.k, g.n, 0, g.transB)
				add(g.run(t, k, nil, a, b, nil)...)
			}
		})
		have["GemmBF16"] = hash(func(add func(x ...float32)) {
			for o := range 4 {
				g := gemmCase{m: 50, n: 70, k: 600, transA: o&1 != 0, transB: o&2 != 0, bf16: true}
				rng := rand.New(rand.NewPCG(10, uint64(o)))
				a, b := newOperand(rng, g.m, g.k, 0, g.transA), newOperand(rng, g.k, g.n, 0, g.transB)
				add(g.run(t, k, nil, a, b, nil)...)
			}
		})
		have["TurnPairs"] = hash(func(add func(x ...float32)) {
			for n := range maxLen {
				rng := rand.New(rand.NewPCG(11, uint64(n)))
				x, cos, sin := make([]float32, 2*n), make([]float32, 2*n), make([]float32, 2*n)
				for _, v := range [][]float32{x, cos, sin} {
					simdtest.Fill(rng, v)
				}
				k.TurnPairs(x, cos, sin, 1)
				add(x...)
				k.TurnPairs(x, cos, sin, -1)
				add(x...)
			}
		})
		have["StochasticBF16"] = hash(func(add func(x ...float32)) {
			for n := range maxLen {
				x := make([]float32, n)
				simdtest.Fill(rand.New(rand.NewPCG(12, uint64(n))), x)
				k.StochasticBF16(x, x, uint64(n), 5)
				add(x...)
			}
		})
		have["ToInt8"] = hash(func(add func(x ...float32)) {
			for blocks := range 20 {
				x, q, d, s := make([]float32, 32*blocks), make([]int8, 32*blocks), make([]float32, blocks), make([]int32, blocks)
				simdtest.Fill(rand.New(rand.NewPCG(13, uint64(blocks))), x)
				k.ToInt8(q, d, s, x)
				add(d...)
				for _, v := range q {
					add(float32(v))
				}
				for _, v := range s {
					add(float32(v))
				}
			}
		})
		for name := range want {
			assert.Equal(t, want[name], have[name], "%s of %s is %#x", name, k.Name, have[name])
		}
	}
}

// hash returns the hash of the numbers that f adds.
func hash(f func(add func(x ...float32))) uint64 {
	h := fnv.New64a()
	f(func(x ...float32) {
		for _, v := range x {
			var b [4]byte
			binary.LittleEndian.PutUint32(b[:], math.Float32bits(v))
			h.Write(b[:])
		}
	})
	return h.Sum64()
}

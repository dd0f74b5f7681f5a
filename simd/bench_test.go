package simd_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/viterin/vek/vek32"

	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/simd/simdtest"
)

// BenchmarkGemm measures the three products of a layer, X [T,K], W [N,K]:
// Y = X·Wᵀ, dX = dY·W, dW = dYᵀ·X.
func BenchmarkGemm(b *testing.B) {
	shapes := []struct{ t, n, k int }{
		{1, 4096, 256}, {1, 32000, 768}, {512, 8, 256}, {512, 128, 128}, {512, 384, 128}, {2048, 256, 256}, {2048, 512, 128}, {2048, 128, 512}, {1024, 4096, 256},
		{64, 768, 768}, {256, 768, 768}, {512, 768, 768}, {512, 2048, 768}, {256, 2048, 2048}, {512, 2048, 2048},
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, op := range []string{"Y", "dX", "dW"} {
		for _, s := range shapes {
			if op == "dX" { // vek's own product, on one thread
				b.Run(fmt.Sprintf("op=%s/shape=%dx%dx%d/set=vek32.MatMul/workers=1", op, s.t, s.n, s.k), func(b *testing.B) {
					x, dy, wt := make([]float32, s.t*s.k), make([]float32, s.t*s.n), make([]float32, s.n*s.k)
					for _, v := range [][]float32{x, dy, wt} {
						simdtest.Fill(rng, v)
					}
					for b.Loop() {
						vek32.MatMul_Into(x, dy, wt, s.n)
					}
					flops := 2 * float64(s.t) * float64(s.n) * float64(s.k)
					b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
					b.ReportMetric(0, "ns/op")
				})
			}
			for _, k := range simd.All() {
				for _, w := range []int{1, 2} {
					b.Run(fmt.Sprintf("op=%s/shape=%dx%dx%d/set=%s/workers=%d", op, s.t, s.n, s.k, k.Name, w), func(b *testing.B) {
						x, dy, wt := make([]float32, s.t*s.k), make([]float32, s.t*s.n), make([]float32, s.n*s.k)
						for _, v := range [][]float32{x, dy, wt} {
							simdtest.Fill(rng, v)
						}
						X := simd.Operand{Data: x, Stride: s.k}
						DY := simd.Operand{Data: dy, Stride: s.n}
						W := simd.Operand{Data: wt, Stride: s.k}
						par := workers(w)
						if w == 1 {
							par = nil
						}
						for b.Loop() {
							switch op {
							case "Y":
								W.Trans = true
								k.Gemm(par, dy, s.n, s.t, s.n, s.k, X, W, false)
							case "dX":
								k.Gemm(par, x, s.k, s.t, s.k, s.n, DY, W, false)
							case "dW":
								DY.Trans = true
								k.Gemm(par, wt, s.k, s.n, s.k, s.t, DY, X, false)
							}
						}
						flops := 2 * float64(s.t) * float64(s.n) * float64(s.k)
						b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
						b.ReportMetric(0, "ns/op")
					})
				}
			}
		}
	}
}

// BenchmarkRow measures the functions on rows, with the bytes they read and write.
func BenchmarkRow(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{64, 1024} {
		const count = 64
		s := make([][]float32, 5)
		for i := range s {
			s[i] = make([]float32, n)
			simdtest.Fill(rng, s[i])
		}
		rows, out := make([]float32, count*n), make([]float32, count)
		simdtest.Fill(rng, rows)
		for _, op := range []struct {
			name    string
			numbers int // read and written
			run     func(k *simd.Kernels)
		}{
			{"Dot", 2 * n, func(k *simd.Kernels) { k.Dot(s[0], s[1]) }},
			{"Sum", n, func(k *simd.Kernels) { k.Sum(s[0]) }},
			{"Max", n, func(k *simd.Kernels) { k.Max(s[0]) }},
			{"Axpy", 3 * n, func(k *simd.Kernels) { k.Axpy(s[0], 1e-9, s[1]) }},
			{"Add", 3 * n, func(k *simd.Kernels) { k.Add(s[0], s[1]) }},
			{"Scale", 2 * n, func(k *simd.Kernels) { k.Scale(s[1], 1) }},
			{"DotRows", count * n, func(k *simd.Kernels) { k.DotRows(out, s[1], rows, n) }},
			{"AxpyRows", count * n, func(k *simd.Kernels) { k.AxpyRows(s[0], out, rows, n) }},
			{"ExpSub", 2 * n, func(k *simd.Kernels) { k.ExpSub(s[2], s[1], 1) }},
			{"SwiGLU", 3 * n, func(k *simd.Kernels) { k.SwiGLU(s[2], s[1], s[3]) }},
			{"SwiGLUBackward", 5 * n, func(k *simd.Kernels) { k.SwiGLUBackward(s[2], s[0], s[4], s[1], s[3]) }},
			{"GELU", 2 * n, func(k *simd.Kernels) { k.GELU(s[2], s[1]) }},
			{"GELUBackward", 3 * n, func(k *simd.Kernels) { k.GELUBackward(s[2], s[3], s[1]) }},
			{"AdamW", 7 * n, func(k *simd.Kernels) {
				k.AdamW(s[0], s[2], rows[:n], s[3], &step)
			}},
		} {
			for _, k := range simd.All() {
				b.Run(fmt.Sprintf("op=%s/n=%d/set=%s", op.name, n, k.Name), func(b *testing.B) {
					for i := range rows[:n] {
						rows[i] = max(rows[i], -rows[i]) // AdamW's v
					}
					b.SetBytes(int64(4 * op.numbers))
					for b.Loop() {
						op.run(k)
					}
				})
			}
		}
	}
}

package simd_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/viterin/vek/vek32"

	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/simd/simdtest"
)

// helpers returns a simd.For of n goroutines that look for the next loop all the time, as
// those of the engine's pool do for a while; it lasts as long as the benchmark.
func helpers(b *testing.B, n int) simd.For {
	var mu sync.Mutex // the loop: items and body
	var items int
	var body func(i int)
	var loop, next, done atomic.Int64
	work := func() {
		for i := int(next.Add(1)) - 1; i < items; i = int(next.Add(1)) - 1 {
			body(i)
		}
	}
	for range n - 1 {
		go func() {
			for seen := int64(0); ; runtime.Gosched() {
				switch now := loop.Load(); now {
				case seen:
				case -1:
					return
				default:
					seen = now
					work()
					done.Add(1)
				}
			}
		}()
	}
	b.Cleanup(func() { loop.Store(-1) })
	return func(count int, f func(i int)) {
		mu.Lock()
		defer mu.Unlock()
		items, body = count, f
		next.Store(0)
		done.Store(0)
		loop.Add(1)
		work()
		for done.Load() < int64(n-1) {
			runtime.Gosched()
		}
	}
}

// BenchmarkGemm measures the three products of a layer, X [T,K], W [N,K]: Y = X·Wᵀ,
// dX = dY·W, dW = dYᵀ·X. The last shapes are those of models, for the best set only, also
// with numbers rounded to bfloat16 and with a W that is unpacked (here copied).
func BenchmarkGemm(b *testing.B) {
	type shape struct{ t, n, k int }
	for _, s := range []shape{{1, 32000, 768}, {512, 8, 256}, {512, 128, 128}, {2048, 256, 256}, {512, 2048, 768}} {
		for _, op := range []string{"Y", "dX", "dW"} {
			if op == "dX" { // vek's own product, on one thread
				b.Run(fmt.Sprintf("op=%s/shape=%dx%dx%d/set=vek32.MatMul/workers=1", op, s.t, s.n, s.k), func(b *testing.B) {
					x, dy, wt := make([]float32, s.t*s.k), make([]float32, s.t*s.n), make([]float32, s.n*s.k)
					for b.Loop() {
						vek32.MatMul_Into(x, dy, wt, s.n)
					}
					flops(b, 2*float64(s.t)*float64(s.n)*float64(s.k))
				})
			}
			for _, k := range simd.All() {
				benchmarkProduct(b, k, op, s.t, s.n, s.k, "F32", "f32")
			}
		}
	}
	for _, w := range [][2]int{{768, 768}, {2048, 2048}, {5632, 2048}, {4096, 4096}, {11008, 4096}, {32000, 2048}} {
		if testing.Short() && w[0] > 2048 {
			break // minutes
		}
		for _, t := range []int{64, 256, 512} {
			for _, op := range []string{"Y", "dX", "dW"} {
				benchmarkProduct(b, simd.Best(), op, t, w[0], w[1], "F32", "f32")
				benchmarkProduct(b, simd.Best(), op, t, w[0], w[1], "F32", "bf16")
				if op != "dW" {
					benchmarkProduct(b, simd.Best(), op, t, w[0], w[1], "unpacked", "f32")
				}
			}
		}
	}
}

func flops(b *testing.B, each float64) {
	b.ReportMetric(each*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	b.ReportMetric(0, "ns/op")
}

func benchmarkProduct(b *testing.B, k *simd.Kernels, op string, t, n, kk int, typ, compute string) {
	for _, w := range []int{1, 2} {
		b.Run(fmt.Sprintf("op=%s/shape=%dx%dx%d/type=%s/compute=%s/set=%s/workers=%d", op, t, n, kk, typ, compute, k.Name, w), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 2))
			x, dy, wt := make([]float32, t*kk), make([]float32, t*n), make([]float32, n*kk)
			for _, v := range [][]float32{x, dy, wt} {
				simdtest.Fill(rng, v)
			}
			X, DY, W := simd.Operand{Data: x, Stride: kk}, simd.Operand{Data: dy, Stride: n}, simd.Operand{Data: wt, Stride: kk}
			if typ == "unpacked" {
				W = simd.Operand{Unpack: func(dst []float32, row, col int) { copy(dst, wt[row*kk+col:]) }}
			}
			var par simd.For
			if w > 1 {
				par = helpers(b, w)
			}
			gemm := k.Gemm
			if compute == "bf16" {
				gemm = k.GemmBF16
			}
			W.Trans, DY.Trans = op == "Y", op == "dW"
			for b.Loop() {
				switch op {
				case "Y":
					gemm(par, dy, n, t, n, kk, X, W, false)
				case "dX":
					gemm(par, x, kk, t, kk, n, DY, W, false)
				case "dW":
					gemm(par, wt, kk, n, kk, t, DY, X, true)
				}
			}
			flops(b, 2*float64(t)*float64(n)*float64(kk))
		})
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

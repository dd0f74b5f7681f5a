package bench

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"

	"github.com/klauspost/cpuid/v2"
	"github.com/viterin/vek/vek32"

	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/simd"
)

// Setting is the kernel sets and the numbers of workers that everything is measured with.
type Setting struct {
	Sets    []*simd.Kernels
	Workers []int
	Compute []string // of the matrix products: f32, bf16, auto
	// Patient has the cases that a slow set takes seconds for, too.
	Patient bool
}

// each calls f for every set with every number of workers.
func (s *Setting) each(f func(k *simd.Kernels, workers int)) {
	for _, k := range s.Sets {
		for _, w := range s.Workers {
			f(k, w)
		}
	}
}

// tooSlow says whether one call of so many operations is left out, because the set has
// no product of its own and computes some 5·10⁹ a second and worker.
func (s *Setting) tooSlow(k *simd.Kernels, workers int, flops float64) bool {
	return !s.Patient && (k.Name == "generic" || k.Name == "vek") && flops > 4e9*float64(workers)
}

// place is the last two keys of a case.
func place(set string, workers int) []Key {
	return []Key{{"set", set}, {"workers", strconv.Itoa(workers)}}
}

// operands returns the rows of A, steps long, and a panel of B, of random numbers.
func operands(t *simd.Tile, steps int) (a, b []float32) {
	a, b = random(t.MR*steps), random(steps*t.NR+simd.PackSlack)
	if t.Seal == nil {
		return a, b
	}
	rows, panel := make([]float32, len(a)), make([]float32, len(b))
	for i := range t.MR {
		t.SealRow(rows[i*steps:], a[i*steps:(i+1)*steps])
	}
	t.Seal(panel, b, steps)
	return rows, panel
}

// numbers is what a format of --compute is with a set.
func numbers(compute string, k *simd.Kernels) nn.Compute {
	c, err := nn.ParseCompute(compute)
	if err != nil {
		panic(err) // the command has checked it
	}
	return c.On(k)
}

func peakName(what string, workers int) string { return what + "/" + strconv.Itoa(workers) }

// Peaks measures what the machine can do at best: multiplications and additions by the
// micro-kernel of each set on panels that lie in the first-level cache, where it does
// little but that, and reading from memory by the best set.
func (s *Setting) Peaks() []*Case {
	var cases []*Case
	s.each(func(k *simd.Kernels, workers int) {
		for _, compute := range s.Compute {
			tile := &k.Tile
			if numbers(compute, k) == nn.ComputeBF16 {
				tile = &k.TileBF16
			}
			// As many steps as leave room for the rest in a small first-level cache.
			steps := 20 << 10 / (4 * (tile.MR + tile.NR)) / simd.SealSteps * simd.SealSteps
			const calls = 64 // in an item of work: some microseconds
			items := 16 * workers
			flops := 2 * float64(steps*tile.MR*tile.NR) * float64(calls*items)
			cases = append(cases, &Case{
				Name: "Peak", Keys: append([]Key{{"of", compute}}, place(k.Name, workers)...),
				Work: []Amount{{GFLOPs, flops / 1e9}}, IsPeak: peakName(compute, workers),
				Setup: func() (func() error, error) {
					c := nn.NewCtx(k, workers)
					type panels struct{ a, b, c []float32 }
					mine := make([]panels, items)
					for i := range mine {
						a, b := operands(tile, steps)
						mine[i] = panels{a, b, make([]float32, tile.MR*tile.NR)}
					}
					return func() error {
						c.Par.For(items, func(i int) {
							p := &mine[i]
							for range calls {
								tile.Run(tile.MR, steps, p.a, steps, p.b, p.c, tile.NR, false)
							}
						})
						return nil
					}, nil
				},
			})
		}
	})
	best := simd.Best()
	for _, workers := range s.Workers {
		// 256 MiB, or four times the last-level cache, in rows that are read several at a time.
		const cols, rows = 4096, 16
		items := max(256<<20, 4*cpuid.CPU.Cache.L3) / (4 * cols * rows)
		cases = append(cases, &Case{
			Name: "Peak", Keys: append([]Key{{"of", "memory"}}, place(best.Name, workers)...),
			Work: []Amount{{GBs, 4 * float64(items*cols*rows) / 1e9}}, IsPeak: peakName("memory", workers),
			Setup: func() (func() error, error) {
				c, data, x, out := nn.NewCtx(best, workers), random(items*cols*rows), random(cols), make([]float32, items*rows)
				return func() error {
					c.Par.For(items, func(i int) {
						best.DotRows(out[i*rows:(i+1)*rows], x, data[i*cols*rows:(i+1)*cols*rows], cols)
					})
					return nil
				}, nil
			},
		})
	}
	return cases
}

// Product is the shape of a layer's three products: X [T,K], W [N,K].
type Product struct{ T, N, K int }

func (p Product) String() string { return fmt.Sprintf("%dx%dx%d", p.T, p.N, p.K) }

func (p Product) flops() float64 { return 2 * float64(p.T) * float64(p.N) * float64(p.K) }

// Matmul measures Y = X·Wᵀ, dX = dY·W and dW = dYᵀ·X. Weights that are packed take part in
// the first two, unpacked on the way; vek32's own product, which uses one thread or
// starts its own, stands beside the second.
func (s *Setting) Matmul(shapes []Product, typ *quant.Type) []*Case {
	var cases []*Case
	for _, p := range shapes {
		for _, op := range []string{"Y", "dX", "dW"} {
			if op == "dW" && typ.Name != "F32" {
				continue // the gradient of a weight is never packed
			}
			for _, compute := range s.Compute {
				if compute != "f32" && typ.Name != "F32" { // one number format of packed weights is enough
					continue
				}
				keys := []Key{{"op", op}, {"shape", p.String()}, {"type", typ.Name}, {"compute", compute}}
				s.each(func(k *simd.Kernels, workers int) {
					if s.tooSlow(k, workers, p.flops()) {
						return
					}
					cases = append(cases, &Case{
						Name: "Matmul", Keys: append(slices.Clone(keys), place(k.Name, workers)...),
						Work: []Amount{{GFLOPs, p.flops() / 1e9}}, Peak: peakName(compute, workers),
						Setup: func() (func() error, error) { return product(k, workers, compute, op, p, typ) },
					})
				})
				if op == "dX" && typ.Name == "F32" && compute == "f32" && slices.ContainsFunc(s.Sets, func(k *simd.Kernels) bool { return k.Name == "vek" }) {
					cases = append(cases, &Case{
						Name: "Matmul", Keys: append(slices.Clone(keys), place("vek32.MatMul", 1)...),
						Work: []Amount{{GFLOPs, p.flops() / 1e9}}, Peak: peakName(compute, 1),
						Setup: func() (func() error, error) {
							dx, dy, w := make([]float32, p.T*p.K), random(p.T*p.N), random(p.N*p.K)
							return func() error { vek32.MatMul_Into(dx, dy, w, p.N); return nil }, nil
						},
					})
				}
			}
		}
	}
	return cases
}

func product(k *simd.Kernels, workers int, compute, op string, p Product, typ *quant.Type) (func() error, error) {
	c := nn.NewCtx(k, workers)
	gemm := k.Gemm
	if numbers(compute, k) == nn.ComputeBF16 {
		gemm = k.GemmBF16
	}
	x, y := mat(p.T, p.K), mat(p.T, p.N)
	if op == "dW" {
		dw := make([]float32, p.N*p.K)
		a, b := simd.Operand{Data: y.Data, Stride: p.N, Trans: true}, simd.Operand{Data: x.Data, Stride: p.K}
		return func() error {
			gemm(c.Par.For, dw, p.K, p.N, p.K, p.T, a, b, false)
			return nil
		}, nil
	}
	if typ.Name == "F32" {
		w, dx := simd.Operand{Data: random(p.N * p.K), Stride: p.K, Trans: op == "Y"}, make([]float32, p.T*p.K)
		a := simd.Operand{Data: y.Data, Stride: p.N}
		if op == "Y" {
			a = simd.Operand{Data: x.Data, Stride: p.K}
			return func() error { gemm(c.Par.For, y.Data, p.N, p.T, p.N, p.K, a, w, false); return nil }, nil
		}
		return func() error { gemm(c.Par.For, dx, p.K, p.T, p.K, p.N, a, w, false); return nil }, nil
	}
	w, err := weight(typ, p.N, p.K)
	if err != nil {
		return nil, err
	}
	if op == "Y" {
		return func() error { nn.Linear(c, y, x, w); return nil }, nil
	}
	dx := nn.NewMat(p.T, p.K)
	return func() error { nn.LinearBackward(c, dx, y, x, w, nil); return nil }, nil
}

// Decode measures the products of one to a few rows with packed weights, which read
// every weight once: the work of generating text. Weights in blocks of small integers are
// multiplied with activations of 8 bits, too. As many matrices take turns, up to 64, as do not fit
// into the caches.
func (s *Setting) Decode(shapes []Product, types []*quant.Type) []*Case {
	var cases []*Case
	for _, p := range shapes {
		for _, typ := range types {
			if p.K%typ.BlockLen != 0 {
				continue
			}
			size := p.N * typ.RowBytes(p.K)
			for _, activations := range []string{"f32", "int8"} {
				if activations == "int8" && (typ.Kernels == nil || typ.Kernels(simd.All()[0]).DotInt8 == nil) {
					continue
				}
				s.each(func(k *simd.Kernels, workers int) {
					cases = append(cases, &Case{
						Name: "Decode", Keys: append([]Key{{"type", typ.Name}, {"shape", p.String()}, {"activations", activations}}, place(k.Name, workers)...),
						Work: []Amount{{GBs, float64(size) / 1e9}}, Peak: peakName("memory", workers),
						Setup: func() (func() error, error) {
							ws := make([]*nn.Param, min(64, 1+4*max(0, cpuid.CPU.Cache.L3)/size))
							for i := range ws {
								var err error
								if ws[i], err = weight(typ, p.N, p.K); err != nil {
									return nil, err
								}
							}
							c, x, y, next := nn.NewCtx(k, workers), mat(p.T, p.K), mat(p.T, p.N), 0
							c.Int8 = activations == "int8"
							return func() error {
								nn.Linear(c, y, x, ws[next])
								next = (next + 1) % len(ws)
								return nil
							}, nil
						},
					})
				})
			}
		}
	}
	return cases
}

// Rows measures the functions on rows, on one thread, with the bytes that they read and write,
// on rows of n numbers.
func (s *Setting) Rows(n int) []*Case {
	const count = 64
	var v [5][]float32
	for i := range v {
		v[i] = random(n)
	}
	second := make([]float32, n) // AdamW's, which is not negative
	rows, out := random(count*n), random(count)
	ops := []struct {
		name    string
		numbers int // read and written
		run     func(k *simd.Kernels)
	}{
		{"Dot", 2 * n, func(k *simd.Kernels) { k.Dot(v[0], v[1]) }},
		{"Sum", n, func(k *simd.Kernels) { k.Sum(v[0]) }},
		{"Max", n, func(k *simd.Kernels) { k.Max(v[0]) }},
		{"Axpy", 3 * n, func(k *simd.Kernels) { k.Axpy(v[0], 1e-9, v[1]) }},
		{"Add", 3 * n, func(k *simd.Kernels) { k.Add(v[0], v[1]) }},
		{"Mul", 3 * n, func(k *simd.Kernels) { k.Mul(v[2], v[3]) }},
		{"Scale", 2 * n, func(k *simd.Kernels) { k.Scale(v[1], 1) }},
		{"DotRows", count * n, func(k *simd.Kernels) { k.DotRows(out, v[1], rows, n) }},
		{"AxpyRows", count * n, func(k *simd.Kernels) { k.AxpyRows(v[0], out, rows, n) }},
		{"ExpSub", 2 * n, func(k *simd.Kernels) { k.ExpSub(v[2], v[1], 1) }},
		{"SwiGLU", 3 * n, func(k *simd.Kernels) { k.SwiGLU(v[2], v[1], v[3]) }},
		{"SwiGLUBackward", 5 * n, func(k *simd.Kernels) { k.SwiGLUBackward(v[2], v[0], v[4], v[1], v[3]) }},
		{"GELU", 2 * n, func(k *simd.Kernels) { k.GELU(v[2], v[1]) }},
		{"GELUBackward", 3 * n, func(k *simd.Kernels) { k.GELUBackward(v[2], v[3], v[1]) }},
		{"AdamW", 7 * n, func(k *simd.Kernels) { k.AdamW(v[0], v[2], second, v[3], &adamW) }},
	}
	var cases []*Case
	for _, op := range ops {
		for _, k := range s.Sets {
			cases = append(cases, &Case{
				Name: "Row", Keys: append([]Key{{"op", op.name}, {"n", strconv.Itoa(n)}}, place(k.Name, 1)...),
				Work:  []Amount{{GBs, 4 * float64(op.numbers) / 1e9}},
				Setup: func() (func() error, error) { return func() error { op.run(k); return nil }, nil },
			})
		}
	}
	return cases
}

// adamW is a step that keeps the numbers in range however often it is taken.
var adamW = simd.AdamWStep{LR: 1e-9, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 0.01, C1: 1, C2: 1, GradScale: 1}

// pool is numbers of which every random slice is made: drawing them one by one would take
// longer than most measurements. Its length is prime, so that no row begins like another.
var pool = sync.OnceValue(func() []float32 {
	rng := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, 65521)
	for i := range x {
		x[i] = float32(rng.NormFloat64()) * 0.02
	}
	return x
})

func random(n int) []float32 {
	x := make([]float32, n)
	for done := 0; done < n; {
		done += copy(x[done:], pool())
	}
	return x
}

func mat(rows, cols int) nn.Mat {
	return nn.Mat{Rows: rows, Cols: cols, Stride: cols, Data: random(rows * cols)}
}

// weight returns a matrix of random weights of a type.
func weight(typ *quant.Type, rows, cols int) (*nn.Param, error) {
	data, err := packed(typ, rows, cols)
	if err != nil {
		return nil, err
	}
	m, err := quant.NewMatrix(typ, rows, cols, data)
	return &nn.Param{Name: "weight", Rows: rows, Cols: cols, Stored: m}, err
}

// randomBlocks are some hundred blocks of each type without a Pack, which take time to find.
var randomBlocks sync.Map

func blocksOf(typ *quant.Type) []byte {
	if b, ok := randomBlocks.Load(typ); ok {
		return b.([]byte)
	}
	b := typ.Random(rand.New(rand.NewPCG(1, 2)), 251) // prime
	randomBlocks.Store(typ, b)
	return b
}

// packed returns the bytes of random weights of a type: one long row, packed once, over
// and over.
func packed(typ *quant.Type, rows, cols int) ([]byte, error) {
	x := pool()
	blocks := len(x) / typ.BlockLen
	if typ.BlockLen > 1 {
		blocks = blocks&^1 - 1 // odd, for the same reason that the length of pool is prime
	}
	blocks = min(blocks, rows*cols/typ.BlockLen)
	one := make([]byte, blocks*typ.BlockBytes)
	if typ.Pack == nil {
		one = blocksOf(typ)
	} else if err := typ.Pack(one, x[:blocks*typ.BlockLen]); err != nil {
		return nil, err
	}
	data := make([]byte, rows*typ.RowBytes(cols))
	for done := 0; done < len(data); {
		done += copy(data[done:], one)
	}
	return data, nil
}

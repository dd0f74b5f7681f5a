package nn

import (
	"fmt"
	"sync"

	"github.com/guardcpu/guardcpu/engine/internal/par"
	"github.com/guardcpu/guardcpu/simd"
)

// NewCtx returns a Ctx of the given kernels and number of workers; less than 1 means one
// for each CPU the process may use.
func NewCtx(k *simd.Kernels, workers int) *Ctx { return &Ctx{K: k, Par: par.New(workers)} }

// grain is the number of elements that is worth a goroutine of its own: some ten
// microseconds of elementwise work.
const grain = 16 << 10

// rows calls body for ranges of rows [lo,hi) that together cover [0,n), maybe in
// parallel. The ranges depend on n and cols only.
func (c *Ctx) rows(n, cols int, body func(lo, hi int)) {
	per := max(1, grain/max(1, cols))
	if n <= per {
		if n > 0 {
			body(0, n)
		}
		return
	}
	c.Par.For((n+per-1)/per, func(i int) { body(i*per, min(n, (i+1)*per)) })
}

// serial is the simd.For of a product that runs inside a worker.
func serial(n int, body func(i int)) {
	for i := range n {
		body(i)
	}
}

// Scratch of a worker, and whole matrices: two pools, so that small requests do not
// end up with the large slices.
var (
	scratchPool = sync.Pool{New: func() any { return new([]float32) }}
	matPool     = sync.Pool{New: func() any { return new(Mat) }}
)

// scratch returns n float32 of any value; give them back with scratchPool.Put.
func scratch(n int) *[]float32 {
	p := scratchPool.Get().(*[]float32)
	*p = grow(*p, n)
	return p
}

// take returns the first rows·cols elements of buf as a matrix and cuts them off.
func take(buf *[]float32, rows, cols int) Mat {
	n := rows * cols
	m := Mat{Rows: rows, Cols: cols, Stride: cols, Data: (*buf)[:n:n]}
	*buf = (*buf)[n:]
	return m
}

// scratchMat returns a matrix of any values; give it back with matPool.Put.
func scratchMat(rows, cols int) *Mat {
	m := matPool.Get().(*Mat)
	m.resize(rows, cols)
	return m
}

// grow returns a slice of length n, in x's memory when that is large enough.
func grow[T any](x []T, n int) []T {
	if cap(x) < n {
		return make([]T, n)
	}
	return x[:n]
}

// resize gives m the shape rows×cols, in its old memory when that is large
// enough. The elements keep no meaning.
func (m *Mat) resize(rows, cols int) {
	*m = Mat{Rows: rows, Cols: cols, Stride: cols, Data: grow(m.Data, rows*cols)}
}

// copyRows sets dst to src, row by row. They may be the same matrix.
func (c *Ctx) copyRows(dst, src Mat) {
	c.rows(src.Rows, src.Cols, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			copy(dst.Row(t), src.Row(t))
		}
	})
}

// addRows adds src to dst, row by row.
func (c *Ctx) addRows(dst, src Mat) {
	c.rows(src.Rows, src.Cols, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			c.K.Add(dst.Row(t), src.Row(t))
		}
	})
}

// zero sets m to 0.
func (c *Ctx) zero(m Mat) {
	c.rows(m.Rows, m.Cols, func(lo, hi int) { m.View(lo, hi-lo, 0, m.Cols).Zero() })
}

func panicf(format string, args ...any) { panic(fmt.Sprintf("nn: "+format, args...)) }

// sameShape panics unless the two matrices have one shape.
func sameShape(op, aName string, a Mat, bName string, b Mat) {
	if a.Rows != b.Rows || a.Cols != b.Cols {
		panicf("%s: %s is %v, %s is %v", op, aName, a, bName, b)
	}
}

// vector panics unless p is a vector of n unpacked elements.
func vector(op string, x Mat, p *Param) {
	if len(p.F32) != x.Cols {
		panicf("%s: x is %v, %s has %d", op, x, p.Name, len(p.F32))
	}
}

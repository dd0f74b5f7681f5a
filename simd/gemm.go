package simd

import (
	"fmt"
	"sync"
)

// Operand is one factor of a matrix product, stored row-major.
type Operand struct {
	// Data holds element (r,c) at Data[r*Stride+c] …
	Data   []float32
	Stride int
	// … or, when Data is nil, Unpack writes the elements (row, col+j) to dst[j].
	// It may be called from several goroutines at a time.
	Unpack func(dst []float32, row, col int)
	// Trans says that the product takes the transpose of what is stored.
	Trans bool
}

// For runs body for all i in [0,n), maybe in parallel; nil runs them in order.
type For func(n int, body func(i int))

// Blocking of Gemm (Goto & van de Geijn 2008, doi:10.1145/1356052.1356053, as in BLIS).
// Only gemmKC touches the numbers: every element of c is a sum of partial sums over
// gemmKC products, so it is a constant of all sets.
const (
	// gemmKC is the depth of a panel: a 16-wide panel of B is 16 KiB, half of a
	// small first-level cache. A multiple of every block length of a weight type.
	gemmKC = 256
	// gemmMC is the number of rows of A that a task sweeps with each panel of B:
	// 96 rows of 256 are 96 KiB, which stay in the second-level cache.
	gemmMC = 96
	// gemmBuf limits the packed parts of A and of B, in numbers: 4 MiB each.
	gemmBuf = 1 << 20
	// gemmCols is the width of a packing task in columns, a multiple of every
	// block length of a weight type.
	gemmCols = 256
	// gemmTasks is how many tasks a product is divided into, if it is large enough.
	gemmTasks = 24
	// gemmSerial is the size of a product, in multiplications, under which it is
	// not worth waking another worker.
	gemmSerial = 1 << 17
	// gemmDotRows is the largest m for which c = a·bᵀ is computed as dot products.
	gemmDotRows = 3
)

// Gemm sets (or, accumulate, adds to) c[m×n] = op(a)[m×k]·op(b)[k×n], k = kk,
// where row i of c begins at c[i*ldc] and op transposes if Trans is set.
// c must not overlap the operands.
//
// Every element of c sums p = 0…k-1 in an order that depends on k alone, not on
// par, m, n or the strides. The exception are products c = a·bᵀ of up to three
// rows, which are Dot products: there the order is that of Dot.
//
// It panics if a slice is too short for its shape.
func (k *Kernels) Gemm(par For, c []float32, ldc, m, n, kk int, a, b Operand, accumulate bool) {
	if m < 0 || n < 0 || kk < 0 {
		panic(fmt.Sprintf("simd: Gemm: shape %d×%d×%d", m, n, kk))
	}
	if m == 0 || n == 0 {
		return
	}
	checkMatrix("c", len(c), ldc, m, n)
	a.check("a", m, kk)
	b.check("b", kk, n)
	if kk == 0 {
		if !accumulate {
			for i := range m {
				clear(c[i*ldc : i*ldc+n])
			}
		}
		return
	}
	if par == nil || m*n*kk < gemmSerial {
		par = serial
	}
	if b.Trans && !a.Trans && a.Data != nil && m <= gemmDotRows {
		k.gemmDot(par, c, ldc, m, n, kk, a, b, accumulate)
		return
	}
	k.gemmBlocked(par, c, ldc, m, n, kk, a, b, accumulate)
}

func serial(n int, body func(i int)) {
	for i := range n {
		body(i)
	}
}

func checkMatrix(name string, length, stride, rows, cols int) {
	if stride < cols || length < (rows-1)*stride+cols {
		panic(fmt.Sprintf("simd: Gemm: %s has %d numbers and stride %d, want %d×%d", name, length, stride, rows, cols))
	}
}

// check panics if op(o) cannot be rows×cols.
func (o *Operand) check(name string, rows, cols int) {
	if o.Trans {
		rows, cols = cols, rows
	}
	switch {
	case o.Data != nil:
		if rows > 0 && cols > 0 {
			checkMatrix(name, len(o.Data), o.Stride, rows, cols)
		}
	case o.Unpack == nil && rows > 0 && cols > 0:
		panic(fmt.Sprintf("simd: Gemm: %s has neither Data nor Unpack", name))
	}
}

// gemmDot computes c (+)= a·bᵀ for few rows: each row of b is read, or unpacked,
// once and multiplied with all rows of a.
func (k *Kernels) gemmDot(par For, c []float32, ldc, m, n, kk int, a, b Operand, accumulate bool) {
	// A task is as many rows of b as make about 2¹⁷ products with one row of a.
	rows := max(1, min(gemmCols, (1<<17)/kk))
	par((n+rows-1)/rows, func(task int) {
		j0 := task * rows
		j1 := min(n, j0+rows)
		s := scratchPool.Get().(*gemmScratch)
		defer scratchPool.Put(s)
		out := s.take(gemmCols + kk)
		out, w := out[:gemmCols], out[gemmCols:]
		if b.Data != nil {
			for i := range m {
				k.DotRows(out[:j1-j0], a.Data[i*a.Stride:i*a.Stride+kk], b.Data[j0*b.Stride:], b.Stride)
				set(c[i*ldc+j0:i*ldc+j1], out, accumulate)
			}
			return
		}
		for j := j0; j < j1; j++ {
			b.Unpack(w, j, 0)
			for i := range m {
				d := k.Dot(a.Data[i*a.Stride:i*a.Stride+kk], w)
				set(c[i*ldc+j:i*ldc+j+1], []float32{d}, accumulate)
			}
		}
	})
}

// set copies src to dst, or adds it.
func set(dst, src []float32, accumulate bool) {
	src = src[:len(dst)]
	if !accumulate {
		copy(dst, src)
		return
	}
	for i := range dst {
		dst[i] += src[i]
	}
}

// gemmScratch is the scratch memory of one task, or the packed panels of one product.
type gemmScratch struct{ buf []float32 }

// take returns n numbers of any value.
func (s *gemmScratch) take(n int) []float32 {
	if cap(s.buf) < n {
		s.buf = make([]float32, n)
	}
	return s.buf[:n]
}

// Two pools, because what a task takes is small and what a product takes is not.
var (
	scratchPool = sync.Pool{New: func() any { return new(gemmScratch) }}
	panelPool   = sync.Pool{New: func() any { return new(gemmScratch) }}
)

// packed describes packed panels of one operand: blocks of up to gemmKC steps,
// each of all panels.
type packed struct {
	buf    []float32
	width  int // of a panel
	size   int // numbers from one panel to the next
	panels int
}

// panel returns panel q of the block of steps kb.
func (p *packed) panel(kb, q int) []float32 {
	i := (kb*p.panels + q) * p.size
	return p.buf[i : i+p.size : i+p.size]
}

func (k *Kernels) gemmBlocked(par For, c []float32, ldc, m, n, kk int, a, b Operand, accumulate bool) {
	mr, nr := k.Tile.MR, k.Tile.NR
	depth := min(kk, gemmKC)
	// One pass packs up to mStep rows of A and nStep columns of B, kBlocks·gemmKC deep.
	mStep := min(roundUp(m, mr), gemmBuf/depth/mr*mr)
	nStep := min(roundUp(n, nr), gemmBuf/depth/gemmCols*gemmCols)
	kBlocks := min((kk+gemmKC-1)/gemmKC, max(1, gemmBuf/depth/max(mStep, nStep)))

	pa := packed{width: mr, size: roundUp(mr*depth+PackSlack, 8), panels: mStep / mr}
	pb := packed{width: nr, size: roundUp(nr*depth+PackSlack, 8), panels: (nStep + nr - 1) / nr}
	panels := panelPool.Get().(*gemmScratch)
	defer panelPool.Put(panels)
	buf := panels.take(kBlocks * (pa.panels*pa.size + pb.panels*pb.size))
	pa.buf = buf[:kBlocks*pa.panels*pa.size]
	pb.buf = buf[len(pa.buf):]

	// op(a) is packed in panels along its rows: seen from the panels it is aᵀ.
	at := a
	at.Trans = !a.Trans
	for j0 := 0; j0 < n; j0 += nStep {
		nn := min(nStep, n-j0)
		pb.panels = (nn + nr - 1) / nr
		for p0 := 0; p0 < kk; p0 += kBlocks * gemmKC {
			kn := min(kBlocks*gemmKC, kk-p0)
			blocks := (kn + gemmKC - 1) / gemmKC
			for i0 := 0; i0 < m; i0 += mStep {
				mm := min(mStep, m-i0)
				pa.panels = (mm + mr - 1) / mr
				// Pack: tasks of one block of steps and about gemmCols rows or columns.
				an, bn := packTasks(&pa), packTasks(&pb)
				if i0 > 0 {
					bn = 0 // B is there from the first i0
				}
				par((an+bn)*blocks, func(task int) {
					kb, t := task/(an+bn), task%(an+bn)
					q0, steps := p0+kb*gemmKC, min(gemmKC, kn-kb*gemmKC)
					if t < bn {
						k.pack(&pb, kb, t, &b, q0, steps, j0, nn)
					} else {
						k.pack(&pa, kb, t-bn, &at, q0, steps, i0, mm)
					}
				})
				// Multiply: tasks of some rows and some columns of c.
				rows, cols := taskSize(pa.panels, pb.panels, gemmMC/mr)
				tm, tn := (pa.panels+rows-1)/rows, (pb.panels+cols-1)/cols
				par(tm*tn, func(task int) {
					ti, tj := task/tn, task%tn
					i, j := ti*rows, tj*cols
					k.multiply(&pa, &pb, i, min(i+rows, pa.panels), j, min(j+cols, pb.panels), kn,
						c[i0*ldc+j0:], ldc, mm, nn, accumulate || p0 > 0)
				})
			}
		}
	}
}

// roundUp returns the smallest multiple of unit that is at least n.
func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }

// packTasks returns the number of packing tasks a block of steps is divided into.
func packTasks(p *packed) int {
	per := gemmCols / p.width
	return (p.panels + per - 1) / per
}

// taskSize divides tm×tn panels among about gemmTasks tasks: how many panels of A
// (no more than maxRows) and of B a task takes.
func taskSize(tm, tn, maxRows int) (rows, cols int) {
	parts := (tm + maxRows - 1) / maxRows
	rows = (tm + parts - 1) / parts
	cols = min(tn, max(1, tn*parts/gemmTasks))
	return rows, cols
}

// pack fills task t of block kb: panels of the columns first…first+count of
// op(o), steps q0…q0+steps.
func (k *Kernels) pack(dst *packed, kb, t int, o *Operand, q0, steps, first, count int) {
	w := dst.width
	per := gemmCols / w
	lo, hi := t*per, min((t+1)*per, dst.panels)
	if o.Trans {
		k.packCols(dst, kb, lo, hi, o, q0, steps, first, count)
	} else {
		k.packRows(dst, kb, lo, hi, o, q0, steps, first, count)
	}
}

// packCols packs panels lo…hi from rows of o: a column of op(o) is a row of o.
func (k *Kernels) packCols(dst *packed, kb, lo, hi int, o *Operand, q0, steps, first, count int) {
	w := dst.width
	s := scratchPool.Get().(*gemmScratch)
	defer scratchPool.Put(s)
	for q := lo; q < hi; q++ {
		r0 := q * w
		rows := min(w, count-r0)
		var src []float32
		stride := o.Stride
		if o.Data != nil {
			src = o.Data[(first+r0)*stride+q0:]
		} else {
			// The rows are a cache line apart from a multiple of 4 KiB.
			stride = gemmKC + 16
			src = s.take(w * stride)
			for r := range rows {
				o.Unpack(src[r*stride:r*stride+steps], first+r0+r, q0)
			}
		}
		d := dst.panel(kb, q)
		if rows == w {
			k.Tile.PackCols(d, src, stride, w, steps)
			continue
		}
		for p := range steps {
			e := d[p*w : (p+1)*w]
			for r := range e {
				if r < rows {
					e[r] = src[r*stride+p]
				} else {
					e[r] = 0
				}
			}
		}
	}
}

// packRows packs panels lo…hi from pieces of the rows of o.
func (k *Kernels) packRows(dst *packed, kb, lo, hi int, o *Operand, q0, steps, first, count int) {
	w := dst.width
	c0 := lo * w
	cols := min(hi*w, count) - c0
	full := cols / w
	if o.Data != nil {
		src := o.Data[q0*o.Stride+first+c0:]
		k.packRowBlock(dst, kb, lo, full, cols, src, o.Stride, 0, steps)
		return
	}
	s := scratchPool.Get().(*gemmScratch)
	defer scratchPool.Put(s)
	const some = 16 // rows unpacked at a time
	buf := s.take(some * cols)
	for p := 0; p < steps; p += some {
		n := min(some, steps-p)
		for r := range n {
			o.Unpack(buf[r*cols:(r+1)*cols], q0+p+r, first+c0)
		}
		k.packRowBlock(dst, kb, lo, full, cols, buf, cols, p, n)
	}
}

// packRowBlock packs n rows of src as steps p…p+n of the panels from lo on:
// full whole panels and, if cols has a rest, one filled up with zeros.
func (k *Kernels) packRowBlock(dst *packed, kb, lo, full, cols int, src []float32, stride, p, n int) {
	w := dst.width
	if full > 0 {
		i := (kb*dst.panels+lo)*dst.size + p*w
		k.Tile.PackRows(dst.buf[i:], dst.size, src, stride, w, n, full)
	}
	if rest := cols - full*w; rest > 0 {
		d := dst.panel(kb, lo+full)
		for r := range n {
			e := d[(p+r)*w : (p+r+1)*w]
			copy(e, src[r*stride+full*w:r*stride+cols])
			clear(e[rest:])
		}
	}
}

// multiply computes the tiles of the panels i0…i1 of A and j0…j1 of B, of which c
// begins at panel 0 and has m rows and n columns, over all kn packed steps.
func (k *Kernels) multiply(pa, pb *packed, i0, i1, j0, j1, kn int, c []float32, ldc, m, n int, accumulate bool) {
	mr, nr := k.Tile.MR, k.Tile.NR
	s := scratchPool.Get().(*gemmScratch)
	defer scratchPool.Put(s)
	edge := s.take(mr * nr)
	for kb := 0; kb*gemmKC < kn; kb++ {
		steps := min(gemmKC, kn-kb*gemmKC)
		add := accumulate || kb > 0
		for j := j0; j < j1; j++ {
			bp := pb.panel(kb, j)
			cols := min(nr, n-j*nr)
			for i := i0; i < i1; i++ {
				ap := pa.panel(kb, i)
				rows := min(mr, m-i*mr)
				ct := c[i*mr*ldc+j*nr:]
				if rows == mr && cols == nr {
					k.Tile.Run(steps, ap, bp, ct, ldc, add)
					continue
				}
				k.Tile.Run(steps, ap, bp, edge, nr, false)
				for r := range rows {
					set(ct[r*ldc:r*ldc+cols], edge[r*nr:], add)
				}
			}
		}
	}
}

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
// rows, a stored as numbers: there the order is that of DotRows.
//
// It panics if a slice is too short for its shape.
func (k *Kernels) Gemm(par For, c []float32, ldc, m, n, kk int, a, b Operand, accumulate bool) {
	k.gemm(&k.Tile, par, c, ldc, m, n, kk, a, b, accumulate)
}

// GemmBF16 is Gemm with every number of a and b rounded to bfloat16 first, to the
// nearest, ties to even; products and sums are those of float32. The order of a sum
// depends on k alone here too, with the same exception.
//
// With a' = a(1+δ), |δ| ≤ 2⁻⁸, for a rounded number, and every product of two exact in
// float32, an element is off by at most
//
//	(k+2)·2⁻²³·Σ|a'b'| + 2⁻⁷·(1+2⁻⁹)·Σ|ab|
//
// the second part from rounding a and b; 2⁻²³ because instructions for bfloat16 need not
// round sums to the nearest (BFDOT does not). The same instructions take numbers,
// products and sums smaller than 2⁻¹²⁶ for 0 (VDPBF16PS, BFDOT), others do not. A number
// of which rounding makes more than the largest bfloat16 is ±Inf; NaN stays NaN.
func (k *Kernels) GemmBF16(par For, c []float32, ldc, m, n, kk int, a, b Operand, accumulate bool) {
	k.gemm(&k.TileBF16, par, c, ldc, m, n, kk, a, b, accumulate)
}

// gemm is the product by a tile of k.
func (k *Kernels) gemm(tile *Tile, par For, c []float32, ldc, m, n, kk int, a, b Operand, accumulate bool) {
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
		k.gemmDot(tile, par, c, ldc, m, n, kk, a, b, accumulate)
		return
	}
	gemmBlocked(tile, par, c, ldc, m, n, kk, a, b, accumulate)
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
// once and multiplied with all rows of a. If the tile seals, both are rounded first.
func (k *Kernels) gemmDot(tile *Tile, par For, c []float32, ldc, m, n, kk int, a, b Operand, accumulate bool) {
	// A task is as many rows of b as make about 2¹⁷ products with one row of a.
	rows := max(1, min(gemmCols, (1<<17)/kk))
	// Rows are unpacked or rounded a few at a time, a cache line apart from a multiple of 4 KiB.
	const few = 4
	stride := kk + 16
	round := tile.Seal != nil
	if round {
		s := scratchPool.Get().(*gemmScratch)
		defer scratchPool.Put(s)
		x := s.take(m * stride)
		for i := range m {
			k.RoundBF16(x[i*stride:i*stride+kk], a.Data[i*a.Stride:i*a.Stride+kk])
		}
		a.Data, a.Stride = x, stride
	}
	par(ceilDiv(n, rows), func(task int) {
		s := scratchPool.Get().(*gemmScratch)
		defer scratchPool.Put(s)
		buf := s.take(gemmCols + few*stride)
		out, w := buf[:gemmCols], buf[gemmCols:]
		end := min(n, (task+1)*rows)
		for j := task * rows; j < end; {
			count, src, ld := end-j, b.Data, b.Stride
			if src != nil && !round {
				src = src[j*ld:]
			} else {
				count, src, ld = min(few, count), w, stride
				for r := range count {
					row := w[r*ld : r*ld+kk]
					from := row
					if b.Data != nil {
						from = b.Data[(j+r)*b.Stride : (j+r)*b.Stride+kk]
					} else {
						b.Unpack(row, j+r, 0)
					}
					if round {
						k.RoundBF16(row, from)
					}
				}
			}
			for i := range m {
				k.DotRows(out[:count], a.Data[i*a.Stride:i*a.Stride+kk], src, ld)
				set(c[i*ldc+j:i*ldc+j+count], out, accumulate)
			}
			j += count
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

// gemmScratch is the scratch memory of one task.
type gemmScratch struct{ buf []float32 }

// take returns n numbers of any value.
func (s *gemmScratch) take(n int) []float32 {
	if cap(s.buf) < n {
		s.buf = make([]float32, n)
	}
	return s.buf[:n]
}

var scratchPool = sync.Pool{New: func() any { return new(gemmScratch) }}

// packed is the packed panels of one operand: blocks of up to depth steps, each
// of all panels.
type packed struct {
	buf    []float32
	width  int // of a panel
	size   int // words from one panel to the next
	panels int
	tasks  int // of packing one block
}

// panel returns panel q of the block of steps kb.
func (p *packed) panel(kb, q int) []float32 {
	i := (kb*p.panels + q) * p.size
	return p.buf[i : i+p.size : i+p.size]
}

// setPanels sets the number of panels for the given rows of A or columns of B.
func (p *packed) setPanels(count int) {
	p.panels = ceilDiv(count, p.width)
	p.tasks = ceilDiv(p.panels, gemmCols/p.width)
}

// product is a blocked product under way: what its tasks share.
type product struct {
	tile       *Tile
	depth      int // steps of a panel
	c          []float32
	ldc        int
	a, b       Operand // a transposed: panels of A are packed along its rows
	accumulate bool

	pa, pb     packed
	i0, mm     int // rows of this pass
	j0, nn     int // columns of this pass
	p0, kn     int // steps of this pass
	rows, cols int // panels of A and of B that a task multiplies
	first      int // packing tasks of B that are left out, because it is packed

	buf                    []float32
	packTask, multiplyTask func(task int)
}

// products keeps the scratch memory, and the closures, of products that are done.
var products = sync.Pool{New: func() any {
	p := new(product)
	p.packTask, p.multiplyTask = p.pack, p.multiply
	return p
}}

func gemmBlocked(tile *Tile, par For, c []float32, ldc, m, n, kk int, a, b Operand, accumulate bool) {
	mr, nr := tile.MR, tile.NR
	p := products.Get().(*product)
	p.tile, p.c, p.ldc, p.a, p.b = tile, c, ldc, a, b
	p.a.Trans = !a.Trans
	defer func() { // let go of what belongs to the caller
		p.c, p.a, p.b = nil, Operand{}, Operand{}
		products.Put(p)
	}()

	p.depth = gemmKC
	if tile.Half {
		p.depth *= 2
	}
	words := tile.words(min(kk, p.depth)) // of a panel, for each of its columns
	// A pass packs up to mStep rows of A and nStep columns of B, kStep deep.
	mStep := min(roundUp(m, mr), gemmBuf/words/mr*mr)
	nStep := min(roundUp(n, nr), gemmBuf/words/gemmCols*gemmCols)
	blocks := min(ceilDiv(kk, p.depth), max(1, gemmBuf/words/max(mStep, nStep)))
	kStep := blocks * p.depth

	p.pa = packed{width: mr, size: roundUp(mr*words+PackSlack, 8)}
	p.pb = packed{width: nr, size: roundUp(nr*words+PackSlack, 8)}
	p.pa.setPanels(mStep)
	p.pb.setPanels(nStep)
	sizeA, sizeB := blocks*p.pa.panels*p.pa.size, blocks*p.pb.panels*p.pb.size
	if cap(p.buf) < sizeA+sizeB {
		p.buf = make([]float32, sizeA+sizeB)
	}
	p.pa.buf, p.pb.buf = p.buf[:sizeA], p.buf[sizeA:sizeA+sizeB]

	for p.j0 = 0; p.j0 < n; p.j0 += nStep {
		p.nn = min(nStep, n-p.j0)
		p.pb.setPanels(p.nn)
		for p.p0 = 0; p.p0 < kk; p.p0 += kStep {
			p.kn = min(kStep, kk-p.p0)
			p.accumulate = accumulate || p.p0 > 0
			for p.i0 = 0; p.i0 < m; p.i0 += mStep {
				p.mm = min(mStep, m-p.i0)
				p.pa.setPanels(p.mm)
				p.pass(par)
			}
		}
	}
}

// words returns how many words the steps of one column of a panel take.
func (t *Tile) words(steps int) int {
	if t.Half {
		return ceilDiv(steps, 4) * 2
	}
	return steps
}

// pass packs the panels of a pass, those of B only in the first of the passes that
// share them, and multiplies.
func (p *product) pass(par For) {
	blocks := ceilDiv(p.kn, p.depth)
	p.first = 0
	if p.i0 > 0 {
		p.first = blocks * p.pb.tasks
	}
	par(blocks*(p.pa.tasks+p.pb.tasks)-p.first, p.packTask)
	p.rows, p.cols = taskSize(p.pa.panels, p.pb.panels, gemmMC/p.tile.MR)
	par(ceilDiv(p.pa.panels, p.rows)*ceilDiv(p.pb.panels, p.cols), p.multiplyTask)
}

func ceilDiv(n, d int) int { return (n + d - 1) / d }

// roundUp returns the smallest multiple of unit that is at least n.
func roundUp(n, unit int) int { return ceilDiv(n, unit) * unit }

// taskSize divides tm×tn panels among about gemmTasks tasks: how many panels of A
// (no more than maxRows) and of B a task takes.
func taskSize(tm, tn, maxRows int) (rows, cols int) {
	parts := ceilDiv(tm, maxRows)
	rows = ceilDiv(tm, parts)
	cols = min(tn, max(1, tn*parts/gemmTasks))
	return rows, cols
}

// pack is one packing task: about gemmCols rows of A or columns of B, one block
// of steps. The tasks of B come first.
func (p *product) pack(task int) {
	task += p.first
	dst, o, lo, count := &p.pb, &p.b, p.j0, p.nn
	if t := task - ceilDiv(p.kn, p.depth)*dst.tasks; t >= 0 {
		task, dst, o, lo, count = t, &p.pa, &p.a, p.i0, p.mm
	}
	per := gemmCols / dst.width
	kb, q := task/dst.tasks, task%dst.tasks*per
	j := packJob{
		packed: dst, o: o, kb: kb, q0: q, q1: min(q+per, dst.panels),
		col: lo + q*dst.width, cols: min(per*dst.width, count-q*dst.width),
		step: p.p0 + kb*p.depth, steps: min(p.depth, p.kn-kb*p.depth),
	}
	if o.Trans {
		p.packCols(&j)
	} else {
		p.packRows(&j)
	}
}

// packJob says what a packing task packs: the panels q0…q1 of block kb, that is the
// columns col…col+cols of op(o), steps step…step+steps.
type packJob struct {
	*packed
	o           *Operand
	kb, q0, q1  int
	col, cols   int
	step, steps int
}

// packCols packs from rows of o: a column of op(o) is a row of o.
func (p *product) packCols(j *packJob) {
	s := scratchPool.Get().(*gemmScratch)
	defer scratchPool.Put(s)
	w, n := j.width, j.steps
	ld := p.depth + 16 // no multiple of 4 KiB, whatever the row
	buf := s.take(w*ld + w*p.depth + PackSlack)
	rowsBuf, open := buf[:w*ld], buf[w*ld:]
	for q := j.q0; q < j.q1; q++ {
		done := (q - j.q0) * w
		row, rows := j.col+done, min(w, j.cols-done)
		src, stride := rowsBuf, ld
		if j.o.Data != nil {
			stride = j.o.Stride
			src = j.o.Data[row*stride+j.step:]
		} else {
			for r := range rows {
				j.o.Unpack(src[r*stride:r*stride+n], row+r, j.step)
			}
		}
		d := j.panel(j.kb, q)
		if p.tile.Seal != nil {
			d = open
		}
		if rows == w {
			p.tile.PackCols(d, src, stride, w, n)
		} else {
			for i := range n {
				e := d[i*w : (i+1)*w]
				for r := range rows {
					e[r] = src[r*stride+i]
				}
				clear(e[rows:])
			}
		}
		if p.tile.Seal != nil {
			p.tile.Seal(j.panel(j.kb, q), open, w, n)
		}
	}
}

// packRows packs from pieces of the rows of o.
func (p *product) packRows(j *packJob) {
	if j.o.Data != nil && p.tile.Seal == nil {
		p.packRowBlock(j, j.panels0(), j.size, j.o.Data[j.step*j.o.Stride+j.col:], j.o.Stride, j.steps)
		return
	}
	s := scratchPool.Get().(*gemmScratch)
	defer scratchPool.Put(s)
	const some = SealSteps // rows unpacked, or sealed, at a time
	w := j.width
	size := some*w + PackSlack // of a part of a panel that is not sealed
	buf := s.take(some*j.cols + (j.q1-j.q0)*size)
	rows, open := buf[:some*j.cols], buf[some*j.cols:]
	for i := 0; i < j.steps; i += some {
		n := min(some, j.steps-i)
		src, stride := rows, j.cols
		if j.o.Data != nil {
			stride = j.o.Stride
			src = j.o.Data[(j.step+i)*stride+j.col:]
		} else {
			for r := range n {
				j.o.Unpack(rows[r*stride:r*stride+j.cols], j.step+i+r, j.col)
			}
		}
		if p.tile.Seal == nil {
			p.packRowBlock(j, j.panels0()[i*w:], j.size, src, stride, n)
			continue
		}
		p.packRowBlock(j, open, size, src, stride, n)
		for q := j.q0; q < j.q1; q++ {
			p.tile.Seal(j.panel(j.kb, q)[p.tile.words(i)*w:], open[(q-j.q0)*size:], w, n)
		}
	}
}

// panels0 returns the panels of the job, from the first on.
func (j *packJob) panels0() []float32 { return j.buf[(j.kb*j.panels+j.q0)*j.size:] }

// packRowBlock packs n rows of src into the panels of the job, which lie size numbers
// apart in dst: whole panels and, if there are columns left, one filled up with zeros.
func (p *product) packRowBlock(j *packJob, dst []float32, size int, src []float32, stride, n int) {
	w := j.width
	full := j.cols / w
	if full > 0 {
		p.tile.PackRows(dst, size, src, stride, w, n, full)
	}
	if rest := j.cols - full*w; rest > 0 {
		d := dst[full*size:]
		for r := range n {
			e := d[r*w : (r+1)*w]
			copy(e, src[r*stride+full*w:r*stride+j.cols])
			clear(e[rest:])
		}
	}
}

// multiply is one task of the multiplication: the tiles of some panels of A and
// some of B, over all steps of the pass.
func (p *product) multiply(task int) {
	s := scratchPool.Get().(*gemmScratch)
	defer scratchPool.Put(s)
	mr, nr, ldc := p.tile.MR, p.tile.NR, p.ldc
	edge := s.take(mr * nr)
	wide := ceilDiv(p.pb.panels, p.cols)
	i0, j0 := task/wide*p.rows, task%wide*p.cols
	i1, j1 := min(i0+p.rows, p.pa.panels), min(j0+p.cols, p.pb.panels)
	for kb := 0; kb*p.depth < p.kn; kb++ {
		steps := min(p.depth, p.kn-kb*p.depth)
		add := p.accumulate || kb > 0
		for j := j0; j < j1; j++ {
			bp := p.pb.panel(kb, j)
			cols := min(nr, p.nn-j*nr)
			for i := i0; i < i1; i++ {
				ap := p.pa.panel(kb, i)
				rows := min(mr, p.mm-i*mr)
				c := p.c[(p.i0+i*mr)*ldc+p.j0+j*nr:]
				if rows == mr && cols == nr {
					p.tile.Run(steps, ap, bp, c, ldc, add)
					continue
				}
				p.tile.Run(steps, ap, bp, edge, nr, false)
				for r := range rows {
					set(c[r*ldc:r*ldc+cols], edge[r*nr:], add)
				}
			}
		}
	}
}

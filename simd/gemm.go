package simd

import (
	"fmt"
	"math/bits"
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
// gemmKC products (twice as many where they are stored as pairs), so it is a constant
// of all sets.
const (
	// gemmKC is the depth of a panel: a 16-wide panel of B is 16 KiB, half of a
	// small first-level cache. A multiple of every block length of a weight type.
	gemmKC = 256
	// gemmPad is what a copied row of A is longer than its panel is deep, so that rows
	// are no multiple of 4 KiB apart: those would share the lines of the first cache.
	gemmPad = 16
	// gemmWide is how far a task goes along the factor that is packed for all: a number
	// that it packs for itself is used so often, and packing costs as little.
	gemmWide = 512
	// gemmPack is the size of a task that packs, in rows of A or columns of B.
	gemmPack = 64
	// gemmAlign is a multiple of every block length of a weight type: Unpack is called
	// for columns that begin at a multiple of it.
	gemmAlign = 256
	// gemmTasks is how many tasks a product is divided into, if it is large enough.
	gemmTasks = 32
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
	k.gemmBlocked(tile, par, c, ldc, m, n, kk, a, b, accumulate)
}

func serial(n int, body func(i int)) {
	for i := range n {
		body(i)
	}
}

func checkMatrix(name string, length, stride, rows, cols int) {
	if stride < cols || !inside(rows, cols, stride, length) {
		panic(fmt.Sprintf("simd: Gemm: %s has %d numbers and stride %d, want %d×%d", name, length, stride, rows, cols))
	}
}

// inside reports whether rows ≥ 1 rows of n numbers that begin stride apart lie in length
// numbers.
func inside(rows, n, stride, length int) bool {
	hi, lo := bits.Mul64(uint64(rows-1), uint64(stride))
	return stride >= 0 && n <= length && hi == 0 && lo <= uint64(length-n)
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
	rows := max(1, min(gemmAlign, (1<<17)/kk))
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
		buf := s.take(gemmAlign + few*stride)
		out, w := buf[:gemmAlign], buf[gemmAlign:]
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
type gemmScratch struct{ buf, staging []float32 }

// take returns n numbers of any value.
func (s *gemmScratch) take(n int) []float32 {
	s.buf = grow(s.buf, n)
	return s.buf[:n]
}

// stage is take from a second piece of memory, for what is on its way into a panel.
func (s *gemmScratch) stage(n int) []float32 {
	s.staging = grow(s.staging, n)
	return s.staging[:n]
}

var scratchPool = sync.Pool{New: func() any { return new(gemmScratch) }}

// product is a blocked product under way: what its tasks share. It is that of
// A [m×k] and B [k×n], which are a and b; or, swapped, c is its transpose and A is bᵀ.
// A is copied in rows, B is packed in panels. The larger of the two, which is often
// the weight, is packed by the tasks that multiply it (own), the other before for all.
type product struct {
	*Kernels
	tile       *Tile
	c          []float32
	ldc        int
	a, b       Operand
	accumulate bool
	swapped    bool
	ownA, ownB bool

	depth int // steps of a panel
	lda   int // words from one row of A to the next
	panel int // words from one panel of B to the next

	i0, mm     int // rows of this pass
	j0, nn     int // columns of this pass
	p0, kn     int // steps of this pass
	rows, cols int // of c that a task computes
	unitA      int // rows of A that a task packs
	unitB      int // columns of B that a task packs

	bufA, bufB             []float32 // what is packed for all: block of steps after block
	packTask, multiplyTask func(task int)
}

// products keeps the scratch memory, and the closures, of products that are done.
var products = sync.Pool{New: func() any {
	p := new(product)
	p.packTask, p.multiplyTask = p.pack, p.multiply
	return p
}}

func (k *Kernels) gemmBlocked(tile *Tile, par For, c []float32, ldc, m, n, kk int, a, b Operand, accumulate bool) {
	p := products.Get().(*product)
	defer func() { // let go of what belongs to the caller
		p.c, p.a, p.b = nil, Operand{}, Operand{}
		products.Put(p)
	}()
	p.Kernels, p.tile, p.c, p.ldc, p.a, p.b = k, tile, c, ldc, a, b
	// Rows of A are copied, but columns of B are transposed: let the larger be A.
	p.swapped = !a.Trans && b.Trans && m < n
	if p.swapped {
		m, n = n, m
		p.a, p.b = b, a
		p.a.Trans, p.b.Trans = false, true
	}
	if tile.Narrow != nil && n <= tile.Narrow.NR {
		tile, p.tile = tile.Narrow, tile.Narrow
	}
	// What is unpacked across the panels is unpacked gemmAlign numbers at a time.
	p.unitA, p.unitB = gemmPack, roundUp(gemmPack, tile.NR)
	alignedA, alignedB := p.a.Data == nil && p.a.Trans, p.b.Data == nil && !p.b.Trans
	if alignedA {
		p.unitA = gemmAlign
	}
	if alignedB {
		for p.unitB = gemmAlign; p.unitB%tile.NR > 0; p.unitB += gemmAlign {
		}
	}
	p.ownA, p.ownB = m >= n && !alignedA, m < n && !alignedB

	p.depth = gemmKC
	if tile.Half {
		p.depth *= 2
	}
	words := tile.words(min(kk, p.depth))
	p.lda, p.panel = words+gemmPad, roundUp(words*tile.NR+PackSlack, 8)

	// A pass packs mStep rows or nStep columns, kStep deep, for all.
	mStep, nStep := m, n
	shared := 0 // words of a step
	if !p.ownA {
		mStep = min(m, max(1, blocks.buf/p.lda/p.unitA)*p.unitA)
		shared = mStep * p.lda
	}
	if !p.ownB {
		nStep = min(n, max(1, blocks.buf/p.panel*tile.NR/p.unitB)*p.unitB)
		shared = max(shared, ceilDiv(nStep, tile.NR)*p.panel)
	}
	count := min(ceilDiv(kk, p.depth), max(1, blocks.buf/shared))
	kStep := count * p.depth
	if !p.ownA {
		p.bufA = grow(p.bufA, count*mStep*p.lda)
	}
	if !p.ownB {
		p.bufB = grow(p.bufB, count*ceilDiv(nStep, tile.NR)*p.panel)
	}

	for p.j0 = 0; p.j0 < n; p.j0 += nStep {
		p.nn = min(nStep, n-p.j0)
		for p.i0 = 0; p.i0 < m; p.i0 += mStep {
			p.mm = min(mStep, m-p.i0)
			p.divide()
			for p.p0 = 0; p.p0 < kk; p.p0 += kStep {
				p.kn = min(kStep, kk-p.p0)
				p.accumulate = accumulate || p.p0 > 0
				par(p.blocks()*(p.packsA()+p.packsB()), p.packTask)
				par(ceilDiv(p.mm, p.rows)*ceilDiv(p.nn, p.cols), p.multiplyTask)
			}
		}
	}
}

// grow returns n numbers of any value, those of buf if there are so many.
func grow(buf []float32, n int) []float32 {
	if cap(buf) < n {
		return make([]float32, n)
	}
	return buf[:n]
}

func ceilDiv(n, d int) int { return (n + d - 1) / d }

// roundUp returns the smallest multiple of unit that is at least n.
func roundUp(n, unit int) int { return ceilDiv(n, unit) * unit }

// words returns how many words the steps of a row of A, or a column of B, take.
func (t *Tile) words(steps int) int {
	if t.Half {
		return ceilDiv(steps, 4) * 2
	}
	return steps
}

// blocks, packsA and packsB are how many blocks of steps there are in this pass, and
// how many tasks pack one.
func (p *product) blocks() int { return ceilDiv(p.kn, p.depth) }

func (p *product) packsA() int {
	if p.ownA {
		return 0
	}
	return ceilDiv(p.mm, p.unitA)
}

func (p *product) packsB() int {
	if p.ownB {
		return 0
	}
	return ceilDiv(p.nn, p.unitB)
}

// divide sets the rows and columns of c that a task computes: far along the factor
// that is packed for all, and of the other so many that there are gemmTasks tasks.
func (p *product) divide() {
	mr, nr := p.tile.MR, p.tile.NR
	if p.ownB {
		parts := ceilDiv(p.mm, gemmWide)
		p.rows = roundUp(ceilDiv(p.mm, parts), mr)
		p.cols = min(roundUp(ceilDiv(p.nn*parts, gemmTasks), nr), roundUp(blocks.cols, nr))
		return
	}
	parts := ceilDiv(p.nn, gemmWide)
	p.cols = roundUp(ceilDiv(p.nn, parts), nr)
	p.rows = min(roundUp(ceilDiv(p.mm*parts, gemmTasks), mr), sweep(mr))
}

// sweep is how many rows of A are swept with each panel of B.
func sweep(mr int) int { return max(mr, blocks.rows/mr*mr) }

// pack is one task of packing for all: some rows of A or columns of B, one block of steps.
func (p *product) pack(task int) {
	s := scratchPool.Get().(*gemmScratch)
	defer scratchPool.Put(s)
	nb := p.packsB()
	if n := p.blocks() * nb; task >= n {
		task -= n
		na := p.packsA()
		kb, i := task/na, task%na*p.unitA
		p.packA(s, p.rowsA(kb)[i*p.lda:], p.i0+i, min(p.unitA, p.mm-i), kb)
		return
	}
	kb, j := task/nb, task%nb*p.unitB
	p.packB(s, p.panelsB(kb)[j/p.tile.NR*p.panel:], p.j0+j, min(p.unitB, p.nn-j), kb)
}

// rowsA returns the rows of A, and panelsB the panels of B, packed for all, of a block of steps.
func (p *product) rowsA(kb int) []float32 { return p.bufA[kb*p.mm*p.lda:] }

func (p *product) panelsB(kb int) []float32 {
	return p.bufB[kb*ceilDiv(p.nn, p.tile.NR)*p.panel:]
}

// steps returns where a block of steps begins in the operands, and its length.
func (p *product) steps(kb int) (step, n int) {
	return p.p0 + kb*p.depth, min(p.depth, p.kn-kb*p.depth)
}

// packA copies the rows i…i+rows of A, one block of steps, to rows lda apart.
func (p *product) packA(s *gemmScratch, dst []float32, i, rows, kb int) {
	step, n := p.steps(kb)
	o, seal, ld := &p.a, p.tile.SealRow, p.lda
	if !o.Trans {
		for r := range rows {
			row := dst[r*ld:]
			switch {
			case o.Data == nil && seal == nil:
				o.Unpack(row[:n], i+r, step)
			case o.Data == nil:
				buf := s.stage(n)
				o.Unpack(buf, i+r, step)
				seal(row, buf)
			case seal == nil:
				copy(row[:n], o.Data[(i+r)*o.Stride+step:])
			default:
				at := (i+r)*o.Stride + step
				seal(row, o.Data[at:at+n])
			}
		}
		return
	}
	open := dst // rows that are not sealed yet
	if seal != nil {
		ld = p.depth + gemmPad
		open = s.stage(rows*ld + SealSteps*rows)
	}
	if o.Data != nil {
		p.Transpose(open, ld, o.Data[step*o.Stride+i:], o.Stride, n, rows)
	} else {
		var buf []float32
		if seal != nil {
			open, buf = open[:rows*ld], open[rows*ld:]
		} else {
			buf = s.stage(SealSteps * rows)
		}
		for t := 0; t < n; t += SealSteps {
			some := min(SealSteps, n-t)
			for r := range some {
				o.Unpack(buf[r*rows:(r+1)*rows], step+t+r, i)
			}
			p.Transpose(open[t:], ld, buf, rows, some, rows)
		}
	}
	if seal != nil {
		for r := range rows {
			seal(dst[r*p.lda:], open[r*ld:r*ld+n])
		}
	}
}

// packB packs the columns j…j+cols of B, one block of steps, into panels.
func (p *product) packB(s *gemmScratch, dst []float32, j, cols, kb int) {
	if p.b.Trans {
		p.packColumns(s, dst, j, cols, kb)
		return
	}
	step, n := p.steps(kb)
	o, seal, nr := &p.b, p.tile.Seal, p.tile.NR
	if o.Data != nil && seal == nil {
		p.packRows(dst, p.panel, o.Data[step*o.Stride+j:], o.Stride, n, cols)
		return
	}
	part := SealSteps*nr + PackSlack // of a panel that is not sealed yet
	panels := ceilDiv(cols, nr)
	buf := s.stage(SealSteps*cols + panels*part)
	rows, open := buf[:SealSteps*cols], buf[SealSteps*cols:]
	for t := 0; t < n; t += SealSteps {
		some := min(SealSteps, n-t)
		src, stride := rows, cols
		if o.Data != nil {
			src, stride = o.Data[(step+t)*o.Stride+j:], o.Stride
		} else {
			for r := range some {
				o.Unpack(rows[r*cols:(r+1)*cols], step+t+r, j)
			}
		}
		if seal == nil {
			p.packRows(dst[t*nr:], p.panel, src, stride, some, cols)
			continue
		}
		p.packRows(open, part, src, stride, some, cols)
		for q := range panels {
			seal(dst[q*p.panel+p.tile.words(t)*nr:], open[q*part:], some)
		}
	}
}

// packRows packs n rows of src into panels that lie size numbers apart in dst: whole
// panels and, if there are columns left, one filled up with zeros.
func (p *product) packRows(dst []float32, size int, src []float32, stride, n, cols int) {
	nr := p.tile.NR
	full := cols / nr
	if full > 0 {
		p.tile.PackRows(dst, size, src, stride, n, full)
	}
	if rest := cols - full*nr; rest > 0 {
		d := dst[full*size:]
		for r := range n {
			e := d[r*nr : (r+1)*nr]
			copy(e, src[r*stride+full*nr:r*stride+cols])
			clear(e[rest:])
		}
	}
}

// packColumns is packB for a B whose columns are rows of what is stored.
func (p *product) packColumns(s *gemmScratch, dst []float32, j, cols, kb int) {
	step, n := p.steps(kb)
	o, seal, nr := &p.b, p.tile.Seal, p.tile.NR
	ld := p.depth + gemmPad
	buf := s.stage(nr*ld + nr*p.depth + PackSlack)
	rows, open := buf[:nr*ld], buf[nr*ld:]
	for q := 0; q*nr < cols; q++ {
		count := min(nr, cols-q*nr)
		src, stride := rows, ld
		if o.Data != nil {
			src, stride = o.Data[(j+q*nr)*o.Stride+step:], o.Stride
		} else {
			for r := range count {
				o.Unpack(rows[r*ld:r*ld+n], j+q*nr+r, step)
			}
		}
		d := dst[q*p.panel:]
		if seal != nil {
			d = open
		}
		if count < nr {
			clear(d[:n*nr])
		}
		p.Transpose(d, nr, src, stride, count, n)
		if seal != nil {
			seal(dst[q*p.panel:], open, n)
		}
	}
}

// multiply is one task of the multiplication: some rows and columns of c, over all
// steps of the pass.
func (p *product) multiply(task int) {
	s := scratchPool.Get().(*gemmScratch)
	defer scratchPool.Put(s)
	mr, nr := p.tile.MR, p.tile.NR
	wide := ceilDiv(p.nn, p.cols)
	t := tiles{i0: task / wide * p.rows, j0: task % wide * p.cols}
	t.rows, t.cols = min(p.rows, p.mm-t.i0), min(p.cols, p.nn-t.j0)
	panels := ceilDiv(t.cols, nr)

	ownA, ownB, square := 0, 0, 0
	if p.ownA {
		ownA = t.rows * p.lda
	}
	if p.ownB {
		ownB = panels * p.panel
	}
	t.ldc = nr
	size := mr * nr
	if p.swapped {
		t.ldc = panels*nr + gemmPad
		size = t.rows * t.ldc
	}
	square = size
	buf := s.take(ownA + ownB + square)
	t.a, t.b, t.c = buf[:ownA], buf[ownA:ownA+ownB], buf[ownA+ownB:]

	at := (p.i0+t.i0)*p.ldc + p.j0 + t.j0
	if p.swapped {
		at = (p.j0+t.j0)*p.ldc + p.i0 + t.i0
		if p.accumulate {
			p.Transpose(t.c, t.ldc, p.c[at:], p.ldc, t.cols, t.rows)
		}
	}
	for kb := range p.blocks() {
		p.block(s, &t, kb)
	}
	if p.swapped {
		p.Transpose(p.c[at:], p.ldc, t.c, t.ldc, t.rows, t.cols)
	}
}

// tiles is the part of the product that a task computes, and its scratch memory: what
// it packs itself, and c: if the product is swapped the transpose of its part, else one tile.
type tiles struct {
	i0, j0, rows, cols int
	a, b, c            []float32
	ldc                int
}

// block adds the products of one block of steps to the tiles.
func (p *product) block(s *gemmScratch, t *tiles, kb int) {
	mr, nr := p.tile.MR, p.tile.NR
	_, steps := p.steps(kb)
	add := p.accumulate || kb > 0
	a, b := t.a, t.b
	if !p.ownA {
		a = p.rowsA(kb)[t.i0*p.lda:]
	}
	if p.ownB {
		p.packB(s, b, p.j0+t.j0, t.cols, kb)
	} else {
		b = p.panelsB(kb)[t.j0/nr*p.panel:]
	}
	for lo := 0; lo < t.rows; lo += sweep(mr) {
		hi := min(lo+sweep(mr), t.rows)
		if p.ownA && p.a.Trans { // transposed, many at a time
			p.packA(s, a[lo*p.lda:], p.i0+t.i0+lo, hi-lo, kb)
		}
		for j := 0; j < t.cols; j += nr {
			panel := b[j/nr*p.panel:]
			cols := min(nr, t.cols-j)
			for i := lo; i < hi; i += mr {
				rows := min(mr, hi-i)
				if p.ownA && j == 0 && !p.a.Trans { // just before it is used
					p.packA(s, a[i*p.lda:], p.i0+t.i0+i, rows, kb)
				}
				switch {
				case p.swapped:
					p.tile.Run(rows, steps, a[i*p.lda:], p.lda, panel, t.c[i*t.ldc+j:], t.ldc, add)
				case cols == nr:
					c := p.c[(p.i0+t.i0+i)*p.ldc+p.j0+t.j0+j:]
					p.tile.Run(rows, steps, a[i*p.lda:], p.lda, panel, c, p.ldc, add)
				default:
					p.tile.Run(rows, steps, a[i*p.lda:], p.lda, panel, t.c, nr, false)
					c := p.c[(p.i0+t.i0+i)*p.ldc+p.j0+t.j0+j:]
					for r := range rows {
						set(c[r*p.ldc:r*p.ldc+cols], t.c[r*nr:], add)
					}
				}
			}
		}
	}
}

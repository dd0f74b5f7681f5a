package simd

import (
	"fmt"
	"sync"
)

// Packed is what a set does with the weights of one type where they lie, in blocks as
// in a GGUF file (package quant describes the types). Rows of a matrix follow each
// other without a gap; a row is a whole number of blocks.
//
// The products of a type are float32 ones, by DotRows where it has one (F16, BF16), else of
// rows that are unpacked. A type of small integers with a scale (Q8_0, Q4_0) has
// DotInt8 and Tile too, and its
// products with activations of 8 bits ([Int8]) are defined to the last bit: with
// isum the exact sum of a block's integer products, dw and dx the scales of the
// blocks of weights and activations,
//
//	y = (…((0 + isum₀·(dw₀·dx₀)) + isum₁·(dw₁·dx₁)) + …)
//
// in float32, each product and each sum rounded, nothing fused. All sets, both
// kernels, any number of rows and any division among workers give these bits.
//
// The K types (Q2_K to Q6_K) have small integers as scales s of parts of 16 or 32 weights, and some
// minima m: w = d·s·q - n·m. A block adds to y
//
//	d·a - n·b,  a = Σ_c t_c·dx_c,  b = Σ_p m_p·(X_p·dx_p)
//
// where t_c is the integer Σ s·q·x over 32 columns, exact, and X_p the integer sum of a part's x. Sums go on
// from 0 in order, each number and result is rounded to float32 in the order of the brackets, and the
// products d·a and n·b too; types without minima have no second term.
type Packed struct {
	BlockLen   int // elements of a block
	BlockBytes int // bytes of a block

	// Unpack sets dst to the elements packed in src, to the bit as ggml does.
	// dst has whole blocks and src their bytes; it panics if they disagree.
	Unpack func(dst []float32, src []byte)
	// DotRows sets out[i] = Σ_j w[i,j]·x[j] for the len(out) rows of len(x) elements in w.
	// The order of the sum is the set's, as with Kernels.DotRows; a row does not depend
	// on the rows beside it. It may be nil.
	DotRows func(out, x []float32, w []byte)
	// DotInt8 sets y[i*ldy+j], for i < x.Rows ≤ FewRows and j < n, to the product of
	// row i of x and row j of w. w has n rows of x.Cols elements.
	DotInt8 func(y []float32, ldy, n int, x *Int8, w []byte)
	// Tile is the micro-kernel of products with more rows; BlockLen divides int8Depth.
	Tile Int8Tile
}

// FewRows is the largest number of rows of x for which DotInt8 is meant; it
// reads the weights as they lie, once for all rows if these are few.
const FewRows = 8

// Int8Tile is the micro-kernel of a matrix product of 8-bit activations with weights of
// one type, and the panels of weights it wants: NR rows, block after block, in any
// layout that serves Run.
type Int8Tile struct {
	MR, NR     int // rows of x and of weights of a tile; MR divides Int8Rows
	PanelBytes int // of one block of NR rows
	// Pack fills a panel with the given number of blocks of NR rows, which begin
	// rowBytes apart in w.
	Pack func(panel, w []byte, rowBytes, blocks int)
	// Run adds (or sets, when accumulate is false) the products of the rows
	// row…row+MR of x with the rows in the panel, over blocks of the columns from
	// BlockLen·block on, to c, which is MR×NR without gaps: c[i*NR+j]. The sum goes on from c,
	// so that several calls along the columns give the bits of one.
	Run func(c []float32, x *Int8, row, block, blocks int, panel []byte, accumulate bool)
}

// checkUnpack panics unless n elements are whole blocks in b bytes.
func checkUnpack(name string, n, blockLen, b, blockBytes int) {
	if n%blockLen != 0 || n/blockLen*blockBytes != b {
		panic(fmt.Sprintf("simd: %s: %d elements and %d bytes", name, n, b))
	}
}

// blocksOf returns a type that unpack writes to y block by block.
func blocksOf(name string, blockLen, blockBytes int, unpack func(y []float32, block []byte)) Packed {
	return Packed{BlockLen: blockLen, BlockBytes: blockBytes, Unpack: func(dst []float32, src []byte) {
		checkUnpack(name, len(dst), blockLen, len(src), blockBytes)
		for ; len(dst) > 0; dst, src = dst[blockLen:], src[blockBytes:] {
			unpack(dst[:blockLen], src[:blockBytes])
		}
	}}
}

// checkDotRows panics unless w holds count rows of n elements of size bytes.
func checkDotRows(name string, count, n, w, size int) {
	if count*n*size != w {
		panic(fmt.Sprintf("simd: %s: DotRows: %d rows of %d in %d bytes", name, count, n, w))
	}
}

// checkDotInt8 panics unless y has room for the product and w holds n rows.
func checkDotInt8(name string, y, ldy, n int, x *Int8, w, blockLen, blockBytes int) {
	x.check()
	if n < 0 || x.Cols%blockLen != 0 || n*(x.Cols/blockLen)*blockBytes != w || x.Rows > FewRows || x.Rows > 0 && (ldy < n || !inside(x.Rows, n, ldy, y)) {
		panic(fmt.Sprintf("simd: %s: DotInt8: %d×%d by %d rows in %d bytes to %d numbers, stride %d", name, x.Rows, x.Cols, n, w, y, ldy))
	}
}

// checkPack panics unless Pack stays inside its slices.
func (t *Int8Tile) checkPack(panel, w, rowBytes, blocks, blockBytes int) {
	if blocks < 1 || panel < blocks*t.PanelBytes || !inside(t.NR, blocks*blockBytes, rowBytes, w) {
		panic(fmt.Sprintf("simd: Int8Tile.Pack: %d blocks of %d rows, %d bytes apart in %d, to %d bytes", blocks, t.NR, rowBytes, w, panel))
	}
}

// check panics unless Run stays inside its slices.
func (t *Int8Tile) check(c []float32, x *Int8, row, block, blocks, blockLen int, panel []byte) {
	x.check()
	if row < 0 || block < 0 || blocks < 1 || row+t.MR > x.padded() || block+blocks > x.Cols/blockLen ||
		len(panel) < blocks*t.PanelBytes || len(c) < t.MR*t.NR {
		panic(fmt.Sprintf("simd: Int8Tile.Run: rows %d+%d and blocks %d+%d of %d×%d, panel of %d bytes, tile of %d",
			row, t.MR, block, blocks, x.Rows, x.Cols, len(panel), len(c)))
	}
}

// Product is one of the products y = x·wᵀ of the same x that are computed together: n
// rows of weights, which lie without gaps, as numbers in F32 or packed in Bytes.
type Product struct {
	Y      []float32 // element (i,j) is Y[i*LDY+j]
	LDY, N int
	Add    bool // add the product to Y instead of setting it
	F32    []float32
	Packed *Packed
	Bytes  []byte
}

// check panics unless y and the weights have the sizes that rows×cols activations want.
func (p *Product) check(op string, rows, cols int) {
	w, want := len(p.F32), p.N*cols
	if p.Packed != nil {
		w, want = len(p.Bytes), p.N*(cols/p.Packed.BlockLen)*p.Packed.BlockBytes
	}
	if p.N < 0 || w != want || rows > 0 && p.N > 0 && (p.LDY < p.N || !inside(rows, p.N, p.LDY, len(p.Y))) {
		panic(fmt.Sprintf("simd: %s: %d×%d by %d rows of %d in place of %d to %d numbers, stride %d", op, rows, cols, p.N, w, want, len(p.Y), p.LDY))
	}
}

const (
	// int8TileRows is the number of rows of x from which packing panels pays.
	int8TileRows = 6
	// fewTask is the work of a task of few rows, in products: some 5 µs.
	fewTask = 1 << 17
	// int8Depth is the length of a panel that is swept over all rows of x:
	// 16 columns of 1024 weights are 16 KiB, half of a small first-level cache.
	int8Depth = 1024
	// int8TaskRows is the number of rows of x that a task takes, whose sums it keeps.
	int8TaskRows = 512
)

// tasks is a list of products under way: product i is done by the tasks
// ends[i-1]…ends[i]. It is kept, with its closure, for the next list.
type tasks struct {
	ps   []Product
	ends []int
	do   func(p *Product, task int)
	run  func(task int)
}

// start makes room for the products.
func (t *tasks) start(ps []Product) { t.ps, t.ends = ps, t.ends[:0] }

// finish runs all tasks and lets go of what belongs to the caller.
func (t *tasks) finish(par For) {
	if par == nil {
		par = serial
	}
	if n := len(t.ends); n > 0 {
		par(t.ends[n-1], t.run)
	}
	t.ps = nil
}

// add appends the next product's tasks.
func (t *tasks) add(n int) {
	if k := len(t.ends); k > 0 {
		n += t.ends[k-1]
	}
	t.ends = append(t.ends, n)
}

// one runs a task of the list.
func (t *tasks) one(task int) {
	i, first := 0, 0
	for task >= t.ends[i] {
		first = t.ends[i]
		i++
	}
	t.do(&t.ps[i], task-first)
}

// fewRows returns how many rows of weights a task of few rows takes: whole groups of
// eight, for which alone there is assembly, also of rows so long that fewer were work enough.
func fewRows(rows, cols int) int {
	return max(8, fewTask/max(1, rows*cols)&^7)
}

// few are the products of few rows of numbers.
type few struct {
	tasks
	k               *Kernels
	x               []float32
	ldx, rows, cols int
}

var fews = sync.Pool{New: func() any {
	f := new(few)
	f.do, f.run = f.product, f.one
	return f
}}

// MulFew computes products of few rows, x[i*ldx+j] for i < rows and j < cols, in one
// parallel section. Each row of weights is read from memory once, as it lies. The
// element of a product is a DotRows: of the packed type, if it has one, else of the set,
// with the row as numbers, or unpacked.
func (k *Kernels) MulFew(par For, x []float32, ldx, rows, cols int, ps []Product) {
	f := fews.Get().(*few)
	defer fews.Put(f)
	f.k, f.x, f.ldx, f.rows, f.cols = k, x, ldx, rows, cols
	f.start(ps)
	for i := range ps {
		ps[i].check("MulFew", rows, cols)
		f.add(ceilDiv(ps[i].N, fewRows(rows, cols)))
	}
	f.finish(par)
	f.x = nil
}

func (f *few) product(p *Product, task int) {
	per := fewRows(f.rows, f.cols)
	j, count := task*per, min(per, p.N-task*per)
	s := scratchPool.Get().(*gemmScratch)
	defer scratchPool.Put(s)
	if p.Packed != nil && p.Packed.DotRows == nil {
		f.unpacked(s, p, j, count)
		return
	}
	for i := range f.rows {
		x, y := f.x[i*f.ldx:i*f.ldx+f.cols], p.Y[i*p.LDY+j:i*p.LDY+j+count]
		out := y
		if p.Add {
			out = s.take(count)
		}
		if p.Packed == nil {
			f.k.DotRows(out, x, p.F32[j*f.cols:(j+count)*f.cols], f.cols)
		} else {
			size := f.cols / p.Packed.BlockLen * p.Packed.BlockBytes
			p.Packed.DotRows(out, x, p.Bytes[j*size:(j+count)*size])
		}
		if p.Add {
			set(y, out, true)
		}
	}
}

// fewUnpacked is how many rows of weights are unpacked together: as many as a DotRows
// multiplies at a time.
const fewUnpacked = 4

// unpacked is a task of weights j…j+count without a DotRows, which are unpacked once for all rows of x.
func (f *few) unpacked(s *gemmScratch, p *Product, j, count int) {
	size := f.cols / p.Packed.BlockLen * p.Packed.BlockBytes
	buf := s.take(fewUnpacked * (f.cols + 1))
	w, out := buf[:fewUnpacked*f.cols], buf[fewUnpacked*f.cols:]
	for end := j + count; j < end; j += fewUnpacked {
		n := min(fewUnpacked, end-j)
		p.Packed.Unpack(w[:n*f.cols], p.Bytes[j*size:(j+n)*size])
		for i := range f.rows {
			f.k.DotRows(out[:n], f.x[i*f.ldx:i*f.ldx+f.cols], w, f.cols)
			set(p.Y[i*p.LDY+j:i*p.LDY+j+n], out, p.Add)
		}
	}
}

// int8s are the products of rows of 8 bits.
type int8s struct {
	tasks
	x *Int8
}

var int8Products = sync.Pool{New: func() any {
	m := new(int8s)
	m.do, m.run = m.product, m.one
	return m
}}

// MulInt8 computes products of x with packed weights that have a DotInt8, in one parallel
// section. One row or many, Add or not, any par: they have the bits that
// [Packed] defines.
func MulInt8(par For, x *Int8, ps []Product) {
	m := int8Products.Get().(*int8s)
	defer int8Products.Put(m)
	m.x = x
	m.start(ps)
	for i := range ps {
		p := &ps[i]
		p.check("MulInt8", x.Rows, x.Cols)
		switch {
		case x.Rows == 0:
			m.add(0)
		case x.blocks() == 0:
			m.add(1)
		case x.Rows < int8TileRows:
			m.add(ceilDiv(p.N, fewRows(x.Rows, x.Cols)))
		default:
			m.add(ceilDiv(p.N, p.Packed.Tile.NR) * ceilDiv(x.Rows, int8TaskRows))
		}
	}
	m.finish(par)
	m.x = nil
}

func (m *int8s) product(p *Product, task int) {
	switch x := m.x; {
	case x.blocks() == 0:
		for i := 0; !p.Add && i < x.Rows; i++ {
			clear(p.Y[i*p.LDY : i*p.LDY+p.N])
		}
	case x.Rows < int8TileRows:
		p.dots(x, task)
	default:
		p.tiles(x, task)
	}
}

// dots is a task of few rows: some of the rows of weights.
func (p *Product) dots(x *Int8, task int) {
	per, size := fewRows(x.Rows, x.Cols), x.Cols/p.Packed.BlockLen*p.Packed.BlockBytes
	j, count := task*per, min(per, p.N-task*per)
	w := p.Bytes[j*size : (j+count)*size]
	if !p.Add {
		p.Packed.DotInt8(p.Y[j:], p.LDY, count, x, w)
		return
	}
	s := scratchPool.Get().(*gemmScratch)
	defer scratchPool.Put(s)
	c := s.take(x.Rows * count)
	p.Packed.DotInt8(c, count, count, x, w)
	for i := range x.Rows {
		set(p.Y[i*p.LDY+j:i*p.LDY+j+count], c[i*count:], true)
	}
}

// tiles is a task of many rows: a panel's rows of weights, and up to int8TaskRows rows of x. It
// packs the panel piece by piece and sweeps each piece over its rows of x; the sums stay in a
// buffer until they are complete.
func (p *Product) tiles(x *Int8, task int) {
	t, blockBytes := &p.Packed.Tile, p.Packed.BlockBytes
	blocks, deep := x.Cols/p.Packed.BlockLen, int8Depth/p.Packed.BlockLen
	rowBytes, panels := blocks*blockBytes, ceilDiv(p.N, t.NR)
	i0, j0 := task/panels*int8TaskRows, task%panels*t.NR
	rows, cols := min(int8TaskRows, x.Rows-i0), min(t.NR, p.N-j0)
	s, bytes := scratchPool.Get().(*gemmScratch), bytePool.Get().(*[]byte)
	defer scratchPool.Put(s)
	defer bytePool.Put(bytes)
	size := t.MR * t.NR
	c := s.take(ceilDiv(rows, t.MR) * size)
	*bytes = growBytes(*bytes, deep*(t.PanelBytes+t.NR*blockBytes))
	panel, edge := (*bytes)[:deep*t.PanelBytes], (*bytes)[deep*t.PanelBytes:]
	for b := 0; b < blocks; b += deep {
		depth := min(deep, blocks-b)
		src, stride := p.Bytes[j0*rowBytes+b*blockBytes:], rowBytes
		if cols < t.NR { // the last rows, filled up with zeros
			stride = depth * blockBytes
			clear(edge)
			for j := range cols {
				copy(edge[j*stride:(j+1)*stride], src[j*rowBytes:])
			}
			src = edge
		}
		t.Pack(panel, src, stride, depth)
		for i := 0; i < rows; i += t.MR {
			t.Run(c[i*t.NR:i*t.NR+size], x, i0+i, b, depth, panel, b > 0)
		}
	}
	for i := range rows {
		at := (i0+i)*p.LDY + j0
		set(p.Y[at:at+cols], c[i*t.NR:], p.Add)
	}
}

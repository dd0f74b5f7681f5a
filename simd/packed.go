package simd

import "fmt"

// Packed is what a set does with the weights of one type where they lie, in blocks as
// in a GGUF file (package quant describes the types). Rows of a matrix follow each
// other without a gap; a row is a whole number of blocks.
//
// A type of one element a block (F16, BF16) has DotRows, and its products are float32 ones.
// A type of blocks with a scale (Q8_0, Q4_0) has DotInt8 and Tile, and its
// products with activations of 8 bits ([Int8]) are defined to the last bit: with
// isum the exact sum of a block's integer products, dw and dx the scales of the
// blocks of weights and activations,
//
//	y = (…((0 + isum₀·(dw₀·dx₀)) + isum₁·(dw₁·dx₁)) + …)
//
// in float32, each product and each sum rounded, nothing fused. All sets, both
// kernels, any number of rows and any division among workers give these bits.
type Packed struct {
	BlockLen   int // elements of a block
	BlockBytes int // bytes of a block

	// Unpack sets dst to the elements packed in src, to the bit as ggml does.
	// dst has whole blocks and src their bytes; it panics if they disagree.
	Unpack func(dst []float32, src []byte)
	// DotRows sets out[i] = Σ_j w[i,j]·x[j] for the len(out) rows of len(x) elements in w.
	// The order of the sum is the set's, as with Kernels.DotRows; a row does not depend
	// on the rows beside it.
	DotRows func(out, x []float32, w []byte)
	// DotInt8 sets y[i*ldy+j], for i < x.Rows ≤ FewRows and j < n, to the product of
	// row i of x and row j of w. w has n rows of x.Cols elements.
	DotInt8 func(y []float32, ldy, n int, x *Int8, w []byte)
	// Tile is the micro-kernel of products with more rows.
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
	// 32·block on, to c, which is MR×NR without gaps: c[i*NR+j]. The sum goes on from c,
	// so that several calls along the columns give the bits of one.
	Run func(c []float32, x *Int8, row, block, blocks int, panel []byte, accumulate bool)
}

// checkUnpack panics unless n elements are whole blocks in b bytes.
func checkUnpack(name string, n, blockLen, b, blockBytes int) {
	if n%blockLen != 0 || n/blockLen*blockBytes != b {
		panic(fmt.Sprintf("simd: %s: %d elements and %d bytes", name, n, b))
	}
}

// checkDotRows panics unless w holds count rows of n elements of size bytes.
func checkDotRows(name string, count, n, w, size int) {
	if count*n*size != w {
		panic(fmt.Sprintf("simd: %s: DotRows: %d rows of %d in %d bytes", name, count, n, w))
	}
}

// checkDotInt8 panics unless y has room for the product and w holds n rows.
func checkDotInt8(name string, y, ldy, n int, x *Int8, w, blockBytes int) {
	if n < 0 || n*x.blocks()*blockBytes != w || x.Rows > FewRows || x.Rows > 0 && (ldy < n || (x.Rows-1)*ldy+n > y) {
		panic(fmt.Sprintf("simd: %s: DotInt8: %d×%d by %d rows in %d bytes to %d numbers, stride %d", name, x.Rows, x.Cols, n, w, y, ldy))
	}
}

// checkTile panics unless Run stays inside its slices.
func (t *Int8Tile) check(c []float32, x *Int8, row, block, blocks int, panel []byte) {
	if row < 0 || block < 0 || blocks < 1 || row+t.MR > x.padded() || block+blocks > x.blocks() ||
		len(panel) < blocks*t.PanelBytes || len(c) < t.MR*t.NR {
		panic(fmt.Sprintf("simd: Int8Tile.Run: rows %d+%d and blocks %d+%d of %d×%d, panel of %d bytes, tile of %d",
			row, t.MR, block, blocks, x.Rows, x.Cols, len(panel), len(c)))
	}
}

// MulInt8 sets (or, add, adds to) y[i*ldy+j] the product of row i of x with row j of the
// n rows in w, weights of type p, which has a DotInt8. One row or many, add or set, any
// par: the product has the bits that [Packed] defines.
func (p *Packed) MulInt8(par For, y []float32, ldy, n int, x *Int8, w []byte, add bool) {
	if n*x.blocks()*p.BlockBytes != len(w) || x.Rows > 0 && n > 0 && (ldy < n || (x.Rows-1)*ldy+n > len(y)) {
		panic(fmt.Sprintf("simd: MulInt8: %d×%d by %d rows in %d bytes to %d numbers, stride %d", x.Rows, x.Cols, n, len(w), len(y), ldy))
	}
	if par == nil {
		par = serial
	}
	if x.Rows == 0 || n == 0 {
		return
	}
	if x.Cols == 0 {
		for i := 0; !add && i < x.Rows; i++ {
			clear(y[i*ldy : i*ldy+n])
		}
		return
	}
	if x.Rows < int8TileRows {
		p.mulFew(par, y, ldy, n, x, w, add)
		return
	}
	p.mulTiles(par, y, ldy, n, x, w, add)
}

const (
	// int8TileRows is the number of rows from which packing panels pays.
	int8TileRows = 6
	// int8Task is the work of a task of few rows, in products: about 10 µs.
	int8Task = 1 << 18
	// int8Depth is the number of blocks of a panel that a tile sweeps over all rows
	// of x: 16 columns of 1024 weights are 16 KiB, half of a small first-level cache.
	int8Depth = 32
	// int8Rows is the number of rows of x that a task takes, whose sums it keeps.
	int8TaskRows = 512
)

// mulFew divides the rows of w among tasks.
func (p *Packed) mulFew(par For, y []float32, ldy, n int, x *Int8, w []byte, add bool) {
	rowBytes := x.blocks() * p.BlockBytes
	per := max(8, int8Task/(x.Cols*x.Rows)&^7)
	par(ceilDiv(n, per), func(task int) {
		j, count := task*per, min(per, n-task*per)
		src := w[j*rowBytes : (j+count)*rowBytes]
		if !add {
			p.DotInt8(y[j:], ldy, count, x, src)
			return
		}
		s := scratchPool.Get().(*gemmScratch)
		defer scratchPool.Put(s)
		c := s.take(x.Rows * count)
		p.DotInt8(c, count, count, x, src)
		for i := range x.Rows {
			set(y[i*ldy+j:i*ldy+j+count], c[i*count:], true)
		}
	})
}

// mulTiles divides the rows of w among tasks, a few panels each. A task packs its
// panels piece by piece and sweeps each piece over its rows of x; its sums stay in a
// buffer of its own until they are complete.
func (p *Packed) mulTiles(par For, y []float32, ldy, n int, x *Int8, w []byte, add bool) {
	t := &p.Tile
	blocks, rowBytes := x.blocks(), x.blocks()*p.BlockBytes
	panels, passes := ceilDiv(n, t.NR), ceilDiv(x.Rows, int8TaskRows)
	par(panels*passes, func(task int) {
		i0, j0 := task/panels*int8TaskRows, task%panels*t.NR
		rows, cols := min(int8TaskRows, x.Rows-i0), min(t.NR, n-j0)
		s, bytes := scratchPool.Get().(*gemmScratch), bytePool.Get().(*[]byte)
		defer scratchPool.Put(s)
		defer bytePool.Put(bytes)
		size := t.MR * t.NR
		c := s.take(ceilDiv(rows, t.MR) * size)
		*bytes = growBytes(*bytes, int8Depth*t.PanelBytes+t.NR*int8Depth*p.BlockBytes)
		panel, edge := (*bytes)[:int8Depth*t.PanelBytes], (*bytes)[int8Depth*t.PanelBytes:]
		for b := 0; b < blocks; b += int8Depth {
			depth := min(int8Depth, blocks-b)
			src, stride := w[j0*rowBytes+b*p.BlockBytes:], rowBytes
			if cols < t.NR { // the last rows, filled up with zeros
				stride = depth * p.BlockBytes
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
			at := (i0+i)*ldy + j0
			set(y[at:at+cols], c[i*t.NR:], add)
		}
	})
}

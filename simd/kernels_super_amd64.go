//go:build !purego

package simd

// superVector returns a K type by assembly, with the rows that are no eight by generic.
func superVector(t *superType, generic Packed, panelBytes int,
	unpack func(dst *float32, src *byte, blocks int),
	dot func(y *float32, groups int, q *int8, d, ds *float32, h *int16, blocks int, w *byte, rowBytes int),
	pack func(panel, w *byte, rowBytes, blocks int),
	run func(c *float32, q *int8, cols int, d, ds *float32, h *int16, blocksInRow int, panel *byte, blocks int)) Packed {
	p := generic
	p.Unpack = unpackBlocks(t.name, 256, t.blockBytes, unpack)
	p.DotInt8 = func(y []float32, ldy, n int, x *Int8, w []byte) {
		checkDotInt8(t.name, len(y), ldy, n, x, len(w), 256, t.blockBytes)
		blocks := x.Cols / 256
		rowBytes := blocks * t.blockBytes
		groups := n / 8
		if blocks == 0 {
			groups = 0
		}
		for g := 0; g < groups; {
			step := min(groups-g, max(1, dotInt8Step/64/blocks))
			for i := range x.Rows { // the weights are in the cache after the first row
				at8 := i * x.blocks()
				dot(at(y, i*ldy+8*g), step, atByte(x.Q, 32*at8), at(x.D, at8), at(x.DS, at8), &x.H[2*at8], blocks, atByte(w, 8*g*rowBytes), rowBytes)
			}
			g += step
		}
		if done := 8 * groups; done < n {
			generic.DotInt8(y[done:], ldy, n-done, x, w[done*rowBytes:])
		}
	}
	const mr, nr = 4, 16
	tile := Int8Tile{MR: mr, NR: nr, PanelBytes: panelBytes}
	tile.Pack = func(panel, w []byte, rowBytes, blocks int) {
		tile.checkPack(len(panel), len(w), rowBytes, blocks, t.blockBytes)
		pack(atByte(panel, 0), atByte(w, 0), rowBytes, blocks)
		pack(atByte(panel, 32), atByte(w, 8*rowBytes), rowBytes, blocks)
	}
	tile.Run = func(c []float32, x *Int8, row, block, blocks int, panel []byte, accumulate bool) {
		tile.check(c, x, row, block, blocks, 256, panel)
		if !accumulate {
			clear(c[:mr*nr])
		}
		at8 := row*x.blocks() + 8*block
		run(ptr(c), atByte(x.Q, 32*at8), x.Cols, at(x.D, at8), at(x.DS, at8), &x.H[2*at8], x.blocks(), atByte(panel, 0), blocks)
	}
	p.Tile = tile
	return p
}

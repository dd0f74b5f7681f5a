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
	p.DotInt8 = dotInt8Groups(t.name, 256, t.blockBytes, func(y *float32, groups int, x *Int8, first int, w *byte, rowBytes int) {
		dot(y, groups, atByte(x.Q, Int8Len*first), at(x.D, first), at(x.DS, first), &x.H[2*first], x.Cols/256, w, rowBytes)
	}, generic.DotInt8)
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

package simd

// super is a block of a K type taken apart, 256 weights w = d·s·q - n·m with scales and minima for 16
// of them each, as bytes: q, then s, both signed, m, d and n.
type super [256 + 16 + 16 + 8]byte

func (b *super) q(i int) int32 { return int32(int8(b[i])) }
func (b *super) s(p int) int32 { return int32(int8(b[256+p])) }
func (b *super) m(p int) byte  { return b[272+p] }
func (b *super) d() float32    { return getFloat32(b[288:]) }
func (b *super) n() float32    { return getFloat32(b[292:]) }

// setScales sets d and n, scale and minimum of every part.
func (b *super) setScales(d, n float32, scale func(p int) (s, m byte)) {
	putFloat32(b[288:], d)
	putFloat32(b[292:], n)
	for p := range 16 {
		b[256+p], b[272+p] = scale(p)
	}
}

// superType is a type of such blocks. split takes a block apart; minima is the number of weights that have
// one minimum, 16 or 32, or 0 if there are none.
type superType struct {
	name       string
	blockBytes int
	minima     int
	split      func(b *super, block []byte)
}

// add adds the product of a block with row of x from the block of activations at on, as Packed defines it.
func (t *superType) add(y float32, b *super, x *Int8, at int) float32 {
	var sumA, sumB float32
	for c := range 8 {
		q, dx := x.Q[(at+c)*Int8Len:][:Int8Len], x.D[at+c]
		var i0, i1 int32
		for j := range 16 {
			i0 += b.q(32*c+j) * int32(q[j])
			i1 += b.q(32*c+16+j) * int32(q[16+j])
		}
		sumA += float32(float32(b.s(2*c)*i0+b.s(2*c+1)*i1) * dx)
		switch t.minima {
		case 32:
			sumB += float32(float32(b.m(2*c)) * x.DS[at+c])
		case 16:
			h := x.H[2*(at+c):][:2]
			sumB += float32(float32(b.m(2*c)) * float32(float32(h[0])*dx))
			sumB += float32(float32(b.m(2*c+1)) * float32(float32(h[1])*dx))
		}
	}
	v := float32(b.d() * sumA)
	if t.minima > 0 {
		v -= float32(b.n() * sumB)
	}
	return y + v
}

// dotInt8 is the portable DotInt8.
func (t *superType) dotInt8(y []float32, ldy, n int, x *Int8, w []byte) {
	checkDotInt8(t.name, len(y), ldy, n, x, len(w), 256, t.blockBytes)
	var b super
	blocks := x.Cols / 256
	for j := range n {
		for i := range x.Rows {
			y[i*ldy+j] = 0
		}
		for k := range blocks {
			t.split(&b, w[(j*blocks+k)*t.blockBytes:][:t.blockBytes])
			for i := range x.Rows {
				y[i*ldy+j] = t.add(y[i*ldy+j], &b, x, (i*blocks+k)*8)
			}
		}
	}
}

// tile returns the portable tile, whose panels are blocks taken apart.
func (t *superType) tile() Int8Tile {
	tile := Int8Tile{MR: int8GenericTile, NR: int8GenericTile, PanelBytes: int8GenericTile * len(super{})}
	tile.Pack = func(panel, w []byte, rowBytes, blocks int) {
		tile.checkPack(len(panel), len(w), rowBytes, blocks, t.blockBytes)
		for k := range blocks {
			for j := range tile.NR {
				b := (*super)(panel[(k*tile.NR+j)*len(super{}):])
				t.split(b, w[j*rowBytes+k*t.blockBytes:][:t.blockBytes])
			}
		}
	}
	tile.Run = func(c []float32, x *Int8, row, block, blocks int, panel []byte, accumulate bool) {
		tile.check(c, x, row, block, blocks, 256, panel)
		if !accumulate {
			clear(c[:tile.MR*tile.NR])
		}
		for k := range blocks {
			for j := range tile.NR {
				b := (*super)(panel[(k*tile.NR+j)*len(super{}):])
				for i := range tile.MR {
					y := &c[i*tile.NR+j]
					*y = t.add(*y, b, x, (row+i)*x.blocks()+(block+k)*8)
				}
			}
		}
	}
	return tile
}

// packed returns the type with the portable loops.
func (t *superType) packed(unpack func(y []float32, block []byte)) Packed {
	p := blocksOf(t.name, 256, t.blockBytes, unpack)
	p.DotInt8, p.Tile = t.dotInt8, t.tile()
	return p
}

// quarter returns the two-bit integer i of 256: those of weights i, i+32, i+64 and i+96 of a half
// block are the bits of a byte, from the lowest.
func quarter(b []byte, i int) byte { return b[i/128*32+i%32] >> (i / 32 % 4 * 2) & 3 }

package simd_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/simd/simdtest"
)

// packedType is a type of packed weights, a field of simd.Weights.
type packedType struct {
	name string
	of   func(k *simd.Kernels) *simd.Packed
}

var packedTypes = func() (all []packedType) {
	for i, f := range reflect.VisibleFields(reflect.TypeFor[simd.Weights]()) {
		all = append(all, packedType{f.Name, func(k *simd.Kernels) *simd.Packed {
			return reflect.ValueOf(&k.Weights).Elem().Field(i).Addr().Interface().(*simd.Packed)
		}})
	}
	return all
}()

// eachPacked runs f for every type and set; want is the type in the portable set.
func eachPacked(t *testing.T, f func(t *testing.T, k *simd.Kernels, p, want *simd.Packed)) {
	for _, typ := range packedTypes {
		t.Run("type="+typ.name, func(t *testing.T) {
			simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) { f(t, k, typ.of(k), typ.of(simd.All()[0])) })
		})
	}
}

// scalesAt are the places of the binary16 numbers d and, if there is one, n in a block of type p.
func scalesAt(p *simd.Packed) []int {
	if p.DotInt8 == nil || p.BlockLen < 256 {
		return []int{0}
	}
	return map[int][]int{84: {80, 82}, 110: {108}, 144: {0, 2}, 176: {0, 2}, 210: {208}}[p.BlockBytes]
}

// weights returns the bytes of n blocks at a random offset. With wild, every bit is
// random, and some scales are extreme; else the scales are ordinary.
func weights(rng *rand.Rand, p *simd.Packed, n int, wild bool) []byte {
	lo := rng.IntN(64)
	b := make([]byte, lo+n*p.BlockBytes)[lo:]
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	for i := 0; i < len(b); i += p.BlockBytes {
		block := b[i : i+p.BlockBytes]
		if p.BlockLen > 1 && rng.IntN(8) == 0 { // all the least or the largest, -128 included
			v := []byte{0x80, 0x7f, 0, 0xff, 0x81}[rng.IntN(5)]
			for j := range block {
				block[j] = v
			}
		}
		for _, at := range scalesAt(p) {
			scale(rng, block[at:], wild, p.BlockLen == 1)
		}
	}
	return b
}

// scale writes a binary16 number to b; sometimes, with wild, it leaves what is there.
func scale(rng *rand.Rand, b []byte, wild, zero bool) {
	extreme := []uint16{0, 0x8000, 1, 0x83ff, 0x0400, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e01, 0xfd00}
	h := uint16(0x1000 + rng.IntN(0x2800)) // 2⁻¹¹ … 2
	h |= uint16(rng.IntN(2)) << 15
	switch {
	case !wild && zero && rng.IntN(9) == 0:
		h = 0
	case wild && rng.IntN(6) == 0:
		h = extreme[rng.IntN(len(extreme))]
	case wild:
		return
	}
	binary.LittleEndian.PutUint16(b, h)
}

// sameOrNaN fails unless got has want's bits, or both are NaN.
func sameOrNaN(t *testing.T, want, got []float32, msg ...any) {
	t.Helper()
	require.Equal(t, len(want), len(got))
	for i := range want {
		if math.Float32bits(want[i]) != math.Float32bits(got[i]) && !(want[i] != want[i] && got[i] != got[i]) {
			t.Fatalf("element %d of %d: got %v (%#x), want %v (%#x) %s", i, len(want),
				got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]), fmt.Sprint(msg...))
		}
	}
}

// Unpack gives the bits of the portable loop, whatever bits it is given.
func TestUnpackIsExact(t *testing.T) {
	eachPacked(t, func(t *testing.T, k *simd.Kernels, p, want *simd.Packed) {
		rng := rand.New(rand.NewPCG(1, 1))
		for n := range 140 {
			w := weights(rng, p, n, true)
			got, plain := simdtest.Guarded(rng, n*p.BlockLen), make([]float32, n*p.BlockLen)
			p.Unpack(got.X, w)
			want.Unpack(plain, w)
			sameOrNaN(t, plain, got.X, n, " blocks")
			got.Check(t)
		}
		if p.BlockLen == 1 { // all there are
			w := make([]byte, 2<<16)
			for h := range 1 << 16 {
				binary.LittleEndian.PutUint16(w[2*h:], uint16(h))
			}
			got, plain := make([]float32, 1<<16), make([]float32, 1<<16)
			p.Unpack(got, w)
			want.Unpack(plain, w)
			simdtest.SameBits(t, plain, got)
		}
		require.Panics(t, func() { p.Unpack(make([]float32, 2*p.BlockLen), make([]byte, 2*p.BlockBytes-1)) })
		require.Panics(t, func() { p.Unpack(make([]float32, p.BlockLen), make([]byte, 2*p.BlockBytes)) })
	})
}

// DotRows of packed weights is within rounding of the product of what they unpack to,
// and a row does not depend on the others.
func TestDotRowsPacked(t *testing.T) {
	eachPacked(t, func(t *testing.T, k *simd.Kernels, p, _ *simd.Packed) {
		if p.DotRows == nil {
			return
		}
		rng := rand.New(rand.NewPCG(2, 1))
		for n := range maxLen + 1 {
			for _, count := range []int{0, 1, 2, 3, 4, 5, 8, 11} {
				testDotRowsPacked(t, p, rng, n, count)
			}
		}
		testDotRowsPacked(t, p, rng, 40000, 5)
		testDotRowsPacked(t, p, rng, 3, 9001)
		require.Panics(t, func() { p.DotRows(make([]float32, 3), make([]float32, 5), make([]byte, 29)) })
		nan := float32(math.NaN())
		for n := 1; n < 70; n++ {
			x, out := make([]float32, n), make([]float32, 1)
			x[n-1] = nan
			p.DotRows(out, x, make([]byte, 2*n))
			simdtest.Near(t, math.NaN(), out[0], 0)
		}
	})
}

func testDotRowsPacked(t *testing.T, p *simd.Packed, rng *rand.Rand, n, count int) {
	t.Helper()
	w := weights(rng, p, n*count, false)
	rows := make([]float32, n*count)
	p.Unpack(rows, w)
	x, out := simdtest.Guarded(rng, n), simdtest.Guarded(rng, count)
	want, abs := make([]float64, count), make([]float64, count)
	for i := range want {
		for j, v := range x.X {
			e := float64(v) * float64(rows[i*n+j])
			want[i] += e
			abs[i] += math.Abs(e)
		}
	}
	p.DotRows(out.X, x.X, w)
	simdtest.NearAll(t, want, out.X, func(i int) float64 { return float64(n+1) * eps * abs[i] }, count, " rows of ", n)
	for i := range min(count, 12) {
		one := make([]float32, 1)
		p.DotRows(one, x.X, w[2*i*n:2*(i+1)*n])
		simdtest.SameBits(t, out.X[i:i+1], one, count, " rows of ", n, " row ", i)
	}
	x.Check(t)
	out.Check(t)
}

// int8Inputs are rows of activations for rounding, of every kind.
func int8Inputs(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	inf := float32(math.Inf(1))
	special := []float32{0, float32(math.Copysign(0, -1)), 1e-45, -1e-45, 0x1p-100, -0x1p-101, 0x1.fffffep-101, 1e-30, math.MaxFloat32, -math.MaxFloat32}
	for b := 0; b < n; b += 32 {
		scale := float32(math.Exp2(float64(rng.IntN(40) - 20)))
		for i := b; i < b+32; i++ {
			x[i] = scale * (2*rng.Float32() - 1)
		}
		switch rng.IntN(10) {
		case 0:
			clear(x[b : b+32])
			x[b+rng.IntN(32)] = special[rng.IntN(len(special))]
		case 1: // ties: m = 127, so that x is its own quotient
			for i := b; i < b+32; i++ {
				x[i] = float32(rng.IntN(508)-254) / 2
			}
			x[b+rng.IntN(32)] = 127
		case 2:
			x[b+rng.IntN(32)] = []float32{inf, -inf, float32(math.NaN()), -float32(math.NaN())}[rng.IntN(4)]
		}
	}
	return x
}

func TestToInt8IsExact(t *testing.T) {
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		rng := rand.New(rand.NewPCG(3, 1))
		for i := range 300 {
			n := 32 * (i % 70)
			x := simdtest.Guarded(rng, n)
			copy(x.X, int8Inputs(rng, n))
			d := simdtest.Guarded(rng, n/32)
			lo := rng.IntN(40)
			q := slices.Repeat([]int8{55}, lo+n+40)
			s := slices.Repeat([]int32{77}, n/32+9)
			k.ToInt8(q[lo:lo+n], d.X, s[1:n/32+1], x.X)
			wantQ, wantD, wantS := make([]int8, n), make([]float32, n/32), make([]int32, n/32)
			simd.All()[0].ToInt8(wantQ, wantD, wantS, x.X)
			sameOrNaN(t, wantD, d.X)
			require.True(t, slices.Equal(wantQ, q[lo:lo+n]), "%d numbers", n)
			require.Equal(t, wantS, s[1:n/32+1])
			for j, v := range q {
				require.True(t, v == 55 || j >= lo && j < lo+n)
			}
			require.Equal(t, []int32{77, 77}, []int32{s[0], s[n/32+1]})
			d.Check(t)
			x.Check(t)
			for b, v := range wantD { // what it says: half a step, where the scale is a number
				for j := range 32 {
					e, limit := float64(x.X[32*b+j]), float64(v)*(0.5+127*4*eps)+1e-45
					if v-v != 0 || v == 0 {
						e, limit = float64(wantQ[32*b+j]), 0
						v = 0
					}
					if got := math.Abs(e - float64(v)*float64(wantQ[32*b+j])); !(got <= limit) {
						t.Fatalf("%v becomes %v·%d", x.X[32*b+j], v, wantQ[32*b+j])
					}
				}
			}
		}
		require.Panics(t, func() { k.ToInt8(make([]int8, 32), make([]float32, 1), make([]int32, 1), make([]float32, 31)) })
		require.Panics(t, func() { k.ToInt8(make([]int8, 31), make([]float32, 1), make([]int32, 1), make([]float32, 32)) })
		require.Panics(t, func() { k.ToInt8(make([]int8, 32), make([]float32, 0), make([]int32, 1), make([]float32, 32)) })
		require.Panics(t, func() { k.ToInt8(make([]int8, 32), make([]float32, 1), make([]int32, 2), make([]float32, 32)) })
	})
}

// int8Matrix returns rows×cols random activations, rounded; with wild also NaN and infinities.
func int8Matrix(rng *rand.Rand, rows, cols int, wild bool) *simd.Int8 {
	x := new(simd.Int8)
	x.Resize(rows, cols)
	for i := range x.Q { // the rows past the last hold anything
		x.Q[i] = int8(rng.IntN(255) - 127)
	}
	for i := range x.D {
		x.D[i] = float32(math.NaN())
	}
	for i := range rows {
		v := make([]float32, cols)
		if wild {
			v = int8Inputs(rng, cols)
		} else {
			simdtest.Fill(rng, v)
		}
		x.SetRow(simd.All()[0], i, v)
	}
	return x
}

// mulInt8 is the product as Packed defines it. The integers come by unpacking with scales of 1.
func mulInt8(p *simd.Packed, n int, x *simd.Int8, w []byte) []float32 {
	y := make([]float32, x.Rows*n)
	blocks := x.Cols / p.BlockLen
	at := scalesAt(p)
	q, m := make([]float32, p.BlockLen), make([]float32, p.BlockLen)
	for j := range n {
		for b := range blocks {
			block := slices.Clone(w[(j*blocks+b)*p.BlockBytes:][:p.BlockBytes])
			var scales [2]float32
			for i, o := range at {
				scales[i] = simd.FromF16(binary.LittleEndian.Uint16(block[o:]))
				binary.LittleEndian.PutUint16(block[o:], []uint16{0x3c00, 0}[i])
			}
			p.Unpack(q, block) // d = 1, n = 0
			if len(at) == 2 {
				binary.LittleEndian.PutUint16(block[at[0]:], 0)
				binary.LittleEndian.PutUint16(block[at[1]:], 0x3c00)
				p.Unpack(m, block) // d = 0, n = 1
			}
			for i := range x.Rows {
				v := &y[i*n+j]
				if p.BlockLen == 32 {
					*v += float32(float32(dot(q, x, i, b*32)) * float32(scales[0]*x.D[i*blocks+b]))
					continue
				}
				var sumA, sumB float32
				for c := range 8 {
					col := b*256 + 32*c
					dx := x.D[i*x.Cols/32+col/32]
					sumA += float32(float32(dot(q[32*c:32*c+32], x, i, col)) * dx)
					part := 32
					if p.BlockBytes == 84 {
						part = 16
					}
					for k := 0; k < 32 && len(at) == 2; k += part {
						ones := slices.Repeat([]float32{1}, part)
						sumB += float32(-m[32*c+k] * float32(float32(dot(ones, x, i, col+k))*dx))
					}
				}
				add := float32(scales[0] * sumA)
				if len(at) == 2 {
					add -= float32(scales[1] * sumB)
				}
				*v += add
			}
		}
	}
	return y
}

// dot is the sum of the products of integers with those of row i of x from column col on.
func dot(w []float32, x *simd.Int8, i, col int) (sum int) {
	for k, v := range w {
		sum += int(v) * int(x.Q[i*x.Cols+col+k])
	}
	return sum
}

// Both kernels and the whole product have the very bits of the definition.
func TestInt8ProductsAreExact(t *testing.T) {
	eachPacked(t, func(t *testing.T, k *simd.Kernels, p, plain *simd.Packed) {
		if p.DotInt8 == nil {
			return
		}
		rng := rand.New(rand.NewPCG(4, 1))
		l := p.BlockLen
		most := max(2, 9*32/l) // blocks
		for i := range 160 {
			m, n, blocks := 1+rng.IntN(simd.FewRows), rng.IntN(45), 1+rng.IntN(most)
			wild := i%2 == 0
			x, w := int8Matrix(rng, m, l*blocks, wild), weights(rng, p, n*blocks, wild)
			want := mulInt8(plain, n, x, w)
			ldy := n + rng.IntN(5)
			y := simdtest.Guarded(rng, (m-1)*ldy+n)
			p.DotInt8(y.X, ldy, n, x, w)
			msg := fmt.Sprintf("%d rows by %d of %d blocks, wild %v", m, n, blocks, wild)
			for r := range m {
				sameOrNaN(t, want[r*n:(r+1)*n], y.X[r*ldy:r*ldy+n], "DotInt8 of ", msg)
			}
			y.Check(t)
		}
		for i := range 60 {
			tile := &p.Tile
			require.Zero(t, simd.Int8Rows%tile.MR)
			blocks := 1 + rng.IntN(most)
			wild := i%2 == 0
			x, w := int8Matrix(rng, 16, l*blocks, wild), weights(rng, p, tile.NR*blocks, wild)
			want := mulInt8(plain, tile.NR, x, w)
			row := tile.MR * rng.IntN(16/tile.MR)
			guarded := slices.Repeat([]byte{77}, 1+blocks*tile.PanelBytes+64)
			panel := guarded[1 : 1+blocks*tile.PanelBytes]
			tile.Pack(panel, w, blocks*p.BlockBytes, blocks)
			require.Equal(t, slices.Repeat([]byte{77}, 65), append(guarded[:1:1], guarded[1+len(panel):]...))
			c := simdtest.Guarded(rng, tile.MR*tile.NR)
			cut := rng.IntN(blocks)
			if cut > 0 {
				tile.Run(c.X, x, row, 0, cut, panel, false)
			}
			tile.Run(c.X, x, row, cut, blocks-cut, panel[cut*tile.PanelBytes:], cut > 0)
			sameOrNaN(t, want[row*tile.NR:(row+tile.MR)*tile.NR], c.X, "tile over ", blocks, " blocks, cut at ", cut)
			c.Check(t)
		}
		for _, shape := range [][3]int{
			{1, 1, 1}, {1, 300, 3}, {5, 7, 2}, {8, 33, 5}, {9, 70, 4}, {16, 16, 33}, {17, 95, 70}, {33, 40, 64}, {530, 20, 2}, {0, 5, 1}, {3, 0, 1}, {3, 5, 0}, {9, 40, 0},
		} {
			m, n, blocks := shape[0], shape[1], (shape[2]*32+l-1)/l
			x, w := int8Matrix(rng, m, l*blocks, false), weights(rng, p, n*blocks, false)
			want := mulInt8(plain, n, x, w)
			ldy := n + 3
			for _, add := range []bool{false, true} {
				for _, par := range []simd.For{nil, workers(3)} {
					y := simdtest.Guarded(rng, max(0, (m-1)*ldy+n))
					before := slices.Clone(y.X)
					if par != nil && x.Cols == 0 { // one task clears it all: two would both write every element
						divide := par
						par = func(tasks int, body func(int)) {
							require.LessOrEqual(t, tasks, 1, "tasks of %v", shape)
							divide(tasks, body)
						}
					}
					simd.MulInt8(par, x, []simd.Product{{Y: y.X, LDY: ldy, N: n, Add: add, Packed: p, Bytes: w}})
					for i := range before { // the expected
						r, c := i/ldy, i%ldy
						switch {
						case c >= n:
						case add:
							before[i] += want[r*n+c]
						default:
							before[i] = want[r*n+c]
						}
					}
					simdtest.SameBits(t, before, y.X, shape, " add ", add)
					y.Check(t)
				}
			}
		}
		x := int8Matrix(rng, 2, 2*l, false)
		w := weights(rng, p, 3*2, false)
		panel, rows := make([]byte, p.Tile.PanelBytes), make([]byte, p.Tile.NR*p.BlockBytes)
		for _, spoil := range []func(x *simd.Int8){ // whose slices are too short
			func(x *simd.Int8) { x.Q = x.Q[:2*l*16-1] },
			func(x *simd.Int8) { x.D = x.D[:2*l/32*16-1] },
			func(x *simd.Int8) { x.S = x.S[:2*l/32*16-1] },
			func(x *simd.Int8) { x.DS = x.DS[:2*l/32*16-1] },
			func(x *simd.Int8) { x.H = x.H[:2*l/16*16-1] },
			func(x *simd.Int8) { x.Cols++ },
			func(x *simd.Int8) { x.Rows = -1 },
		} {
			cut := *x
			spoil(&cut)
			require.Panics(t, func() { p.DotInt8(make([]float32, 6), 3, 3, &cut, w) })
			require.Panics(t, func() { p.Tile.Run(make([]float32, 999), &cut, 0, 0, 1, panel, false) })
		}
		require.NotPanics(t, func() { p.Tile.Pack(panel, rows, p.BlockBytes, 1) })
		for _, par := range []func(){
			func() { p.Tile.Pack(panel, rows[1:], p.BlockBytes, 1) },
			func() { p.Tile.Pack(panel[1:], rows, p.BlockBytes, 1) },
			func() { p.Tile.Pack(panel, rows, -1, 1) },
			func() { p.Tile.Pack(panel, rows, p.BlockBytes, 0) },
			func() { p.DotInt8(make([]float32, 6), math.MaxInt-1, 3, x, w) },
			func() {
				simd.MulInt8(nil, x, []simd.Product{{Y: make([]float32, 5), LDY: 3, N: 3, Packed: p, Bytes: w}})
			},
			func() {
				simd.MulInt8(nil, x, []simd.Product{{Y: make([]float32, 6), LDY: 2, N: 3, Packed: p, Bytes: w}})
			},
			func() {
				simd.MulInt8(nil, x, []simd.Product{{Y: make([]float32, 6), LDY: 3, N: 2, Packed: p, Bytes: w}})
			},
			func() { p.DotInt8(make([]float32, 5), 3, 3, x, w) },
			func() { p.DotInt8(make([]float32, 6), 3, 3, x, w[1:]) },
			func() { p.DotInt8(make([]float32, 99), 3, 3, int8Matrix(rng, simd.FewRows+1, 2*l, false), w) },
			func() { p.Tile.Run(make([]float32, 5), x, 0, 0, 1, make([]byte, p.Tile.PanelBytes), false) },
			func() { p.Tile.Run(make([]float32, 999), x, 16, 0, 1, make([]byte, p.Tile.PanelBytes), false) },
			func() { p.Tile.Run(make([]float32, 999), x, 0, 1, 2, make([]byte, 2*p.Tile.PanelBytes), false) },
			func() { p.Tile.Run(make([]float32, 999), x, 0, 0, 2, make([]byte, 2*p.Tile.PanelBytes-1), false) },
		} {
			require.Panics(t, par)
		}
	})
}

// Products of few rows are DotRows of the rows, numbers and packed weights together, set or added.
func TestMulFew(t *testing.T) {
	simdtest.EachSet(t, func(t *testing.T, k *simd.Kernels) {
		rng := rand.New(rand.NewPCG(5, 1))
		for _, shape := range [][2]int{{1, 40}, {2, 33}, {3, 1}, {8, 700}, {1, 30000}, {0, 5}, {2, 0}} {
			rows, cols := shape[0], shape[1]
			ldx := cols + 3
			x := simdtest.Guarded(rng, max(0, (rows-1)*ldx+cols))
			var ps []simd.Product
			var ys []*simdtest.Buffer
			var want [][]float32
			for i, n := range []int{19, 1, 40, 0} {
				p := simd.Product{N: n, LDY: n + i, Add: i%2 == 1}
				y := simdtest.Guarded(rng, max(0, (rows-1)*p.LDY+n))
				p.Y = y.X
				if i%3 == 0 {
					p.F32 = make([]float32, n*cols)
					simdtest.Fill(rng, p.F32)
				} else {
					p.Packed = []*simd.Packed{&k.F16, &k.BF16}[i%2]
					p.Bytes = weights(rng, p.Packed, n*cols, false)
				}
				e := slices.Clone(y.X)
				for r := range rows {
					out, xr := make([]float32, n), x.X[r*ldx:r*ldx+cols]
					if p.Packed == nil {
						k.DotRows(out, xr, p.F32, cols)
					} else {
						p.Packed.DotRows(out, xr, p.Bytes)
					}
					for j, v := range out {
						if p.Add {
							v += e[r*p.LDY+j]
						}
						e[r*p.LDY+j] = v
					}
				}
				ps, ys, want = append(ps, p), append(ys, y), append(want, e)
			}
			k.MulFew(workers(3), x.X, ldx, rows, cols, ps)
			for i, y := range ys {
				simdtest.SameBits(t, want[i], y.X, shape, " product ", i)
				y.Check(t)
			}
		}
		w, y := make([]float32, 12), make([]float32, 6)
		for _, p := range []simd.Product{{Y: y, LDY: 3, N: 3, F32: w[1:]}, {Y: y, LDY: 2, N: 3, F32: w}, {Y: y[1:], LDY: 3, N: 3, F32: w}, {Y: y, LDY: 3, N: 3, Packed: &k.F16, Bytes: make([]byte, 23)}} {
			require.Panics(t, func() { k.MulFew(nil, w[:8], 4, 2, 4, []simd.Product{p}) })
		}
	})
}

// However long the rows are, a task of few rows has whole groups of eight: what is left of
// them goes through the portable loops.
func TestTasksOfFewRowsAreWholeGroups(t *testing.T) {
	for rows := 1; rows < 8; rows++ {
		for _, cols := range []int{32, 4096, 11008, 1 << 20} {
			n := simd.FewTaskRows(rows, cols)
			assert.True(t, n >= 8 && n%8 == 0, "%d rows of %d: %d", rows, cols, n)
		}
	}
}

// Rows of a type without a DotRows are unpacked and multiplied as those of numbers.
func TestMulFewUnpacks(t *testing.T) {
	eachPacked(t, func(t *testing.T, k *simd.Kernels, p, _ *simd.Packed) {
		if p.DotRows != nil {
			return
		}
		rng := rand.New(rand.NewPCG(6, 1))
		for _, shape := range [][3]int{{1, 40, 3}, {2, 7, 1}, {3, 1, 2}, {8, 30, 9}, {1, 4, 200}, {0, 5, 1}, {2, 5, 0}, {2, 0, 1}} {
			rows, n, cols := shape[0], shape[1], shape[2]*p.BlockLen
			x, w := make([]float32, rows*cols), weights(rng, p, n*shape[2], true)
			simdtest.Fill(rng, x)
			numbers := make([]float32, n*cols)
			p.Unpack(numbers, w)
			for _, add := range []bool{false, true} {
				y := simdtest.Guarded(rng, rows*n)
				want := slices.Clone(y.X)
				k.MulFew(nil, x, cols, rows, cols, []simd.Product{{Y: want, LDY: n, N: n, Add: add, F32: numbers}})
				k.MulFew(workers(3), x, cols, rows, cols, []simd.Product{{Y: y.X, LDY: n, N: n, Add: add, Packed: p, Bytes: w}})
				sameOrNaN(t, want, y.X, shape, " add ", add)
				y.Check(t)
			}
		}
	})
}

// BenchmarkPacked measures products with packed weights [n,k] of 1 to 512 rows of activations: the
// bytes are those of the weights, read once, and the operations 2 a product.
func BenchmarkPacked(b *testing.B) {
	for _, typ := range packedTypes {
		for _, shape := range [][3]int{{1, 256, 1024}, {1, 32000, 2048}, {2, 2048, 2048}, {4, 2048, 2048}, {6, 2048, 2048}, {8, 2048, 2048}, {16, 2048, 2048}, {64, 2048, 2048}, {128, 2048, 2048}, {512, 2048, 2048}} {
			m, n, cols := shape[0], shape[1], shape[2]
			for _, k := range simd.All() {
				for _, w := range []int{1, 2} {
					p := typ.of(k)
					if p.DotInt8 == nil && m > simd.FewRows {
						continue
					}
					b.Run(fmt.Sprintf("type=%s/shape=%dx%dx%d/set=%s/workers=%d", typ.name, m, n, cols, k.Name, w), func(b *testing.B) {
						rng := rand.New(rand.NewPCG(9, 1))
						data := weights(rng, p, n*cols/p.BlockLen, false)
						xs := make([]float32, m*cols)
						simdtest.Fill(rng, xs)
						y := make([]float32, m*n)
						par := workers(w)
						if w == 1 {
							par = nil
						}
						x := new(simd.Int8)
						ps := []simd.Product{{Y: y, LDY: n, N: n, Packed: p, Bytes: data}}
						b.SetBytes(int64(len(data)))
						for b.Loop() {
							if p.DotInt8 == nil {
								k.MulFew(par, xs, cols, m, cols, ps)
								continue
							}
							x.Resize(m, cols)
							for i := range m {
								x.SetRow(k, i, xs[i*cols:(i+1)*cols])
							}
							simd.MulInt8(par, x, ps)
						}
						flops := 2 * float64(m) * float64(n) * float64(cols)
						b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "Gop/s")
						b.ReportMetric(0, "ns/op")
					})
				}
			}
		}
	}
}

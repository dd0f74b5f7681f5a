package nn

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/internal/ref"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/simd/simdtest"
)

func TestLinear(t *testing.T) {
	for _, rows := range []int{0, 1, 3, 4, 9} {
		for _, weight := range []string{"master", "F32", "F16", "BF16", "Q8_0"} {
			for _, rank := range []int{0, 2} {
				t.Run(fmt.Sprintf("rows=%d/weight=%s/rank=%d", rows, weight, rank), func(t *testing.T) {
					testLinear(t, rows, weight, rank)
				})
			}
		}
	}
}

// With Int8 the product is that of the activations rounded to 8 bits, whichever products
// share the input, to the bit; an adapter adds the product of the activations themselves.
func TestLinearInt8(t *testing.T) {
	const in, scale = 96, 1.5
	for _, weight := range []string{"Q8_0", "Q4_0"} {
		for _, rows := range []int{0, 1, 5, 6, 40} {
			for _, rank := range []int{0, 2} {
				rng := newRand(uint64(rows))
				x := randMat(rng, rows, in)
				var rounded simd.Int8
				rounded.Resize(rows, in)
				back := NewMat(rows, in)
				for i := range rows {
					rounded.SetRow(generic().K, i, x.Row(i))
					for j := range in {
						back.Row(i)[j] = rounded.D[(i*in+j)/32] * float32(rounded.Q[i*in+j])
					}
				}
				var ps []projection
				var want [][]float64
				for _, out := range []int{33, 7, 16} {
					w := newParam(rng, "w", out, in)
					w.Stored = packedMatrix(t, weight, w)
					vals := w.Stored.Dequantize(generic().K)
					w.F32 = nil
					y := ref.Linear(refMat(back), ref.Reshape(f64(vals), in)).Flat()
					if rank > 0 {
						w.Adapter = newAdapter(rng, w, rank)
						ba := ref.Adapted(ref.Reshape(make([]float64, out*in), in), ref.Reshape(f64(w.Adapter.A.F32), in), ref.Reshape(f64(w.Adapter.B.F32), rank), scale)
						y = plus(y, ref.Linear(refMat(x), ba).Flat())
					}
					want = append(want, y)
					ps = append(ps, projection{w: w, b: newParam(rng, "b", 1, out)})
				}
				first := make([][]float32, len(ps)) // of the portable set
				eachSet(t, func(t *testing.T, c *Ctx) [][]float32 {
					c.Int8 = true
					var got [][]float32
					for i := range ps {
						ps[i].y = randMat(rng, rows, ps[i].w.Rows) // overwritten
					}
					project(c, x, ps...)
					for i, p := range ps {
						y := randMat(rng, rows, p.w.Rows)
						Linear(c, y, x, p.w)
						near(t, "y", want[i], flat(y))
						if rank == 0 {
							if first[i] == nil {
								first[i] = flat(y)
							}
							simdtest.SameBits(t, first[i], flat(y))
						}
						AddBias(c, y, p.b)
						simdtest.SameBits(t, flat(y), flat(p.y))
						got = append(got, flat(y))
					}
					return got
				})
			}
		}
	}
}

// packedMatrix returns the master of w in the type of that name.
func packedMatrix(t *testing.T, name string, w *Param) quant.Matrix {
	t.Helper()
	typ, err := quant.ByName(name)
	require.NoError(t, err)
	data := make([]byte, w.Rows*typ.RowBytes(w.Cols))
	require.NoError(t, typ.Pack(data, w.F32))
	m, err := quant.NewMatrix(typ, w.Rows, w.Cols, data)
	require.NoError(t, err)
	return m
}

func testLinear(t *testing.T, rows int, weight string, rank int) {
	const in, out, scale = 32, 11, 1.5
	rng := newRand(1)
	w := newParam(rng, "w", out, in)
	vals := f64(w.F32)
	if weight != "master" {
		w.Stored = packedMatrix(t, weight, w)
		vals = f64(w.Stored.Dequantize(generic().K))
		w.F32 = nil
	}
	var a, b []float64
	if rank > 0 {
		w.Adapter = newAdapter(rng, w, rank)
		a, b = f64(w.Adapter.A.F32), f64(w.Adapter.B.F32)
	}
	x, dy := randMat(rng, rows, in), randMat(rng, rows, out)
	before := randMat(rng, rows, in)

	f := func(xs [][]complex128) ref.Mat[complex128] {
		weight := ref.Reshape(xs[1], in)
		if rank > 0 {
			weight = ref.Adapted(weight, ref.Reshape(xs[2], in), ref.Reshape(xs[3], rank), scale)
		}
		return ref.Linear(ref.Reshape(xs[0], in), weight)
	}
	grads := ref.Gradient(func(xs [][]complex128) complex128 { return dot(f(xs), f64Mat(dy)) }, f64Mat(x), vals, a, b)
	weights := ref.Reshape(vals, in)
	if rank > 0 {
		weights = ref.Adapted(weights, ref.Reshape(a, in), ref.Reshape(b, rank), scale)
	}
	want := ref.Linear(refMat(x), weights).Flat()

	eachSet(t, func(t *testing.T, c *Ctx) [][]float32 {
		y := randMat(rng, rows, out) // overwritten
		Linear(c, y, x, w)
		near(t, "y", want, flat(y))

		dx, form := clone(before), newFormSink(t)
		LinearBackward(c, dx, dy, x, w, adapterSink{form, c})
		near(t, "dx", plus(f64Mat(before), grads[0]), flat(dx))
		if rows == 0 {
			assert.Empty(t, form.order)
			return nil
		}
		near(t, "dw", grads[1], form.of(w))
		if rank > 0 {
			near(t, "da", grads[2], form.of(w.Adapter.A))
			near(t, "db", grads[3], form.of(w.Adapter.B))
		}
		LinearBackward(c, Mat{}, dy, x, w, nil) // neither dx nor factors
		return [][]float32{flat(y), flat(dx)}
	})
}

func TestLinearPanics(t *testing.T) {
	c := generic()
	w := newParam(newRand(1), "w", 3, 4)
	assert.PanicsWithValue(t, "nn: Linear: y is 2×3, x is 2×5, w is 3×4", func() { Linear(c, NewMat(2, 3), NewMat(2, 5), w) })
	assert.PanicsWithValue(t, "nn: Linear: y is 1×3, x is 2×4, w is 3×4", func() { Linear(c, NewMat(1, 3), NewMat(2, 4), w) })
	assert.PanicsWithValue(t, "nn: LinearBackward: dx is 2×3, x is 2×4", func() { LinearBackward(c, NewMat(2, 3), NewMat(2, 3), NewMat(2, 4), w, nil) })
	w.Adapter = newAdapter(newRand(1), newParam(newRand(1), "w", 3, 5), 2)
	assert.PanicsWithValue(t, "nn: Linear: w is 3×4, its adapter B·A is 3×2·2×5", func() { Linear(c, NewMat(2, 3), NewMat(2, 4), w) })
}

func TestBias(t *testing.T) {
	rng := newRand(2)
	b := newParam(rng, "b", 1, 7)
	y0, dy := randMat(rng, 5, 7), randMat(rng, 5, 7)
	want := ref.AddBias(refMat(y0), f64(b.F32)).Flat()
	grads := ref.Gradient(func(xs [][]complex128) complex128 {
		return dot(ref.AddBias(ref.NewMat[complex128](5, 7), xs[0]), f64Mat(dy))
	}, f64(b.F32))
	eachSet(t, func(t *testing.T, c *Ctx) [][]float32 {
		y, form := clone(y0), newFormSink(t)
		AddBias(c, y, b)
		near(t, "y", want, flat(y))
		BiasBackward(b, dy, form)
		near(t, "db", grads[0], form.of(b))
		AddBias(c, y, nil)
		BiasBackward(nil, dy, form)
		BiasBackward(b, dy, nil)
		assert.Len(t, form.order, 1)
		return [][]float32{flat(y)}
	})
	assert.PanicsWithValue(t, "nn: AddBias: x is 2×6, b has 7", func() { AddBias(generic(), NewMat(2, 6), b) })
}

func TestEmbed(t *testing.T) {
	rng := newRand(3)
	ids := []int32{4, 0, 4, 2}
	dy := randMat(rng, len(ids), 32)
	for _, weight := range []string{"master", "Q8_0"} {
		for _, rank := range []int{0, 2} {
			t.Run(fmt.Sprintf("weight=%s/rank=%d", weight, rank), func(t *testing.T) {
				e := newParam(rng, "e", 5, 32)
				vals := f64(e.F32)
				if weight != "master" {
					e.Stored = packedMatrix(t, weight, e)
					vals, e.F32 = f64(e.Stored.Dequantize(generic().K)), nil
				}
				var a, b []float64
				if rank > 0 {
					e.Adapter = newAdapter(rng, e, rank)
					a, b = f64(e.Adapter.A.F32), f64(e.Adapter.B.F32)
				}
				table := ref.Reshape(vals, 32)
				if rank > 0 {
					table = ref.Adapted(table, ref.Reshape(a, 32), ref.Reshape(b, rank), 1.5)
				}
				want := ref.Embed(table, ids).Flat()
				grads := ref.Gradient(func(xs [][]complex128) complex128 {
					table := ref.Reshape(xs[0], 32)
					if rank > 0 {
						table = ref.Adapted(table, ref.Reshape(xs[1], 32), ref.Reshape(xs[2], rank), 1.5)
					}
					return dot(ref.Embed(table, ids), f64Mat(dy))
				}, vals, a, b)
				eachSet(t, func(t *testing.T, c *Ctx) [][]float32 {
					y, form := zeroMat(len(ids), 32), newFormSink(t)
					Embed(c, y, ids, e)
					near(t, "y", want, flat(y))
					EmbedBackward(dy, ids, e, adapterSink{form, c})
					near(t, "de", grads[0], form.of(e))
					if rank > 0 {
						near(t, "da", grads[1], form.of(e.Adapter.A))
						near(t, "db", grads[2], form.of(e.Adapter.B))
					}
					EmbedBackward(dy, ids, e, nil)
					return [][]float32{flat(y)}
				})
			})
		}
	}
	e := newParam(rng, "e", 5, 3)
	assert.PanicsWithValue(t, "nn: Embed: id 5 at 1, e has 5 rows", func() { Embed(generic(), NewMat(2, 3), []int32{1, 5}, e) })
	assert.PanicsWithValue(t, "nn: EmbedBackward: id -1 at 0, e has 5 rows", func() { EmbedBackward(NewMat(1, 3), []int32{-1}, e, nil) })
	assert.PanicsWithValue(t, "nn: Embed: y is 2×4 for 2 ids, e is 5×3", func() { Embed(generic(), NewMat(2, 4), []int32{1, 2}, e) })
}

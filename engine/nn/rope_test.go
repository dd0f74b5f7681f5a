package nn

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/guardcpu/guardcpu/engine/internal/ref"
)

func TestRoPE(t *testing.T) {
	const heads, dHead = 3, 8
	rng := newRand(7)
	pos := []int32{0, 5, 1, 4000}
	x, dy := randMat(rng, len(pos), heads*dHead), randMat(rng, len(pos), heads*dHead)
	for _, neox := range []bool{false, true} {
		for _, dim := range []int{0, 6, 8} {
			for _, factors := range [][]float32{nil, {1, 2, 0.5, 8}} {
				t.Run(fmt.Sprintf("neox=%v/dim=%d/factors=%v", neox, dim, factors), func(t *testing.T) {
					r := &Rope{Dim: dim, Neox: neox, Base: 10000}
					want := ref.Rope{Dim: dim, Neox: neox, Base: 10000, FreqScale: 1}
					if factors != nil {
						r.Factors, r.FreqScale = factors[:dim/2], 0.25
						want.Factors, want.FreqScale = f64(r.Factors), 0.25
					}
					grads := ref.Gradient(func(xs [][]complex128) complex128 {
						return dot(ref.RoPE(ref.Reshape(xs[0], heads*dHead), heads, pos, want), f64Mat(dy))
					}, f64Mat(x))
					eachSet(t, func(t *testing.T, c *Ctx) [][]float32 {
						y, dx := clone(x), clone(dy)
						RoPE(c, y, heads, dHead, pos, r)
						near(t, "y", ref.RoPE(refMat(x), heads, pos, want).Flat(), flat(y))
						RoPEBackward(c, dx, heads, dHead, pos, r)
						near(t, "dx", grads[0], flat(dx))
						return [][]float32{flat(y), flat(dx)}
					})
				})
			}
		}
	}
}

// A table that grew gives the bits of one that was large at once, also when several
// goroutines make it grow.
func TestRopeTableGrows(t *testing.T) {
	small, large := &Rope{Dim: 8, Base: 10000}, &Rope{Dim: 8, Base: 10000}
	large.table(3000)
	var wg sync.WaitGroup
	for p := range 8 {
		wg.Go(func() { small.table(p * 400) })
	}
	wg.Wait()
	got, want := small.table(2800), large.table(3000)
	assert.Equal(t, want.cos, got.cos)
	assert.Equal(t, want.sin, got.sin)
}

func TestRoPEPanics(t *testing.T) {
	c, x := generic(), NewMat(2, 8)
	r := &Rope{Dim: 4, Base: 10000}
	assert.PanicsWithValue(t, "nn: RoPE: x is 2×8, 3 heads of 4, 2 positions", func() { RoPE(c, x, 3, 4, make([]int32, 2), r) })
	assert.PanicsWithValue(t, "nn: RoPE: position -1 at row 1", func() { RoPE(c, x, 2, 4, []int32{0, -1}, r) })
	assert.PanicsWithValue(t, "nn: RoPEBackward: 6 columns of a head of 4 turn, with 0 factors", func() {
		RoPEBackward(c, x, 2, 4, make([]int32, 2), &Rope{Dim: 6, Base: 10000})
	})
	RoPE(c, x, 2, 4, make([]int32, 2), nil) // absent
}

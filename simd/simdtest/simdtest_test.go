package simdtest

import (
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// failing runs f with a testing.TB of its own and says whether it failed.
func failing(f func(t testing.TB)) bool {
	r := &recorder{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r.failed
}

type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Fatalf(string, ...any) { r.failed = true; runtime.Goexit() }

func TestNear(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		name      string
		want, got float64
		tol       float64
		fails     bool
	}{
		{"equal", 1, 1, 0, false},
		{"within", 1, 1.5, 0.5, false},
		{"outside", 1, 1.75, 0.5, true},
		{"NaN got", 1, nan, 1e9, true},
		{"NaN wanted", nan, 1, 1e9, true},
		{"NaN both", nan, nan, 0, false},
		{"NaN tolerance", 1, 1, nan, true},
		{"Inf both", inf, inf, 0, false},
		{"Inf got", 1, inf, 1e9, true},
		{"other Inf", inf, -inf, inf, true},
		{"Inf wanted", inf, 1, 1e9, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.fails, failing(func(t testing.TB) { Near(t, c.want, float32(c.got), c.tol) }))
			require.Equal(t, c.fails, failing(func(t testing.TB) {
				NearAll(t, []float64{0, c.want}, []float32{0, float32(c.got)}, func(int) float64 { return c.tol })
			}))
		})
	}
	require.True(t, failing(func(t testing.TB) { NearAll(t, make([]float64, 2), make([]float32, 1), nil) }))
}

func TestSameBits(t *testing.T) {
	zero := float32(0)
	require.False(t, failing(func(t testing.TB) { SameBits(t, []float32{1}, []float32{1}) }))
	require.True(t, failing(func(t testing.TB) { SameBits(t, []float32{zero}, []float32{-zero, 1}) }))
	require.True(t, failing(func(t testing.TB) {
		SameBits(t, []float32{0}, []float32{float32(math.Copysign(0, -1))})
	}))
}

func TestGuarded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for n := range 40 {
		b := Guarded(rng, n)
		require.Len(t, b.X, n)
		require.Equal(t, n, cap(b.X))
		require.False(t, failing(func(t testing.TB) { b.Check(t) }))
		for _, i := range []int{b.lo - 1, b.lo + n} {
			old := b.all[i]
			b.all[i] = float32(math.NaN()) // a NaN, but another one
			require.True(t, failing(func(t testing.TB) { b.Check(t) }))
			b.all[i] = old
		}
	}
}

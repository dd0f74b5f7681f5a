package tofu

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/enginetest"
)

// relative fails unless got is within tol of want, relative to want; NaN fails.
func relative(t *testing.T, want, got, tol float64, what ...any) {
	t.Helper()
	if !(math.Abs(got-want) <= tol*math.Abs(want)) {
		assert.Fail(t, "not near", "want %v, got %v, tolerance %v, %v", want, got, tol, what)
	}
}

func TestKSOfScipy(t *testing.T) {
	n := eachLine(t, enginetest.Shared(t, "tofu", "aggregates", "ks_cases.jsonl"), func(line string) {
		var c struct {
			A, B []float64
			D    float64 `json:"ks_statistic"`
			P    float64 `json:"p_value"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &c))
		d, p := KS2Sample(c.A, c.B)
		relative(t, c.D, d, 1e-12, line)
		relative(t, c.P, p, 1e-12, line)
	})
	assert.Equal(t, 22, n)
}

// TestKSByHand: the deals of {1, 2} and {3}: d = 1 unless the single value falls
// between the two, so p = 2/3; and two equal samples.
func TestKSByHand(t *testing.T) {
	d, p := KS2Sample([]float64{2, 1}, []float64{3})
	assert.Equal(t, 1.0, d)
	assert.InDelta(t, 2./3, p, 1e-15)

	d, p = KS2Sample([]float64{1, 2, 2}, []float64{2, 1, 2})
	assert.Equal(t, 0.0, d)
	assert.Equal(t, 1.0, p)

	for _, c := range [][2][]float64{{{}, {1}}, {{1}, nil}, {{1, math.NaN()}, {1}}} {
		d, p = KS2Sample(c[0], c[1])
		assert.True(t, math.IsNaN(d) && math.IsNaN(p))
	}
}

// TestKSFloor: samples apart give d = 1 and p = 2/binomial(2n, n).
func TestKSFloor(t *testing.T) {
	for _, c := range []struct {
		n    int
		want float64 // of the published result table, three digits
	}{{40, 1.86e-23}, {200, 1.94e-119}, {400, 1.06e-239}} {
		a, b := make([]float64, c.n), make([]float64, c.n)
		for i := range a {
			a[i], b[i] = float64(i), float64(i+c.n)
		}
		d, p := KS2Sample(a, b)
		assert.Equal(t, 1.0, d)
		relative(t, c.want, p, 5e-3, c.n)
		lg := func(n int) float64 { v, _ := math.Lgamma(float64(n + 1)); return v }
		relative(t, math.Log(2)+2*lg(c.n)-lg(2*c.n), math.Log(p), 1e-12, c.n)
	}
}

// TestKSByDealing compares p with the share of all deals of small samples.
func TestKSByDealing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		n1, n2 := 1+rng.IntN(5), 1+rng.IntN(6)
		pool := make([]float64, n1+n2)
		for i := range pool {
			pool[i] = rng.NormFloat64()
		}
		d, p := KS2Sample(pool[:n1], pool[n1:])
		reached, deals := 0, 0
		for set := range 1 << len(pool) {
			var a, b []float64
			for i, v := range pool {
				if set>>i&1 == 1 {
					a = append(a, v)
				} else {
					b = append(b, v)
				}
			}
			if len(a) != n1 {
				continue
			}
			deals++
			if e, _ := KS2Sample(a, b); e >= d-1e-12 {
				reached++
			}
		}
		relative(t, float64(reached)/float64(deals), p, 1e-12, n1, n2)
	}
}

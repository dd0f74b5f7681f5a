package engine

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/simd"
)

// plainPick is pick as the options describe it: all tokens, in float64.
func plainPick(logits []float32, o GenOptions, prompt, pos uint64) int32 {
	type token struct {
		id int32
		p  float64
	}
	best := slices.Max(logits)
	all := make([]token, len(logits))
	for i, l := range logits {
		all[i] = token{int32(i), math.Exp(float64(l-best) / o.Temp)}
	}
	sum := func() (s float64) {
		for _, c := range all {
			s += c.p
		}
		return s
	}
	if o.TopK > 0 && o.TopK < len(all) || o.TopP > 0 && o.TopP < 1 {
		slices.SortStableFunc(all, func(a, b token) int { return cmp.Compare(b.p, a.p) })
	}
	if o.TopK > 0 {
		all = all[:min(o.TopK, len(all))]
	}
	if o.TopP > 0 && o.TopP < 1 {
		limit, acc := o.TopP*sum(), 0.0
		for i, c := range all {
			if acc += c.p; acc >= limit {
				all = all[:i+1]
				break
			}
		}
	}
	u := rand.New(rand.NewPCG(o.Seed, prompt<<32|pos)).Float64() * sum()
	for _, c := range all {
		if u -= c.p; u < 0 {
			return c.id
		}
	}
	return all[len(all)-1].id
}

// Every choice is the plain one: the probabilities differ by 10⁻⁶, which none of these draws is near.
func TestPick(t *testing.T) {
	for _, k := range simd.All() {
		s := &sampler{k: k}
		for n, spread := range map[int]float64{1: 1, 5: 2, 300: 3, 2000: 0.1, 4000: 6} {
			rng := rand.New(rand.NewPCG(1, uint64(n)))
			logits := make([]float32, n)
			for _, o := range []GenOptions{
				{Temp: 1}, {Temp: 0.7, TopK: 40}, {Temp: 1.5, TopP: 0.9}, {Temp: 1, TopK: 50, TopP: 0.5},
				{Temp: 0.1, TopP: 0.999}, {Temp: 1, TopK: 1}, {Temp: 30, TopK: 1 << 30, TopP: 0.95}, {Temp: 1e-3, TopK: 3},
				{Temp: 1e-40}, {Temp: math.SmallestNonzeroFloat64, TopP: 0.9}, // whose reciprocals no float32 holds
			} {
				for pos := range uint64(20) {
					for i := range logits {
						logits[i] = float32(spread * rng.NormFloat64())
					}
					if n > 2 {
						logits[n/2] = logits[n-1] // equals
					}
					require.Equal(t, plainPick(logits, o, 3, pos), s.pick(logits, o, 3, pos), "%s, %d tokens, %+v, position %d", k.Name, n, o, pos)
				}
			}
		}
		require.EqualValues(t, 1, s.pick([]float32{1, 3, 3, 2}, GenOptions{}, 0, 0), "the lowest id of the likeliest")
	}
}

func BenchmarkPick(b *testing.B) {
	logits := make([]float32, 32000)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range logits {
		logits[i] = float32(3 * rng.NormFloat64())
	}
	for _, o := range []GenOptions{{}, {Temp: 0.8}, {Temp: 0.8, TopK: 40}, {Temp: 0.8, TopK: 40, TopP: 0.9}, {Temp: 0.8, TopP: 0.9}} {
		b.Run(fmt.Sprintf("temp=%g/top-k=%d/top-p=%g", o.Temp, o.TopK, o.TopP), func(b *testing.B) {
			s := &sampler{k: simd.Best()}
			for b.Loop() {
				s.pick(logits, o, 0, 0)
			}
		})
	}
}

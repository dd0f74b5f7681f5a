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
	some := o.TopK > 0 && o.TopK < len(all) || o.TopP > 0 && o.TopP < 1 || o.MinP > 0
	for i, l := range logits {
		all[i] = token{int32(i), math.Exp(float64(l-best) / o.Temp)}
		if some && o.TempLast {
			all[i].p = math.Exp(float64(l - best))
		}
	}
	sum := func() (s float64) {
		for _, c := range all {
			s += c.p
		}
		return s
	}
	if some {
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
	if o.MinP > 0 {
		limit := min(o.MinP, 1) * all[0].p // the likeliest always stays
		all = slices.DeleteFunc(all, func(c token) bool { return c.p < limit })
	}
	if some && o.TempLast {
		for i, c := range all {
			all[i].p = math.Exp(float64(logits[c.id]-best) / o.Temp)
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
				{Temp: 1, MinP: 0.05}, {Temp: 1.5, MinP: 0.3, TempLast: true}, {Temp: 0.8, TopK: 40, TopP: 0.95, MinP: 0.05, TempLast: true},
				{Temp: 2, TopP: 0.5, TempLast: true}, {Temp: 0.8, TempLast: true}, {Temp: 1, MinP: 2}, {Temp: 0.7, TopP: 0.9, MinP: 0.001},
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

// A token among the last ones is penalized once, however often it is there.
func TestPenalize(t *testing.T) {
	inf := float32(math.Inf(-1))
	for _, c := range []struct {
		o             GenOptions
		prompt, fresh []int32
		want          []float32
	}{
		{GenOptions{}, []int32{0, 1}, nil, []float32{2, -2, 0, 4}},
		{GenOptions{Repeat: 1, RepeatLastN: 9}, []int32{0, 1}, nil, []float32{2, -2, 0, 4}},
		{GenOptions{Repeat: 2}, []int32{0, 1}, nil, []float32{2, -2, 0, 4}},
		{GenOptions{Repeat: 2, RepeatLastN: 9}, []int32{0, 1, 0, 0}, []int32{2}, []float32{1, -4, 0, 4}},
		{GenOptions{Repeat: 2, RepeatLastN: 2}, []int32{0, 1}, []int32{3}, []float32{2, -4, 0, 2}},
		{GenOptions{Repeat: 2, RepeatLastN: 1}, []int32{0, 1}, []int32{2, 3}, []float32{2, -2, 0, 2}},
		{GenOptions{Repeat: 2, RepeatLastN: -1}, []int32{0, 1}, []int32{3}, []float32{1, -4, 0, 2}},
	} {
		logits := []float32{2, -2, 0, 4}
		penalize(logits, c.prompt, c.fresh, c.o)
		require.Equal(t, c.want, logits, "%+v %v %v", c.o, c.prompt, c.fresh)
	}
	logits := []float32{inf}
	penalize(logits, []int32{0}, nil, GenOptions{Repeat: 2, RepeatLastN: 1})
	require.Equal(t, []float32{inf}, logits)
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

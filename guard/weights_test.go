package guard

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// near fails unless |got-want| ≤ tol; NaN fails.
func near(t testing.TB, want, got, tol float64, what string) {
	t.Helper()
	if !(math.Abs(got-want) <= tol) {
		t.Errorf("%s is %v, want %v ± %v", what, got, want, tol)
	}
}

func normals(n int, seed uint64, scale float64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 1))
	x := make([]float64, n)
	for i := range x {
		x[i] = scale * rng.NormFloat64()
	}
	return x
}

func sum(x []float64) (s float64) {
	for _, v := range x {
		s += v
	}
	return s
}

func dot(x, y []float64) (s float64) {
	for i := range x {
		s += x[i] * y[i]
	}
	return s
}

// By hand: scores 0 and τ·ln 3 give weights 3/4 and 1/4.
func TestSampleWeightsByHand(t *testing.T) {
	w, err := SampleWeights([]float64{0, 0.5 * math.Log(3)}, 0.5)
	require.NoError(t, err)
	near(t, 0.75, w[0], 1e-15, "the weight of the lower score")
	near(t, 0.25, w[1], 1e-15, "the weight of the higher score")
	near(t, 1/(0.5625+0.0625), EffectiveSize(w), 1e-15, "the effective size")
}

func TestSampleWeightsDistribution(t *testing.T) {
	for _, n := range []int{1, 2, 7, 49, 400} {
		a := normals(n, uint64(n), 3e-4)
		last := math.Inf(1)
		for _, tau := range []float64{math.Inf(1), 1, 1e-2, 1e-3, 3e-4, 1e-4, 1e-6, 1e-300} {
			w, err := SampleWeights(a, tau)
			require.NoError(t, err)
			near(t, 1, sum(w), 1e-13, fmt.Sprintf("Σw of %d at τ=%v", n, tau))
			wa := dot(w, a)
			assert.LessOrEqual(t, wa, last+1e-18, "Σwa of %d rises at τ=%v", n, tau)
			last = wa
		}
		lo, err := lowest(a)
		require.NoError(t, err)
		near(t, lo, last, 1e-18, "Σwa as τ → 0")
	}
}

// The weights minimise Σ w·a + τ·Σ w·ln w over the simplex.
func TestSampleWeightsMinimiseTheirObjective(t *testing.T) {
	const tau = 0.7
	a := normals(12, 3, 1)
	w, err := SampleWeights(a, tau)
	require.NoError(t, err)
	objective := func(w []float64) float64 {
		f := dot(w, a)
		for _, v := range w {
			f += tau * v * math.Log(v)
		}
		return f
	}
	at := objective(w)
	rng := rand.New(rand.NewPCG(5, 5))
	for range 50 {
		other, total := make([]float64, len(w)), 0.0
		for i := range other {
			other[i] = w[i] * math.Exp(0.1*rng.NormFloat64())
			total += other[i]
		}
		for i := range other {
			other[i] /= total
		}
		require.Greater(t, objective(other), at)
	}
}

func TestMultipliersAreExactlyOneWithoutTemperature(t *testing.T) {
	for n := 1; n < 300; n++ {
		for _, scores := range [][]float64{normals(n, 1, 1e3), make([]float64, n)} {
			m, err := Multipliers(scores, math.Inf(1))
			require.NoError(t, err)
			for i := range m {
				require.Equal(t, 1.0, m[i], "multiplier %d of %d", i, n)
			}
		}
		m, err := Multipliers(make([]float64, n), 0.5) // equal scores
		require.NoError(t, err)
		require.Equal(t, 1.0, m[n-1])
	}
}

func TestMultipliersOfExtremeScores(t *testing.T) {
	big := math.MaxFloat64
	for name, c := range map[string]struct {
		scores []float64
		tau    float64
		want   []float64
	}{
		"range overflows":           {[]float64{-big, big}, 1, []float64{2, 0}},
		"range overflows, τ=∞":      {[]float64{-big, big}, math.Inf(1), []float64{1, 1}},
		"smallest τ":                {[]float64{1, 2, 3}, math.SmallestNonzeroFloat64, []float64{3, 0, 0}},
		"ties at the minimum":       {[]float64{1, 2, 1, 3}, 1e-9, []float64{2, 0, 2, 0}},
		"denormal scores, plain τ":  {[]float64{5e-324, 0}, 1, []float64{1, 1}},
		"large offset, small range": {[]float64{1e15, 1e15 + 1}, 1 / math.Log(3), []float64{1.5, 0.5}},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Multipliers(c.scores, c.tau)
			require.NoError(t, err)
			for i := range m {
				near(t, c.want[i], m[i], 1e-15, fmt.Sprint("multiplier ", i))
			}
		})
	}
}

func TestWeightsRefuse(t *testing.T) {
	for name, c := range map[string]struct {
		scores []float64
		tau    float64
		want   string
	}{
		"nothing":      {nil, 1, "guard: no scores to weigh"},
		"NaN":          {[]float64{0, math.NaN()}, 1, "guard: the score of forget sample 1 is NaN"},
		"infinite":     {[]float64{math.Inf(-1), 0}, 1, "guard: the score of forget sample 0 is -Inf"},
		"tau zero":     {[]float64{0, 1}, 0, "guard: tau is 0, want a number above 0 or +Inf"},
		"tau negative": {[]float64{0, 1}, -1, "guard: tau is -1, want a number above 0 or +Inf"},
		"tau NaN":      {[]float64{0, 1}, math.NaN(), "guard: tau is NaN, want a number above 0 or +Inf"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := SampleWeights(c.scores, c.tau)
			assert.EqualError(t, err, c.want)
			_, _, err = Summarize(c.scores, c.tau)
			assert.EqualError(t, err, c.want)
			if len(c.scores) == 0 || c.scores[0] != 0 || math.IsNaN(c.scores[1]) {
				_, err = AutoTau(c.scores, 0.5)
				assert.EqualError(t, err, c.want)
				_, err = Tau{Std: 1}.Resolve(c.scores)
				assert.EqualError(t, err, c.want)
			}
		})
	}
	for _, share := range []float64{0, 1, -1, 2, math.NaN()} {
		_, err := AutoTau([]float64{0, 1}, share)
		assert.ErrorContains(t, err, "guard: the share of the effective sample size is")
	}
}

func TestAutoTauHitsItsShare(t *testing.T) {
	heavy := normals(200, 9, 1)
	for i := range heavy {
		heavy[i] = math.Exp(4 * heavy[i])
	}
	for name, scores := range map[string][]float64{
		"normal": normals(400, 7, 1), "tiny": normals(40, 8, 1e-200), "huge": normals(40, 8, 1e300),
		"log-normal": heavy, "three": {1, 2, 3}, "overflowing range": {-math.MaxFloat64, 0, math.MaxFloat64, 1e308},
	} {
		for _, share := range []float64{0.35, 0.5, 0.9, 0.999} {
			if name == "overflowing range" && share > 0.5 {
				continue // τ itself would overflow
			}
			t.Run(fmt.Sprint(name, share), func(t *testing.T) {
				tau, err := AutoTau(scores, share)
				require.NoError(t, err)
				w, err := SampleWeights(scores, tau)
				require.NoError(t, err)
				n := float64(len(scores))
				near(t, share*n, EffectiveSize(w), 1e-9*n, "the effective size")
			})
		}
	}
}

func TestAutoTauWhereNoTemperatureFits(t *testing.T) {
	for name, scores := range map[string][]float64{
		"one sample": {3}, "equal": {2, 2, 2}, "equal up to the last denormal": {0, 5e-324},
	} {
		tau, err := AutoTau(scores, 0.5)
		require.NoError(t, err)
		assert.True(t, math.IsInf(tau, 1), "%s: τ is %v, want +Inf", name, tau)
	}
	for name, c := range map[string]struct {
		scores []float64
		want   float64 // effective size
	}{
		"two samples":               {[]float64{1, 2}, 1 + 0.5*1},
		"ties at the minimum":       {[]float64{1, 1, 1, 2}, 3 + 0.5*1},
		"a gap beyond telling":      {[]float64{0, 1e-310, 1}, 2 + 0.5*1},
		"a gap near the last bit":   {[]float64{1, 1 + 0x1p-52, 2}, 1.5},
		"the share is just enough":  {[]float64{0, 0, 1, 2, 3}, 2.5},
		"the share is not reached":  {[]float64{0, 0, 0, 1, 2}, 3 + 0.5*2},
		"range far above the least": {[]float64{0, 1e-290, 1}, 1.5},
	} {
		t.Run(name, func(t *testing.T) {
			tau, err := AutoTau(c.scores, 0.5)
			require.NoError(t, err)
			w, err := SampleWeights(c.scores, tau)
			require.NoError(t, err)
			near(t, c.want, EffectiveSize(w), 1e-9, "the effective size")
		})
	}
}

func TestTau(t *testing.T) {
	scores := []float64{-3, -1, 1, 3} // standard deviation √5
	half, err := AutoTau(scores, 0.5)
	require.NoError(t, err)
	ninth, err := AutoTau(scores, 0.9)
	require.NoError(t, err)
	for text, c := range map[string]struct {
		tau  Tau
		want float64
		out  string
	}{
		"auto": {Tau{}, half, "auto"}, " Auto ": {Tau{}, half, "auto"}, "auto:0.9": {Tau{Share: 0.9}, ninth, "auto:0.9"},
		"inf": {Tau{Value: math.Inf(1)}, math.Inf(1), "inf"}, "0.02": {Tau{Value: 0.02}, 0.02, "0.02"},
		"1e-9": {Tau{Value: 1e-9}, 1e-9, "1e-09"},
		"2std": {Tau{Std: 2}, 2 * math.Sqrt(5), "2std"}, "0.5×std": {Tau{Std: 0.5}, 0.5 * math.Sqrt(5), "0.5std"},
		"0.5 x std": {Tau{Std: 0.5}, 0.5 * math.Sqrt(5), "0.5std"}, "3*STD": {Tau{Std: 3}, 3 * math.Sqrt(5), "3std"},
	} {
		got, err := ParseTau(text)
		require.NoError(t, err, text)
		assert.Equal(t, c.tau, got, text)
		assert.Equal(t, c.out, got.String(), text)
		v, err := got.Resolve(scores)
		require.NoError(t, err)
		if !math.IsInf(c.want, 1) || !math.IsInf(v, 1) {
			near(t, c.want, v, 1e-14*c.want, text)
		}
	}
	for _, text := range []string{"", "0", "-1", "nan", "std", "auto:", "auto:1", "auto:0", "auto:inf", "1stds", "1e400", "two"} {
		_, err := ParseTau(text)
		assert.ErrorContains(t, err, fmt.Sprintf("guard: tau %q is not a number above 0", text))
	}
	v, err := Tau{Std: 1}.Resolve([]float64{4, 4})
	require.NoError(t, err)
	assert.True(t, math.IsInf(v, 1))
}

func TestSummarize(t *testing.T) {
	mult, s, err := Summarize([]float64{0, math.Log(3), math.Log(3)}, 1)
	require.NoError(t, err)
	near(t, 1.8, mult[0], 1e-15, "multiplier 0") // 3·(3/5)
	near(t, 0.6, mult[2], 1e-15, "multiplier 2")
	near(t, 25.0/11, s.EffectiveSize, 1e-14, "effective size") // 1/(9+1+1)·25
	near(t, 0.4*math.Log(3), s.WeightedMean, 1e-15, "weighted mean")
	near(t, 2.0/3*math.Log(3), s.Mean, 1e-15, "mean")
	near(t, math.Sqrt(2)/3*math.Log(3), s.Std, 1e-15, "std")
	near(t, 1.8, s.LargestMultiplier, 1e-15, "largest multiplier")
	assert.Equal(t, 0, s.LargestSample)
	assert.Equal(t, 0.0, s.Min)
	assert.Equal(t, math.Log(3), s.Max)
}

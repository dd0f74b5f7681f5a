package guard

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The steps and warmups of TOFU's runs: int(5·n)//32 and max(1, n//32).
func TestScheduleHasTOFUsSteps(t *testing.T) {
	for _, c := range []struct {
		n, steps, warmup int
	}{{40, 6, 1}, {200, 31, 6}, {400, 62, 12}} {
		s, err := NewSchedule(c.n, 4000-c.n, 100, 5, 32, 42)
		require.NoError(t, err)
		assert.Equal(t, c.steps, s.Steps())
		assert.Len(t, s.Items, c.steps*32)
		assert.Equal(t, c.warmup, s.warmup())
	}
}

func TestScheduleCounts(t *testing.T) {
	s, err := NewSchedule(10, 7, 3, 4, 4, 1)
	require.NoError(t, err)
	require.Equal(t, 10, s.Steps())
	seen := map[[2]int]int{}
	for i, it := range s.Items {
		require.Equal(t, i/10, it.Epoch)
		seen[[2]int{it.Epoch, it.Forget}]++
		require.True(t, it.Retain >= 0 && it.Retain < 7 && it.Idk >= 0 && it.Idk < 3)
	}
	require.Len(t, seen, 40, "each row once an epoch")
	assert.Equal(t, s.Items[4:8], s.Step(1))
	assert.Equal(t, []int{0, 1, 2, 3, 4, 5, 6}, s.RetainRows())
	for steps, want := range []int{0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4} {
		assert.Equal(t, want, s.EpochsDone(steps), "after %d steps", steps)
	}
}

// The last step ends the last epoch, also where batches or epochs are cut.
func TestScheduleEnds(t *testing.T) {
	for _, c := range []struct {
		n, batch      int
		epochs        float64
		steps, ending int
	}{
		{40, 32, 5, 6, 5}, {3, 32, 2, 2, 2}, {10, 3, 1, 3, 1}, {10, 4, 2.5, 6, 3}, {10, 5, 0.5, 1, 1}, {1, 1, 1, 1, 1},
	} {
		s, err := NewSchedule(c.n, 0, 0, c.epochs, c.batch, 1)
		require.NoError(t, err)
		assert.Equal(t, c.steps, s.Steps(), "%+v", c)
		assert.Equal(t, c.ending, s.EpochsDone(s.Steps()), "%+v", c)
		assert.Equal(t, -1, s.Items[0].Retain)
		assert.Equal(t, -1, s.Items[0].Idk)
		assert.Empty(t, s.RetainRows())
	}
}

func TestScheduleIsDeterministicAndResamples(t *testing.T) {
	make := func(seed uint64, epochs float64, batch int) *Schedule {
		s, err := NewSchedule(100, 1000, 50, epochs, batch, seed)
		require.NoError(t, err)
		return s
	}
	a := make(1, 3, 10)
	assert.Equal(t, a, make(1, 3, 10))
	assert.NotEqual(t, a.Items, make(2, 3, 10).Items)
	// Nothing but (seed, epoch, row) counts: a longer run, other batches and no refusals change no draw.
	assert.Equal(t, a.Items, make(1, 5, 20).Items[:300])
	b, err := NewSchedule(100, 1000, 0, 3, 10, 1)
	require.NoError(t, err)
	for i := range a.Items {
		require.Equal(t, a.Items[i].Forget, b.Items[i].Forget)
		require.Equal(t, a.Items[i].Retain, b.Items[i].Retain)
	}
	// Each epoch has its own order and its own partners.
	order, partner := 0, 0
	byRow := map[[2]int]Item{}
	for i, it := range a.Items {
		byRow[[2]int{it.Epoch, it.Forget}] = it
		if i >= 100 && it.Forget == a.Items[i-100].Forget {
			order++
		}
	}
	for k := range 100 {
		if byRow[[2]int{0, k}].Retain == byRow[[2]int{1, k}].Retain {
			partner++
		}
	}
	assert.Less(t, order, 15, "rows that keep their place in the order") // expected 2
	assert.Less(t, partner, 5, "rows that keep their partner")           // expected 0.1
}

// Partners and refusals are uniform: each of 20 cells gets 1/20 of 20,000 draws.
func TestScheduleIsUniform(t *testing.T) {
	s, err := NewSchedule(100, 20, 20, 200, 100, 7)
	require.NoError(t, err)
	var retain, idk, offset, apart [20]float64
	for _, it := range s.Items {
		retain[it.Retain]++
		idk[it.Idk]++
		drawn := (it.Retain - it.Forget%20 + 20) % 20
		offset[drawn]++
		apart[(drawn-it.Idk+20)%20]++ // uniform if the two draws are independent
	}
	for name, cells := range map[string][20]float64{"retain": retain, "idk": idk, "offset": offset, "apart": apart} {
		chi2 := 0.0
		for _, n := range cells {
			chi2 += (n - 1000) * (n - 1000) / 1000
		}
		assert.Less(t, chi2, 43.8, "%s: χ² of 19 degrees of freedom exceeds its 0.999 quantile: %v", name, cells)
	}
}

func TestScheduleRefuses(t *testing.T) {
	for _, c := range []struct {
		n, batch int
		epochs   float64
		want     string
	}{
		{0, 1, 1, "guard: the forget set is empty"},
		{4, 0, 1, "guard: batch is 0, want at least 1"},
		{4, 1, 0, "guard: epochs is 0, want a number above 0 and at most 1e6"},
		{10, 8, 0.3, "guard: 0.3 epochs of 10 forget samples in batches of 8 make no step"},
		{10000, 8, 1e6, "guard: 1e+06 epochs of 10000 forget samples are too many"},
	} {
		_, err := NewSchedule(c.n, 5, 5, c.epochs, c.batch, 1)
		assert.EqualError(t, err, c.want)
	}
}

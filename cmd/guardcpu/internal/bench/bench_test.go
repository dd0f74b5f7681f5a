package bench

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/simd"
)

func setupOf(call func() error) func() (func() error, error) {
	return func() (func() error, error) { return call, nil }
}

func TestTime(t *testing.T) {
	calls := 0
	got, err := Time(t.Context(), time.Millisecond, func() error { calls++; time.Sleep(200 * time.Microsecond); return nil })
	require.NoError(t, err)
	assert.Equal(t, calls-1, got.Calls, "the first call is not timed")
	assert.GreaterOrEqual(t, got.Best, 200e-6)
	assert.GreaterOrEqual(t, got.Median, got.Best)

	got, err = Time(t.Context(), time.Nanosecond, func() error { time.Sleep(time.Millisecond); return nil })
	require.NoError(t, err)
	assert.Equal(t, 1, got.Calls, "at least once")

	got, err = Time(t.Context(), time.Millisecond, func() error { return nil })
	require.NoError(t, err)
	assert.Greater(t, got.Calls, 10_000, "many calls between two readings of the clock")
	assert.Positive(t, got.Best)
	assert.Less(t, got.Median, 1e-6)

	failure := errors.New("no")
	for after := range 3 {
		n := 0
		_, err = Time(t.Context(), time.Hour, func() error {
			if n++; n > after {
				return failure
			}
			return nil
		})
		assert.ErrorIs(t, err, failure)
	}
}

func TestMedian(t *testing.T) {
	assert.Equal(t, 2.0, median([]float64{3, 1, 2}))
	assert.Equal(t, 2.5, median([]float64{4, 1, 3, 2}))
}

// Rounds take turns; a case that cannot be measured is left out and said once.
func TestRun(t *testing.T) {
	var order strings.Builder
	note := func(s string) func() (func() error, error) {
		return func() (func() error, error) { order.WriteString(s); return func() error { return nil }, nil }
	}
	r := &Run{Time: 1, Rounds: 3, Cases: []*Case{
		{Name: "A", Setup: note("a")},
		{Name: "Setup", Setup: func() (func() error, error) { order.WriteString("s"); return nil, errors.New("no memory") }},
		{Name: "Call", Setup: setupOf(func() error { return errors.New("no luck") })},
		{Name: "B", Setup: note("b")},
	}}
	var done []int
	r.Progress = func(d, total int, _ *Case) { done = append(done, d); assert.Equal(t, 12, total) }
	require.NoError(t, r.Do(t.Context()))
	assert.Equal(t, "asbabab", order.String())
	assert.Equal(t, []int{0, 1, 2, 3, 4, 7, 8, 11}, done)
	require.Len(t, r.Results, 2)
	assert.Equal(t, "B", r.Results[1].Name)
	assert.Len(t, r.Results[1].Timings, 3)
	require.Len(t, r.Skipped, 2)
	assert.Equal(t, "no memory", r.Skipped[0].Why)
	assert.Equal(t, "no luck", r.Skipped[1].Why)
	assert.Equal(t, 12*time.Nanosecond, r.Estimate())
}

// A run that is stopped keeps what it has.
func TestRunStopped(t *testing.T) {
	cause := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &Run{Time: time.Hour, Rounds: 1, Cases: []*Case{
		{Name: "A", Setup: setupOf(func() error { return errors.New("skipped") })},
		{Name: "B", Setup: setupOf(func() error { cancel(cause); return nil })},
		{Name: "C", Setup: func() (func() error, error) { panic("not reached") }},
	}}
	assert.ErrorIs(t, r.Do(ctx), cause)
	assert.Empty(t, r.Results)
	assert.Len(t, r.Skipped, 1)

	ctx, cancel = context.WithCancelCause(context.Background())
	r = &Run{Time: 1, Rounds: 2, Cases: []*Case{{Name: "A", Setup: setupOf(func() error { return nil })}}}
	r.Progress = func(done, _ int, _ *Case) {
		if done == 1 {
			cancel(cause)
		}
	}
	assert.ErrorIs(t, r.Do(ctx), cause)
	require.Len(t, r.Results, 1)
	assert.Len(t, r.Results[0].Timings, 1)
}

// measured is a run with results that were not measured.
func measured() *Run {
	c := func(name, set, workers, peak, isPeak string, seconds ...float64) *Measured {
		m := &Measured{Case: &Case{Name: name, Keys: []Key{{"op", "Y"}, {"set", set}, {"workers", workers}}, Work: []Amount{{GFLOPs, 2}}, Peak: peak, IsPeak: isPeak}}
		for _, s := range seconds {
			m.Timings = append(m.Timings, Timing{Calls: 10, Median: s, Best: s / 2})
		}
		return m
	}
	decode := c("Decode", "avx2", "1", "memory/1", "", 0.25)
	decode.Work = []Amount{{Tokens, 1}, {GBs, 3}}
	return &Run{Results: []*Measured{
		c("Peak", "generic", "1", "", "f32/1", 1), c("Peak", "avx2", "1", "", "f32/1", 0.02), c("Peak", "avx2", "2", "", "f32/2", 0.01),
		c("Matmul", "avx2", "1", "f32/1", "", 0.03, 0.02, 0.04), c("Matmul", "avx2", "2", "f32/2", "", 0.01), decode,
	}, Skipped: []Skipped{{&Case{Name: "Train", Keys: []Key{{"model", "7b"}}}, "no memory"}}}
}

func TestBenchstat(t *testing.T) {
	r := measured()
	r.Results = r.Results[3:]
	var b strings.Builder
	require.NoError(t, r.Benchstat(&b, []Key{{"goos", "linux"}, {"cpu", "A CPU"}}))
	assert.Equal(t, `goos: linux
cpu: A CPU
BenchmarkMatmul/op=Y/set=avx2/workers=1	10	30000000 ns/op	66.7 GFLOP/s
BenchmarkMatmul/op=Y/set=avx2/workers=1	10	20000000 ns/op	100 GFLOP/s
BenchmarkMatmul/op=Y/set=avx2/workers=1	10	40000000 ns/op	50.0 GFLOP/s
BenchmarkMatmul/op=Y/set=avx2/workers=2	10	10000000 ns/op	200 GFLOP/s
BenchmarkDecode/op=Y/set=avx2/workers=1	10	250000000 ns/op	4.00 tok/s	12.0 GB/s
`, b.String())
}

func TestTable(t *testing.T) {
	var b strings.Builder
	require.NoError(t, measured().Table(&b))
	assert.Equal(t, `Peak
  op           generic ×1  avx2 ×1  avx2 ×2
  Y   GFLOP/s  2.00        100      200

Matmul
  op           avx2 ×1     avx2 ×2
  Y   GFLOP/s  66.7 (33%)  200 (50%)

Decode
  op         avx2 ×1
  Y   tok/s  4.00
`, b.String())
}

func TestReport(t *testing.T) {
	r := measured().Report()
	require.Len(t, r.Results, 6)
	assert.Equal(t, Entry{Name: "Matmul", Keys: map[string]string{"op": "Y", "set": "avx2", "workers": "1"}, Calls: 30, Seconds: 0.03, Best: 0.01,
		Rounds: []float64{0.03, 0.02, 0.04}, Rates: map[string]float64{GFLOPs: 2 / 0.03}, Share: r.Results[3].Share}, r.Results[3])
	assert.InDelta(t, 1.0/3, r.Results[3].Share, 1e-12)
	assert.Equal(t, []SkippedEntry{{"Train", map[string]string{"model": "7b"}, "no memory"}}, r.Skipped)
}

func TestNumber(t *testing.T) {
	for want, x := range map[string]float64{"12346": 12345.6, "100": 99.96, "99.9": 99.94, "1.00": 0.9996, "0.500": 0.5, "0.0123": 0.01234, "0.000123": 0.000123, "0.000000": 0} {
		assert.Equal(t, want, number(x))
	}
}

// Every case runs: a call is made, and works.
func TestCasesRun(t *testing.T) {
	s := &Setting{Sets: simd.All(), Workers: []int{1, 2}, Compute: []string{"f32", "bf16"}}
	cases := s.Rows(33)
	shapes := []Product{{5, 32, 256}, {1, 64, 512}}
	for _, typ := range quant.Types {
		cases = append(cases, s.Matmul(shapes, typ)...)
	}
	cases = append(cases, s.Decode(shapes, quant.Types)...)
	q4, err := quant.ByName("Q4_0")
	require.NoError(t, err)
	f, err := Shape{"tiny", 64, 2, 4, 2, 96, 32, true}.Memory(func(string, int) *quant.Type { return q4 }, 2)
	require.NoError(t, err)
	fits := func(*engine.Model, bool) error { return nil }
	cases = append(cases, s.Model(&Model{Name: "tiny", Type: "Q4_0", File: f, Batch: 2, Length: 3, Prompts: []int{1, 4}, Generate: 2, Fits: fits}, []string{Prompt, Generate, Train, Attribute})...)
	names := map[string]bool{}
	for _, c := range cases {
		assert.False(t, names[c.String()], "%s twice", c)
		names[c.String()] = true
		call, err := c.Setup()
		require.NoError(t, err, c)
		require.NoError(t, call(), c)
		require.NoError(t, call(), c)
		assert.Equal(t, "set", c.Keys[len(c.Keys)-2].Name)
		assert.Equal(t, "workers", c.Keys[len(c.Keys)-1].Name)
		for _, w := range c.Work {
			assert.Positive(t, w.N, c)
		}
	}
	assert.Contains(t, names, "Matmul/op=dX/shape=5x32x256/type=F32/compute=f32/set=generic/workers=2")
	assert.Contains(t, names, "Decode/type=Q8_0/shape=5x32x256/activations=int8/set=generic/workers=1")
	assert.NotContains(t, names, "Decode/type=F16/shape=5x32x256/activations=int8/set=generic/workers=1")

	fits = func(*engine.Model, bool) error { return errors.New("too large") }
	for _, c := range s.Model(&Model{File: f, Batch: 2, Length: 3, Fits: fits}, []string{Attribute}) {
		_, err := c.Setup()
		assert.EqualError(t, err, "too large")
	}
}

// Slow sets are left out where they would take seconds, unless they are asked for.
func TestTooSlow(t *testing.T) {
	s := &Setting{Sets: simd.All(), Workers: []int{1}, Compute: []string{"f32"}}
	large := []Product{{512, 11008, 4096}}
	for _, c := range s.Matmul(large, quant.Types[0]) {
		assert.NotContains(t, []string{"generic", "vek"}, c.Key("set"))
	}
	s.Patient = true
	assert.Equal(t, "generic", s.Matmul(large, quant.Types[0])[0].Key("set"))
}

// The shapes have the sizes they are known by, and no matrix of random weights has rows that
// are all alike, or a number that is not finite.
func TestShapes(t *testing.T) {
	for name, n := range map[string]int{"15m": 15_191_712, "110m": 109_529_856, "1.1b": 1_100_048_384, "7b": 6_738_415_616} {
		s, err := ShapeByName(name)
		require.NoError(t, err)
		assert.Equal(t, n, s.NParams(), name)
	}
	_, err := ShapeByName("2b")
	assert.EqualError(t, err, `shape "2b" is not known; there are 15m, 110m, 1.1b, 7b`)
	assert.Equal(t, []Product{{7, 768, 768}, {7, 2048, 768}, {7, 768, 2048}, {7, 32000, 768}}, Shapes[1].Matrices(7))

	s, f32 := Shapes[0], func(string, int) *quant.Type { return quant.Types[0] }
	f, err := s.Memory(f32, 0)
	require.NoError(t, err)
	assert.InDelta(t, s.Bytes(f32), len(f.Bytes()), 4<<20)
	m, err := engine.Load(f, engine.Options{})
	require.NoError(t, err)
	assert.Equal(t, s.NParams(), m.NParams())
	logits, err := m.NewSession(1).Feed([]engine.Feed{{IDs: []int32{1, 300, 31999}}})
	require.NoError(t, err)
	for _, x := range logits.Row(0) {
		require.False(t, math.IsNaN(float64(x)) || math.IsInf(float64(x), 0))
	}

	for _, typ := range quant.Types {
		for _, cols := range []int{32, 288, 4096} {
			if cols%typ.BlockLen != 0 {
				continue
			}
			w, err := weight(typ, 40, cols)
			require.NoError(t, err)
			require.NoError(t, w.Stored.CheckFinite(simd.Best()))
			seen := map[string]bool{}
			for r := range w.Rows {
				row := string(w.Stored.Data[r*typ.RowBytes(cols):][:typ.RowBytes(cols)])
				assert.False(t, seen[row], "%s: row %d of %d is another's", typ.Name, r, cols)
				seen[row] = true
			}
		}
	}
}

// Package bench measures how fast this machine runs guardcpu: it times plain function
// calls, compares them with the machine's own peak, and prints the results for people,
// for programs (JSON), and for benchstat.
//
// A [Case] says what one call computes and how much work that is; a [Run] times cases
// one after another, round by round, so that several rounds are interleaved as
// a comparison needs them.
package bench

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Units of the rates. A share of the peak is known for the first two.
const (
	GFLOPs  = "GFLOP/s" // multiplications and additions counted as two
	GBs     = "GB/s"    // 10⁹ bytes
	Tokens  = "tok/s"
	Samples = "samples/s"
)

// Key is one property of a measurement: set=avx2.
type Key struct{ Name, Value string }

// Amount is how much of something one call does. Its unit is that of the rate: 10⁹
// operations for GFLOP/s, tokens for tok/s.
type Amount struct {
	Unit string
	N    float64
}

// Case is one thing to measure.
type Case struct {
	Name string // Matmul: cases of one name have the same keys
	Keys []Key  // set and workers last
	Work []Amount
	// Peak names the peak that the rates in GFLOP/s and GB/s are compared with, or is empty.
	Peak string
	// IsPeak, if not empty, is the name under which the rates of this case are a peak.
	IsPeak string
	// Setup returns the function to time. What it holds may be large, so it is
	// called right before, and let go of right after.
	Setup func() (call func() error, err error)
}

// Key returns the value of a key, "" if c has none of that name.
func (c *Case) Key(name string) string {
	for _, k := range c.Keys {
		if k.Name == name {
			return k.Value
		}
	}
	return ""
}

// String is the name with the keys, as benchstat wants it: Matmul/op=Y/set=avx2/workers=2.
func (c *Case) String() string {
	var b strings.Builder
	b.WriteString(c.Name)
	for _, k := range c.Keys {
		fmt.Fprintf(&b, "/%s=%s", k.Name, k.Value)
	}
	return b.String()
}

// Timing is the result of timing a case once.
type Timing struct {
	Calls        int
	Median, Best float64 // seconds a call
}

// Measured is a case with the timings of all rounds.
type Measured struct {
	*Case
	Timings []Timing
}

// Median is the median of the rounds' medians, in seconds.
func (m *Measured) Median() float64 {
	all := make([]float64, len(m.Timings))
	for i, t := range m.Timings {
		all[i] = t.Median
	}
	return median(all)
}

// Best is the shortest call of all rounds, in seconds.
func (m *Measured) Best() float64 {
	best := m.Timings[0].Best
	for _, t := range m.Timings {
		best = min(best, t.Best)
	}
	return best
}

// Rate is the rate of the i-th amount for calls that take so many seconds.
func (c *Case) Rate(i int, seconds float64) float64 { return c.Work[i].N / seconds }

// median sorts x and returns its median, for an even number the mean of the middle two.
func median(x []float64) float64 {
	slices.Sort(x)
	n := len(x)
	return (x[(n-1)/2] + x[n/2]) / 2
}

// Skipped is a case that was not measured.
type Skipped struct {
	*Case
	Why string
}

// Run is a series of measurements.
type Run struct {
	Cases  []*Case
	Time   time.Duration // to spend on a case in a round
	Rounds int
	// Progress, if not nil, is told before each measurement what comes next.
	Progress func(done, total int, c *Case)

	Results []*Measured // of the cases that have been measured, in their order
	Skipped []Skipped
}

// Do measures all cases Rounds times. If ctx ends it stops after the call that is under
// way and returns the cause; Results has what has been measured until then.
func (r *Run) Do(ctx context.Context) error {
	results := make([]*Measured, len(r.Cases))
	defer func() {
		for _, m := range results {
			if m != nil {
				r.Results = append(r.Results, m)
			}
		}
	}()
	failed := make([]bool, len(r.Cases))
	total := len(r.Cases) * r.Rounds
	for round := range r.Rounds {
		for i, c := range r.Cases {
			if failed[i] {
				continue
			}
			if r.Progress != nil {
				r.Progress(round*len(r.Cases)+i, total, c)
			}
			if err := context.Cause(ctx); err != nil {
				return err
			}
			t, err := r.one(ctx, c)
			if stopped := context.Cause(ctx); stopped != nil {
				return stopped
			}
			if err != nil {
				failed[i] = true
				r.Skipped = append(r.Skipped, Skipped{c, err.Error()})
				continue
			}
			if results[i] == nil {
				results[i] = &Measured{Case: c}
			}
			results[i].Timings = append(results[i].Timings, t)
		}
	}
	return nil
}

func (r *Run) one(ctx context.Context, c *Case) (Timing, error) {
	call, err := c.Setup()
	if err != nil {
		return Timing{}, err
	}
	// What earlier cases have left is collected now, not while the clock runs.
	runtime.GC()
	return Time(ctx, r.Time, call)
}

// leastSample is the shortest time that is taken with the clock: a thousand times what
// reading it costs.
const leastSample = 50 * time.Microsecond

// Time calls f once without a clock and then, for about the given time, at least once, with it.
// Calls shorter than leastSample are timed several at a time.
func Time(ctx context.Context, budget time.Duration, f func() error) (Timing, error) {
	start := time.Now()
	if err := f(); err != nil {
		return Timing{}, err
	}
	perSample := 1
	for elapsed := time.Since(start); elapsed < leastSample; {
		perSample *= 2
		start = time.Now()
		for range perSample {
			if err := f(); err != nil {
				return Timing{}, err
			}
		}
		elapsed = time.Since(start)
	}
	var t Timing
	var samples []float64
	for begin := time.Now(); ; {
		if err := context.Cause(ctx); err != nil {
			return Timing{}, err
		}
		start := time.Now()
		for range perSample {
			if err := f(); err != nil {
				return Timing{}, err
			}
		}
		// A clock may stand still for its grain; no call takes less than a nanosecond of it.
		d := max(time.Since(start), time.Nanosecond)
		samples = append(samples, d.Seconds()/float64(perSample))
		t.Calls += perSample
		if time.Since(begin) >= budget {
			break
		}
	}
	t.Median = median(samples) // which sorts them
	t.Best = samples[0]
	return t, nil
}

// Peaks are the best rates of the cases that measure one, by name and unit.
func (r *Run) Peaks() map[string]map[string]float64 {
	peaks := map[string]map[string]float64{}
	for _, m := range r.Results {
		if m.IsPeak == "" {
			continue
		}
		if peaks[m.IsPeak] == nil {
			peaks[m.IsPeak] = map[string]float64{}
		}
		for i, w := range m.Work {
			peaks[m.IsPeak][w.Unit] = max(peaks[m.IsPeak][w.Unit], m.Rate(i, m.Best()))
		}
	}
	return peaks
}

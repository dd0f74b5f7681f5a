// Package simdtest has what the tests of kernels share: every set in turn,
// slices with sentinels around them, comparisons that fail on NaN, and plain
// float64 references.
package simdtest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/guardcpu/guardcpu/simd"
)

// Eps is the relative rounding error of float32, 2⁻²⁴.
const Eps = 1.0 / (1 << 24)

// EachSet runs f as a subtest for every set of kernels this CPU has. A set that
// GUARDCPU_REQUIRE_SETS (names with commas between) asks for and that is
// missing is a failure.
func EachSet(t *testing.T, f func(t *testing.T, k *simd.Kernels)) {
	t.Helper()
	for name := range strings.SplitSeq(os.Getenv("GUARDCPU_REQUIRE_SETS"), ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if _, err := simd.ByName(name); err != nil {
			t.Errorf("GUARDCPU_REQUIRE_SETS: %v", err)
		}
	}
	for _, k := range simd.All() {
		t.Run("set="+k.Name, func(t *testing.T) { f(t, k) })
	}
}

// The numbers around a guarded slice: a NaN of a pattern that no arithmetic makes,
// so that reading one spoils a result and writing one is seen.
const (
	sentinel = 0x7fc5a5a5
	margin   = 24
)

// A Buffer is a slice with sentinels before and after it.
type Buffer struct {
	X   []float32 // capacity is its length
	all []float32
	lo  int
}

// Guarded returns a slice of n random numbers between -1 and 1 that begins at a random
// offset from a 64-byte boundary, and whose neighbours are sentinels.
func Guarded(rng *rand.Rand, n int) *Buffer {
	lo := margin + rng.IntN(16)
	b := &Buffer{all: make([]float32, lo+n+margin), lo: lo}
	for i := range b.all {
		b.all[i] = math.Float32frombits(sentinel)
	}
	b.X = b.all[lo : lo+n : lo+n]
	Fill(rng, b.X)
	return b
}

// Check fails the test if a sentinel was overwritten.
func (b *Buffer) Check(t testing.TB) {
	t.Helper()
	for i, v := range b.all {
		if (i < b.lo || i >= b.lo+len(b.X)) && math.Float32bits(v) != sentinel {
			t.Fatalf("wrote %v at index %d of a slice of %d", v, i-b.lo, len(b.X))
		}
	}
}

// Fill sets x to random numbers between -1 and 1.
func Fill(rng *rand.Rand, x []float32) {
	for i := range x {
		x[i] = 2*rng.Float32() - 1
	}
}

// Near fails the test if got is further than tol from want. NaN is near NaN only,
// an infinity only to itself.
func Near(t testing.TB, want float64, got float32, tol float64, msg ...any) {
	t.Helper()
	if !near(want, float64(got), tol) {
		t.Fatalf("got %v, want %v within %.3g %s", got, want, tol, fmt.Sprint(msg...))
	}
}

func near(want, got, tol float64) bool {
	switch {
	case math.IsNaN(want) || math.IsInf(want, 0):
		return got == want || math.IsNaN(want) && math.IsNaN(got)
	default:
		return math.Abs(got-want) <= tol // false if got or tol is NaN
	}
}

// NearAll is Near for every element; tol(i) is the tolerance of element i.
// It reports the element that is worst in units of its tolerance.
func NearAll(t testing.TB, want []float64, got []float32, tol func(i int) float64, msg ...any) {
	t.Helper()
	if len(want) != len(got) {
		t.Fatalf("got %d numbers, want %d %s", len(got), len(want), fmt.Sprint(msg...))
	}
	worst, by := -1, 0.0
	for i := range want {
		if near(want[i], float64(got[i]), tol(i)) {
			continue
		}
		d := math.Abs(float64(got[i])-want[i]) / tol(i)
		if math.IsNaN(d) {
			d = math.Inf(1)
		}
		if worst < 0 || d > by {
			worst, by = i, d
		}
	}
	if worst >= 0 {
		t.Fatalf("element %d of %d: got %v, want %v within %.3g %s",
			worst, len(want), got[worst], want[worst], tol(worst), fmt.Sprint(msg...))
	}
}

// SameBits fails the test unless got and want are equal bit for bit.
func SameBits(t testing.TB, want, got []float32, msg ...any) {
	t.Helper()
	if len(want) != len(got) {
		t.Fatalf("got %d numbers, want %d %s", len(got), len(want), fmt.Sprint(msg...))
	}
	for i := range want {
		if math.Float32bits(want[i]) != math.Float32bits(got[i]) {
			t.Fatalf("element %d of %d: got %v (%#x), want %v (%#x) %s", i, len(want),
				got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]), fmt.Sprint(msg...))
		}
	}
}

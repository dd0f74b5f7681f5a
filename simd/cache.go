package simd

import "github.com/klauspost/cpuid/v2"

// blocking is how large the pieces of a matrix product are, in the unit of each. No
// number depends on it.
type blocking struct {
	// rows of A are swept with each panel of B: a tenth of the second-level cache.
	rows int
	// cols is the number of columns of B that one task packs for itself: their panels
	// are a quarter of the second-level cache.
	cols int
	// buf limits what is packed for all tasks, in words: a quarter of the last level,
	// which other programs use as well.
	buf int
}

// blocks is the blocking for this machine.
var blocks = newBlocking(cpuid.CPU.Cache.L2, cpuid.CPU.Cache.L3)

// newBlocking returns the blocking for caches of these sizes in bytes, not positive if
// they are not known. Second-level caches are taken to be from 256 KiB to 2 MiB.
func newBlocking(l2, l3 int) blocking {
	if l2 <= 0 {
		l2 = 512 << 10
	}
	if l3 <= 0 {
		l3 = 8 << 20
	}
	const block = 4 * (gemmKC + gemmPad) // bytes of a row
	l2 = min(max(l2, 256<<10), 2<<20)
	return blocking{
		rows: l2 / 10 / block,
		cols: l2 / 4 / block / 16 * 16,
		buf:  min(max(l3/4, 2<<20), 16<<20) / 4,
	}
}

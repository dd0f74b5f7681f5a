//go:build !purego

package simd

import (
	"sync"

	"github.com/klauspost/cpuid/v2"
)

// accelerated returns the sets besides generic that this CPU can run, best last.
// Every arm64 has NEON.
var accelerated = sync.OnceValue(func() []*Kernels {
	sets := []*Kernels{&neon}
	if cpuid.CPU.Supports(cpuid.ASIMDDP) {
		sets = append(sets, &neondot)
	}
	if cpuid.CPU.Supports(cpuid.ASIMDDP, cpuid.BF16, cpuid.I8MM) {
		sets = append(sets, &neonbf16)
	}
	return sets
})

//go:build !purego

package simd

import (
	"sync"

	"github.com/klauspost/cpuid/v2"
	"github.com/viterin/vek/vek32"
)

// accelerated returns the sets besides generic that this CPU can run, best last.
var accelerated = sync.OnceValue(func() []*Kernels {
	var sets []*Kernels
	if vek32.Info().Acceleration {
		sets = append(sets, &vek)
	}
	// cpuid reports AVX2, FMA3 and F16C only if the system saves the wide registers.
	if cpuid.CPU.Supports(cpuid.AVX2, cpuid.FMA3, cpuid.F16C) {
		sets = append(sets, &avx2)
	}
	return sets
})

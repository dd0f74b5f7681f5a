//go:build !purego

package simd

import (
	"sync"

	"github.com/klauspost/cpuid/v2"
	"github.com/viterin/vek/vek32"
)

// tiers are the sets that are told from each other by what they need of the CPU, each
// needing also what the one before it needs.
var tiers = []struct {
	set   *Kernels
	needs []cpuid.FeatureID
}{
	{&avx2, []cpuid.FeatureID{cpuid.AVX2, cpuid.FMA3, cpuid.F16C}},
	{&avx512, []cpuid.FeatureID{cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL}},
	{&avx512vnni, []cpuid.FeatureID{cpuid.AVX512VNNI}},
	{&avx512bf16, []cpuid.FeatureID{cpuid.AVX512BF16}},
}

// accelerated returns the sets besides generic that this CPU can run, best last.
var accelerated = sync.OnceValue(func() []*Kernels {
	var sets []*Kernels
	if vek32.Info().Acceleration {
		sets = append(sets, &vek)
	}
	// cpuid reports a feature only if the system saves the registers that it needs.
	for _, t := range tiers {
		if !cpuid.CPU.Supports(t.needs...) {
			break
		}
		sets = append(sets, t.set)
	}
	return sets
})

//go:build !purego

package simd

// accelerated returns the sets besides generic that this CPU can run, best last.
// Every arm64 has NEON.
func accelerated() []*Kernels { return []*Kernels{&neon} }

//go:build !purego

package simd

// accelerated returns the sets besides generic that this CPU can run.
// There is none for arm64 so far.
func accelerated() []*Kernels { return nil }

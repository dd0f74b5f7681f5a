//go:build !purego

package simd

// accelerated returns the sets besides generic that this CPU can run, best last.
func accelerated() []*Kernels { return nil }

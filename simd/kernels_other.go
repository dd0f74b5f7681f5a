//go:build purego || !(amd64 || arm64)

package simd

// accelerated returns the sets besides generic: none without assembly.
func accelerated() []*Kernels { return nil }

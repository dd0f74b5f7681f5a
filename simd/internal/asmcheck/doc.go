// Package asmcheck tests the arm64 assembly of package simd from outside, on any
// machine: that it is what its generator writes, that every instruction given as a
// number is the one its comment says, and that no function has an instruction
// beyond those that its kernel set checks for. It decodes with GNU objdump
// (binutils-aarch64-linux-gnu), since golang.org/x/arch lacks BFDOT, SMMLA and others.
package asmcheck

package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/guardcpu/guardcpu/simd"
)

// The doctor notices a set that unpacks or multiplies one type wrongly, and says which.
func TestDoctorFindsWrongTypes(t *testing.T) {
	generic := simd.All()[0]
	for _, c := range []struct {
		spoil func(k *simd.Kernels)
		want  string
	}{
		{func(*simd.Kernels) {}, ""},
		{func(k *simd.Kernels) {
			unpack := k.Q4_K.Unpack
			k.Q4_K.Unpack = func(dst []float32, src []byte) { unpack(dst, src); dst[len(dst)-1]++ }
		}, "unpacking of Q4_K: element 19455 is "},
		{func(k *simd.Kernels) {
			dot := k.Q8_0.DotInt8
			k.Q8_0.DotInt8 = func(y []float32, ldy, n int, x *simd.Int8, w []byte) { dot(y, ldy, n, x, w); y[0]++ }
		}, "8-bit product (rows: 1) of Q8_0: element 0 is "},
	} {
		k := *generic
		c.spoil(&k)
		s := checkSet(generic, &k)
		assert.Equal(t, c.want == "", s.OK)
		assert.Contains(t, s.Problem, c.want)
	}
}

// Package ref states every layer as its definition, in plain loops, over float64
// and over complex128.
//
// The complex numbers give derivatives: for an f that is analytic and real on the
// reals, f(x + ih) = f(x) + ih·f'(x) + O(h²), so f'(x) = Im f(x+ih)/h without a
// difference of nearby numbers; with h = 1e-30 it is exact to rounding (Squire &
// Trapp 1998, doi:10.1137/S003614459631241X). [Gradient] does this for a function
// of many numbers. Nothing here takes an absolute value or compares what depends
// on the inputs, other than to shift a softmax by a constant.
package ref

import (
	"math"
	"math/cmplx"
)

// Number is what the layers compute with.
type Number interface{ float64 | complex128 }

// Mat is a matrix as rows.
type Mat[N Number] [][]N

// NewMat returns a zeroed matrix.
func NewMat[N Number](rows, cols int) Mat[N] {
	m := make(Mat[N], rows)
	for i := range m {
		m[i] = make([]N, cols)
	}
	return m
}

// Reshape returns x, row-major, as rows of cols numbers that share its memory.
func Reshape[N Number](x []N, cols int) Mat[N] {
	var m Mat[N]
	for lo := 0; lo+cols <= len(x); lo += cols {
		m = append(m, x[lo:lo+cols:lo+cols])
	}
	return m
}

// Flat returns the numbers of m row after row, as a copy.
func (m Mat[N]) Flat() []N {
	var x []N
	for _, row := range m {
		x = append(x, row...)
	}
	return x
}

// Cols returns columns [lo,hi) of m without copying.
func (m Mat[N]) Cols(lo, hi int) Mat[N] {
	out := make(Mat[N], len(m))
	for i, row := range m {
		out[i] = row[lo:hi:hi]
	}
	return out
}

// Const returns v as an N.
func Const[N Number](v float64) N {
	var n N
	switch p := any(&n).(type) {
	case *float64:
		*p = v
	case *complex128:
		*p = complex(v, 0)
	}
	return n
}

// Real returns the real part.
func Real[N Number](v N) float64 {
	if c, ok := any(v).(complex128); ok {
		return real(c)
	}
	return any(v).(float64)
}

func apply[N Number](x N, f func(float64) float64, g func(complex128) complex128) N {
	var n N
	switch p := any(&n).(type) {
	case *float64:
		*p = f(any(x).(float64))
	case *complex128:
		*p = g(any(x).(complex128))
	}
	return n
}

func exp[N Number](x N) N  { return apply(x, math.Exp, cmplx.Exp) }
func log[N Number](x N) N  { return apply(x, math.Log, cmplx.Log) }
func sqrt[N Number](x N) N { return apply(x, math.Sqrt, cmplx.Sqrt) }

// tanh is (1−e)/(1+e) with e = exp(−2x), which keeps a tiny imaginary part.
func tanh[N Number](x N) N {
	return apply(x, math.Tanh, func(z complex128) complex128 {
		e := cmplx.Exp(-2 * z)
		return (1 - e) / (1 + e)
	})
}

// step is the h of the complex step: h² vanishes beside 1.
const step = 1e-30

// Gradient returns ∂f/∂xs[n][i] for every number of every slice by the complex
// step. f gets the slices as complex numbers and must not keep them.
func Gradient(f func(xs [][]complex128) complex128, xs ...[]float64) [][]float64 {
	zs := make([][]complex128, len(xs))
	for n, x := range xs {
		zs[n] = make([]complex128, len(x))
		for i, v := range x {
			zs[n][i] = complex(v, 0)
		}
	}
	grads := make([][]float64, len(xs))
	for n, z := range zs {
		grads[n] = make([]float64, len(z))
		for i, v := range z {
			z[i] = v + complex(0, step)
			grads[n][i] = imag(f(zs)) / step
			z[i] = v
		}
	}
	return grads
}

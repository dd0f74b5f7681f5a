//go:build amd64 && !purego

package simd

import (
	"math"

	"github.com/viterin/vek/vek32"
)

// vek uses the functions of github.com/viterin/vek where it has the operation, and
// the portable ones otherwise. Its Exp is not among them: vek computes whole
// vectors and the rest of a slice in two ways, so a value would depend on its place.
var vek = Kernels{
	Name:           "vek",
	Dot:            dotVek,
	Sum:            vek32.Sum,
	Max:            maxVek,
	Axpy:           axpyGeneric,
	Add:            addVek,
	Mul:            mulVek,
	Scale:          scaleVek,
	DotRows:        dotRowsVek,
	AxpyRows:       axpyRowsGeneric,
	ExpSub:         expSubGeneric,
	SwiGLU:         swiGLUGeneric,
	SwiGLUBackward: swiGLUBackwardGeneric,
	GELU:           geluGeneric,
	GELUBackward:   geluBackwardGeneric,
	AdamW:          adamWGeneric,
	Tile:           generic.Tile,
}

func dotVek(x, y []float32) float32 { return vek32.Dot(x, y[:len(x)]) }

// maxVek: vek's maximum passes over a NaN or not depending on where it is, so NaN
// is looked for apart: a sum is NaN if a summand is, or if +Inf meets -Inf.
func maxVek(x []float32) float32 {
	if len(x) == 0 {
		return float32(math.Inf(-1))
	}
	if s := vek32.Sum(x); s != s {
		return maxGeneric(x)
	}
	return vek32.Max(x)
}

func addVek(y, x []float32) { vek32.Add_Inplace(y, x[:len(y)]) }

func mulVek(y, x []float32) { vek32.Mul_Inplace(y, x[:len(y)]) }

func scaleVek(y []float32, a float32) { vek32.MulNumber_Inplace(y, a) }

func dotRowsVek(out, x, rows []float32, stride int) {
	for i := range out {
		out[i] = vek32.Dot(x, rows[i*stride:i*stride+len(x)])
	}
}

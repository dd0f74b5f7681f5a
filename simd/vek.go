//go:build amd64 && !purego

package simd

import "github.com/viterin/vek/vek32"

// vek uses the functions of github.com/viterin/vek where it has the operation, and
// the portable ones otherwise. Two of its functions do not keep our contract: Max
// passes over NaN and gives -FLT_MAX for a slice of -Inf, and Exp computes whole
// vectors and the rest of a slice in two ways, so that a value depends on its place.
var vek = Kernels{
	Name:           "vek",
	Dot:            dotVek,
	Sum:            vek32.Sum,
	Max:            maxGeneric,
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
	TurnPairs:      turnPairsGeneric,
	AdamW:          adamWGeneric,
	RoundBF16:      roundBF16Generic,
	StochasticBF16: stochasticBF16Generic,
	ToInt8:         toInt8Generic,
	Weights:        weightsGeneric,
	Transpose:      transposeGeneric,
	Tile:           generic.Tile,
	TileBF16:       generic.TileBF16,
}

// vek panics for empty slices where there is a zero of the operation.
func dotVek(x, y []float32) float32 {
	y = y[:len(x)]
	if len(x) == 0 {
		return 0
	}
	return vek32.Dot(x, y)
}

func addVek(y, x []float32) { vek32.Add_Inplace(y, x[:len(y)]) }

func mulVek(y, x []float32) { vek32.Mul_Inplace(y, x[:len(y)]) }

func scaleVek(y []float32, a float32) { vek32.MulNumber_Inplace(y, a) }

func dotRowsVek(out, x, rows []float32, stride int) {
	for i := range out {
		out[i] = dotVek(x, rows[i*stride:i*stride+len(x)])
	}
}

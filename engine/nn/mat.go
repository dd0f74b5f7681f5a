package nn

import (
	"fmt"

	"github.com/guardcpu/guardcpu/engine/internal/par"
	"github.com/guardcpu/guardcpu/simd"
)

// Ctx is what every layer needs to run: the kernels, the workers, and how exact products are.
type Ctx struct {
	K   *simd.Kernels
	Par *par.Pool
	// Compute is what the products with weights multiply.
	Compute Compute
	// Int8 lets [Linear] round activations to 8 bits where the stored weight is in
	// blocks of small integers. It is for inference: gradients are those of the float32 product.
	Int8 bool
}

// Mat is a row-major matrix of activations: row r is Data[r*Stride : r*Stride+Cols].
type Mat struct {
	Rows, Cols, Stride int
	Data               []float32
}

// NewMat returns a zeroed matrix with Stride = cols.
func NewMat(rows, cols int) Mat {
	return Mat{Rows: rows, Cols: cols, Stride: cols, Data: make([]float32, rows*cols)}
}

// Row returns row r as a slice of length Cols.
func (m Mat) Row(r int) []float32 {
	return m.Data[r*m.Stride : r*m.Stride+m.Cols : r*m.Stride+m.Cols]
}

// View returns rows [r0,r0+rows) and columns [c0,c0+cols) without copying.
func (m Mat) View(r0, rows, c0, cols int) Mat {
	if r0 < 0 || c0 < 0 || rows < 0 || cols < 0 || r0+rows > m.Rows || c0+cols > m.Cols {
		panic(fmt.Sprintf("nn: View(%d+%d, %d+%d) of a %d×%d matrix", r0, rows, c0, cols, m.Rows, m.Cols))
	}
	if rows == 0 || cols == 0 {
		return Mat{Rows: rows, Cols: cols, Stride: m.Stride}
	}
	lo := r0*m.Stride + c0
	hi := lo + (rows-1)*m.Stride + cols
	return Mat{Rows: rows, Cols: cols, Stride: m.Stride, Data: m.Data[lo:hi:hi]}
}

// Zero sets every element to 0.
func (m Mat) Zero() {
	for r := range m.Rows {
		clear(m.Row(r))
	}
}

// String gives the shape, for messages.
func (m Mat) String() string { return fmt.Sprintf("%d×%d", m.Rows, m.Cols) }

package quant

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/guardcpu/guardcpu/simd"
)

// Matrix is a weight as it lies in the file: Rows rows of Cols elements each,
// row-major, packed as Type says. Data holds Rows*Type.RowBytes(Cols) bytes, little endian.
type Matrix struct {
	Type *Type
	Rows int
	Cols int
	Data []byte
}

// NewMatrix makes a Matrix of data, which it keeps, after checking that the
// sizes agree.
func NewMatrix(t *Type, rows, cols int, data []byte) (Matrix, error) {
	if rows <= 0 || cols <= 0 || cols%t.BlockLen != 0 {
		return Matrix{}, fmt.Errorf("quant: %s: %d×%d, want positive numbers, and columns a multiple of %d", t.Name, rows, cols, t.BlockLen)
	}
	hi, size := bits.Mul64(uint64(rows), uint64(cols/t.BlockLen)*uint64(t.BlockBytes))
	if hi != 0 || size != uint64(len(data)) {
		return Matrix{}, fmt.Errorf("quant: %s: %d×%d in %d bytes, want %d rows of %d", t.Name, rows, cols, len(data), rows, t.RowBytes(cols))
	}
	return Matrix{t, rows, cols, data}, nil
}

// Unpack sets dst to the elements of row that begin at column col. It panics
// unless they all lie in the row.
func (m Matrix) Unpack(k *simd.Kernels, dst []float32, row, col int) {
	if uint(row) >= uint(m.Rows) || uint(col) > uint(m.Cols) || len(dst) > m.Cols-col {
		panic(fmt.Sprintf("quant: Unpack: row %d, columns %d to %d of a %d×%d matrix", row, col, col+len(dst), m.Rows, m.Cols))
	}
	t := m.Type
	rowBytes := m.Cols / t.BlockLen * t.BlockBytes
	src := m.Data[row*rowBytes:][:rowBytes]
	src = src[col/t.BlockLen*t.BlockBytes:]
	if skip := col % t.BlockLen; skip != 0 && len(dst) > 0 { // the rest of a block
		n := min(len(dst), t.BlockLen-skip)
		t.unpackPart(k, dst[:n], src, skip)
		dst, src = dst[n:], src[t.BlockBytes:]
	}
	whole := len(dst) / t.BlockLen
	t.Unpack(k, dst[:whole*t.BlockLen], src[:whole*t.BlockBytes])
	if dst = dst[whole*t.BlockLen:]; len(dst) > 0 { // the beginning of a block
		t.unpackPart(k, dst, src[whole*t.BlockBytes:], 0)
	}
}

// unpackPart sets dst to the elements of a block from number skip on. Its scratch is on the heap, so
// that those who need whole blocks only go without.
func (t *Type) unpackPart(k *simd.Kernels, dst []float32, block []byte, skip int) {
	var x [maxBlockLen]float32
	t.Unpack(k, x[:t.BlockLen], block[:t.BlockBytes])
	copy(dst, x[skip:t.BlockLen])
}

// Dequantize returns all elements, row-major.
func (m Matrix) Dequantize(k *simd.Kernels) []float32 {
	dst := make([]float32, m.Rows*m.Cols)
	m.Type.Unpack(k, dst, m.Data)
	return dst
}

// littleEndian says whether this machine keeps numbers as a GGUF file does.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// Float32s returns the elements as a view on Data, which must not be changed.
// ok is false unless the type is F32, the machine little-endian and Data aligned
// to 4 bytes.
func (m Matrix) Float32s() (x []float32, ok bool) {
	if m.Type.Name != "F32" || !littleEndian || len(m.Data) == 0 {
		return nil, false
	}
	p := unsafe.Pointer(unsafe.SliceData(m.Data))
	if uintptr(p)%4 != 0 {
		return nil, false
	}
	return unsafe.Slice((*float32)(p), len(m.Data)/4), true
}

// CheckFinite returns an error with place and value of the first element that is
// NaN or infinite: "quant: element [1,10] is NaN".
func (m Matrix) CheckFinite(k *simd.Kernels) error {
	x := make([]float32, m.Cols)
	for row := range m.Rows {
		m.Unpack(k, x, row, 0)
		for col, v := range x {
			if !finite(v) {
				return fmt.Errorf("quant: element [%d,%d] is %g", row, col, v)
			}
		}
	}
	return nil
}

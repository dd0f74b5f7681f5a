package quant

// Matrix is a weight as it lies in the file: Rows rows of Cols elements each,
// row-major, packed as Type says. Data holds Rows*Type.RowBytes(Cols) bytes, little endian.
type Matrix struct {
	Type *Type
	Rows int
	Cols int
	Data []byte
}

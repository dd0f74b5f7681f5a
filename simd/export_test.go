package simd

import "testing"

// SetBlocking changes the blocking of matrix products until the test ends.
func SetBlocking(t *testing.T, rows, cols, buf int) {
	old := blocks
	t.Cleanup(func() { blocks = old })
	blocks = blocking{rows: rows, cols: cols, buf: buf}
}

// NewBlocking returns the blocking for caches of these sizes.
func NewBlocking(l2, l3 int) (rows, cols, buf int) {
	b := newBlocking(l2, l3)
	return b.rows, b.cols, b.buf
}

// FewTaskRows returns how many rows of weights a task of few rows takes.
func FewTaskRows(rows, cols int) int { return fewRows(rows, cols) }

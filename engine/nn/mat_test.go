package nn

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMatView(t *testing.T) {
	m := NewMat(3, 4)
	for i := range m.Data {
		m.Data[i] = float32(i)
	}
	v := m.View(1, 2, 1, 2)
	assert.Equal(t, []float32{5, 6}, v.Row(0))
	assert.Equal(t, []float32{9, 10}, v.View(1, 1, 0, 2).Row(0))
	assert.Equal(t, "2×2", v.String())
	assert.Nil(t, m.View(3, 0, 0, 4).Data)
	v.Zero()
	assert.Equal(t, []float32{0, 1, 2, 3, 4, 0, 0, 7, 8, 0, 0, 11}, m.Data, "only the view is cleared")
	assert.PanicsWithValue(t, "nn: View(2+2, 0+4) of a 3×4 matrix", func() { m.View(2, 2, 0, 4) })
	assert.PanicsWithValue(t, "nn: View(0+1, 3+2) of a 3×4 matrix", func() { m.View(0, 1, 3, 2) })
	assert.PanicsWithValue(t, "nn: View(-1+1, 0+1) of a 3×4 matrix", func() { m.View(-1, 1, 0, 1) })
}

package nn

// GELU sets y = ½x(1+tanh(u)), u = √(2/π)(x+0.044715x³): the tanh approximation
// (Hendrycks & Gimpel 2016, arXiv:1606.08415v5, section 2).
//
// y, x are [T,F]. y may be x. It panics if the shapes disagree.
func GELU(c *Ctx, y, x Mat) {
	sameShape("GELU", "y", y, "x", x)
	c.rows(y.Rows, y.Cols, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			c.K.GELU(y.Row(t), x.Row(t))
		}
	})
}

// GELUBackward sets (not adds) the gradient of the input of [GELU]:
//
//	dx = dy∘(½(1+tanh(u)) + ½x(1−tanh²(u))·√(2/π)(1+3·0.044715x²))
//
// dx, dy, x are [T,F]. dx may be dy. It panics if the shapes disagree.
func GELUBackward(c *Ctx, dx, dy, x Mat) {
	sameShape("GELUBackward", "dx", dx, "x", x)
	sameShape("GELUBackward", "dy", dy, "x", x)
	c.rows(dy.Rows, dy.Cols, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			c.K.GELUBackward(dx.Row(t), dy.Row(t), x.Row(t))
		}
	})
}

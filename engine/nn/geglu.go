package nn

// GeGLU sets y = gelu(gate)∘up, gelu as in [GELU] (Shazeer 2020, arXiv:2002.05202v1, eq. 6
// without its projections).
//
// y, gate, up are [T,F]. y must not overlap gate or up. It panics if the shapes disagree.
func GeGLU(c *Ctx, y, gate, up Mat) {
	sameShape("GeGLU", "y", y, "gate", gate)
	sameShape("GeGLU", "up", up, "gate", gate)
	c.rows(y.Rows, y.Cols, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			c.K.GELU(y.Row(t), gate.Row(t))
			c.K.Mul(y.Row(t), up.Row(t))
		}
	})
}

// GeGLUBackward sets (not adds) the gradients of the inputs of y = gelu(gate)∘up:
//
//	dup   = dy∘gelu(gate)
//	dgate = dy∘up∘gelu'(gate)      see [GELUBackward]
//
// All are [T,F] and do not overlap. It panics if the shapes disagree.
func GeGLUBackward(c *Ctx, dgate, dup, dy, gate, up Mat) {
	sameShape("GeGLUBackward", "dgate", dgate, "gate", gate)
	sameShape("GeGLUBackward", "dup", dup, "gate", gate)
	sameShape("GeGLUBackward", "dy", dy, "gate", gate)
	sameShape("GeGLUBackward", "up", up, "gate", gate)
	c.rows(dy.Rows, dy.Cols, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			c.K.GELU(dup.Row(t), gate.Row(t))
			c.K.Mul(dup.Row(t), dy.Row(t))
			copy(dgate.Row(t), dy.Row(t))
			c.K.Mul(dgate.Row(t), up.Row(t))
			c.K.GELUBackward(dgate.Row(t), dgate.Row(t), gate.Row(t))
		}
	})
}

package nn

// SwiGLU sets y = silu(gate)∘up, silu(z) = z/(1+exp(−z)) (Shazeer 2020,
// arXiv:2002.05202v1, eq. 6 without its projections).
//
// y, gate, up are [T,F]. y must not overlap gate or up. It panics if the shapes disagree.
func SwiGLU(c *Ctx, y, gate, up Mat) {
	sameShape("SwiGLU", "y", y, "gate", gate)
	sameShape("SwiGLU", "up", up, "gate", gate)
	c.rows(y.Rows, y.Cols, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			c.K.SwiGLU(y.Row(t), gate.Row(t), up.Row(t))
		}
	})
}

// SwiGLUBackward sets (not adds) the gradients of the inputs of y = silu(gate)∘up:
//
//	dup   = dy∘silu(gate)
//	dgate = dy∘up∘silu'(gate),   silu'(z) = σ(z)·(1 + z·(1−σ(z))),  σ(z) = 1/(1+exp(−z))
//
// All are [T,F]. dgate may be gate and dup may be up; nothing else may overlap.
// It panics if the shapes disagree.
func SwiGLUBackward(c *Ctx, dgate, dup, dy, gate, up Mat) {
	sameShape("SwiGLUBackward", "dgate", dgate, "gate", gate)
	sameShape("SwiGLUBackward", "dup", dup, "gate", gate)
	sameShape("SwiGLUBackward", "dy", dy, "gate", gate)
	sameShape("SwiGLUBackward", "up", up, "gate", gate)
	c.rows(dy.Rows, dy.Cols, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			c.K.SwiGLUBackward(dgate.Row(t), dup.Row(t), dy.Row(t), gate.Row(t), up.Row(t))
		}
	})
}

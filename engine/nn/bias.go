package nn

// AddBias adds the bias to every row: y[t] += b. A nil bias is absent.
// y is [T,N], b is [N].
func AddBias(c *Ctx, y Mat, p *Param) {
	if p == nil {
		return
	}
	vector("AddBias", y, p)
	c.rows(y.Rows, y.Cols, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			c.K.Add(y.Row(t), p.F32)
		}
	})
}

// BiasBackward hands the factor of the bias's gradient db = Σ_t dy[t] to the
// sink; the input's gradient is dy itself. A nil bias or sink is skipped.
func BiasBackward(p *Param, dy Mat, s Sink) {
	if p == nil || s == nil {
		return
	}
	vector("BiasBackward", dy, p)
	s.Bias(p, dy)
}

package nn

// Embed sets y[t] to row ids[t] of the embedding p [V,D], plus its adapter's
// s·B[ids[t]]·A if it has one. y is [T,D].
// It panics if the shapes disagree or an id is not in [0,V).
func Embed(c *Ctx, y Mat, ids []int32, p *Param) {
	if y.Rows != len(ids) || y.Cols != p.Cols {
		panicf("Embed: y is %v for %d ids, %s is %d×%d", y, len(ids), p.Name, p.Rows, p.Cols)
	}
	checkIDs("Embed", ids, p)
	w := p.operand(c, false)
	c.rows(y.Rows, y.Cols, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			if id := int(ids[t]); w.Data != nil {
				copy(y.Row(t), w.Data[id*w.Stride:])
			} else {
				w.Unpack(y.Row(t), id, 0)
			}
		}
	})
	if a := p.Adapter; a != nil {
		coef := make([]float32, a.B.Cols)
		for t, id := range ids {
			copy(coef, a.B.F32[int(id)*a.B.Cols:])
			c.K.Scale(coef, a.Scale)
			c.K.AxpyRows(y.Row(t), coef, a.A.F32, a.A.Cols)
		}
	}
}

// EmbedBackward hands the factors of dE[ids[t]] += dy[t] to the sink:
// sink.Rows(p, ids, dy), also for an embedding with an adapter (see
// [AdapterRowsBackward]). dy is [T,D]. A nil sink is skipped.
func EmbedBackward(dy Mat, ids []int32, p *Param, s Sink) {
	if dy.Rows != len(ids) || dy.Cols != p.Cols {
		panicf("EmbedBackward: dy is %v for %d ids, %s is %d×%d", dy, len(ids), p.Name, p.Rows, p.Cols)
	}
	checkIDs("EmbedBackward", ids, p)
	if s != nil {
		s.Rows(p, ids, dy)
	}
}

func checkIDs(op string, ids []int32, p *Param) {
	for t, id := range ids {
		if id < 0 || int(id) >= p.Rows {
			panicf("%s: id %d at %d, %s has %d rows", op, id, t, p.Name, p.Rows)
		}
	}
}

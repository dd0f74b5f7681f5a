package engine

import "github.com/guardcpu/guardcpu/engine/nn"

// embed sets x [T,D] to what the first block reads: with E the token embedding and P the learnt
// positions, if there are any,
//
//	x[t] = EmbedScale·E[ids[t]] + P[pos[t]]
func (m *Model) embed(c *nn.Ctx, x nn.Mat, ids, pos []int32) {
	nn.Embed(c, x, ids, m.w.embed)
	if s := m.Config.EmbedScale; s != 1 {
		c.K.Scale(x.Data, s)
	}
	if p := m.w.positions; p != nil {
		at := nn.NewMat(x.Rows, x.Cols)
		nn.Embed(c, at, pos, p)
		c.K.Add(x.Data, at.Data)
	}
}

// embedBackward hands the factors of embed's gradients to the sink; dx is overwritten.
func (m *Model) embedBackward(c *nn.Ctx, dx nn.Mat, ids, pos []int32, to *route) {
	if p := m.w.positions; p != nil {
		nn.EmbedBackward(dx, pos, p, to)
		to.done(p)
	}
	if s := m.Config.EmbedScale; s != 1 {
		c.K.Scale(dx.Data, s)
	}
	nn.EmbedBackward(dx, ids, m.w.embed, to)
	to.done(m.w.embed)
}

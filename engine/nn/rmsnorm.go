package nn

import "math"

// RMSNorm sets y = x·rstd·w with rstd = 1/√(mean(x²)+ε) per row
// (Zhang & Sennrich 2019, arXiv:1910.07467v1, eq. 4), and saves rstd.
//
// y, x are [T,D], w is [D], rstd is [T]. y may be x. It panics if the shapes disagree.
func RMSNorm(c *Ctx, y, x Mat, w *Param, eps float32, rstd []float32) {
	sameShape("RMSNorm", "y", y, "x", x)
	vector("RMSNorm", x, w)
	checkSaved("RMSNorm", x, "rstd", rstd)
	c.rows(x.Rows, x.Cols, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			xt, yt := x.Row(t), y.Row(t)
			meanSquare := float64(c.K.Dot(xt, xt)) / float64(len(xt))
			rstd[t] = float32(1 / math.Sqrt(meanSquare+float64(eps)))
			copy(yt, xt)
			c.K.Scale(yt, rstd[t])
			c.K.Mul(yt, w.F32)
		}
	})
}

// RMSNormBackward adds the gradient of the input of y = x̂·w, x̂ = x·rstd,
// rstd = 1/√(mean(x²)+ε):
//
//	dx[t] += rstd[t]·(dx̂ − x̂·mean(dx̂∘x̂)),   dx̂ = dy[t]∘w
//
// and hands the factors of dw = Σ_t dy[t]∘x̂[t] to the sink: sink.Gain(w, dy, x̂).
//
// dx, dy, x, xhat are [T,D]; w is [D]; rstd is [T], as RMSNorm left it. xhat is
// written with x̂; it may be x when x is needed no more, nothing else may overlap.
// It panics if the shapes disagree.
func RMSNormBackward(c *Ctx, dx, dy, x Mat, w *Param, rstd []float32, xhat Mat, s Sink) {
	sameShape("RMSNormBackward", "dx", dx, "x", x)
	sameShape("RMSNormBackward", "dy", dy, "x", x)
	sameShape("RMSNormBackward", "xhat", xhat, "x", x)
	vector("RMSNormBackward", x, w)
	checkSaved("RMSNormBackward", x, "rstd", rstd)
	c.rows(x.Rows, x.Cols, func(lo, hi int) {
		buf := scratch(x.Cols)
		defer scratchPool.Put(buf)
		dxhat := *buf
		for t := lo; t < hi; t++ {
			xh, dxt := xhat.Row(t), dx.Row(t)
			copy(xh, x.Row(t))
			c.K.Scale(xh, rstd[t])
			// y = x̂∘w
			copy(dxhat, dy.Row(t))
			c.K.Mul(dxhat, w.F32)
			// x̂ = x/√(mean(x²)+ε)
			mean := c.K.Dot(dxhat, xh) / float32(x.Cols)
			c.K.Axpy(dxt, rstd[t], dxhat)
			c.K.Axpy(dxt, -rstd[t]*mean, xh)
		}
	})
	if s != nil {
		s.Gain(w, dy, xhat)
	}
}

func checkSaved(op string, x Mat, name string, saved []float32) {
	if len(saved) != x.Rows {
		panicf("%s: x is %v, %s has %d", op, x, name, len(saved))
	}
}

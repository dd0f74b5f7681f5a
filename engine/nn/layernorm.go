package nn

import "math"

// LayerNorm sets y = x̂·w + b with x̂ = (x−μ)·rstd, μ = mean(x) and
// rstd = 1/√(mean((x−μ)²)+ε) per row (Ba et al. 2016, arXiv:1607.06450v1, eq. 3),
// and saves μ and rstd.
//
// y, x are [T,D]; w and b are [D], b may be nil; mean and rstd are [T]. y may be x.
// It panics if the shapes disagree.
func LayerNorm(c *Ctx, y, x Mat, w, b *Param, eps float32, mean, rstd []float32) {
	sameShape("LayerNorm", "y", y, "x", x)
	vector("LayerNorm", x, w)
	if b != nil {
		vector("LayerNorm", x, b)
	}
	checkSaved("LayerNorm", x, "mean", mean)
	checkSaved("LayerNorm", x, "rstd", rstd)
	c.rows(x.Rows, x.Cols, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			xt, yt := x.Row(t), y.Row(t)
			mean[t] = c.K.Sum(xt) / float32(len(xt))
			center(yt, xt, mean[t])
			variance := float64(c.K.Dot(yt, yt)) / float64(len(yt))
			rstd[t] = float32(1 / math.Sqrt(variance+float64(eps)))
			c.K.Scale(yt, rstd[t])
			c.K.Mul(yt, w.F32)
			if b != nil {
				c.K.Add(yt, b.F32)
			}
		}
	})
}

// LayerNormBackward adds the gradient of the input of y = x̂·w + b,
// x̂ = (x−μ)·rstd:
//
//	dx[t] += rstd[t]·(dx̂ − mean(dx̂) − x̂·mean(dx̂∘x̂)),   dx̂ = dy[t]∘w
//
// and hands the factors of dw = Σ_t dy[t]∘x̂[t] and db = Σ_t dy[t] to the sink:
// sink.Gain(w, dy, x̂), then sink.Bias(b, dy) unless b is nil.
//
// dx, dy, x, xhat are [T,D]; w, b are [D]; mean and rstd are [T], as LayerNorm left
// them. xhat is written with x̂; it may be x when x is needed no more, nothing else
// may overlap. It panics if the shapes disagree.
func LayerNormBackward(c *Ctx, dx, dy, x Mat, w, b *Param, mean, rstd []float32, xhat Mat, s Sink) {
	sameShape("LayerNormBackward", "dx", dx, "x", x)
	sameShape("LayerNormBackward", "dy", dy, "x", x)
	sameShape("LayerNormBackward", "xhat", xhat, "x", x)
	vector("LayerNormBackward", x, w)
	checkSaved("LayerNormBackward", x, "mean", mean)
	checkSaved("LayerNormBackward", x, "rstd", rstd)
	c.rows(x.Rows, x.Cols, func(lo, hi int) {
		buf := scratch(x.Cols)
		defer scratchPool.Put(buf)
		dxhat := *buf
		for t := lo; t < hi; t++ {
			xh, dxt := xhat.Row(t), dx.Row(t)
			center(xh, x.Row(t), mean[t])
			c.K.Scale(xh, rstd[t])
			// y = x̂∘w + b
			copy(dxhat, dy.Row(t))
			c.K.Mul(dxhat, w.F32)
			// x̂ = (x−μ)·rstd
			m1 := c.K.Sum(dxhat) / float32(x.Cols)
			m2 := c.K.Dot(dxhat, xh) / float32(x.Cols)
			center(dxhat, dxhat, m1)
			c.K.Axpy(dxt, rstd[t], dxhat)
			c.K.Axpy(dxt, -rstd[t]*m2, xh)
		}
	})
	if s != nil {
		s.Gain(w, dy, xhat)
	}
	BiasBackward(b, dy, s)
}

// center sets y = x − m.
func center(y, x []float32, m float32) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] = v - m
	}
}

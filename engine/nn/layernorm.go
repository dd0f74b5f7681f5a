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
			mean[t], rstd[t] = layerNormRow(c, y.Row(t), x.Row(t), w.F32, eps)
			if b != nil {
				c.K.Add(y.Row(t), b.F32)
			}
		}
	})
}

// layerNormRow is LayerNorm of one row without a bias; it returns μ and rstd.
func layerNormRow(c *Ctx, y, x, w []float32, eps float32) (mean, rstd float32) {
	mean = c.K.Sum(x) / float32(len(x))
	center(y, x, mean)
	variance := float64(c.K.Dot(y, y)) / float64(len(y))
	rstd = float32(1 / math.Sqrt(variance+float64(eps)))
	c.K.Scale(y, rstd)
	c.K.Mul(y, w)
	return mean, rstd
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
		for t := lo; t < hi; t++ {
			layerNormBackwardRow(c, dx.Row(t), dy.Row(t), x.Row(t), w.F32, mean[t], rstd[t], xhat.Row(t), *buf)
		}
	})
	if s != nil {
		s.Gain(w, dy, xhat)
	}
	BiasBackward(b, dy, s)
}

// layerNormBackwardRow is LayerNormBackward of one row, without the sink. dxhat is scratch.
func layerNormBackwardRow(c *Ctx, dx, dy, x, w []float32, mean, rstd float32, xhat, dxhat []float32) {
	center(xhat, x, mean)
	c.K.Scale(xhat, rstd)
	// y = x̂∘w + b
	copy(dxhat, dy)
	c.K.Mul(dxhat, w)
	// x̂ = (x−μ)·rstd
	m1 := c.K.Sum(dxhat) / float32(len(x))
	m2 := c.K.Dot(dxhat, xhat) / float32(len(x))
	center(dxhat, dxhat, m1)
	c.K.Axpy(dx, rstd, dxhat)
	c.K.Axpy(dx, -rstd*m2, xhat)
}

// center sets y = x − m.
func center(y, x []float32, m float32) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] = v - m
	}
}

package nn

// QKNormKind says how the queries and keys are normalised before RoPE, each by a gain
// without a bias.
type QKNormKind int

// The normalisations of queries and keys.
const (
	QKNormNone  QKNormKind = iota
	QKNormHead             // every head, all with one gain [E]: qwen3, gemma3
	QKNormHeads            // every head with a gain of its own [H·E]: stablelm 2 12B
	QKNormRow              // the whole row, with a gain [H·E]: olmo2
)

// width returns how many columns are normalised together.
func (kind QKNormKind) width(dHead, cols int) int {
	if kind == QKNormRow {
		return cols
	}
	return dHead
}

// qkNorm normalises in place pieces of width columns of the rows of y, which it first copies to
// x, by RMSNorm or LayerNorm. w has a gain for all columns or for those of a piece.
//
// y, x are [T,N], w is [N] or [width], width divides N.
func qkNorm(c *Ctx, kind NormKind, y, x Mat, width int, w *Param, eps float32, st *NormState) {
	checkQKNorm("qkNorm", x, width, w)
	n := x.Cols / width
	st.rstd = grow(st.rstd, x.Rows*n)
	if kind == NormLayer {
		st.mean = grow(st.mean, x.Rows*n)
	}
	c.copyRows(x, y)
	c.rows(x.Rows, x.Cols, func(lo, hi int) {
		for i := lo * n; i < hi*n; i++ {
			at := i % n * width
			yi, xi, gain := y.Row(i / n)[at:at+width], x.Row(i / n)[at:at+width], w.F32[at%len(w.F32):][:width]
			if kind == NormLayer {
				st.mean[i], st.rstd[i] = layerNormRow(c, yi, xi, gain, eps)
			} else {
				st.rstd[i] = rmsNormRow(c, yi, xi, gain, eps)
			}
		}
	})
}

// qkNormBackward turns dy, the gradient of qkNorm's output, into that of its input x, and
// hands the factors of the gain's gradient to the sink.
func qkNormBackward(c *Ctx, kind NormKind, dy, x Mat, width int, w *Param, st *NormState, s Sink) {
	checkQKNorm("qkNormBackward", x, width, w)
	n := x.Cols / width
	xhat, factor := scratchMat(x.Rows, x.Cols), scratchMat(x.Rows, x.Cols)
	defer matPool.Put(xhat)
	defer matPool.Put(factor)
	c.copyRows(*factor, dy)
	c.zero(dy)
	c.rows(x.Rows, x.Cols, func(lo, hi int) {
		buf := scratch(width)
		defer scratchPool.Put(buf)
		for i := lo * n; i < hi*n; i++ {
			at := i % n * width
			piece := func(m Mat) []float32 { return m.Row(i / n)[at : at+width] }
			gain := w.F32[at%len(w.F32):][:width]
			if kind == NormLayer {
				layerNormBackwardRow(c, piece(dy), piece(*factor), piece(x), gain, st.mean[i], st.rstd[i], piece(*xhat), *buf)
			} else {
				rmsNormBackwardRow(c, piece(dy), piece(*factor), piece(x), gain, st.rstd[i], piece(*xhat), *buf)
			}
		}
	})
	if s == nil {
		return
	}
	if len(w.F32) == x.Cols {
		s.Gain(w, *factor, *xhat)
		return
	}
	rows := make([]int32, x.Rows*n) // one for each piece
	for i := range rows {
		rows[i] = int32(i / n)
	}
	pieces := func(m *Mat) Mat { return Mat{Rows: len(rows), Cols: width, Stride: width, Data: m.Data} }
	SelectRows(s, rows)
	s.Gain(w, pieces(factor), pieces(xhat))
	SelectRows(s, nil)
}

func checkQKNorm(op string, x Mat, width int, w *Param) {
	if width < 1 || x.Cols%width != 0 || len(w.F32) != x.Cols && len(w.F32) != width {
		panicf("%s: x is %v in pieces of %d, %s has %d", op, x, width, w.Name, len(w.F32))
	}
}

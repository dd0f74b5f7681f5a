package nn

// NormKind says which normalisation a model uses.
type NormKind int

// The normalisations.
const (
	NormRMS   NormKind = iota // RMSNorm: llama, mistral, qwen
	NormLayer                 // LayerNorm: phi-2, gpt-neox
)

// NormState is what a norm's forward saves for its backward, reused from call to call.
type NormState struct {
	mean, rstd []float32 // [T]
}

// Norm is [RMSNorm] or [LayerNorm] (whose b may be nil), saving into st.
func Norm(c *Ctx, kind NormKind, y, x Mat, w, b *Param, eps float32, st *NormState) {
	st.rstd = grow(st.rstd, x.Rows)
	switch kind {
	case NormRMS:
		RMSNorm(c, y, x, w, eps, st.rstd)
		AddBias(c, y, b)
	case NormLayer:
		st.mean = grow(st.mean, x.Rows)
		LayerNorm(c, y, x, w, b, eps, st.mean, st.rstd)
	default:
		panicf("Norm: kind %d is not known", kind)
	}
}

// NormBackward is [RMSNormBackward] or [LayerNormBackward] with what Norm saved
// in st: it adds the gradient of x to dx and hands those of w and b to the sink.
func NormBackward(c *Ctx, kind NormKind, dx, dy, x Mat, w, b *Param, st *NormState, s Sink) {
	xhat := scratchMat(x.Rows, x.Cols)
	defer matPool.Put(xhat)
	switch kind {
	case NormRMS:
		RMSNormBackward(c, dx, dy, x, w, st.rstd, *xhat, s)
		BiasBackward(b, dy, s)
	case NormLayer:
		LayerNormBackward(c, dx, dy, x, w, b, st.mean, st.rstd, *xhat, s)
	default:
		panicf("NormBackward: kind %d is not known", kind)
	}
}

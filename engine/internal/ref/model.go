package ref

// Config is the shape of a model.
type Config struct {
	AttentionConfig      // its window is that of local blocks
	LayerNorm       bool // LayerNorm; else RMSNorm
	Eps             float64
	Rope            *Rope   // nil: none
	LocalRope       *Rope   // of local blocks; nil: Rope
	Parallel        bool    // y = x + attn(n) + ffn(n); else one after the other
	GELU            bool    // gelu; else silu
	QKWidth         int     // columns of q and k that are normalised together; 0: all
	EmbedScale      float64 // of the embedding; 0: 1
	LogitCap        float64 // c of c·tanh(logit/c); 0: none
}

// Affine is a weight [N,K] and its bias, nil for none.
type Affine[N Number] struct {
	W Mat[N]
	B []N
}

// Of returns x·Wᵀ + b.
func (a Affine[N]) Of(x Mat[N]) Mat[N] { return AddBias(Linear(x, a.W), a.B) }

// Gain is the gain of a norm and its bias, nil for none.
type Gain[N Number] struct{ W, B []N }

// Of returns the normed x, or x without a gain.
func (g Gain[N]) Of(cfg *Config, x Mat[N]) Mat[N] {
	if g.W == nil {
		return x
	}
	if cfg.LayerNorm {
		return LayerNorm(x, g.W, g.B, cfg.Eps)
	}
	return AddBias(RMSNorm(x, g.W, cfg.Eps), g.B)
}

// Block is one layer. QKV, if it has a weight, stands for Q, K and V below each
// other, GateUp for Gate and Up. Without a gate, the activation is that of Up.
type Block[N Number] struct {
	Local          bool // attends inside the window, with LocalRope
	AttnNorm       Gain[N]
	QKV            Affine[N]
	Q, K, V, O     Affine[N]
	QNorm, KNorm   []N // gains of all columns, or of QKWidth
	AttnPostNorm   Gain[N]
	FFNNorm        Gain[N] // of a parallel block: nil if it shares AttnNorm
	GateUp         Affine[N]
	Gate, Up, Down Affine[N]
	MoE            *MoE[N] // in place of them, unless nil
	FFNPostNorm    Gain[N]
}

// Of returns the block's output for packed sequences (see Attention).
func (b *Block[N]) Of(cfg *Config, x Mat[N], pos []int32, starts []int) Mat[N] {
	n := b.AttnNorm.Of(cfg, x)
	h := Add(x, b.AttnPostNorm.Of(cfg, b.attention(cfg, n, pos, starts)))
	switch {
	case !cfg.Parallel:
		n = b.FFNNorm.Of(cfg, h)
	case b.FFNNorm.W != nil:
		n = b.FFNNorm.Of(cfg, x)
	}
	return Add(h, b.FFNPostNorm.Of(cfg, b.ffn(cfg, n)))
}

func (b *Block[N]) attention(cfg *Config, n Mat[N], pos []int32, starts []int) Mat[N] {
	var q, k, v Mat[N]
	if b.QKV.W != nil {
		qkv := b.QKV.Of(n)
		dHead := len(b.QKV.W) / (cfg.NHeads + 2*cfg.NKVHeads)
		nq, nk := cfg.NHeads*dHead, cfg.NKVHeads*dHead
		q, k, v = qkv.Cols(0, nq), qkv.Cols(nq, nq+nk), qkv.Cols(nq+nk, nq+2*nk)
	} else {
		q, k, v = b.Q.Of(n), b.K.Of(n), b.V.Of(n)
	}
	if b.QNorm != nil {
		q, k = normPieces(cfg, q, b.QNorm), normPieces(cfg, k, b.KNorm)
	}
	att, rope := cfg.AttentionConfig, cfg.Rope
	if !b.Local {
		att.Window = 0
	} else if cfg.LocalRope != nil {
		rope = cfg.LocalRope
	}
	if rope != nil {
		q = RoPE(q, cfg.NHeads, pos, *rope)
		k = RoPE(k, cfg.NKVHeads, pos, *rope)
	}
	return b.O.Of(Attention(att, q, k, v, starts))
}

func (b *Block[N]) ffn(cfg *Config, n Mat[N]) Mat[N] {
	if b.MoE != nil {
		return b.MoE.Of(n)
	}
	up := b.Up
	gate := b.Gate
	if w := b.GateUp.W; w != nil {
		gate.W, up.W = w[:len(w)/2], w[len(w)/2:]
	}
	switch {
	case gate.W == nil:
		return b.Down.Of(GELU(up.Of(n)))
	case cfg.GELU:
		return b.Down.Of(GeGLU(gate.Of(n), up.Of(n)))
	}
	return b.Down.Of(SwiGLU(gate.Of(n), up.Of(n)))
}

// normPieces normalises pieces of QKWidth columns.
func normPieces[N Number](cfg *Config, x Mat[N], gain []N) Mat[N] {
	width := cfg.QKWidth
	if width == 0 {
		width = len(x[0])
	}
	y := NewMat[N](len(x), len(x[0]))
	for lo := 0; lo < len(x[0]); lo += width {
		g := Gain[N]{W: gain[lo%len(gain):][:width]}
		for t, row := range g.Of(cfg, x.Cols(lo, lo+width)) {
			copy(y[t][lo:], row)
		}
	}
	return y
}

// Model is embedding, blocks, norm and output.
type Model[N Number] struct {
	Config  Config
	Embed   Mat[N]
	Pos     Mat[N] // learned positions, or nil
	Blocks  []Block[N]
	OutNorm Gain[N]
	Output  Affine[N] // without a weight: Embed is used (tied)
}

// Logits returns the logits of every row of packed sequences; a row's position is
// its place in its sequence.
func (m *Model[N]) Logits(ids []int32, starts []int) Mat[N] {
	var pos []int32
	for n := range len(starts) - 1 {
		for i := starts[n]; i < starts[n+1]; i++ {
			pos = append(pos, int32(i-starts[n]))
		}
	}
	h := Embed(m.Embed, ids)
	if s := m.Config.EmbedScale; s != 0 {
		h = Scale(h, s)
	}
	if m.Pos != nil {
		h = Add(h, Embed(m.Pos, pos))
	}
	for l := range m.Blocks {
		h = m.Blocks[l].Of(&m.Config, h, pos, starts)
	}
	out := m.Output
	if out.W == nil {
		out.W = m.Embed
	}
	logits := out.Of(m.OutNorm.Of(&m.Config, h))
	if c := m.Config.LogitCap; c != 0 {
		logits = Softcap(logits, c)
	}
	return logits
}

// Target is a row whose logits predict Token, and the factor of its nll in the loss.
type Target struct {
	Row   int
	Token int32
	Coef  float64
}

// Loss returns Σ coef·nll over the targets.
func (m *Model[N]) Loss(ids []int32, starts []int, targets []Target) N {
	logits := m.Logits(ids, starts)
	var loss N
	for _, t := range targets {
		loss += Const[N](t.Coef) * NLL(logits[t.Row], t.Token)
	}
	return loss
}

package ref

// Config is the shape of a model.
type Config struct {
	AttentionConfig      // its window is that of local blocks
	LayerNorm       bool // LayerNorm; else RMSNorm
	Eps             float64
	Rope            *Rope // nil: none
	LocalRope       *Rope // of local blocks; nil: Rope
	Parallel        bool  // y = x + attn(n) + ffn(n); else one after the other
	GELU            bool  // Down(gelu(Up n)); else Down(silu(Gate n)∘Up n)
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

// Of returns the normed x.
func (g Gain[N]) Of(cfg *Config, x Mat[N]) Mat[N] {
	if cfg.LayerNorm {
		return LayerNorm(x, g.W, g.B, cfg.Eps)
	}
	return AddBias(RMSNorm(x, g.W, cfg.Eps), g.B)
}

// Block is one layer. QKV, if it has a weight, stands for Q, K and V below each
// other.
type Block[N Number] struct {
	Local          bool // attends inside the window, with LocalRope
	AttnNorm       Gain[N]
	QKV            Affine[N]
	Q, K, V, O     Affine[N]
	FFNNorm        Gain[N] // not of a parallel block
	Gate, Up, Down Affine[N]
	MoE            *MoE[N] // in place of the three, unless nil
}

// Of returns the block's output for packed sequences (see Attention).
func (b *Block[N]) Of(cfg *Config, x Mat[N], pos []int32, starts []int) Mat[N] {
	n := b.AttnNorm.Of(cfg, x)
	h := Add(x, b.attention(cfg, n, pos, starts))
	if cfg.Parallel {
		return Add(h, b.ffn(cfg, n))
	}
	return Add(h, b.ffn(cfg, b.FFNNorm.Of(cfg, h)))
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
	if cfg.GELU {
		return b.Down.Of(GELU(b.Up.Of(n)))
	}
	return b.Down.Of(SwiGLU(b.Gate.Of(n), b.Up.Of(n)))
}

// Model is embedding, blocks, norm and output.
type Model[N Number] struct {
	Config  Config
	Embed   Mat[N]
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
	for l := range m.Blocks {
		h = m.Blocks[l].Of(&m.Config, h, pos, starts)
	}
	out := m.Output
	if out.W == nil {
		out.W = m.Embed
	}
	return out.Of(m.OutNorm.Of(&m.Config, h))
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

package nn

import "sync"

// FFNKind says which feed-forward layer a model uses.
type FFNKind int

// The feed-forward layers, of the block's normed input n.
const (
	FFNSwiGLU FFNKind = iota // Down(silu(Gate n)∘Up n): llama, mistral, qwen
	FFNGELU                  // Down(gelu(Up n)): phi-2, gpt-neox
	FFNMoE                   // a mixture of experts (see MoE): mixtral, qwen3moe
)

// BlockConfig is what all blocks of a model share.
type BlockConfig struct {
	AttentionConfig     // its window is that of local blocks
	DModel          int // D
	DFF             int // F
	Norm            NormKind
	Eps             float32 // of the norms
	Rope            *Rope   // nil: no rotary embedding
	LocalRope       *Rope   // of local blocks; nil: Rope
	Parallel        bool    // attention and feed-forward both read one norm (see Block)
	FFN             FFNKind
	MoE             MoEConfig // of FFNMoE, for which DFF is 0
}

// Block is one layer of a transformer: its parameters, absent ones nil. Either QKV
// [(H+2K)·E, D], whose rows are those of Q, K and V, or the three of their own.
//
// Sequential (llama, Touvron et al. 2023, arXiv:2302.13971v1, section 2.2):
//
//	h = x + O(attn(AttnNorm(x)))
//	y = h + ffn(FFNNorm(h))
//
// Parallel (phi-2, after Wang & Komatsuzaki 2021, GPT-J), without FFNNorm:
//
//	n = AttnNorm(x)
//	y = x + O(attn(n)) + ffn(n)
type Block struct {
	Local                        bool   // attends inside the window, with LocalRope
	AttnNorm, AttnNormBias       *Param // [D]
	QKV, QKVBias                 *Param // fused: [(H+2K)·E, D], [(H+2K)·E]
	Q, QBias, K, KBias, V, VBias *Param // [H·E, D], [H·E]; [K·E, D], [K·E] twice
	O, OBias                     *Param // [D, H·E], [D]
	FFNNorm, FFNNormBias         *Param // [D]
	Gate, GateBias, Up, UpBias   *Param // [F, D], [F]; Gate of SwiGLU only
	Down, DownBias               *Param // [D, F], [D]
	MoE                          MoE    // of FFNMoE, in place of Gate, Up and Down
}

// Params returns the parameters that are there, in the order of the forward pass.
func (b *Block) Params() []*Param {
	all := []*Param{
		b.AttnNorm, b.AttnNormBias,
		b.QKV, b.QKVBias, b.Q, b.QBias, b.K, b.KBias, b.V, b.VBias,
		b.O, b.OBias,
		b.FFNNorm, b.FFNNormBias,
		b.Gate, b.GateBias, b.Up, b.UpBias, b.Down, b.DownBias,
	}
	out := all[:0]
	for _, p := range all {
		if p != nil {
			out = append(out, p)
		}
	}
	return append(out, b.MoE.Params()...)
}

// BlockState is what a block's forward saves for its backward. It is reused from
// call to call and from block to block; its memory only grows.
type BlockState struct {
	cfg          BlockConfig
	norm1, norm2 NormState
	n1           Mat // AttnNorm(x) [T,D]
	qkv          Mat // [T,(H+2K)·E], q and k after RoPE
	attn         Mat // [T,H·E]
	h            Mat // x + O(attn) [T,D], sequential only
	n2           Mat // FFNNorm(h) [T,D], sequential only
	gate, up     Mat // [T,F], before the activation; gate of SwiGLU only
	act          Mat // [T,F], after it
	moe          moeState
}

// NewBlockState returns a state for batches of rows rows; see Resize.
func NewBlockState(cfg BlockConfig, rows int) *BlockState {
	s := &BlockState{cfg: cfg}
	s.Resize(rows)
	return s
}

// Resize makes the state fit batches of rows rows. Saved values are lost.
func (s *BlockState) Resize(rows int) {
	cfg := &s.cfg
	s.n1.resize(rows, cfg.DModel)
	s.qkv.resize(rows, cfg.qkvCols())
	s.attn.resize(rows, cfg.NHeads*cfg.DHead)
	if !cfg.Parallel {
		s.h.resize(rows, cfg.DModel)
		s.n2.resize(rows, cfg.DModel)
	}
	if cfg.FFN == FFNSwiGLU {
		s.gate.resize(rows, cfg.DFF)
	}
	s.up.resize(rows, cfg.DFF)
	s.act.resize(rows, cfg.DFF)
}

func (cfg *BlockConfig) qkvCols() int { return (cfg.NHeads + 2*cfg.NKVHeads) * cfg.DHead }

// split returns the columns of q, k and v in a matrix of all three.
func (cfg *BlockConfig) split(qkv Mat) (q, k, v Mat) {
	nq, nk := cfg.NHeads*cfg.DHead, cfg.NKVHeads*cfg.DHead
	return qkv.View(0, qkv.Rows, 0, nq), qkv.View(0, qkv.Rows, nq, nk), qkv.View(0, qkv.Rows, nq+nk, nk)
}

// StateBytes is the memory of a BlockState for batches of rows rows.
func (cfg *BlockConfig) StateBytes(rows int) int {
	n := cfg.DModel + cfg.qkvCols() + cfg.NHeads*cfg.DHead + 2*cfg.DFF // n1, qkv, attn, up, act
	if !cfg.Parallel {
		n += 2 * cfg.DModel // h, n2
	}
	if cfg.FFN == FFNSwiGLU {
		n += cfg.DFF // gate
	}
	return 4*n*rows + cfg.MoE.stateBytes(rows, cfg.DModel)
}

// Forward sets y to the block's output for x and saves in st what Backward needs.
// pos is each row's position in its sequence; segs are the sequences, maybe with
// caches (see [Attention]).
//
// y, x are [T,DModel], pos is [T]. y may be x, if no Backward follows.
// It panics if the shapes disagree.
func (b *Block) Forward(c *Ctx, cfg *BlockConfig, st *BlockState, y, x Mat, pos []int32, segs []Segment) {
	checkBlock("Block.Forward", cfg, x, pos)
	sameShape("Block.Forward", "y", y, "x", x)
	b.Inside(c, cfg, st, x, pos, segs)
	if cfg.Parallel {
		c.copyRows(y, x)
		b.project(c, y, st)
	} else {
		c.copyRows(y, st.h)
	}
	if cfg.FFN == FFNMoE {
		b.MoE.output(c, &st.moe, y)
		return
	}
	linear(c, y, st.act, b.Down, true)
	AddBias(c, y, b.DownBias)
}

// Inside is Forward without the output: it saves in st what Backward needs, and leaves
// out the products that only the output needs.
func (b *Block) Inside(c *Ctx, cfg *BlockConfig, st *BlockState, x Mat, pos []int32, segs []Segment) {
	checkBlock("Block.Inside", cfg, x, pos)
	st.cfg = *cfg
	st.Resize(x.Rows)

	Norm(c, cfg.Norm, st.n1, x, b.AttnNorm, b.AttnNormBias, cfg.Eps, &st.norm1)
	q, k, v := cfg.split(st.qkv)
	if b.QKV != nil {
		project(c, st.n1, projection{st.qkv, b.QKV, b.QKVBias})
	} else {
		project(c, st.n1, projection{q, b.Q, b.QBias}, projection{k, b.K, b.KBias}, projection{v, b.V, b.VBias})
	}
	att, rope := b.attention(cfg)
	RoPE(c, q, cfg.NHeads, cfg.DHead, pos, rope)
	RoPE(c, k, cfg.NKVHeads, cfg.DHead, pos, rope)
	Attention(c, att, st.attn, q, k, v, segs)

	n2 := st.n1
	if !cfg.Parallel {
		n2 = st.n2
		c.copyRows(st.h, x)
		b.project(c, st.h, st)
		Norm(c, cfg.Norm, n2, st.h, b.FFNNorm, b.FFNNormBias, cfg.Eps, &st.norm2)
	}

	up := projection{st.up, b.Up, b.UpBias}
	switch cfg.FFN {
	case FFNSwiGLU:
		project(c, n2, up, projection{st.gate, b.Gate, b.GateBias})
		SwiGLU(c, st.act, st.gate, st.up)
	case FFNGELU:
		project(c, n2, up)
		GELU(c, st.act, st.up)
	case FFNMoE:
		b.MoE.forward(c, &cfg.MoE, &st.moe, n2)
	}
}

// attention returns how the block attends, and its rotary embedding.
func (b *Block) attention(cfg *BlockConfig) (*AttentionConfig, *Rope) {
	if !b.Local {
		all := cfg.AttentionConfig
		all.Window = 0
		return &all, cfg.Rope
	}
	if cfg.LocalRope != nil {
		return &cfg.AttentionConfig, cfg.LocalRope
	}
	return &cfg.AttentionConfig, cfg.Rope
}

// project adds O(attn) to h.
func (b *Block) project(c *Ctx, h Mat, st *BlockState) {
	linear(c, h, st.attn, b.O, true)
	AddBias(c, h, b.OBias)
}

// blockGrads is the scratch of Block.Backward, shared by all blocks.
type blockGrads struct {
	gate, up, act Mat // [T,F]
	n             Mat // gradient of the output of a norm [T,D]
	attn, qkv     Mat // [T,H·E], [T,(H+2K)·E]
}

var blockGradsPool = sync.Pool{New: func() any { return new(blockGrads) }}

// Backward sets dx to the gradient of the block's input, residual included, and
// hands the factors of its parameters' gradients to the sink, from the last
// parameter to the first. st is as Forward left it for the same x, pos and segs; it
// is only read, so another Backward may follow. A nil sink is skipped.
//
// dx, dy, x are [T,DModel], pos is [T]. dx may be dy, it must not overlap x.
// It panics if the shapes disagree.
func (b *Block) Backward(c *Ctx, cfg *BlockConfig, st *BlockState, dx, dy, x Mat, pos []int32, segs []Segment, s Sink) {
	checkBlock("Block.Backward", cfg, x, pos)
	sameShape("Block.Backward", "dx", dx, "x", x)
	sameShape("Block.Backward", "dy", dy, "x", x)
	if st.n1.Rows != x.Rows {
		panicf("Block.Backward: x is %v, the state has %d rows", x, st.n1.Rows)
	}
	g := blockGradsPool.Get().(*blockGrads)
	defer blockGradsPool.Put(g)
	g.n.resize(x.Rows, cfg.DModel)

	// y = h + Down(act) + bias
	n2 := st.n1
	if !cfg.Parallel {
		n2 = st.n2
	}
	if cfg.FFN != FFNMoE {
		g.act.resize(x.Rows, cfg.DFF)
		affineBackward(c, g.act, dy, st.act, b.Down, b.DownBias, s, false)
	}
	switch cfg.FFN {
	case FFNSwiGLU: // act = silu(gate)∘up, gate = Gate(n2), up = Up(n2)
		g.gate.resize(x.Rows, cfg.DFF)
		g.up.resize(x.Rows, cfg.DFF)
		SwiGLUBackward(c, g.gate, g.up, g.act, st.gate, st.up)
		affineBackward(c, g.n, g.up, n2, b.Up, b.UpBias, s, false)
		affineBackward(c, g.n, g.gate, n2, b.Gate, b.GateBias, s, true)
	case FFNGELU: // act = gelu(up), up = Up(n2)
		GELUBackward(c, g.act, g.act, st.up)
		affineBackward(c, g.n, g.act, n2, b.Up, b.UpBias, s, false)
	case FFNMoE:
		b.MoE.backward(c, &cfg.MoE, &st.moe, g.n, dy, n2, s)
	}
	// n2 = FFNNorm(h) and the residual h; from here dx is dh. In a parallel block
	// h's gradient is dy, and that of n1 = n2 stays in g.n.
	c.copyRows(dx, dy)
	if !cfg.Parallel {
		NormBackward(c, cfg.Norm, dx, g.n, st.h, b.FFNNorm, b.FFNNormBias, &st.norm2, s)
	}

	// h = x + O(attn) + bias
	g.attn.resize(x.Rows, cfg.NHeads*cfg.DHead)
	affineBackward(c, g.attn, dx, st.attn, b.O, b.OBias, s, false)
	// attn = Attention(q, k, v); q, k = RoPE(…)
	g.qkv.resize(x.Rows, cfg.qkvCols())
	c.zero(g.qkv)
	q, k, v := cfg.split(st.qkv)
	dq, dk, dv := cfg.split(g.qkv)
	att, rope := b.attention(cfg)
	AttentionBackward(c, att, dq, dk, dv, g.attn, q, k, v, segs)
	RoPEBackward(c, dk, cfg.NKVHeads, cfg.DHead, pos, rope)
	RoPEBackward(c, dq, cfg.NHeads, cfg.DHead, pos, rope)
	// q, k, v = QKV(n1)
	if b.QKV != nil {
		affineBackward(c, g.n, g.qkv, st.n1, b.QKV, b.QKVBias, s, cfg.Parallel)
	} else {
		affineBackward(c, g.n, dv, st.n1, b.V, b.VBias, s, cfg.Parallel)
		affineBackward(c, g.n, dk, st.n1, b.K, b.KBias, s, true)
		affineBackward(c, g.n, dq, st.n1, b.Q, b.QBias, s, true)
	}
	// n1 = AttnNorm(x), and the residual, which is in dx
	NormBackward(c, cfg.Norm, dx, g.n, x, b.AttnNorm, b.AttnNormBias, &st.norm1, s)
}

// affineBackward sets, or adds to, dx the gradient of the input of y = x·Wᵀ + b.
func affineBackward(c *Ctx, dx, dy, x Mat, w, b *Param, s Sink, add bool) {
	BiasBackward(b, dy, s)
	linearBackward(c, dx, dy, x, w, s, add)
}

func checkBlock(op string, cfg *BlockConfig, x Mat, pos []int32) {
	if x.Cols != cfg.DModel || len(pos) != x.Rows {
		panicf("%s: x is %v with %d positions, the model is %d wide", op, x, len(pos), cfg.DModel)
	}
	if cfg.FFN < FFNSwiGLU || cfg.FFN > FFNMoE {
		panicf("%s: feed-forward kind %d is not known", op, cfg.FFN)
	}
}

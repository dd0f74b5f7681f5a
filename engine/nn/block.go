package nn

import (
	"slices"
	"sync"
)

// FFNKind says which feed-forward layer a model uses.
type FFNKind int

// The feed-forward layers, of the block's normed input n.
const (
	FFNSwiGLU FFNKind = iota // Down(silu(Gate n)∘Up n): llama, mistral, qwen
	FFNGeGLU                 // Down(gelu(Gate n)∘Up n): gemma
	FFNGELU                  // Down(gelu(Up n)): gpt2, phi-2, gpt-neox
	FFNMoE                   // a mixture of experts (see MoE): mixtral, qwen3moe
)

// gated says whether the activation is multiplied by a projection of its own.
func (kind FFNKind) gated() bool { return kind == FFNSwiGLU || kind == FFNGeGLU }

// BlockConfig is what all blocks of a model share.
type BlockConfig struct {
	AttentionConfig     // its window is that of local blocks
	DModel          int // D
	DFF             int // F
	Norm            NormKind
	Eps             float32 // of the norms
	Rope            *Rope   // nil: no rotary embedding
	LocalRope       *Rope   // of local blocks; nil: Rope
	Parallel        bool    // attention and feed-forward both read the block's input (see Block)
	TwoNorms        bool    // a parallel block has FFNNorm, too
	PostNorms       bool    // norms behind attention and feed-forward
	FFN             FFNKind
	QKNorm          QKNormKind
	MoE             MoEConfig // of FFNMoE, for which DFF is 0
}

// Block is one layer of a transformer: its parameters, absent ones nil. Either QKV
// [(H+2K)·E, D], whose rows are those of Q, K and V, or the three of their own; either Gate and Up, or
// the rows of both in GateUp.
//
// Sequential (llama, Touvron et al. 2023, arXiv:2302.13971v1, section 2.2), where each norm that is
// not there is the identity (olmo2 has the two behind, gemma2 all four, the others the two in front):
//
//	h = x + AttnPostNorm(O(attn(AttnNorm(x))))
//	y = h + FFNPostNorm(ffn(FFNNorm(h)))
//
// Parallel (phi-2, after Wang & Komatsuzaki 2021, GPT-J), with one norm, or with two (gpt-neox):
//
//	n = AttnNorm(x)
//	y = x + O(attn(n)) + ffn(n)      or + ffn(FFNNorm(x))
type Block struct {
	Local                        bool   // attends inside the window, with LocalRope
	AttnNorm, AttnNormBias       *Param // [D]
	QKV, QKVBias                 *Param // fused: [(H+2K)·E, D], [(H+2K)·E]
	Q, QBias, K, KBias, V, VBias *Param // [H·E, D], [H·E]; [K·E, D], [K·E] twice
	QNorm, KNorm                 *Param // see QKNormKind
	O, OBias                     *Param // [D, H·E], [D]
	AttnPostNorm                 *Param // [D]
	FFNNorm, FFNNormBias         *Param // [D]
	GateUp                       *Param // fused: [2F, D]
	Gate, GateBias, Up, UpBias   *Param // [F, D], [F]; Gate of gated kinds only
	Down, DownBias               *Param // [D, F], [D]
	MoE                          MoE    // of FFNMoE, in place of Gate, Up and Down
	FFNPostNorm                  *Param // [D]
}

// Params returns the parameters that are there, in the order of the forward pass.
func (b *Block) Params() []*Param {
	all := slices.Concat([]*Param{
		b.AttnNorm, b.AttnNormBias,
		b.QKV, b.QKVBias, b.Q, b.QBias, b.K, b.KBias, b.V, b.VBias, b.QNorm, b.KNorm,
		b.O, b.OBias, b.AttnPostNorm,
		b.FFNNorm, b.FFNNormBias,
		b.GateUp, b.Gate, b.GateBias, b.Up, b.UpBias, b.Down, b.DownBias,
	}, b.MoE.Params(), []*Param{b.FFNPostNorm})
	return slices.DeleteFunc(all, func(p *Param) bool { return p == nil })
}

// BlockState is what a block's forward saves for its backward. It is reused from
// call to call and from block to block; its memory only grows.
type BlockState struct {
	cfg               BlockConfig
	norm1, norm2      NormState
	normQ, normK      NormState
	postAttn, postFFN NormState
	n1                Mat // AttnNorm(x) [T,D]
	qkv               Mat // [T,(H+2K)·E], q and k after their norms and RoPE
	q, k              Mat // before their norms [T,H·E], [T,K·E], with a QKNorm only
	attn              Mat // [T,H·E]
	attnOut, ffnOut   Mat // O(attn), ffn(n2) [T,D], with a norm behind them only
	post              Mat // FFNPostNorm(ffn(n2)) [T,D], likewise
	h                 Mat // x + AttnPostNorm(O(attn)) [T,D], sequential only
	n2                Mat // FFNNorm(h) [T,D], unless it is n1
	gateUp            Mat // [T,2F], or of kinds without a gate [T,F], before the activation
	act               Mat // [T,F], after it
	moe               moeState
}

// NewBlockState returns a state for batches of rows rows; see Resize.
func NewBlockState(cfg BlockConfig, rows int) *BlockState {
	s := &BlockState{cfg: cfg}
	s.Resize(rows)
	return s
}

// Resize makes the state fit batches of rows rows. Saved values are lost.
func (s *BlockState) Resize(rows int) {
	for _, m := range s.cfg.saved(s) {
		m.mat.resize(rows, m.cols)
	}
}

// saved lists the matrices of a state that the configuration uses.
func (cfg *BlockConfig) saved(s *BlockState) []savedMat {
	nq, nk := cfg.NHeads*cfg.DHead, cfg.NKVHeads*cfg.DHead
	list := []savedMat{{&s.n1, cfg.DModel}, {&s.qkv, nq + 2*nk}, {&s.attn, nq}, {&s.gateUp, cfg.gateUpCols()}, {&s.act, cfg.DFF}}
	if !cfg.Parallel {
		list = append(list, savedMat{&s.h, cfg.DModel})
	}
	if !cfg.Parallel || cfg.TwoNorms {
		list = append(list, savedMat{&s.n2, cfg.DModel})
	}
	if cfg.PostNorms {
		list = append(list, savedMat{&s.attnOut, cfg.DModel}, savedMat{&s.ffnOut, cfg.DModel}, savedMat{&s.post, cfg.DModel})
	}
	if cfg.QKNorm != QKNormNone {
		list = append(list, savedMat{&s.q, nq}, savedMat{&s.k, nk})
	}
	return list
}

type savedMat struct {
	mat  *Mat
	cols int
}

func (cfg *BlockConfig) qkvCols() int { return (cfg.NHeads + 2*cfg.NKVHeads) * cfg.DHead }

func (cfg *BlockConfig) gateUpCols() int {
	if cfg.FFN.gated() {
		return 2 * cfg.DFF
	}
	return cfg.DFF
}

// split returns the columns of q, k and v in a matrix of all three.
func (cfg *BlockConfig) split(qkv Mat) (q, k, v Mat) {
	nq, nk := cfg.NHeads*cfg.DHead, cfg.NKVHeads*cfg.DHead
	return qkv.View(0, qkv.Rows, 0, nq), qkv.View(0, qkv.Rows, nq, nk), qkv.View(0, qkv.Rows, nq+nk, nk)
}

// splitGate returns the columns of gate, if there is one, and up in a matrix of both.
func (cfg *BlockConfig) splitGate(gateUp Mat) (gate, up Mat) {
	if !cfg.FFN.gated() {
		return Mat{}, gateUp
	}
	return gateUp.View(0, gateUp.Rows, 0, cfg.DFF), gateUp.View(0, gateUp.Rows, cfg.DFF, cfg.DFF)
}

// StateBytes is the memory of a BlockState for batches of rows rows.
func (cfg *BlockConfig) StateBytes(rows int) int {
	cols := 0
	for _, m := range cfg.saved(&BlockState{}) {
		cols += m.cols
	}
	return 4*cols*rows + cfg.MoE.stateBytes(rows, cfg.DModel)
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
	b.output(c, cfg, st, y, x)
}

// ForwardRows is Forward where only some rows of the output are wanted: row i of y is
// that of row rows[i] of x, and what follows the attention is computed for these rows
// alone. No Backward may follow.
//
// y is [len(rows),DModel], rows ascend. y may be the first rows of x.
func (b *Block) ForwardRows(c *Ctx, cfg *BlockConfig, st *BlockState, y, x Mat, pos []int32, segs []Segment, rows []int) {
	checkBlock("Block.ForwardRows", cfg, x, pos)
	if y.Rows != len(rows) || y.Cols != x.Cols {
		panicf("Block.ForwardRows: y is %v, want %d×%d", y, len(rows), x.Cols)
	}
	b.attend(c, cfg, st, x, pos, segs)
	for i, r := range rows {
		copy(y.Row(i), x.Row(r))
		copy(st.n1.Row(i), st.n1.Row(r))
		copy(st.attn.Row(i), st.attn.Row(r))
	}
	st.Resize(len(rows)) // keeps the first rows, which are these
	b.feed(c, cfg, st, y)
	b.output(c, cfg, st, y, y)
}

// output sets y to the block's output for x. y may be x.
func (b *Block) output(c *Ctx, cfg *BlockConfig, st *BlockState, y, x Mat) {
	switch {
	case cfg.PostNorms:
		c.copyRows(y, st.post)
		c.addRows(y, st.h)
		return
	case cfg.Parallel:
		c.copyRows(y, x)
		b.addAttention(c, y, st)
	default:
		c.copyRows(y, st.h)
	}
	b.addFFN(c, cfg, y, st)
}

// Inside is Forward without the output: it saves in st what Backward needs, and leaves
// out the products that only the output needs.
func (b *Block) Inside(c *Ctx, cfg *BlockConfig, st *BlockState, x Mat, pos []int32, segs []Segment) {
	checkBlock("Block.Inside", cfg, x, pos)
	b.attend(c, cfg, st, x, pos, segs)
	b.feed(c, cfg, st, x)
}

// attend computes the block up to its attention.
func (b *Block) attend(c *Ctx, cfg *BlockConfig, st *BlockState, x Mat, pos []int32, segs []Segment) {
	st.cfg = *cfg
	st.Resize(x.Rows)

	norm(c, cfg, st.n1, x, b.AttnNorm, b.AttnNormBias, &st.norm1)
	q, k, v := cfg.split(st.qkv)
	if b.QKV != nil {
		project(c, st.n1, projection{st.qkv, b.QKV, b.QKVBias})
	} else {
		project(c, st.n1, projection{q, b.Q, b.QBias}, projection{k, b.K, b.KBias}, projection{v, b.V, b.VBias})
	}
	if cfg.QKNorm != QKNormNone {
		qkNorm(c, cfg.Norm, q, st.q, cfg.QKNorm.width(cfg.DHead, q.Cols), b.QNorm, cfg.Eps, &st.normQ)
		qkNorm(c, cfg.Norm, k, st.k, cfg.QKNorm.width(cfg.DHead, k.Cols), b.KNorm, cfg.Eps, &st.normK)
	}
	att, rope := b.attention(cfg)
	RoPE(c, q, cfg.NHeads, cfg.DHead, pos, rope)
	RoPE(c, k, cfg.NKVHeads, cfg.DHead, pos, rope)
	Attention(c, &att, st.attn, q, k, v, segs)
}

// feed computes the block from its attention up to the input of Down or, with a norm behind
// that, to the output of this.
func (b *Block) feed(c *Ctx, cfg *BlockConfig, st *BlockState, x Mat) {
	n2 := st.n1
	switch {
	case cfg.PostNorms:
		c.zero(st.attnOut)
		b.addAttention(c, st.attnOut, st)
		norm(c, cfg, st.h, st.attnOut, b.AttnPostNorm, nil, &st.postAttn)
		c.addRows(st.h, x)
	case !cfg.Parallel:
		c.copyRows(st.h, x)
		b.addAttention(c, st.h, st)
	}
	if !cfg.Parallel {
		n2 = st.n2
		norm(c, cfg, n2, st.h, b.FFNNorm, b.FFNNormBias, &st.norm2)
	} else if cfg.TwoNorms {
		n2 = st.n2
		norm(c, cfg, n2, x, b.FFNNorm, b.FFNNormBias, &st.norm2)
	}

	gate, up := cfg.splitGate(st.gateUp)
	switch {
	case cfg.FFN == FFNMoE:
		b.MoE.forward(c, &cfg.MoE, &st.moe, n2)
	case b.GateUp != nil:
		project(c, n2, projection{st.gateUp, b.GateUp, nil})
	case cfg.FFN.gated():
		project(c, n2, projection{up, b.Up, b.UpBias}, projection{gate, b.Gate, b.GateBias})
	default:
		project(c, n2, projection{up, b.Up, b.UpBias})
	}
	switch cfg.FFN {
	case FFNSwiGLU:
		SwiGLU(c, st.act, gate, up)
	case FFNGeGLU:
		GeGLU(c, st.act, gate, up)
	case FFNGELU:
		GELU(c, st.act, up)
	}
	if cfg.PostNorms {
		c.zero(st.ffnOut)
		b.addFFN(c, cfg, st.ffnOut, st)
		norm(c, cfg, st.post, st.ffnOut, b.FFNPostNorm, nil, &st.postFFN)
	}
}

// norm is [Norm], or the identity without a gain.
func norm(c *Ctx, cfg *BlockConfig, y, x Mat, w, b *Param, st *NormState) {
	if w == nil {
		c.copyRows(y, x)
		return
	}
	Norm(c, cfg.Norm, y, x, w, b, cfg.Eps, st)
}

// normBackward is [NormBackward], or without a gain that of the identity.
func normBackward(c *Ctx, cfg *BlockConfig, dx, dy, x Mat, w, b *Param, st *NormState, s Sink) {
	if w == nil {
		c.addRows(dx, dy)
		return
	}
	NormBackward(c, cfg.Norm, dx, dy, x, w, b, st, s)
}

// attention returns how the block attends, and its rotary embedding.
func (b *Block) attention(cfg *BlockConfig) (AttentionConfig, *Rope) {
	att, rope := cfg.AttentionConfig, cfg.Rope
	if !b.Local {
		att.Window = 0
	} else if cfg.LocalRope != nil {
		rope = cfg.LocalRope
	}
	return att, rope
}

// addAttention adds O(attn) to h.
func (b *Block) addAttention(c *Ctx, h Mat, st *BlockState) {
	linear(c, h, st.attn, b.O, true)
	AddBias(c, h, b.OBias)
}

// addFFN adds the output of the feed-forward layer to y.
func (b *Block) addFFN(c *Ctx, cfg *BlockConfig, y Mat, st *BlockState) {
	if cfg.FFN == FFNMoE {
		b.MoE.output(c, &st.moe, y)
		return
	}
	linear(c, y, st.act, b.Down, true)
	AddBias(c, y, b.DownBias)
}

// blockGrads is the scratch of Block.Backward, shared by all blocks.
type blockGrads struct {
	gateUp, act Mat // [T,2F] or [T,F], [T,F]
	n           Mat // gradient of the output of a norm [T,D]
	out         Mat // of the input of a norm [T,D]
	attn, qkv   Mat // [T,H·E], [T,(H+2K)·E]
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

	// y = h + FFNPostNorm(ffn(n2))
	dffn := dy
	if cfg.PostNorms {
		dffn = g.zeroOut(c, x)
		normBackward(c, cfg, dffn, dy, st.ffnOut, b.FFNPostNorm, nil, &st.postFFN, s)
	}
	n2 := st.n1
	if !cfg.Parallel || cfg.TwoNorms {
		n2 = st.n2
	}
	b.ffnBackward(c, cfg, st, g, dffn, n2, s)
	// n2 = FFNNorm(h) and the residual h; from here dx is dh. In a parallel block h's
	// gradient is dy; that of n1 = n2 stays in g.n, or that of x by FFNNorm in g.out.
	c.copyRows(dx, dy)
	switch {
	case !cfg.Parallel:
		normBackward(c, cfg, dx, g.n, st.h, b.FFNNorm, b.FFNNormBias, &st.norm2, s)
	case cfg.TwoNorms:
		normBackward(c, cfg, g.zeroOut(c, x), g.n, x, b.FFNNorm, b.FFNNormBias, &st.norm2, s)
	}

	// h = x + AttnPostNorm(O(attn) + bias)
	datt := dx
	if cfg.PostNorms {
		datt = g.zeroOut(c, x)
		normBackward(c, cfg, datt, dx, st.attnOut, b.AttnPostNorm, nil, &st.postAttn, s)
	}
	g.attn.resize(x.Rows, cfg.NHeads*cfg.DHead)
	affineBackward(c, g.attn, datt, st.attn, b.O, b.OBias, s, false)
	// attn = Attention(q, k, v); q, k = RoPE(QKNorm(…))
	g.qkv.resize(x.Rows, cfg.qkvCols())
	c.zero(g.qkv)
	q, k, v := cfg.split(st.qkv)
	dq, dk, dv := cfg.split(g.qkv)
	att, rope := b.attention(cfg)
	AttentionBackward(c, &att, dq, dk, dv, g.attn, q, k, v, segs)
	RoPEBackward(c, dk, cfg.NKVHeads, cfg.DHead, pos, rope)
	RoPEBackward(c, dq, cfg.NHeads, cfg.DHead, pos, rope)
	if cfg.QKNorm != QKNormNone {
		qkNormBackward(c, cfg.Norm, dk, st.k, cfg.QKNorm.width(cfg.DHead, k.Cols), b.KNorm, &st.normK, s)
		qkNormBackward(c, cfg.Norm, dq, st.q, cfg.QKNorm.width(cfg.DHead, q.Cols), b.QNorm, &st.normQ, s)
	}
	// q, k, v = QKV(n1)
	add := cfg.Parallel && !cfg.TwoNorms
	if b.QKV != nil {
		affineBackward(c, g.n, g.qkv, st.n1, b.QKV, b.QKVBias, s, add)
	} else {
		affineBackward(c, g.n, dv, st.n1, b.V, b.VBias, s, add)
		affineBackward(c, g.n, dk, st.n1, b.K, b.KBias, s, true)
		affineBackward(c, g.n, dq, st.n1, b.Q, b.QBias, s, true)
	}
	// n1 = AttnNorm(x), and the residual, which is in dx
	normBackward(c, cfg, dx, g.n, x, b.AttnNorm, b.AttnNormBias, &st.norm1, s)
	if cfg.TwoNorms {
		c.addRows(dx, g.out)
	}
}

// zeroOut returns g.out as zeros in the shape of x.
func (g *blockGrads) zeroOut(c *Ctx, x Mat) Mat {
	g.out.resize(x.Rows, x.Cols)
	c.zero(g.out)
	return g.out
}

// ffnBackward sets g.n to the gradient of the feed-forward layer's input n2 for that of its output.
func (b *Block) ffnBackward(c *Ctx, cfg *BlockConfig, st *BlockState, g *blockGrads, dy, n2 Mat, s Sink) {
	if cfg.FFN == FFNMoE {
		b.MoE.backward(c, &cfg.MoE, &st.moe, g.n, dy, n2, s)
		return
	}
	// y = Down(act) + bias
	g.act.resize(n2.Rows, cfg.DFF)
	affineBackward(c, g.act, dy, st.act, b.Down, b.DownBias, s, false)
	g.gateUp.resize(n2.Rows, cfg.gateUpCols())
	gate, up := cfg.splitGate(st.gateUp)
	dgate, dup := cfg.splitGate(g.gateUp)
	switch cfg.FFN {
	case FFNSwiGLU: // act = silu(gate)∘up
		SwiGLUBackward(c, dgate, dup, g.act, gate, up)
	case FFNGeGLU: // act = gelu(gate)∘up
		GeGLUBackward(c, dgate, dup, g.act, gate, up)
	case FFNGELU: // act = gelu(up)
		GELUBackward(c, dup, g.act, up)
	}
	// gate = Gate(n2), up = Up(n2)
	if b.GateUp != nil {
		linearBackward(c, g.n, g.gateUp, n2, b.GateUp, s, false)
		return
	}
	affineBackward(c, g.n, dup, n2, b.Up, b.UpBias, s, false)
	if cfg.FFN.gated() {
		affineBackward(c, g.n, dgate, n2, b.Gate, b.GateBias, s, true)
	}
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
	if cfg.Parallel && cfg.PostNorms {
		panicf("%s: a parallel block has no norms behind", op)
	}
	if cfg.FFN < FFNSwiGLU || cfg.FFN > FFNMoE {
		panicf("%s: feed-forward kind %d is not known", op, cfg.FFN)
	}
}

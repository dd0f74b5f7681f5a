package engine

import (
	"fmt"

	"github.com/guardcpu/guardcpu/engine/nn"
)

// weights are the parameters of a model where the computation looks for them.
type weights struct {
	embed, positions     *nn.Param
	blocks               []nn.Block
	outNorm, outNormBias *nn.Param
	output, outputBias   *nn.Param // output is embed where they are tied
}

// slot is one tensor a model may have: its name, its shape and where it goes.
type slot struct {
	name       string
	rows, cols int // a vector has one row
	optional   bool
	init       initKind
	param      **nn.Param
	part       int // of the tensor's parts, which follow each other
	parts      int // 0: the slot is the whole tensor
	pieces     int // rows that a vector lies in, where it is no row
}

type initKind int

const (
	initNormal   initKind = iota // N(0, σ²)
	initResidual                 // N(0, σ²/2L): projections that add to the residual stream
	initOnes
	initZeros
)

// layout lists the tensors of a model of shape c in the order of Model.Params.
// has says whether the file holds a name; it decides between the fused
// and the separate form of attention, and whether the output is tied.
func (c *Config) layout(w *weights, has func(name string) bool) []slot {
	var s []slot
	add := func(param **nn.Param, name string, rows, cols int, optional bool, init initKind) {
		s = append(s, slot{name: name, rows: rows, cols: cols, optional: optional, init: init, param: param})
	}
	norm := func(gain, b **nn.Param, name string) {
		add(gain, name+".weight", 1, c.DModel, false, initOnes)
		if c.Norm == nn.NormLayer {
			add(b, name+".bias", 1, c.DModel, false, initZeros)
		}
	}
	linear := func(weight, b **nn.Param, name string, rows, cols int, init initKind, bias bool) { // demanded, or optional
		add(weight, name+".weight", rows, cols, false, init)
		add(b, name+".bias", 1, rows, !bias, initZeros)
	}
	gain := func(gain **nn.Param, name string, cols int) { add(gain, name+".weight", 1, cols, false, initOnes) }
	experts := func(ps *[]*nn.Param, name string, rows, cols int, init initKind) {
		*ps = make([]*nn.Param, c.MoE.NExperts)
		for e := range *ps {
			s = append(s, slot{name: name + ".weight", rows: rows, cols: cols, init: init, param: &(*ps)[e], part: e, parts: len(*ps)})
		}
	}
	q, kv := c.NHeads*c.DHead, c.NKVHeads*c.DHead

	arch := c.Arch

	add(&w.embed, "token_embd.weight", c.NVocab, c.DModel, false, initNormal)
	if arch.Positions {
		add(&w.positions, "position_embd.weight", c.NCtx, c.DModel, false, initNormal)
	}
	w.blocks = make([]nn.Block, c.NLayers)
	for l := range w.blocks {
		b, p := &w.blocks[l], fmt.Sprintf("blk.%d.", l)
		b.Local = c.LocalEvery > 0 && l%c.LocalEvery < c.LocalEvery-1
		if !arch.NoPreNorms {
			norm(&b.AttnNorm, &b.AttnNormBias, p+"attn_norm")
		}
		if has(p + "attn_qkv.weight") {
			linear(&b.QKV, &b.QKVBias, p+"attn_qkv", q+2*kv, c.DModel, initNormal, arch.Biases || arch.QKVBias)
		} else {
			linear(&b.Q, &b.QBias, p+"attn_q", q, c.DModel, initNormal, arch.Biases || arch.QKVBias)
			linear(&b.K, &b.KBias, p+"attn_k", kv, c.DModel, initNormal, arch.Biases || arch.QKVBias)
			linear(&b.V, &b.VBias, p+"attn_v", kv, c.DModel, initNormal, arch.Biases || arch.QKVBias)
		}
		switch c.QKNorm {
		case nn.QKNormHead:
			gain(&b.QNorm, p+"attn_q_norm", c.DHead)
			gain(&b.KNorm, p+"attn_k_norm", c.DHead)
		case nn.QKNormHeads:
			gain(&b.QNorm, p+"attn_q_norm", q)
			s[len(s)-1].pieces = c.NHeads
			gain(&b.KNorm, p+"attn_k_norm", kv)
			s[len(s)-1].pieces = c.NKVHeads
		case nn.QKNormRow:
			gain(&b.QNorm, p+"attn_q_norm", q)
			gain(&b.KNorm, p+"attn_k_norm", kv)
		}
		linear(&b.O, &b.OBias, p+"attn_output", c.DModel, q, initResidual, arch.Biases)
		if c.PostNorms {
			gain(&b.AttnPostNorm, p+"post_attention_norm", c.DModel)
		}
		if !arch.NoPreNorms && (!c.Parallel || c.TwoNorms) {
			norm(&b.FFNNorm, &b.FFNNormBias, p+"ffn_norm")
		}
		switch {
		case c.FFN == nn.FFNMoE:
			add(&b.MoE.Router, p+"ffn_gate_inp.weight", c.MoE.NExperts, c.DModel, false, initNormal)
			experts(&b.MoE.Gate, p+"ffn_gate_exps", c.MoE.DExpert, c.DModel, initNormal)
			experts(&b.MoE.Up, p+"ffn_up_exps", c.MoE.DExpert, c.DModel, initNormal)
			experts(&b.MoE.Down, p+"ffn_down_exps", c.DModel, c.MoE.DExpert, initResidual)
		case arch.FusedGate:
			add(&b.GateUp, p+"ffn_up.weight", 2*c.DFF, c.DModel, false, initNormal)
		case c.FFN == nn.FFNSwiGLU || c.FFN == nn.FFNGeGLU:
			linear(&b.Gate, &b.GateBias, p+"ffn_gate", c.DFF, c.DModel, initNormal, arch.Biases)
			fallthrough
		default:
			linear(&b.Up, &b.UpBias, p+"ffn_up", c.DFF, c.DModel, initNormal, arch.Biases)
		}
		if c.FFN != nn.FFNMoE {
			linear(&b.Down, &b.DownBias, p+"ffn_down", c.DModel, c.DFF, initResidual, arch.Biases)
		}
		if c.PostNorms {
			gain(&b.FFNPostNorm, p+"post_ffw_norm", c.DModel)
		}
	}
	norm(&w.outNorm, &w.outNormBias, "output_norm")
	linear(&w.output, &w.outputBias, "output", c.NVocab, c.DModel, initNormal, arch.OutputBias)
	if !has("output.weight") { // tied: the bias, if any, stays
		s[len(s)-2] = s[len(s)-1]
		s = s[:len(s)-1]
	}
	return s
}

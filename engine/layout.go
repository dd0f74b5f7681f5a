package engine

import (
	"fmt"

	"github.com/guardcpu/guardcpu/engine/nn"
)

// weights are the parameters of a model where the computation looks for them.
type weights struct {
	embed                *nn.Param
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
	bias := !c.Arch.Biases // optional unless the architecture demands it
	add := func(param **nn.Param, name string, rows, cols int, optional bool, init initKind) {
		s = append(s, slot{name: name, rows: rows, cols: cols, optional: optional, init: init, param: param})
	}
	norm := func(gain, b **nn.Param, name string) {
		add(gain, name+".weight", 1, c.DModel, false, initOnes)
		if c.Norm == nn.NormLayer {
			add(b, name+".bias", 1, c.DModel, false, initZeros)
		}
	}
	linear := func(weight, b **nn.Param, name string, rows, cols int, init initKind) {
		add(weight, name+".weight", rows, cols, false, init)
		add(b, name+".bias", 1, rows, bias, initZeros)
	}
	experts := func(ps *[]*nn.Param, name string, rows, cols int, init initKind) {
		*ps = make([]*nn.Param, c.MoE.NExperts)
		for e := range *ps {
			s = append(s, slot{name: name + ".weight", rows: rows, cols: cols, init: init, param: &(*ps)[e], part: e, parts: len(*ps)})
		}
	}
	q, kv := c.NHeads*c.DHead, c.NKVHeads*c.DHead

	add(&w.embed, "token_embd.weight", c.NVocab, c.DModel, false, initNormal)
	w.blocks = make([]nn.Block, c.NLayers)
	for l := range w.blocks {
		b, p := &w.blocks[l], fmt.Sprintf("blk.%d.", l)
		norm(&b.AttnNorm, &b.AttnNormBias, p+"attn_norm")
		if has(p + "attn_qkv.weight") {
			linear(&b.QKV, &b.QKVBias, p+"attn_qkv", q+2*kv, c.DModel, initNormal)
		} else {
			linear(&b.Q, &b.QBias, p+"attn_q", q, c.DModel, initNormal)
			linear(&b.K, &b.KBias, p+"attn_k", kv, c.DModel, initNormal)
			linear(&b.V, &b.VBias, p+"attn_v", kv, c.DModel, initNormal)
		}
		linear(&b.O, &b.OBias, p+"attn_output", c.DModel, q, initResidual)
		if !c.Parallel {
			norm(&b.FFNNorm, &b.FFNNormBias, p+"ffn_norm")
		}
		if c.FFN == nn.FFNMoE {
			add(&b.MoE.Router, p+"ffn_gate_inp.weight", c.MoE.NExperts, c.DModel, false, initNormal)
			experts(&b.MoE.Gate, p+"ffn_gate_exps", c.MoE.DExpert, c.DModel, initNormal)
			experts(&b.MoE.Up, p+"ffn_up_exps", c.MoE.DExpert, c.DModel, initNormal)
			experts(&b.MoE.Down, p+"ffn_down_exps", c.DModel, c.MoE.DExpert, initResidual)
			continue
		}
		if c.FFN == nn.FFNSwiGLU {
			linear(&b.Gate, &b.GateBias, p+"ffn_gate", c.DFF, c.DModel, initNormal)
		}
		linear(&b.Up, &b.UpBias, p+"ffn_up", c.DFF, c.DModel, initNormal)
		linear(&b.Down, &b.DownBias, p+"ffn_down", c.DModel, c.DFF, initResidual)
	}
	norm(&w.outNorm, &w.outNormBias, "output_norm")
	linear(&w.output, &w.outputBias, "output", c.NVocab, c.DModel, initNormal)
	if !has("output.weight") { // tied: the bias, if any, stays
		s[len(s)-2] = s[len(s)-1]
		s = s[:len(s)-1]
	}
	return s
}

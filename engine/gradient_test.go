package engine_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/enginetest/tiny"
	"github.com/guardcpu/guardcpu/engine/internal/ref"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/simd"
)

// values are a model's parameters by name, in float64 or complex numbers.
type values[N ref.Number] map[string][]N

func valuesOf[N ref.Number](m *engine.Model) values[N] {
	v := values[N]{}
	for _, p := range m.Params() {
		x := make([]N, len(p.F32))
		for i, w := range p.F32 {
			x[i] = ref.Const[N](float64(w))
		}
		v[p.Name] = x
	}
	return v
}

// reference builds the plain model of the same shape from parameters.
func reference[N ref.Number](m *engine.Model, v values[N]) *ref.Model[N] {
	c := m.Config
	cols := map[string]int{}
	for _, p := range m.Params() {
		cols[p.Name] = p.Cols
	}
	mat := func(name string) ref.Mat[N] {
		if v[name] == nil {
			return nil
		}
		return ref.Reshape(v[name], cols[name])
	}
	affine := func(name string) ref.Affine[N] { return ref.Affine[N]{W: mat(name + ".weight"), B: v[name+".bias"]} }
	gain := func(name string) ref.Gain[N] { return ref.Gain[N]{W: v[name+".weight"], B: v[name+".bias"]} }
	moe := func(p string) *ref.MoE[N] {
		if c.FFN != nn.FFNMoE {
			return nil
		}
		e := &ref.MoE[N]{Router: mat(p + "ffn_gate_inp.weight"), NUsed: c.MoE.NUsed, Scale: float64(c.MoE.Scale)}
		for i := range c.MoE.NExperts {
			e.Gate = append(e.Gate, mat(fmt.Sprintf("%sffn_gate_exps.weight[%d]", p, i)))
			e.Up = append(e.Up, mat(fmt.Sprintf("%sffn_up_exps.weight[%d]", p, i)))
			e.Down = append(e.Down, mat(fmt.Sprintf("%sffn_down_exps.weight[%d]", p, i)))
		}
		return e
	}
	rope := func(r *nn.Rope) *ref.Rope {
		if r == nil {
			return nil
		}
		out := &ref.Rope{Dim: r.Dim, Neox: r.Neox, Base: r.Base, FreqScale: r.FreqScale, Scale: r.Scale}
		for _, f := range r.Factors {
			out.Factors = append(out.Factors, float64(f))
		}
		return out
	}
	width := c.DHead
	if c.QKNorm == nn.QKNormRow {
		width = 0
	}
	r := &ref.Model[N]{
		Config: ref.Config{
			AttentionConfig: ref.AttentionConfig{NHeads: c.NHeads, NKVHeads: c.NKVHeads, Scale: float64(c.Scale), Softcap: float64(c.Softcap), Window: c.Window},
			LayerNorm:       c.Norm == nn.NormLayer, Eps: float64(c.Eps), QKWidth: width,
			Rope: rope(c.Rope), LocalRope: rope(c.LocalRope),
			Parallel: c.Parallel, GELU: c.FFN == nn.FFNGeGLU, EmbedScale: float64(c.EmbedScale), LogitCap: float64(c.LogitCap),
		},
		Embed: mat("token_embd.weight"), Pos: mat("position_embd.weight"), OutNorm: gain("output_norm"), Output: affine("output"),
	}
	for l := range c.NLayers {
		p := fmt.Sprintf("blk.%d.", l)
		b := ref.Block[N]{
			Local:    c.LocalEvery > 0 && l%c.LocalEvery < c.LocalEvery-1,
			AttnNorm: gain(p + "attn_norm"), FFNNorm: gain(p + "ffn_norm"), AttnPostNorm: gain(p + "post_attention_norm"), FFNPostNorm: gain(p + "post_ffw_norm"),
			QKV: affine(p + "attn_qkv"), Q: affine(p + "attn_q"), K: affine(p + "attn_k"), V: affine(p + "attn_v"), O: affine(p + "attn_output"),
			QNorm: gain(p + "attn_q_norm").W, KNorm: gain(p + "attn_k_norm").W,
			Gate: affine(p + "ffn_gate"), Up: affine(p + "ffn_up"), Down: affine(p + "ffn_down"),
			MoE: moe(p),
		}
		if c.Arch.FusedGate {
			b.GateUp, b.Up = b.Up, b.GateUp
		}
		r.Blocks = append(r.Blocks, b)
	}
	return r
}

// gradientCases are the shapes whose whole gradient is checked.
func gradientCases() map[string]engine.Shape {
	cases := map[string]engine.Shape{}
	for _, arch := range tinyArchs {
		cases[arch] = tiny.Shape(arch) // llama: GQA, tied; phi2: biases, partial rotary, untied; mixtral: experts
		if other := cases[arch]; arch == "llama" || arch == "phi2" || arch == "gptneox" {
			other.Tied, other.Parallel, other.NKVHeads = !other.Tied, !other.Parallel, 1
			cases[arch+" with the other output, one KV head"] = other
		}
	}
	return cases
}

// The gradient of a whole model against complex steps of the plain one, which are
// exact to 1e-15: for every parameter a random direction and some single weights.
func TestGradientOfTheWholeModel(t *testing.T) {
	const h, tol = 1e-30, 1e-4
	for name, shape := range gradientCases() {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			samples := tiny.Samples(4, 9, 21)
			for _, k := range simd.All() {
				m := tiny.Open(t, shape, engine.Options{Kernels: k})
				m.TrainFull()
				tr := m.NewTrace()
				tr.Forward(samples)
				targets := tr.Targets()
				require.Greater(t, len(targets), 8)
				coef := make([]float32, len(targets))
				for i := range coef {
					coef[i] = float32(rng.NormFloat64())
				}
				g := engine.NewGrads(m)
				rows, f := tr.CrossEntropy(targets, coef)
				losses := tr.Backward(rows, f, engine.NewAccumulate(g))

				var ids []int32
				starts := []int{0}
				for _, s := range samples {
					ids = append(ids, s.IDs...)
					starts = append(starts, len(ids))
				}
				rt := make([]ref.Target, len(targets))
				for i, tg := range targets {
					rt[i] = ref.Target{Row: tg.Row, Token: tg.Token, Coef: float64(coef[i])}
				}
				logits := reference(m, valuesOf[float64](m)).Logits(ids, starts)
				for i, tg := range targets {
					require.InDelta(t, ref.NLL(logits[tg.Row], tg.Token), losses[i], 2e-5, "%s: target %d", k.Name, i)
				}

				at := valuesOf[complex128](m)
				derivative := func(name string, dir func(i int) float64) float64 {
					x := at[name]
					old := append([]complex128{}, x...)
					defer copy(x, old)
					for i := range x {
						x[i] += complex(0, h*dir(i))
					}
					return imag(reference(m, at).Loss(ids, starts, rt)) / h
				}
				for _, p := range m.Params() {
					grad := g.Of(p)
					var scale float64
					for _, v := range grad {
						scale += float64(v) * float64(v)
					}
					scale = math.Sqrt(scale) // of a unit direction's derivative, at most
					require.NotZero(t, scale, p.Name)
					dir := make([]float64, p.Len())
					var got, norm float64
					for i := range dir {
						dir[i] = rng.NormFloat64()
						norm += dir[i] * dir[i]
						got += dir[i] * float64(grad[i])
					}
					want := derivative(p.Name, func(i int) float64 { return dir[i] })
					require.InDelta(t, want, got, tol*scale*math.Sqrt(norm), "%s: %s along a direction", k.Name, p.Name)
					for range 3 {
						j := rng.IntN(p.Len())
						want := derivative(p.Name, func(i int) float64 {
							if i == j {
								return 1
							}
							return 0
						})
						require.InDelta(t, want, float64(grad[j]), tol*scale, "%s: %s[%d]", k.Name, p.Name, j)
					}
				}
			}
		})
	}
}

// The adapters' gradients against complex steps with W + s·B·A in place of W.
func TestGradientOfAdapters(t *testing.T) {
	const h, tol = 1e-30, 1e-4
	for _, arch := range tinyArchs {
		m := tiny.Open(t, tiny.Shape(arch), engine.Options{})
		m.TrainFull() // for the base values
		base := valuesOf[complex128](m)
		adapt(t, m, "blk.*.weight", "token_embd.weight", "output.weight") // llama: tied, so used twice
		samples := tiny.Samples(4, 9, 21)
		tr := m.NewTrace()
		tr.Forward(samples)
		targets := tr.Targets()
		coef := make([]float32, len(targets))
		rt := make([]ref.Target, len(targets))
		for i, tg := range targets {
			coef[i] = float32(1 + i%3)
			rt[i] = ref.Target{Row: tg.Row, Token: tg.Token, Coef: float64(coef[i])}
		}
		g := engine.NewGrads(m)
		rows, f := tr.CrossEntropy(targets, coef)
		tr.Backward(rows, f, engine.NewAccumulate(g))
		var ids []int32
		starts := []int{0}
		for _, s := range samples {
			ids = append(ids, s.IDs...)
			starts = append(starts, len(ids))
		}
		complexOf := func(p *nn.Param) ref.Mat[complex128] {
			x := make([]complex128, p.Len())
			for i, w := range p.F32 {
				x[i] = complex(float64(w), 0)
			}
			return ref.Reshape(x, p.Cols)
		}
		rng := rand.New(rand.NewPCG(3, 4))
		checked := 0
		for _, p := range m.Params() {
			if p.Adapter == nil {
				continue
			}
			for _, part := range []*nn.Param{p.Adapter.A, p.Adapter.B} {
				grad := g.Of(part)
				var scale float64
				for _, v := range grad {
					scale += float64(v) * float64(v)
				}
				require.NotZero(t, scale)
				for range 2 {
					j := rng.IntN(part.Len())
					v := values[complex128]{}
					for _, q := range m.Params() { // every adapted matrix merged, this one with a step
						v[q.Name] = base[q.Name]
						if q.Adapter == nil {
							continue
						}
						a, b := complexOf(q.Adapter.A), complexOf(q.Adapter.B)
						if part == q.Adapter.A {
							a[j/part.Cols][j%part.Cols] += complex(0, h)
						} else if part == q.Adapter.B {
							b[j/part.Cols][j%part.Cols] += complex(0, h)
						}
						v[q.Name] = ref.Adapted(ref.Reshape(base[q.Name], q.Cols), a, b, float64(q.Adapter.Scale)).Flat()
					}
					want := imag(reference(m, v).Loss(ids, starts, rt)) / h
					assert.InDelta(t, want, float64(grad[j]), tol*math.Sqrt(scale), "%s[%d]", part.Name, j)
					checked++
				}
			}
		}
		assert.Greater(t, checked, 16)
	}
}

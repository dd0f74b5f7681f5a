package ref

import (
	"cmp"
	"math"
	"slices"
)

// MoE is a mixture of experts.
type MoE[N Number] struct {
	Router         Mat[N]   // [E,D]
	Gate, Up, Down []Mat[N] // of each expert
	NUsed          int
	Scale          float64
}

// Of returns Σ w_e·Down_e(silu(Gate_e n)∘Up_e n) over the NUsed experts of largest
// probability, of equal ones the first.
func (m *MoE[N]) Of(n Mat[N]) Mat[N] {
	logits := Linear(n, m.Router)
	y := NewMat[N](len(n), len(n[0]))
	for t := range n {
		p := Softmax(logits[t])
		chosen := make([]int, len(p))
		for e := range chosen {
			chosen[e] = e
		}
		slices.SortStableFunc(chosen, func(a, b int) int { return cmp.Compare(Real(p[b]), Real(p[a])) })
		chosen = chosen[:m.NUsed]
		var sum N
		for _, e := range chosen {
			sum += p[e]
		}
		if least := math.Ldexp(1, -14); Real(sum) < least {
			sum = Const[N](least)
		}
		for _, e := range chosen {
			row := n[t : t+1]
			out := Linear(SwiGLU(Linear(row, m.Gate[e]), Linear(row, m.Up[e])), m.Down[e])
			for d, v := range out[0] {
				y[t][d] += Const[N](m.Scale) * p[e] / sum * v
			}
		}
	}
	return y
}

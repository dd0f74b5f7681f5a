package ref

import "math"

// Linear returns x·Wᵀ: y[t,n] = Σ_k x[t,k]·w[n,k].
func Linear[N Number](x, w Mat[N]) Mat[N] {
	y := NewMat[N](len(x), len(w))
	for t := range x {
		for n := range w {
			for k := range w[n] {
				y[t][n] += x[t][k] * w[n][k]
			}
		}
	}
	return y
}

// Adapted returns W + s·B·A, the weight of a LoRA adapter: a is [R,K], b is [N,R].
func Adapted[N Number](w, a, b Mat[N], s float64) Mat[N] {
	y := NewMat[N](len(w), len(w[0]))
	for n := range w {
		for k := range w[n] {
			y[n][k] = w[n][k]
			for r := range a {
				y[n][k] += Const[N](s) * b[n][r] * a[r][k]
			}
		}
	}
	return y
}

// AddBias returns y[t] + b; a nil b is 0.
func AddBias[N Number](y Mat[N], b []N) Mat[N] {
	out := NewMat[N](len(y), len(y[0]))
	for t := range y {
		for n := range y[t] {
			out[t][n] = y[t][n]
			if b != nil {
				out[t][n] += b[n]
			}
		}
	}
	return out
}

// Add returns x + y.
func Add[N Number](x, y Mat[N]) Mat[N] {
	out := NewMat[N](len(x), len(x[0]))
	for t := range x {
		for n := range x[t] {
			out[t][n] = x[t][n] + y[t][n]
		}
	}
	return out
}

// Embed returns the rows ids of e.
func Embed[N Number](e Mat[N], ids []int32) Mat[N] {
	out := make(Mat[N], len(ids))
	for t, id := range ids {
		out[t] = e[id]
	}
	return out
}

// RMSNorm returns x/√(mean(x²)+ε)·w.
func RMSNorm[N Number](x Mat[N], w []N, eps float64) Mat[N] {
	y := NewMat[N](len(x), len(w))
	for t := range x {
		var square N
		for _, v := range x[t] {
			square += v * v
		}
		rms := sqrt(square/Const[N](float64(len(w))) + Const[N](eps))
		for d, v := range x[t] {
			y[t][d] = v / rms * w[d]
		}
	}
	return y
}

// LayerNorm returns (x−μ)/√(mean((x−μ)²)+ε)·w + b; a nil b is 0.
func LayerNorm[N Number](x Mat[N], w, b []N, eps float64) Mat[N] {
	y := NewMat[N](len(x), len(w))
	for t := range x {
		n := Const[N](float64(len(w)))
		var mean, variance N
		for _, v := range x[t] {
			mean += v / n
		}
		for _, v := range x[t] {
			variance += (v - mean) * (v - mean) / n
		}
		for d, v := range x[t] {
			y[t][d] = (v - mean) / sqrt(variance+Const[N](eps)) * w[d]
		}
	}
	return AddBias(y, b)
}

// Rope says how pairs of a head turn with the position.
type Rope struct {
	Dim       int  // leading columns of a head that turn
	Neox      bool // pairs (i, i+Dim/2) instead of (2i, 2i+1)
	Base      float64
	FreqScale float64
	Factors   []float64 // divide the frequencies; nil: 1
	Scale     float64   // lengthens the pairs; 0: 1
}

// RoPE returns x with pair i of each head of row t turned by the angle
// pos[t]·FreqScale·Base^(−2i/Dim)/Factors[i] and lengthened by Scale.
func RoPE[N Number](x Mat[N], nHeads int, pos []int32, r Rope) Mat[N] {
	y := NewMat[N](len(x), len(x[0]))
	for t := range x {
		copy(y[t], x[t])
		dHead := len(x[t]) / nHeads
		for h := range nHeads {
			for i := range r.Dim / 2 {
				a, b := h*dHead+2*i, h*dHead+2*i+1
				if r.Neox {
					a, b = h*dHead+i, h*dHead+i+r.Dim/2
				}
				theta := float64(pos[t]) * r.FreqScale * math.Pow(r.Base, -2*float64(i)/float64(r.Dim))
				if r.Factors != nil {
					theta /= r.Factors[i]
				}
				length := r.Scale
				if length == 0 {
					length = 1
				}
				cos, sin := Const[N](length*math.Cos(theta)), Const[N](length*math.Sin(theta))
				y[t][a] = x[t][a]*cos - x[t][b]*sin
				y[t][b] = x[t][a]*sin + x[t][b]*cos
			}
		}
	}
	return y
}

// Softmax returns exp(x)/Σexp(x).
func Softmax[N Number](x []N) []N {
	top := math.Inf(-1)
	for _, v := range x {
		top = max(top, Real(v))
	}
	y := make([]N, len(x))
	var sum N
	for i, v := range x {
		y[i] = exp(v - Const[N](top))
		sum += y[i]
	}
	for i := range y {
		y[i] /= sum
	}
	return y
}

// AttentionConfig says how rows attend to each other.
type AttentionConfig struct {
	NHeads, NKVHeads int
	Scale            float64 // of the scores; 0: 1/√(width of a head)
	Softcap          float64 // c > 0: a score s becomes c·tanh(s/c)
	Window           int     // w > 0: row i sees the rows j with i−w < j ≤ i
}

// Attention returns causal attention. starts holds the first row of each sequence
// and, last, the number of rows.
func Attention[N Number](a AttentionConfig, q, k, v Mat[N], starts []int) Mat[N] {
	out := NewMat[N](len(q), len(q[0]))
	dHead := len(q[0]) / a.NHeads
	scale := a.Scale
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(dHead))
	}
	for n := range len(starts) - 1 {
		for i := starts[n]; i < starts[n+1]; i++ {
			first := starts[n]
			if a.Window > 0 {
				first = max(first, i-a.Window+1)
			}
			for h := range a.NHeads {
				g := h * a.NKVHeads / a.NHeads
				var s []N
				for j := first; j <= i; j++ {
					var dot N
					for e := range dHead {
						dot += q[i][h*dHead+e] * k[j][g*dHead+e]
					}
					dot *= Const[N](scale)
					if a.Softcap > 0 {
						dot = Const[N](a.Softcap) * tanh(dot/Const[N](a.Softcap))
					}
					s = append(s, dot)
				}
				for j, p := range Softmax(s) {
					for e := range dHead {
						out[i][h*dHead+e] += p * v[first+j][g*dHead+e]
					}
				}
			}
		}
	}
	return out
}

// SwiGLU returns silu(gate)∘up, silu(z) = z/(1+exp(−z)).
func SwiGLU[N Number](gate, up Mat[N]) Mat[N] {
	y := NewMat[N](len(gate), len(gate[0]))
	for t := range y {
		for f, z := range gate[t] {
			y[t][f] = z / (1 + exp(-z)) * up[t][f]
		}
	}
	return y
}

// GeGLU returns gelu(gate)∘up.
func GeGLU[N Number](gate, up Mat[N]) Mat[N] {
	y := GELU(gate)
	for t := range y {
		for f := range y[t] {
			y[t][f] *= up[t][f]
		}
	}
	return y
}

// Softcap returns c·tanh(x/c).
func Softcap[N Number](x Mat[N], c float64) Mat[N] {
	y := NewMat[N](len(x), len(x[0]))
	for t := range x {
		for i, v := range x[t] {
			y[t][i] = Const[N](c) * tanh(v/Const[N](c))
		}
	}
	return y
}

// Scale returns s·x.
func Scale[N Number](x Mat[N], s float64) Mat[N] {
	y := NewMat[N](len(x), len(x[0]))
	for t := range x {
		for i, v := range x[t] {
			y[t][i] = Const[N](s) * v
		}
	}
	return y
}

// GELU returns ½x(1+tanh(√(2/π)(x+0.044715x³))).
func GELU[N Number](x Mat[N]) Mat[N] {
	y := NewMat[N](len(x), len(x[0]))
	for t := range y {
		for f, v := range x[t] {
			u := Const[N](math.Sqrt(2/math.Pi)) * (v + Const[N](0.044715)*v*v*v)
			y[t][f] = Const[N](0.5) * v * (1 + tanh(u))
		}
	}
	return y
}

// NLL returns −log softmax(logits)[target].
func NLL[N Number](logits []N, target int32) N {
	return -log(Softmax(logits)[target])
}

// KL returns KL(q‖p) = Σ q·(log q − log p) for the softmaxes q of ref and p of logits.
func KL[N Number](logits, ref []N) N {
	p, q := Softmax(logits), Softmax(ref)
	var kl N
	for v := range p {
		kl += q[v] * (log(q[v]) - log(p[v]))
	}
	return kl
}

// LumpedKL is KL over the categories ids and all others as one.
func LumpedKL[N Number](logits, ref []N, ids []int32) N {
	p, q := Softmax(logits), Softmax(ref)
	named := map[int32]bool{}
	var kl, restP, restQ N
	for _, v := range ids {
		named[v] = true
		kl += q[v] * (log(q[v]) - log(p[v]))
	}
	for v := range p {
		if !named[int32(v)] {
			restP, restQ = restP+p[v], restQ+q[v]
		}
	}
	if len(named) < len(p) {
		kl += restQ * (log(restQ) - log(restP))
	}
	return kl
}

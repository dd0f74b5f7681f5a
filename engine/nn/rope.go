package nn

import (
	"math"
	"sync"
	"sync/atomic"
)

// Rope is a rotary position embedding (Su et al. 2021, arXiv:2104.09864v5, eq. 34):
// pair i of a head at position p is turned by the angle
//
//	θ(p,i) = p·FreqScale·Base^(−2i/Dim)/Factors[i],   i < Dim/2
//
// and lengthened by Scale.
//
// The fields are set once, before the first use. A Rope is safe for use by
// several goroutines and must not be copied.
type Rope struct {
	Dim       int       // leading columns of each head that turn; even, at most dHead
	Neox      bool      // pair i is columns i, i+Dim/2 (phi2, qwen); else 2i, 2i+1 (llama)
	Base      float64   // rope.freq_base
	FreqScale float64   // linear position scaling, 1/rope.scaling.factor; 0 means 1
	Factors   []float32 // [Dim/2], such as rope_freqs.weight of llama 3, or nil
	Scale     float64   // the attention factor of yarn and longrope; 0 means 1

	mu  sync.Mutex // held while the table grows
	tab atomic.Pointer[ropeTable]
}

// ropeTable holds cos θ and sin θ, rounded once from float64: at [p*Dim/2+i] for
// columns i and i+Dim/2, else at [p*Dim+2i] and once more at [p*Dim+2i+1].
type ropeTable struct {
	n        int // positions
	cos, sin []float32
}

// columns is how many numbers a table has for a position.
func (r *Rope) columns() int {
	if r.Neox {
		return r.Dim / 2
	}
	return r.Dim
}

// table returns a table of more than maxPos positions.
func (r *Rope) table(maxPos int) *ropeTable {
	if t := r.tab.Load(); t != nil && t.n > maxPos {
		return t
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.tab.Load()
	if old != nil && old.n > maxPos {
		return old
	}
	half := r.Dim / 2
	n := 64
	for n <= maxPos {
		n *= 2
	}
	cols := r.columns()
	t := &ropeTable{n: n, cos: make([]float32, n*cols), sin: make([]float32, n*cols)}
	done := 0
	if old != nil {
		done = old.n
		copy(t.cos, old.cos)
		copy(t.sin, old.sin)
	}
	scale := r.FreqScale
	if scale == 0 {
		scale = 1
	}
	length := r.Scale
	if length == 0 {
		length = 1
	}
	for i := range half {
		freq := scale * math.Pow(r.Base, -2*float64(i)/float64(r.Dim))
		if r.Factors != nil {
			freq /= float64(r.Factors[i])
		}
		for p := done; p < n; p++ {
			s, c := math.Sincos(float64(p) * freq)
			s, c = s*length, c*length
			if r.Neox {
				t.cos[p*cols+i], t.sin[p*cols+i] = float32(c), float32(s)
				continue
			}
			for j := p*cols + 2*i; j < p*cols+2*i+2; j++ {
				t.cos[j], t.sin[j] = float32(c), float32(s)
			}
		}
	}
	r.tab.Store(t)
	return t
}

// RoPE turns the pairs (a,b) of every head of every row of x in place:
//
//	a, b = a·cos θ − b·sin θ, a·sin θ + b·cos θ,   θ = θ(pos[t], i)
//
// x is [T,nHeads*dHead], pos is [T]. A nil r turns nothing. It panics if the shapes
// disagree or a position is negative.
func RoPE(c *Ctx, x Mat, nHeads, dHead int, pos []int32, r *Rope) {
	rotate("RoPE", c, x, nHeads, dHead, pos, r, 1)
}

// RoPEBackward turns the gradient of RoPE's output into that of its input, in
// place: a rotation's transpose is the rotation by −θ, as long.
//
//	da, db = da·cos θ + db·sin θ, −da·sin θ + db·cos θ
//
// dx is [T,nHeads*dHead], pos is [T].
func RoPEBackward(c *Ctx, dx Mat, nHeads, dHead int, pos []int32, r *Rope) {
	rotate("RoPEBackward", c, dx, nHeads, dHead, pos, r, -1)
}

// rotate turns by sign·θ.
func rotate(op string, c *Ctx, x Mat, nHeads, dHead int, pos []int32, r *Rope, sign float32) {
	if r == nil || x.Rows == 0 {
		return
	}
	if x.Cols != nHeads*dHead || len(pos) != x.Rows {
		panicf("%s: x is %v, %d heads of %d, %d positions", op, x, nHeads, dHead, len(pos))
	}
	half := r.Dim / 2
	if r.Dim < 0 || r.Dim%2 != 0 || r.Dim > dHead || (r.Factors != nil && len(r.Factors) != half) {
		panicf("%s: %d columns of a head of %d turn, with %d factors", op, r.Dim, dHead, len(r.Factors))
	}
	maxPos := 0
	for t, p := range pos {
		if p < 0 {
			panicf("%s: position %d at row %d", op, p, t)
		}
		maxPos = max(maxPos, int(p))
	}
	tab := r.table(maxPos)
	c.rows(x.Rows, x.Cols, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			at := int(pos[t]) * r.columns()
			cos, sin := tab.cos[at:at+r.columns()], tab.sin[at:at+r.columns()]
			for h := range nHeads {
				head := x.Data[t*x.Stride+h*dHead:][:r.Dim]
				if r.Neox {
					turnHalves(head[:half], head[half:], cos, sin, sign)
				} else {
					c.K.TurnPairs(head, cos, sin, sign)
				}
			}
		}
	})
}

// turnHalves turns the pairs (a[i], b[i]) by sign·θ. The slices are of one length.
func turnHalves(a, b, cos, sin []float32, sign float32) {
	b, cos, sin = b[:len(a)], cos[:len(a)], sin[:len(a)]
	for i, x := range a {
		y, co, si := b[i], cos[i], sign*sin[i]
		a[i] = float32(x*co) - float32(y*si)
		b[i] = float32(x*si) + float32(y*co)
	}
}

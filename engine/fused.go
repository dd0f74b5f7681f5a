package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/optim"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/simd"
)

// TrainFused makes every parameter trainable at two bytes for each weight of a matrix: its value
// is rounded to bfloat16 and kept in memory in place of what the file holds. A trainer then updates a matrix as
// soon as its gradient is complete, drops the gradient, and rounds stochastically
// ([simd.Kernels.StochasticBF16]), so that steps much smaller than the distance of two numbers of
// bfloat16 are taken on average. Vectors have float32 masters. Adapters are merged first.
//
// The random bits of the rounding are a function of seed, step and element. To call it once more
// changes only the seed.
func (m *Model) TrainFused(seed uint64) {
	m.seed, m.resident = seed, nil
	for _, p := range m.params {
		p.Trainable = true
		if p.Rows == 1 || m.inMemory(p) && p.F32 == nil && p.Adapter == nil {
			continue
		}
		p.Stored, p.F32, p.Adapter = m.bfloat16(p), nil, nil
		m.File.Forget() // one tensor of the file at a time, not all of it, beside the rounded ones
	}
}

// Source returns p as it lies in the file, whatever has become of it since.
func (m *Model) Source(p *nn.Param) quant.Matrix { return m.source[p.Index] }

// inMemory says whether the weights of p are in memory as TrainFused has put them there.
func (m *Model) inMemory(p *nn.Param) bool {
	return len(p.Stored.Data) > 0 && &p.Stored.Data[0] != &m.source[p.Index].Data[0]
}

// fused says whether p is trained without a float32 master.
func (m *Model) fused(p *nn.Param) bool { return p.Trainable && p.F32 == nil && m.inMemory(p) }

// bfloat16 returns the present value of a matrix, rounded to the nearest number of bfloat16.
func (m *Model) bfloat16(p *nn.Param) quant.Matrix {
	out := quant.Matrix{Type: bfloat16, Rows: p.Rows, Cols: p.Cols, Data: make([]byte, p.Rows*bfloat16.RowBytes(p.Cols))}
	w := p.F32
	if p.Adapter != nil {
		w = m.merged(p)
	}
	m.eachRow(p, func(r int, x []float32) {
		if w != nil {
			m.Ctx.K.RoundBF16(x, w[r*p.Cols:(r+1)*p.Cols])
		} else {
			p.Stored.Unpack(m.Ctx.K, x, r, 0)
			m.Ctx.K.RoundBF16(x, x)
		}
		putBF16(out.Data[r*2*p.Cols:], x)
	})
	return out
}

// eachRow calls f for every row of a matrix, in parallel, with scratch for its numbers.
func (m *Model) eachRow(p *nn.Param, f func(r int, x []float32)) {
	per := max(1, piece/p.Cols)
	m.Ctx.Par.For((p.Rows+per-1)/per, func(i int) {
		x := weightScratch.Get().(*[]float32)
		defer weightScratch.Put(x)
		*x = grow(*x, p.Cols)
		for r := i * per; r < min(p.Rows, (i+1)*per); r++ {
			f(r, *x)
		}
	})
}

var bfloat16 = func() *quant.Type {
	t, err := quant.ByName("BF16")
	if err != nil {
		panic(err)
	}
	return t
}()

// putBF16 sets dst to the upper halves of x, numbers of bfloat16.
func putBF16(dst []byte, x []float32) {
	dst = dst[:2*len(x)]
	for len(x) >= 2 {
		binary.LittleEndian.PutUint32(dst, math.Float32bits(x[0])>>16|math.Float32bits(x[1])&0xffff0000)
		dst, x = dst[4:], x[2:]
	}
	if len(x) > 0 {
		binary.LittleEndian.PutUint16(dst, uint16(math.Float32bits(x[0])>>16))
	}
}

// weightScratch has a worker's numbers of some elements of a weight of bfloat16.
var weightScratch = sync.Pool{New: func() any { return new([]float32) }}

// stochastic gives an optimizer the elements of a matrix of bfloat16 as float32 numbers, and rounds
// what it makes of them by the bits of key.
func stochastic(k *simd.Kernels, w quant.Matrix, key uint64) optim.Weights {
	return func(lo, hi int, change func([]float32)) {
		buf := weightScratch.Get().(*[]float32)
		defer weightScratch.Put(buf)
		*buf = grow(*buf, hi-lo)
		x, data := *buf, w.Data[2*lo:2*hi]
		w.Type.Unpack(k, x, data)
		change(x)
		k.StochasticBF16(x, x, key, uint32(lo))
		putBF16(data, x)
	}
}

// checkFused says what fused training of a model cannot be asked for.
func checkFused(o *TrainOptions) error {
	if o.Clip > 0 {
		return fmt.Errorf("engine: fused training cannot clip the gradient: when its norm is known, the weights have changed; set clip to 0")
	}
	name := o.Optimizer
	if name == "sgd" && o.Momentum != 0 {
		name += " with momentum"
	}
	if name != "sgd" && name != "adafactor" {
		return fmt.Errorf("engine: fused training keeps no moments of single weights: want adafactor or sgd without momentum, not %s", name)
	}
	return nil
}

// fusedStep is Step for a model without masters: one batch of all terms, forwards and backwards once, for
// a tensor must not change before the last use of its old value.
func (tr *Trainer) fusedStep(terms []Term) (StepStats, error) {
	st := StepStats{Step: tr.step, LR: tr.rate(tr.step)}
	var samples []Sample
	for _, term := range terms {
		if err := tr.m.check(term.Samples); err != nil {
			return st, err
		}
		samples = append(samples, term.Samples...)
	}
	tr.trace.Forward(samples)
	st.Tokens = tr.trace.NRows()
	if tr.update == nil {
		tr.update = NewUpdate(tr)
	}
	u := tr.update
	u.Begin()
	err := tr.trace.backward(u, func(to *route, dh nn.Mat) error {
		first := 0
		for _, term := range terms {
			end := first + len(term.Samples)
			rows, f := term.Loss(tr.trace.window(first, end))
			losses := tr.trace.runHead(rows, f, to, dh)
			if err := tr.checkLosses(term.Name, losses); err != nil {
				return err
			}
			st.Losses = append(st.Losses, losses)
			first = end
		}
		return nil
	})
	if err != nil {
		return st, err
	}
	st.GradNorm = u.Total()
	if u.bad != nil {
		return st, &DivergedError{Step: tr.step, What: "norm of the gradient of " + u.bad.Name, Got: u.Of(u.bad), Changed: u.applied}
	}
	tr.step++
	return st, nil
}

package hf

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
)

// shape is what the forms of rules ask for.
type shape struct{ heads, kvHeads, blocks, width int }

// rowsOf returns which row of the checkpoint's tensor each of n rows of the GGUF file's is; nil
// stands for the same.
func (f form) rowsOf(n int, s shape) ([]int, error) {
	heads := s.heads
	switch f {
	case pairedK:
		heads = s.kvHeads
	case pairedQ, interlaced:
	default:
		return nil, nil
	}
	per := heads
	if f == interlaced {
		per *= 3
	} else {
		per *= 2
	}
	if n%per != 0 {
		return nil, fmt.Errorf("it has %d rows, want a multiple of %d for %d heads", n, per, heads)
	}
	rows := make([]int, n)
	if f == interlaced {
		e := n / per
		for i := range rows {
			qkv, h, d := i/(heads*e), i/e%heads, i%e
			rows[i] = (h*3+qkv)*e + d
		}
		return rows, nil
	}
	e := n / heads
	for i := range rows {
		h, d := i/e, i%e
		rows[i] = h*e + d%2*(e/2) + d/2
	}
	return rows, nil
}

// moves says whether rows change their places.
func (f form) moves() bool { return f == pairedQ || f == pairedK || f == interlaced }

// inverse returns the permutation that undoes p.
func inverse(p []int) []int {
	if p == nil {
		return nil
	}
	q := make([]int, len(p))
	for i, j := range p {
		q[j] = i
	}
	return q
}

// A source is where the rows of a tensor come from: matrices whose rows follow each other.
type source struct {
	parts     []quant.Matrix
	rows      []int   // row i is row rows[i] of the parts; nil: the same
	transpose bool    // the one part lies on its side
	add       float32 // to every number
}

// size returns the shape of what the source gives.
func (s *source) size() (rows, cols int) {
	if s.transpose {
		return s.parts[0].Cols, s.parts[0].Rows
	}
	for _, p := range s.parts {
		rows += p.Rows
	}
	return rows, s.parts[0].Cols
}

// pack returns the source's numbers as typ stores them, rows divided among the workers. What
// does not change is not copied.
func (s *source) pack(ctx *nn.Ctx, typ *quant.Type) ([]byte, error) {
	rows, cols := s.size()
	first := s.parts[0]
	if len(s.parts) == 1 && s.rows == nil && !s.transpose && s.add == 0 && first.Type == typ {
		return first.Data, first.CheckFinite(ctx.K)
	}
	at := s.row(ctx, cols)
	rowBytes := typ.RowBytes(cols)
	out := make([]byte, rows*rowBytes)
	buffers := make([][]float32, ctx.Par.Workers())
	errs := make([]error, len(buffers))
	ctx.Par.ForWorker(rows, func(worker, r int) {
		if errs[worker] != nil {
			return
		}
		if buffers[worker] == nil {
			buffers[worker] = make([]float32, cols)
		}
		x := buffers[worker]
		i := r
		if s.rows != nil {
			i = s.rows[r]
		}
		at(x, i)
		if s.add != 0 {
			for j := range x {
				x[j] += s.add
			}
		}
		if err := typ.Pack(out[r*rowBytes:][:rowBytes], x); err != nil {
			errs[worker] = fmt.Errorf("row %d: %w", r, err)
		}
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// row returns a function that unpacks a row of the parts.
func (s *source) row(ctx *nn.Ctx, cols int) func(x []float32, i int) {
	if s.transpose {
		p := s.parts[0]
		all := p.Dequantize(ctx.K)
		return func(x []float32, i int) {
			for j := range x {
				x[j] = all[j*p.Cols+i]
			}
		}
	}
	return func(x []float32, i int) {
		for _, p := range s.parts {
			if i < p.Rows {
				p.Unpack(ctx.K, x, i, 0)
				return
			}
			i -= p.Rows
		}
	}
}

// matrixOf is a tensor whose last dimension, the first of dims, is that of a row.
func matrixOf(typ gguf.TensorType, dims []uint64, data []byte) (quant.Matrix, error) {
	t, err := quant.ByGGUF(typ)
	if err != nil {
		return quant.Matrix{}, err
	}
	rows := 1
	for _, d := range dims[1:] {
		rows *= int(d)
	}
	return quant.NewMatrix(t, rows, int(dims[0]), data)
}

// bytesOf encodes numbers as little-endian float32.
func bytesOf(v []float32) []byte {
	out := make([]byte, 4*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(x))
	}
	return out
}

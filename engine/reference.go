package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/guardcpu/guardcpu/engine/nn"
)

// Reference answers with the logits a model had when the reference was made, on a
// fixed list of samples, without a second model: it keeps the final hidden states
// (after the last norm) of every position and a frozen output matrix. The
// logits are the same bits the model itself gave, except that one or a few rows alone
// go through other kernels than many, with another order of sums.
//
// That is T·D numbers instead of T·V: at 7B and the Llama vocabulary an eighth.
type Reference struct {
	head   *Model // only the output is used
	starts []int  // first row of each sample
	rows   int
	hidden []float32 // [rows,D], or
	file   *os.File  // the same in a file, little endian

	y, logits []float32 // memory of Logits, which one goroutine calls
}

// NewReference runs the samples through m and keeps what is needed to give their
// logits later. With a directory, the hidden states go to a file there,
// which Close removes; with "" they stay in memory.
func (m *Model) NewReference(ctx context.Context, samples []Sample, dir string, p Progress) (*Reference, error) {
	if err := m.check(samples); err != nil {
		return nil, err
	}
	r := &Reference{head: &Model{Config: m.Config, Ctx: m.Ctx}}
	r.head.w.output, r.head.w.outputBias = frozen(m.w.output), frozen(m.w.outputBias)
	if m.fused(m.w.output) { // a step would change it in place
		r.head.w.output.Stored.Data = slices.Clone(m.w.output.Stored.Data)
	}
	for _, s := range samples {
		r.starts = append(r.starts, r.rows)
		r.rows += len(s.IDs)
	}
	d := m.Config.DModel
	if dir == "" {
		r.hidden = make([]float32, r.rows*d)
	} else {
		f, err := os.CreateTemp(dir, "reference-*.f32")
		if err != nil {
			return nil, fmt.Errorf("engine: hidden states of the reference: %w", err)
		}
		r.file = f
	}
	t := m.NewTrace()
	var st nn.NormState
	for _, run := range Batches(samples, batchRows) {
		if err := ctx.Err(); err != nil {
			r.Close()
			return nil, err
		}
		t.forward(samples[run[0]:run[1]], false)
		y := nn.NewMat(t.NRows(), d)
		m.finalNorm(m.Ctx, y, t.h[m.Config.NLayers], &st)
		if err := r.put(r.starts[run[0]], y); err != nil {
			r.Close()
			return nil, err
		}
		p.report(run[1], len(samples))
	}
	return r, nil
}

// frozen returns a copy of p that training does not change.
func frozen(p *nn.Param) *nn.Param {
	if p == nil {
		return nil
	}
	q := *p
	q.Trainable = false
	q.F32 = slices.Clone(p.F32)
	if ad := p.Adapter; ad != nil {
		q.Adapter = &nn.Adapter{A: frozen(ad.A), B: frozen(ad.B), Scale: ad.Scale}
	}
	return &q
}

func (r *Reference) put(row int, y nn.Mat) error {
	d := y.Cols
	if r.file == nil {
		copy(r.hidden[row*d:], y.Data)
		return nil
	}
	buf := make([]byte, 4*len(y.Data))
	for i, v := range y.Data {
		binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(v))
	}
	if _, err := r.file.WriteAt(buf, int64(4*row*d)); err != nil {
		return fmt.Errorf("engine: hidden states of the reference: %w", err)
	}
	return nil
}

func (r *Reference) get(dst []float32, row int) error {
	d := len(dst)
	if r.file == nil {
		copy(dst, r.hidden[row*d:(row+1)*d])
		return nil
	}
	buf := make([]byte, 4*d)
	if _, err := r.file.ReadAt(buf, int64(4*row*d)); err != nil {
		return fmt.Errorf("engine: hidden states of the reference: %w", err)
	}
	copy(dst, float32sLE(buf))
	return nil
}

// Place is one position of a reference's samples.
type Place struct{ Sample, Pos int }

// Logits returns [len(at), V] logits, row i after token at[i].Pos of sample at[i].Sample.
// The matrix is the caller's, to change too, until the next call.
func (r *Reference) Logits(at []Place) (nn.Mat, error) {
	d, v := r.head.Config.DModel, r.head.Config.NVocab
	r.y, r.logits = grow(r.y, len(at)*d), grow(r.logits, len(at)*v)
	y := nn.Mat{Rows: len(at), Cols: d, Stride: d, Data: r.y}
	logits := nn.Mat{Rows: len(at), Cols: v, Stride: v, Data: r.logits}
	for i, p := range at {
		if err := r.get(y.Row(i), r.starts[p.Sample]+p.Pos); err != nil {
			return nn.Mat{}, err
		}
	}
	r.head.output(r.head.Ctx, logits, y, false)
	return logits, nil
}

// Close removes the file, if there is one.
func (r *Reference) Close() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	if e := os.Remove(r.file.Name()); err == nil {
		err = e
	}
	return err
}

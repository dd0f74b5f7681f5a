package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
)

// Reference knows the distributions that a model predicted when the reference was made, at every
// position of a fixed list of samples, without a second model. In which form is the caller's choice:
//
//	hidden     the final hidden states (after the last norm), 4·D bytes a position, from which a frozen output
//	           matrix makes the logits again: the same bits the model itself gave, except that
//	           one or a few rows alone go through other kernels than many, with another order of sums
//	hidden16   the same rounded to float16, 2·D bytes: logits of a relative error of some 2⁻¹²
//	topk:K     the log-probabilities of the K likeliest tokens, and that of all others together
//
// Full distributions would be 4·V bytes: at 7B and the Llama vocabulary eight times those of hidden.
type Reference struct {
	form   ReferenceForm
	k      int    // of top-k, at most V
	head   *Model // of hidden states: only the output is used
	starts []int  // first row of each sample
	store  recordStore

	records   []byte // memory of put
	record    []byte // memory of Divergence, which one goroutine calls
	y, logits []float32
	ids       []int32
	logq      []float32 // for each place logq of its ids, and of the rest
	lump      []float32
}

// ReferenceForm says what a reference keeps of a position: "hidden", "hidden16" or "topk:K".
type ReferenceForm string

// The forms without a number.
const (
	ReferenceHidden   ReferenceForm = "hidden"
	ReferenceHidden16 ReferenceForm = "hidden16"
)

// ParseReferenceForm returns the form of that name.
func ParseReferenceForm(name string) (ReferenceForm, error) {
	f := ReferenceForm(name)
	if _, err := f.topK(); err != nil {
		return "", err
	}
	return f, nil
}

// topK is K, or 0 of a form of hidden states.
func (f ReferenceForm) topK() (int, error) {
	if f == ReferenceHidden || f == ReferenceHidden16 {
		return 0, nil
	}
	if number, ok := strings.CutPrefix(string(f), "topk:"); ok {
		if k, err := strconv.Atoi(number); err == nil && k > 0 && strconv.Itoa(k) == number {
			return k, nil
		}
	}
	return 0, fmt.Errorf("engine: a reference of the form %q is not known; there are %s, %s, and topk:K with a number K", string(f), ReferenceHidden, ReferenceHidden16)
}

// Bytes returns what the form keeps of a position of a model of shape c.
func (f ReferenceForm) Bytes(c *Config) int {
	switch k, _ := f.topK(); {
	case k > 0:
		return 4 + min(k, c.NVocab)*(4+idBytes(c.NVocab))
	case f == ReferenceHidden16:
		return 2 * c.DModel
	}
	return 4 * c.DModel
}

// KeepsHidden says whether the form keeps hidden states, which need an output matrix to become distributions.
func (f ReferenceForm) KeepsHidden() bool {
	k, _ := f.topK() // of a name that is not known: 0, too, and an error elsewhere
	return k == 0
}

// idBytes is how many bytes a token takes in a record.
func idBytes(nVocab int) int {
	if nVocab <= 1<<16 {
		return 2
	}
	return 4
}

// ReferenceOptions say how a reference is kept. The zero value keeps hidden states in memory.
type ReferenceOptions struct {
	Form ReferenceForm // "": ReferenceHidden
	// File is where the reference is kept, "" for memory. What an earlier call has left there of the
	// same model, samples, form and Key is used, also if that call was killed; anything else that
	// a reference has left is replaced. The file stays when the reference is closed.
	File string
	Key  string // what the file of the model is known by, such as its SHA-256
	// Progress is told how many samples are done, Note what a user might want to know.
	Progress Progress
	Note     func(text string)
}

// NewReference runs the samples through m as it is now and keeps what is needed to give their
// distributions later, when m has been trained.
func (m *Model) NewReference(ctx context.Context, samples []Sample, o ReferenceOptions) (r *Reference, err error) {
	if err := m.check(samples); err != nil {
		return nil, err
	}
	r = &Reference{form: o.Form}
	if r.form == "" {
		r.form = ReferenceHidden
	}
	if r.k, err = r.form.topK(); err != nil {
		return nil, err
	}
	if r.k = min(r.k, m.Config.NVocab); r.k == 0 {
		r.head = &Model{Config: m.Config, Ctx: m.Ctx}
		r.head.w.output, r.head.w.outputBias = frozen(m.w.output), frozen(m.w.outputBias)
		if m.fused(m.w.output) { // a step would change it in place
			r.head.w.output.Stored.Data = slices.Clone(m.w.output.Stored.Data)
		}
	}
	rows := 0
	for _, s := range samples {
		r.starts = append(r.starts, rows)
		rows += len(s.IDs)
	}
	r.store = recordStore{size: r.form.Bytes(&m.Config)}
	r.record = make([]byte, r.store.size)
	store := &r.store
	defer func() {
		if err != nil {
			_ = store.close() // the first error is the one to tell
		}
	}()
	runs := Batches(samples, batchRows)
	ends := make([]int, len(runs)) // in rows
	for i, run := range runs {
		ends[i] = rows
		if run[1] < len(samples) {
			ends[i] = r.starts[run[1]]
		}
	}
	if o.File == "" {
		r.store.data = make([]byte, rows*r.store.size)
	} else if err := r.store.open(o.File, m.referenceDigest(samples, r.form, o.Key), ends, o.Note); err != nil {
		return nil, err
	}
	t := m.NewTrace()
	for i, run := range runs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !r.store.has(i) {
			t.forward(samples[run[0]:run[1]], false)
			if err := r.put(t, i, r.starts[run[0]]); err != nil {
				return nil, err
			}
		}
		o.Progress.report(run[1], len(samples))
	}
	r.records = nil
	return r, r.store.complete()
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

// ReferenceBatch is how many positions are written to the file of a reference at once, about.
const ReferenceBatch = batchRows

// put keeps batch i, whose rows begin at first and which t has run forward.
func (r *Reference) put(t *Trace, i, first int) error {
	m, n, d := t.m, t.NRows(), t.m.Config.DModel
	r.records = growBytes(r.records, n*r.store.size)
	records := r.records
	if r.k > 0 {
		all := make([]int, n)
		for row := range all {
			all[row] = row
		}
		t.Losses(all, func(c *Chunk) {
			c.Each(func(row int, logits []float32) float64 {
				r.lumped(m, records[row*r.store.size:(row+1)*r.store.size], logits)
				return 0
			})
		})
		return r.store.put(i, first, records)
	}
	y := nn.NewMat(n, d)
	var st nn.NormState
	m.finalNorm(m.Ctx, y, t.h[m.Config.NLayers], &st)
	if err := r.hiddenType().Pack(records, y.Data); err != nil {
		return fmt.Errorf("engine: the reference: %w", err)
	}
	return r.store.put(i, first, records)
}

// hiddenType is how hidden states are packed.
func (r *Reference) hiddenType() *quant.Type {
	name := "F32"
	if r.form == ReferenceHidden16 {
		name = "F16"
	}
	t, err := quant.ByName(name)
	if err != nil {
		panic(err) // the table has both
	}
	return t
}

// lumped packs a row of logits, which it overwrites: K ids, their log-probabilities, and that of the rest.
func (r *Reference) lumped(m *Model, record []byte, logits []float32) {
	ids, logp := make([]int32, r.k), make([]float32, r.k)
	nn.TopK(ids, logits)
	rest, _ := nn.LumpedLogProbs(m.Ctx.K, logp, logits, ids)
	for _, id := range ids {
		if idBytes(m.Config.NVocab) == 2 {
			binary.LittleEndian.PutUint16(record, uint16(id))
			record = record[2:]
		} else {
			binary.LittleEndian.PutUint32(record, uint32(id))
			record = record[4:]
		}
	}
	for i, v := range append(logp, rest) {
		binary.LittleEndian.PutUint32(record[4*i:], math.Float32bits(v))
	}
}

// Place is one position of a reference's samples.
type Place struct{ Sample, Pos int }

// Logits returns [len(at), V] logits of a reference of hidden states, row i after token at[i].Pos of
// sample at[i].Sample. The matrix is the caller's, to change too, until the next call.
func (r *Reference) Logits(at []Place) (nn.Mat, error) {
	if r.head == nil {
		panic(fmt.Sprintf("engine: Logits of a reference of the form %s", r.form))
	}
	d, v := r.head.Config.DModel, r.head.Config.NVocab
	r.y, r.logits = grow(r.y, len(at)*d), grow(r.logits, len(at)*v)
	y := nn.Mat{Rows: len(at), Cols: d, Stride: d, Data: r.y}
	logits := nn.Mat{Rows: len(at), Cols: v, Stride: v, Data: r.logits}
	typ := r.hiddenType()
	for i, p := range at {
		if err := r.store.get(r.record, r.starts[p.Sample]+p.Pos); err != nil {
			return nn.Mat{}, err
		}
		typ.Unpack(r.head.Ctx.K, y.Row(i), r.record)
	}
	r.head.output(r.head.Ctx, logits, y, false)
	return logits, nil
}

// Divergence returns a function that gives KL(reference ‖ model) in nats at place at[i] and overwrites
// the model's row of logits there by the gradient of coef·KL ([nn.KLDivergence], or of a form that lumps
// [nn.LumpedKL]). It may be called for different i at once, each once, until the next Divergence.
func (r *Reference) Divergence(c *nn.Ctx, at []Place) (func(i int, logits []float32, coef float32) float64, error) {
	if r.k == 0 {
		ref, err := r.Logits(at)
		return func(i int, logits []float32, coef float32) float64 {
			return nn.KLDivergence(c.K, logits, ref.Row(i), coef)
		}, err
	}
	k, n := r.k, len(at)
	r.ids, r.logq, r.lump = slices.Grow(r.ids[:0], n*k)[:n*k], grow(r.logq, n*(k+1)), grow(r.lump, n*k)
	wide := (r.store.size - 4*(k+1)) / k // bytes of an id
	for i, p := range at {
		if err := r.store.get(r.record, r.starts[p.Sample]+p.Pos); err != nil {
			return nil, err
		}
		for j := range k {
			if wide == 2 {
				r.ids[i*k+j] = int32(binary.LittleEndian.Uint16(r.record[2*j:]))
			} else {
				r.ids[i*k+j] = int32(binary.LittleEndian.Uint32(r.record[4*j:]))
			}
		}
		for j := range k + 1 {
			r.logq[i*(k+1)+j] = math.Float32frombits(binary.LittleEndian.Uint32(r.record[k*wide+4*j:]))
		}
	}
	return func(i int, logits []float32, coef float32) float64 {
		q := r.logq[i*(k+1) : (i+1)*(k+1)]
		return nn.LumpedKL(c.K, logits, r.ids[i*k:(i+1)*k], q[:k], q[k], r.lump[i*k:(i+1)*k], coef)
	}, nil
}

// Close closes the file, if there is one, which stays.
func (r *Reference) Close() error { return r.store.close() }

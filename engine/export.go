package engine

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
)

// ExportOptions say what a written model holds besides its weights.
type ExportOptions struct {
	Set   []gguf.KV              // metadata to add or replace, such as guardcpu.* provenance
	Types map[string]*quant.Type // tensors to pack into another type than the source's
	Type  *quant.Type            // of matrices that have changed; nil: the source's
	Split gguf.Split             // when to go on in another file
}

// typeOf returns the type that p, of the given type in the file, is written in if it has changed.
func (o *ExportOptions) typeOf(p *nn.Param, source *quant.Type) (*quant.Type, error) {
	name, typ := tensorOf(p), source
	switch t := o.Types[name]; {
	case t != nil:
		typ = t
	case o.Type != nil && p.Rows > 1:
		typ = o.Type
	}
	if typ.Pack == nil {
		return nil, fmt.Errorf("engine: %s: weights of %s can be read, not written", name, typ.Name)
	}
	if p.Cols%typ.BlockLen != 0 {
		return nil, fmt.Errorf("engine: tensor %q has %d columns, want a multiple of %d for %s", name, p.Cols, typ.BlockLen, typ.Name)
	}
	return typ, nil
}

// CheckExport says before any training whether what is trained can be written: an error
// names a matrix whose type cannot be packed, or does not divide its rows.
func (m *Model) CheckExport(o ExportOptions) error {
	for _, p := range m.params {
		if p.Trainable || p.Adapter != nil {
			if _, err := o.typeOf(p, m.Source(p).Type); err != nil {
				return err
			}
		}
	}
	return nil
}

// Export writes the model to path as a copy of its source file in which only the
// changed tensors and the given keys differ. Changed tensors are packed into the
// type the source has for them, unless o says another one: some types are only read (see
// [Model.CheckExport]). Adapters are merged on the way. The write is atomic.
func (m *Model) Export(path string, o ExportOptions) error {
	_, err := m.ExportParts(path, o)
	return err
}

// ExportParts is Export for a model that may take several files. It returns their names.
func (m *Model) ExportParts(path string, o ExportOptions) ([]string, error) {
	var replace []gguf.TensorData
	var packed []byte // of one tensor after the other
	for _, parts := range m.tensors() {
		name := tensorOf(parts[0])
		changed := slices.ContainsFunc(parts, m.changed)
		m.Forget(parts[0])
		if t := o.Types[name]; (t == nil || t == m.Source(parts[0]).Type) && !changed {
			continue
		}
		typ, err := o.typeOf(parts[0], m.Source(parts[0]).Type)
		if err != nil {
			return nil, err
		}
		t, _ := m.File.Tensor(name)
		replace = append(replace, gguf.TensorData{
			Name: name, Type: typ.GGUF, Dims: t.Dims,
			Bytes: func() ([]byte, error) {
				var err error
				packed, err = m.pack(packed, parts, typ)
				return packed, err
			},
		})
	}
	return gguf.RewriteSplit(path, m.File, o.Set, replace, o.Split)
}

// changed says whether p differs from what the file holds.
func (m *Model) changed(p *nn.Param) bool { return learnt(p) || m.stale(p) }

// stale says whether p has weights, beside its adapter, that are not those of the file; of bfloat16, not
// those of the file rounded.
func (m *Model) stale(p *nn.Param) bool {
	if p.F32 == nil && !m.inMemory(p) {
		return false
	}
	k, source := m.Ctx.K, m.Source(p)
	was, is := make([]float32, p.Cols), make([]float32, p.Cols)
	for r := range p.Rows {
		source.Unpack(k, was, r, 0)
		if p.F32 != nil {
			copy(is, p.F32[r*p.Cols:])
		} else {
			p.Stored.Unpack(k, is, r, 0)
			k.RoundBF16(was, was)
		}
		if !slices.Equal(was, is) {
			return true
		}
	}
	return false
}

// packRows is how many rows of a tensor are numbers at once when it is packed.
const packRows = 32

// pack returns the present value of a tensor's parts as typ stores it, in buf if that is large enough. Besides it takes
// packRows rows of float32 for each worker.
func (m *Model) pack(buf []byte, parts []*nn.Param, typ *quant.Type) ([]byte, error) {
	rows, row := parts[0].Rows, typ.RowBytes(parts[0].Cols)
	out := growBytes(buf, len(parts)*rows*row)
	pieces := (rows + packRows - 1) / packRows // of a part
	errs := make([]error, len(parts)*pieces)
	buffers := make([][]float32, m.Ctx.Par.Workers())
	for i, p := range parts {
		add := m.addition(p)
		m.Ctx.Par.ForWorker(pieces, func(worker, piece int) {
			lo := piece * packRows
			hi := min(rows, lo+packRows)
			buffers[worker] = grow(buffers[worker], (hi-lo)*p.Cols)
			x := buffers[worker]
			if p.F32 != nil {
				copy(x, p.F32[lo*p.Cols:])
			}
			for r := lo; p.F32 == nil && r < hi; r++ {
				p.Stored.Unpack(m.Ctx.K, x[(r-lo)*p.Cols:(r-lo+1)*p.Cols], r, 0)
			}
			if add != nil {
				add(x, lo, hi)
			}
			for r := lo; r < hi; r++ {
				err := typ.Pack(out[(i*rows+r)*row:][:row], x[(r-lo)*p.Cols:(r-lo+1)*p.Cols])
				if err != nil && errs[i*pieces+piece] == nil {
					errs[i*pieces+piece] = fmt.Errorf("engine: %s, row %d: %w", p.Name, r, err)
				}
			}
		})
	}
	m.Forget(parts[0])
	return out, cmp.Or(errs...)
}

// float32sLE decodes little-endian float32 values.
func float32sLE(b []byte) []float32 {
	out := make([]float32, len(b)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return out
}

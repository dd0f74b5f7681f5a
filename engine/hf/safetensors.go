package hf

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"

	"github.com/guardcpu/guardcpu/gguf"
)

// maxHeader is what the format allows of a header.
const maxHeader = 100_000_000

// maxDims is more than any tensor of a language model has.
const maxDims = 8

// dtypes are the element types of safetensors and their bytes; those without a row in
// floats can be there and not be used.
var dtypes = map[string]uint64{
	"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
	"U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}

// floats are the element types that weights may have.
var floats = map[string]gguf.TensorType{"F32": gguf.F32, "F16": gguf.F16, "BF16": gguf.BF16}

// array is a tensor of a safetensors file.
type array struct {
	name  string
	dtype string
	shape []uint64
	data  []byte
}

// entry is what the header says of a tensor.
type entry struct {
	DType   string    `json:"dtype"`
	Shape   []uint64  `json:"shape"`
	Offsets [2]uint64 `json:"data_offsets"`
}

// parseSafetensors reads a file: 8 bytes that say how long a JSON header is, the header, and
// the data, which the tensors of the header fill without gaps. They are returned in the order of
// the data. name is for messages.
func parseSafetensors(name string, data []byte) ([]array, error) {
	fail := func(format string, args ...any) ([]array, error) {
		return nil, fmt.Errorf("hf: %s: %w", name, fmt.Errorf(format, args...))
	}
	if len(data) < 8 {
		return fail("%d bytes are no safetensors file", len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	if n > maxHeader {
		return fail("the header has %d bytes, at most %d are allowed", n, maxHeader)
	}
	if n > uint64(len(data)-8) {
		return fail("the header has %d bytes, but only %d follow", n, len(data)-8)
	}
	header, body := data[8:8+n], data[8+n:]
	d := json.NewDecoder(bytes.NewReader(header))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fail("the header is no JSON object")
	}
	type placed struct {
		array
		start, end uint64
	}
	var list []placed
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return fail("the header: %v", err)
		}
		key := t.(string) // of an object the decoder returns nothing else
		if seen[key] {
			return fail("tensor %s is there twice", quote(key))
		}
		seen[key] = true
		if key == "__metadata__" {
			var m map[string]string
			if err := d.Decode(&m); err != nil {
				return fail("__metadata__: %v", err)
			}
			continue
		}
		var raw json.RawMessage
		var e entry
		err = d.Decode(&raw)
		if err == nil {
			strict := json.NewDecoder(bytes.NewReader(raw))
			strict.DisallowUnknownFields()
			err = strict.Decode(&e)
		}
		if err != nil {
			return fail("tensor %s: %v", quote(key), err)
		}
		size, err := e.bytes()
		if err != nil {
			return fail("tensor %s: %w", quote(key), err)
		}
		start, end := e.Offsets[0], e.Offsets[1]
		if start > end || end > uint64(len(body)) {
			return fail("tensor %s lies at %d to %d, want a part of the %d bytes of data", quote(key), start, end, len(body))
		}
		if end-start != size {
			return fail("tensor %s has %d bytes, want %d for %s %v", quote(key), end-start, size, e.DType, e.Shape)
		}
		list = append(list, placed{array{key, e.DType, e.Shape, body[start:end:end]}, start, end})
	}
	if t, err := d.Token(); err != nil || t != json.Delim('}') {
		return fail("the header is cut off")
	}
	if rest := bytes.TrimLeft(header[d.InputOffset():], " "); len(rest) > 0 {
		return fail("%d bytes follow the header's JSON", len(rest))
	}
	slices.SortStableFunc(list, func(a, b placed) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end)) })
	var at uint64
	out := make([]array, len(list))
	for i, p := range list {
		if p.start != at {
			return fail("tensor %s begins at byte %d of the data, want %d, where the one before ends", quote(p.name), p.start, at)
		}
		at, out[i] = p.end, p.array
	}
	if at != uint64(len(body)) {
		return fail("%d bytes follow the last tensor", uint64(len(body))-at)
	}
	return out, nil
}

// bytes returns what a tensor takes.
func (e *entry) bytes() (uint64, error) {
	size, ok := dtypes[e.DType]
	if !ok {
		return 0, fmt.Errorf("dtype %s is not known", quote(e.DType))
	}
	if len(e.Shape) > maxDims {
		return 0, fmt.Errorf("%d dimensions, at most %d are allowed", len(e.Shape), maxDims)
	}
	for _, d := range e.Shape {
		hi, lo := bits.Mul64(size, d)
		if hi != 0 {
			return 0, fmt.Errorf("shape %v has more bytes than can be counted", e.Shape)
		}
		size = lo
	}
	return size, nil
}

// An output is a tensor to be written.
type output struct {
	name  string
	typ   gguf.TensorType // F32, F16 or BF16
	shape []uint64
	bytes func() ([]byte, error)
}

func (o *output) entry(at uint64) (entry, uint64) {
	e := entry{DType: o.typ.String(), Shape: o.shape}
	size, _ := e.bytes() // as large as a tensor of the model that is read
	e.Offsets = [2]uint64{at, at + size}
	return e, at + size
}

// writeSafetensors writes tensors in the order given. The header is padded with blanks so that
// the data begins at a multiple of 8, as the reference implementation does.
func writeSafetensors(w io.Writer, tensors []output) error {
	var b bytes.Buffer
	b.WriteString(`{"__metadata__":{"format":"pt"}`)
	var at uint64
	sizes := make([]uint64, len(tensors))
	for i := range tensors {
		e, end := tensors[i].entry(at)
		sizes[i], at = end-at, end
		name, err := json.Marshal(tensors[i].name)
		if err != nil {
			return err
		}
		text, err := json.Marshal(e)
		if err != nil {
			return err
		}
		b.WriteByte(',')
		b.Write(name)
		b.WriteByte(':')
		b.Write(text)
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len() > maxHeader {
		return errors.New("the header is longer than the format allows")
	}
	if err := binary.Write(w, binary.LittleEndian, uint64(b.Len())); err != nil {
		return err
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return err
	}
	for i, t := range tensors {
		data, err := t.bytes()
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		if uint64(len(data)) != sizes[i] {
			return fmt.Errorf("%s: %d bytes, want %d", t.name, len(data), sizes[i])
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	return nil
}

// quote makes a name from a file fit for a message.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

package gguf

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"

	"github.com/guardcpu/guardcpu/gguf/atomicfile"
)

// TensorData is a tensor to be written.
type TensorData struct {
	Name string
	Type TensorType
	Dims []uint64 // Dims[0] is the number of columns; for Rewrite nil stands for those of the source
	// Bytes packs the tensor, little-endian. It is called once, when the tensor's
	// turn has come, so that one packed tensor is in memory at a time. The result
	// is used only until the next call.
	Bytes func() ([]byte, error)
}

// ErrOverwrite is wrapped by the error for an output that is the input.
var ErrOverwrite = errors.New("output would overwrite the input")

// Write writes a file of version 3, little-endian, in the order given. It is
// atomic: the bytes go to a temporary file in the same directory, which is
// synced and renamed; until then path is as it was, and after an error the
// temporary file is gone. A key general.alignment sets the alignment.
func Write(path string, kvs []KV, tensors []TensorData) error {
	_, err := WriteSplit(path, kvs, tensors, Split{})
	return err
}

// Encode writes the bytes of such a file to w.
func Encode(w io.Writer, kvs []KV, tensors []TensorData) error {
	if err := encode(w, binary.LittleEndian, 3, kvs, tensors); err != nil {
		return fmt.Errorf("gguf: %w", err)
	}
	return nil
}

func encode(w io.Writer, o byteOrder, version uint32, kvs []KV, tensors []TensorData) error {
	if len(kvs) > maxCount || len(tensors) > maxCount {
		return fmt.Errorf("%d keys and %d tensors, at most %d each are allowed", len(kvs), len(tensors), maxCount)
	}
	alignment := uint64(defaultAlignment)
	h := appendStart(nil, o, version, len(tensors), len(kvs))
	keys := make(map[string]bool)
	var err error
	for _, kv := range kvs {
		if keys[kv.Key] {
			return fmt.Errorf("key %s is there twice", quote(kv.Key))
		}
		keys[kv.Key] = true
		if kv.Key == alignmentKey {
			if alignment, err = checkAlignment(kv.Value); err != nil {
				return err
			}
		}
		if h, err = appendKV(h, o, kv); err != nil {
			return err
		}
	}
	names := make(map[string]bool)
	parts := make([]part, len(tensors))
	var pos uint64
	for i := range tensors {
		t := &tensors[i]
		if names[t.Name] {
			return fmt.Errorf("tensor %s is there twice", quote(t.Name))
		}
		names[t.Name] = true
		if t.Bytes == nil {
			return fmt.Errorf("tensor %s has no Bytes", quote(t.Name))
		}
		size, err := checkTensor(t.Name, t.Type, t.Dims)
		if err != nil {
			return err
		}
		parts[i] = part{offset: pos, size: size, name: t.Name, typ: t.Type, bytes: t.Bytes}
		h = appendTensor(h, o, t.Name, t.Type, t.Dims, pos)
		pos = alignUp(pos+size, alignment)
	}
	if len(h) > maxHeader {
		return fmt.Errorf("the header has %d bytes, at most %d are allowed", len(h), maxHeader)
	}
	e := &encoder{w: w, order: o}
	e.write(h)
	e.zeros(alignUp(e.pos, alignment) - e.pos)
	start := e.pos
	for _, p := range parts {
		e.zeros(start + p.offset - e.pos)
		if err := e.part(p); err != nil {
			return err
		}
	}
	e.zeros(start + pos - e.pos)
	return e.err
}

func appendStart(b []byte, o byteOrder, version uint32, nTensors, nKV int) []byte {
	b = append(b, magic...)
	b = o.AppendUint32(b, version)
	b = o.AppendUint64(b, uint64(nTensors))
	return o.AppendUint64(b, uint64(nKV))
}

func appendTensor(b []byte, o byteOrder, name string, t TensorType, dims []uint64, offset uint64) []byte {
	b = appendString(b, o, name)
	b = o.AppendUint32(b, uint32(len(dims)))
	for _, d := range dims {
		b = o.AppendUint64(b, d)
	}
	b = o.AppendUint32(b, uint32(t))
	return o.AppendUint64(b, offset)
}

// A part is the data of one tensor on its way out.
type part struct {
	offset, size uint64 // in the data to be written
	name         string
	typ          TensorType
	bytes        func() ([]byte, error) // little-endian
}

// encoder counts what it writes, and remembers its first error.
type encoder struct {
	w     io.Writer
	order byteOrder
	pos   uint64
	err   error
}

func (e *encoder) write(b []byte) {
	if e.err == nil {
		_, e.err = e.w.Write(b)
	}
	e.pos += uint64(len(b))
}

func (e *encoder) zeros(n uint64) {
	var z [4096]byte
	for ; n > 0; n -= min(n, uint64(len(z))) {
		e.write(z[:min(n, uint64(len(z)))])
	}
}

func (e *encoder) part(p part) error {
	if e.err != nil {
		return e.err // the disk is full: packing the rest would be in vain
	}
	b, err := p.bytes()
	if err != nil {
		return fmt.Errorf("tensor %s: %w", quote(p.name), err)
	}
	if uint64(len(b)) != p.size {
		return fmt.Errorf("tensor %s: its data has %d bytes, want %d", quote(p.name), len(b), p.size)
	}
	if e.order == binary.BigEndian {
		b = slices.Clone(b)
		p.typ.swap(b)
	}
	e.write(b)
	return e.err
}

// Rewrite writes f to path with some keys and tensors changed, atomically like
// Write. Version, byte order, alignment, the order of keys and tensors and the
// bytes of everything else stay as they are in f. A key of set that f has is
// replaced where it stands, others are appended; a tensor of replace keeps its
// dimensions and may change its type. If a tensor changes its size, those after
// it move, and the padding is zero. A model in several files becomes one.
//
// It refuses to write over f itself, by whatever name (ErrOverwrite), and to
// change general.alignment.
func Rewrite(path string, f *File, set []KV, replace []TensorData) error {
	_, err := RewriteSplit(path, f, set, replace, Split{})
	return err
}

// newKVs returns the keys of f with those of set. source[i] is where in f.KVs the i-th of
// them lies unchanged, or -1. What says that f was one of several files is left out.
func (f *File) newKVs(set []KV) (kvs []KV, source []int, err error) {
	changed := make(map[string]KV)
	for _, kv := range set {
		if kv.Key == alignmentKey {
			return nil, nil, fmt.Errorf("%s cannot be changed", alignmentKey)
		}
		if _, dup := changed[kv.Key]; dup {
			return nil, nil, fmt.Errorf("key %s is there twice", quote(kv.Key))
		}
		changed[kv.Key] = kv
	}
	for i, kv := range f.KVs {
		if len(f.rest) > 0 && isSplitKey(kv.Key) {
			continue
		}
		if n, ok := changed[kv.Key]; ok {
			kv, i = n, -1
		}
		kvs, source = append(kvs, kv), append(source, i)
	}
	for _, kv := range set {
		if _, old := f.kvIndex[kv.Key]; !old {
			kvs, source = append(kvs, kv), append(source, -1)
		}
	}
	if len(kvs) > maxCount {
		return nil, nil, fmt.Errorf("%d keys, at most %d are allowed", len(kvs), maxCount)
	}
	return kvs, source, nil
}

func (f *File) rewrite(w io.Writer, set []KV, replace []TensorData) error {
	kvs, source, err := f.newKVs(set)
	if err != nil {
		return err
	}
	parts, end, moved, err := f.newParts(replace)
	if err != nil {
		return err
	}

	h := appendStart(nil, f.order, f.Version, len(f.Tensors), len(kvs))
	for i, kv := range kvs {
		if k := source[i]; k >= 0 {
			start := headerStart
			if k > 0 {
				start = f.kvEnds[k-1]
			}
			h = append(h, f.data[start:f.kvEnds[k]]...)
		} else if h, err = appendKV(h, f.order, kv); err != nil {
			return err
		}
	}
	for i, t := range f.Tensors {
		h = appendTensor(h, f.order, t.Name, parts[i].typ, t.Dims, parts[i].offset)
	}
	if len(h) > maxHeader {
		return fmt.Errorf("the header has %d bytes, at most %d are allowed", len(h), maxHeader)
	}

	e := &encoder{w: w, order: f.order}
	e.write(h)
	data := f.data[min(f.DataOffset, uint64(len(f.data))):]
	oldPadding := f.data[f.headerEnd : len(f.data)-len(data)]
	if len(h) == f.headerEnd && f.rest == nil {
		e.write(oldPadding) // which may be missing when no data follows
	} else {
		e.zeros(alignUp(e.pos, f.Alignment) - e.pos)
	}
	base := e.pos
	var old uint64 // how far data has been used
	for _, i := range f.byOffset {
		p, t := parts[i], &f.Tensors[i]
		if moved {
			e.zeros(base + p.offset - e.pos)
		} else {
			e.write(data[old:t.Offset])
		}
		old = t.Offset + t.Size
		if p.bytes != nil {
			if err := e.part(p); err != nil {
				return err
			}
		} else {
			e.write(f.raw(t))
			f.ForgetTensors([]*Tensor{t}) // of a file larger than memory, one at a time
		}
	}
	if moved {
		e.zeros(alignUp(end, f.Alignment) - end)
	} else {
		e.write(data[old:])
	}
	return e.err
}

// newParts says where the data of each tensor goes, in the order of f.Tensors,
// and where the last of them ends. Parts without bytes are copied. If no size
// changes and f is one file, every offset stays; else they are packed anew in the
// order of the data, and moved is true.
func (f *File) newParts(replace []TensorData) (parts []part, end uint64, moved bool, err error) {
	moved = f.rest != nil
	parts = make([]part, len(f.Tensors))
	for i, t := range f.Tensors {
		parts[i] = part{offset: t.Offset, size: t.Size, name: t.Name, typ: t.Type}
	}
	for _, r := range replace {
		i, ok := f.tensorIndex[r.Name]
		if !ok {
			return nil, 0, false, fmt.Errorf("tensor %s is not in %s", quote(r.Name), f.Name)
		}
		if r.Bytes == nil {
			return nil, 0, false, fmt.Errorf("tensor %s has no Bytes", quote(r.Name))
		}
		p, dims := &parts[i], f.Tensors[i].Dims
		if p.bytes != nil {
			return nil, 0, false, fmt.Errorf("tensor %s is there twice", quote(r.Name))
		}
		if r.Dims != nil && !slices.Equal(r.Dims, dims) {
			return nil, 0, false, fmt.Errorf("tensor %s is %s, want %s as in %s", quote(r.Name), FormatDims(r.Dims), FormatDims(dims), f.Name)
		}
		p.typ, p.bytes = r.Type, r.Bytes
		if p.size, err = checkTensor(r.Name, r.Type, dims); err != nil {
			return nil, 0, false, err
		}
		moved = moved || p.size != f.Tensors[i].Size
	}
	for _, i := range f.byOffset {
		p := &parts[i]
		if moved {
			p.offset = alignUp(end, f.Alignment)
		}
		end = p.offset + p.size
	}
	return parts, end, moved, nil
}

// checkOutput refuses to write over a file of f as it was opened, whatever lies at its
// name now.
func (f *File) checkOutput(path string) error {
	info, err := os.Stat(path)
	if err != nil || f == nil {
		return nil // CheckOutput looks at other errors
	}
	for _, p := range append([]*File{f}, f.rest...) {
		if p.info != nil && os.SameFile(info, p.info) {
			return fmt.Errorf("gguf: %s is %s: %w", path, p.Name, ErrOverwrite)
		}
	}
	return nil
}

// CheckOutput returns an error (ErrOverwrite) if writing to path would replace
// one of inputs, which it may name through a link or another spelling, or if
// path is there and no regular file.
func CheckOutput(path string, inputs ...string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("gguf: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("gguf: output %s is %s, want a regular file or none", path, kindOf(info.Mode()))
	}
	for _, input := range inputs {
		in, err := os.Stat(input)
		if err != nil {
			return fmt.Errorf("gguf: %w", err)
		}
		if os.SameFile(info, in) {
			return fmt.Errorf("gguf: %s is %s: %w", path, input, ErrOverwrite)
		}
	}
	return nil
}

// ErrVerify is wrapped by the error for an output that does not read as it was written.
var ErrVerify = errors.New("output verification failed")

// summed knows the hash of what it has written.
type summed struct {
	w    io.Writer
	sum  hash.Hash
	size int64
}

func (s *summed) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.sum.Write(p[:n])
	s.size += int64(n)
	return n, err
}

// beforeVerify is a test's place between writing and reading back.
var beforeVerify func(w io.Writer)

// verify reads back what was written, before the file gets its name.
func (s *summed) verify() error {
	if beforeVerify != nil {
		beforeVerify(s.w)
	}
	is := sha256.New()
	if _, err := io.Copy(is, io.NewSectionReader(s.w.(io.ReaderAt), 0, s.size)); err != nil {
		return fmt.Errorf("%w: %w", ErrVerify, err)
	}
	if !bytes.Equal(is.Sum(nil), s.sum.Sum(nil)) {
		return fmt.Errorf("%w: the file does not hold what was written to it", ErrVerify)
	}
	return nil
}

// replaceFiles puts what write writes at the paths, all whole or none, when they read as they were
// written. None of them may be a file of source, which may be nil.
func replaceFiles(paths []string, source *File, write func(i int, w io.Writer) error) error {
	for _, path := range paths {
		if err := source.checkOutput(path); err != nil {
			return err
		}
		if err := CheckOutput(path); err != nil {
			return err
		}
	}
	at := 0
	err := atomicfile.WriteSet(paths, 0o644, func(i int, w io.Writer) error {
		at = i
		written := &summed{w: w, sum: sha256.New()}
		b := bufio.NewWriterSize(written, 1<<20)
		if err := write(i, b); err != nil {
			return err
		}
		if err := b.Flush(); err != nil {
			return err
		}
		return written.verify()
	})
	if err != nil {
		return fmt.Errorf("gguf: %s: %w", paths[at], err)
	}
	return nil
}

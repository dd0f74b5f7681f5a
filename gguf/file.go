package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"slices"
)

// Bounds on what a header may hold. Nothing that is written in earnest comes
// near them; they keep the memory a hostile file can ask for within reason.
const (
	maxHeader        = 128 << 20 // bytes of keys, values and tensor table
	maxCount         = 1 << 20   // keys; and again tensors
	maxKey           = 1<<16 - 1 // bytes of a key (GGUF specification)
	maxName          = 63        // bytes of a tensor's name (GGML_MAX_NAME less the final zero)
	maxDims          = 4         // GGML_MAX_DIMS
	maxDepth         = 4         // arrays in arrays
	maxAlignment     = 1 << 16   // the largest page size of any system in use
	defaultAlignment = 32        // GGUF_DEFAULT_ALIGNMENT
	alignmentKey     = "general.alignment"
	magic            = "GGUF"
)

// KV is a key of the metadata with its value. Value is one of uint8…uint64,
// int8…int64, float32, float64, bool, string, a slice of one of these, or []any
// for an array of arrays, whose elements are slices again.
type KV struct {
	Key   string
	Value any
}

// Tensor is a row of the tensor table.
type Tensor struct {
	Name   string
	Type   TensorType
	Dims   []uint64 // ggml's order: Dims[0] is the number of columns
	Offset uint64   // of the first byte, counted from the DataOffset of its part
	Size   uint64   // in bytes
	Part   int      // the file it lies in, for a model in several: 0 is the first
}

// File is a GGUF file that has been read and found whole, or several that are the
// parts of one model (split.go): then the keys, and all but the tensors, are those of
// the first. It may be used by several goroutines at once; nothing may be used after Close.
type File struct {
	Name       string // as given to Open or Parse
	Version    uint32
	Order      binary.ByteOrder // binary.LittleEndian or binary.BigEndian
	Alignment  uint64
	KVs        []KV
	Tensors    []Tensor
	DataOffset uint64 // where in the file the bytes of the tensors begin

	data        []byte
	order       byteOrder
	info        fs.FileInfo // nil for a file from memory
	unmap       func() error
	kvEnds      []int // kvEnds[i] is where the bytes of KVs[i] end; they begin at kvEnds[i-1], or at headerStart
	headerEnd   int   // where the tensor table ends
	byOffset    []int // indices of Tensors in the order of their data
	kvIndex     map[string]int
	tensorIndex map[string]int
	rest        []*File // the parts after the first
}

// headerStart is the byte after the magic, the version and the two counts.
const headerStart = 4 + 4 + 8 + 8

// Open maps the file at path into memory, read-only, and reads its header. Only
// regular files are opened. The weights are not touched: a page of the file is
// read when somebody looks at it, and one that is not there any more, because the file is
// truncated meanwhile, is a fault (see Faulted). Where mapping is not to be had the file is read whole.
//
// The first part of a model in several files opens the others, which lie beside it.
func Open(path string) (*File, error) {
	f, err := openPart(path)
	if err != nil {
		return nil, err
	}
	if err := f.join(openPart); err != nil {
		_ = f.Close() // the error of the parts is the one to tell
		return nil, err
	}
	return f, nil
}

// openPart opens one file.
func openPart(path string) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("gguf: %s is %s, want a regular file", path, kindOf(info.Mode()))
	}
	data, info, unmap, err := mapFile(path)
	if err != nil {
		return nil, fmt.Errorf("gguf: %s: %w", path, err)
	}
	f, err := Parse(path, data)
	if err != nil {
		_ = unmap() // the error of the file is the one to tell
		return nil, err
	}
	f.info, f.unmap = info, unmap
	return f, nil
}

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "a special file"
}

// Parse reads a file that is in memory. The File keeps data and does not change
// it; name is for messages.
func Parse(name string, data []byte) (*File, error) {
	f := &File{Name: name, data: data, Alignment: defaultAlignment}
	if err := f.parse(); err != nil {
		return nil, fmt.Errorf("gguf: %s: %w", name, err)
	}
	return f, nil
}

func (f *File) parse() error {
	r := &reader{data: f.data, limit: min(len(f.data), maxHeader), order: binary.LittleEndian}
	if len(f.data) < headerStart {
		return fmt.Errorf("the file has %d bytes, a GGUF file at least %d", len(f.data), headerStart)
	}
	if string(f.data[:4]) != magic {
		return fmt.Errorf("it begins with %q, want %q", f.data[:4], magic)
	}
	r.pos = 4
	version, _ := r.uint32()
	if version&0xffff == 0 { // the version is small: a zero half is the upper one, in the other order
		r.order = binary.BigEndian
		version = bits.ReverseBytes32(version)
	}
	if version != 2 && version != 3 {
		return fmt.Errorf("version %d is not supported, want 2 or 3", version)
	}
	f.Version, f.order, f.Order = version, r.order, r.order
	nTensors, _ := r.uint64()
	nKV, _ := r.uint64()
	// A key takes at least 8+1+4+1 bytes, a tensor 8+1+4+8+4+8.
	if nKV > maxCount || nKV > r.left()/14 {
		return fmt.Errorf("%d keys cannot be in %d bytes (at most %d are allowed)", nKV, len(f.data), maxCount)
	}
	if nTensors > maxCount || nTensors > r.left()/33 {
		return fmt.Errorf("%d tensors cannot be in %d bytes (at most %d are allowed)", nTensors, len(f.data), maxCount)
	}
	if err := f.parseKVs(r, int(nKV)); err != nil {
		return err
	}
	if v, ok := f.Value(alignmentKey); ok {
		var err error
		if f.Alignment, err = checkAlignment(v); err != nil {
			return err
		}
	}
	if err := f.parseTensors(r, int(nTensors)); err != nil {
		return err
	}
	f.headerEnd = r.pos
	f.DataOffset = alignUp(uint64(r.pos), f.Alignment)
	return f.checkLayout()
}

func (f *File) parseKVs(r *reader, n int) error {
	f.kvIndex = make(map[string]int)
	for i := range n {
		key, err := r.string()
		if err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
		if err := checkKey(key); err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
		t, err := r.uint32()
		if err != nil {
			return fmt.Errorf("key %s: %w", quote(key), err)
		}
		v, err := r.value(valueType(t), 0)
		if err != nil {
			return fmt.Errorf("key %s: %w", quote(key), err)
		}
		if _, dup := f.kvIndex[key]; dup {
			return fmt.Errorf("key %s is there twice", quote(key))
		}
		f.kvIndex[key] = i
		f.KVs = append(f.KVs, KV{key, v})
		f.kvEnds = append(f.kvEnds, r.pos)
	}
	return nil
}

// checkAlignment checks the value of general.alignment.
func checkAlignment(v any) (uint64, error) {
	a, ok := v.(uint32)
	if !ok {
		return 0, fmt.Errorf("%s is of type %s, want uint32", alignmentKey, typeName(v))
	}
	if a == 0 || a > maxAlignment || a&(a-1) != 0 {
		return 0, fmt.Errorf("%s is %d, want a power of two up to %d", alignmentKey, a, maxAlignment)
	}
	return uint64(a), nil
}

func alignUp(n, alignment uint64) uint64 { return (n + alignment - 1) &^ (alignment - 1) }

func (f *File) parseTensors(r *reader, n int) error {
	f.tensorIndex = make(map[string]int)
	for i := range n {
		t, err := r.tensor()
		if err != nil {
			return fmt.Errorf("tensor %d: %w", i, err)
		}
		if t.Size, err = checkTensor(t.Name, t.Type, t.Dims); err != nil {
			return err
		}
		if _, dup := f.tensorIndex[t.Name]; dup {
			return fmt.Errorf("tensor %s is there twice", quote(t.Name))
		}
		f.tensorIndex[t.Name] = i
		f.Tensors = append(f.Tensors, t)
	}
	return nil
}

// tensor reads a row of the tensor table; Size is left to the caller.
func (r *reader) tensor() (t Tensor, err error) {
	if t.Name, err = r.string(); err != nil {
		return t, err
	}
	nDims, err := r.uint32()
	if err != nil {
		return t, err
	}
	if nDims > maxDims {
		return t, fmt.Errorf("%s has %d dimensions, want 1 to %d", quote(t.Name), nDims, maxDims)
	}
	t.Dims = make([]uint64, nDims)
	for i := range t.Dims {
		if t.Dims[i], err = r.uint64(); err != nil {
			return t, err
		}
	}
	typ, err := r.uint32()
	if err != nil {
		return t, err
	}
	t.Type = TensorType(typ)
	t.Offset, err = r.uint64()
	return t, err
}

// checkLayout checks that every tensor lies inside the file, aligned, and apart
// from every other.
func (f *File) checkLayout() error {
	size := uint64(len(f.data))
	room := size - min(size, f.DataOffset)
	for i := range f.Tensors {
		switch t := &f.Tensors[i]; {
		case t.Offset%f.Alignment != 0:
			return fmt.Errorf("tensor %s is at offset %d, want a multiple of %d", quote(t.Name), t.Offset, f.Alignment)
		case t.Offset > room:
			return fmt.Errorf("tensor %s is at offset %d, past the end of the data (%d bytes)", quote(t.Name), t.Offset, room)
		case t.Size > room-t.Offset:
			return fmt.Errorf("tensor %s ends at byte %d, past the end of the file (%d)", quote(t.Name), f.DataOffset+t.Offset+t.Size, size)
		}
		f.byOffset = append(f.byOffset, i)
	}
	slices.SortFunc(f.byOffset, func(i, j int) int {
		if f.Tensors[i].Offset < f.Tensors[j].Offset {
			return -1
		}
		return 1
	})
	for k := 1; k < len(f.byOffset); k++ {
		a, b := &f.Tensors[f.byOffset[k-1]], &f.Tensors[f.byOffset[k]]
		if a.Offset+a.Size > b.Offset {
			return fmt.Errorf("tensors %s and %s overlap at offset %d", quote(a.Name), quote(b.Name), b.Offset)
		}
	}
	return nil
}

// Close gives the mapping back. Nothing of the file may be used afterwards.
func (f *File) Close() error {
	var errs []error
	for _, p := range f.rest {
		errs = append(errs, p.Close())
	}
	unmap := f.unmap
	f.data, f.unmap, f.rest = nil, nil, nil
	if unmap != nil {
		if err := unmap(); err != nil {
			errs = append(errs, fmt.Errorf("gguf: %s: %w", f.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Forget lets go of the memory of all parts of a mapped file that were looked at so
// far; where they are looked at again they are read again. What follows from the
// file stays valid.
func (f *File) Forget() {
	if f.unmap != nil && len(f.data) > 0 {
		forget(f.data)
	}
	for _, p := range f.rest {
		p.Forget()
	}
}

// ForgetTensors is Forget for the memory that some tensors lie in.
func (f *File) ForgetTensors(ts []*Tensor) { f.advise(ts, forget) }

// ReadAhead asks the system to have the bytes of some tensors ready.
func (f *File) ReadAhead(ts []*Tensor) { f.advise(ts, readAhead) }

// advise calls do with the pages of a mapping that each tensor lies in.
func (f *File) advise(ts []*Tensor, do func([]byte)) {
	page := uint64(os.Getpagesize())
	for _, t := range ts {
		p := f.part(t)
		if p.unmap == nil || t.Size == 0 {
			continue
		}
		start := p.DataOffset + t.Offset
		do(p.data[start/page*page : min(uint64(len(p.data)), alignUp(start+t.Size, page))])
	}
}

// part returns the file that t lies in.
func (f *File) part(t *Tensor) *File {
	if t.Part > 0 {
		return f.rest[t.Part-1]
	}
	return f
}

// Tensor returns the tensor of that name.
func (f *File) Tensor(name string) (*Tensor, bool) {
	i, ok := f.tensorIndex[name]
	if !ok {
		return nil, false
	}
	return &f.Tensors[i], true
}

// raw returns the bytes of t as they lie in the file.
func (f *File) raw(t *Tensor) []byte {
	f = f.part(t)
	start := f.DataOffset + t.Offset
	return f.data[start : start+t.Size : start+t.Size]
}

// Data returns the bytes of a tensor of f in little-endian order: a view on the
// file, which must not be changed, or a swapped copy when the file is big-endian.
func (f *File) Data(t *Tensor) []byte {
	b := f.raw(t)
	if f.order == binary.BigEndian {
		b = slices.Clone(b)
		t.Type.swap(b)
	}
	return b
}

// Bytes returns the whole file, a view that must not be changed; of a model in several
// files the first.
func (f *File) Bytes() []byte { return f.data }

// Size returns the bytes of all files of the model.
func (f *File) Size() uint64 {
	n := uint64(len(f.data))
	for _, p := range f.rest {
		n += p.Size()
	}
	return n
}

// Paths returns the names of all files of the model, the first part's first.
func (f *File) Paths() []string {
	paths := []string{f.Name}
	for _, p := range f.rest {
		paths = append(paths, p.Name)
	}
	return paths
}

// Map maps a regular file of another format, to be read as Open reads. The bytes are there until
// unmap is called.
func Map(path string) (data []byte, unmap func() error, err error) {
	data, _, unmap, err = mapFile(path)
	return data, unmap, err
}

// Forget drops the pages of what Map returned: they are read again when they are needed.
func Forget(data []byte) {
	if len(data) > 0 {
		forget(data)
	}
}

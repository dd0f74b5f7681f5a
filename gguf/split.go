package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"strings"
)

// A model may lie in several files, its parts, as llama.cpp's gguf-split writes them:
// NAME-00001-of-00003.gguf and so on. The first has all keys, every part has the three
// below and a table of the tensors that lie in it. The first may have none.
const (
	splitNoKey      = "split.no"            // uint16; 0 is the first
	splitCountKey   = "split.count"         // uint16; 0 (which gguf-split --merge leaves) or 1: the file is all of it
	splitTensorsKey = "split.tensors.count" // int32; tensors of all parts
	maxParts        = math.MaxUint16
)

func isSplitKey(key string) bool {
	return key == splitNoKey || key == splitCountKey || key == splitTensorsKey
}

// splitEnd is what the name of part no (0 is the first) of n ends in.
func splitEnd(no, n uint64) string { return fmt.Sprintf("-%05d-of-%05d.gguf", no+1, n) }

// splitPart reads which part of how many f is.
func (f *File) splitPart() (no, n uint64, err error) {
	if n, _, err = f.Uint(splitCountKey); err != nil || n < 2 {
		return 0, n, err
	}
	var ok bool
	if no, ok, err = f.Uint(splitNoKey); err != nil {
		return 0, n, err
	}
	if !ok {
		return 0, n, fmt.Errorf("gguf: %s: %s is missing (%s is %d)", f.Name, splitNoKey, splitCountKey, n)
	}
	if n > maxParts || no >= n {
		return 0, n, fmt.Errorf("gguf: %s: %s is %d and %s is %d, want a part below the count and a count of at most %d",
			f.Name, splitNoKey, no, splitCountKey, n, maxParts)
	}
	return no, n, nil
}

// join opens the other parts where f is the first of several, checks that they belong
// together, and adds their tensors to f's.
func (f *File) join(open func(path string) (*File, error)) error {
	no, n, err := f.splitPart()
	if err != nil || n < 2 {
		return err
	}
	stem, ok := strings.CutSuffix(f.Name, splitEnd(no, n))
	if !ok {
		return fmt.Errorf("gguf: %s: it is part %d of %d, but its name does not end in %s, by which the others would be found",
			f.Name, no+1, n, splitEnd(no, n))
	}
	if no != 0 {
		return fmt.Errorf("gguf: %s: it is part %d of %d; open the first, %s", f.Name, no+1, n, stem+splitEnd(0, n))
	}
	var missing []string
	for i := uint64(1); i < n; i++ {
		p, err := open(stem + splitEnd(i, n))
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, filepath.Base(stem)+splitEnd(i, n))
			continue
		}
		if err != nil {
			return err
		}
		f.rest = append(f.rest, p)
		if err := f.addPart(p, i, n); err != nil {
			return err
		}
	}
	if k := len(missing); k > 0 {
		more := ""
		if k > 3 {
			missing, more = missing[:3], ", …"
		}
		return fmt.Errorf("gguf: %s: %d of its %d parts are missing: %s%s", f.Name, k, n, strings.Join(missing, ", "), more)
	}
	total, ok, err := f.Uint(splitTensorsKey)
	if err != nil {
		return err
	}
	if ok && total != uint64(len(f.Tensors)) {
		return fmt.Errorf("gguf: %s: %s is %d, its %d parts have %d tensors", f.Name, splitTensorsKey, total, n, len(f.Tensors))
	}
	return nil
}

// addPart adds the tensors of p, the last of f.rest, which is to be part no of n. The
// bounds on a header hold for those of all parts together.
func (f *File) addPart(p *File, no, n uint64) error {
	if pNo, pN, err := p.splitPart(); err != nil {
		return err
	} else if pNo != no || pN != n {
		return fmt.Errorf("gguf: %s: it says that it is part %d of %d, want part %d of %d as in its name", p.Name, pNo+1, pN, no+1, n)
	}
	if p.Order != f.Order {
		return fmt.Errorf("gguf: %s: its byte order is not that of the first part", p.Name)
	}
	header := uint64(f.headerEnd)
	for _, q := range f.rest {
		header += uint64(q.headerEnd)
	}
	if header > maxHeader || len(f.Tensors)+len(p.Tensors) > maxCount {
		return fmt.Errorf("gguf: %s: up to here the parts have headers of %d bytes and %d tensors, at most %d and %d are allowed",
			p.Name, header, len(f.Tensors)+len(p.Tensors), maxHeader, maxCount)
	}
	for _, t := range p.Tensors {
		if i, dup := f.tensorIndex[t.Name]; dup {
			return fmt.Errorf("gguf: %s: tensor %s is there twice, in part %d too", p.Name, quote(t.Name), f.Tensors[i].Part+1)
		}
		t.Part = len(f.rest)
		f.byOffset = append(f.byOffset, len(f.Tensors)) // part after part
		f.tensorIndex[t.Name] = len(f.Tensors)
		f.Tensors = append(f.Tensors, t)
	}
	return nil
}

// Split says when the data of a model goes on in another file: before a tensor with which
// one would have more than MaxBytes of data or more than MaxTensors tensors (gguf-split's
// --split-max-size and --split-max-tensors, which may be given together here). A part holds
// at least one tensor. Zero is no bound.
type Split struct {
	MaxBytes   uint64
	MaxTensors int
}

// plan divides tensors among the files of a model called path: their names, and for each
// the index of the tensor after its last.
func (s Split) plan(path string, tensors []TensorData, alignment uint64) (paths []string, ends []int, err error) {
	var data uint64
	start := 0
	for i, t := range tensors {
		size, err := checkTensor(t.Name, t.Type, t.Dims)
		if err != nil {
			return nil, nil, err
		}
		size = alignUp(size, alignment)
		if i > start && (s.MaxBytes > 0 && data+size > s.MaxBytes || s.MaxTensors > 0 && i-start >= s.MaxTensors) {
			ends = append(ends, i)
			start, data = i, 0
		}
		data += size
	}
	ends = append(ends, len(tensors))
	if len(ends) == 1 {
		return []string{path}, ends, nil
	}
	if len(ends) > maxParts {
		return nil, nil, fmt.Errorf("%d parts, at most %d are allowed", len(ends), maxParts)
	}
	for i := range ends {
		paths = append(paths, strings.TrimSuffix(path, ".gguf")+splitEnd(uint64(i), uint64(len(ends))))
	}
	return paths, ends, nil
}

// splitKeys are the keys of part no of n: of the first all, of the others those that say
// how to read it.
func splitKeys(kvs []KV, no, n, nTensors int) []KV {
	var keys []KV
	for _, kv := range kvs {
		if no == 0 || kv.Key == alignmentKey {
			keys = append(keys, kv)
		}
	}
	return append(keys, KV{splitNoKey, uint16(no)}, KV{splitCountKey, uint16(n)}, KV{splitTensorsKey, int32(nTensors)})
}

// WriteSplit is Write for a model that may take several files. If it takes one, that is
// path; else path gives the names: model.gguf becomes model-00001-of-00003.gguf and so
// on. It returns the names.
//
// The parts get their names when all are written, the first, without which the others do
// not open, last. Where a first part of the same name is replaced, it goes first, so that
// no crash leaves a model of old and new parts.
func WriteSplit(path string, kvs []KV, tensors []TensorData, s Split) ([]string, error) {
	alignment := uint64(defaultAlignment)
	for _, kv := range kvs {
		if kv.Key == alignmentKey {
			a, err := checkAlignment(kv.Value)
			if err != nil {
				return nil, fmt.Errorf("gguf: %s: %w", path, err)
			}
			alignment = a
		}
	}
	paths, ends, err := s.plan(path, tensors, alignment)
	if err != nil {
		return nil, fmt.Errorf("gguf: %s: %w", path, err)
	}
	if len(paths) == 1 {
		return paths, replaceFiles(paths, nil, func(_ int, w io.Writer) error { return encode(w, binary.LittleEndian, 3, kvs, tensors) })
	}
	return paths, writeParts(paths, ends, nil, binary.LittleEndian, 3, kvs, tensors)
}

// writeParts writes the files of plan, of which source is the model they come from, if any.
func writeParts(paths []string, ends []int, source *File, o byteOrder, version uint32, kvs []KV, tensors []TensorData) error {
	return replaceFiles(paths, source, func(i int, w io.Writer) error {
		start := 0
		if i > 0 {
			start = ends[i-1]
		}
		return encode(w, o, version, splitKeys(kvs, i, len(paths), len(tensors)), tensors[start:ends[i]])
	})
}

// RewriteSplit is Rewrite for a model that may take several files, as WriteSplit writes
// them. It returns their names.
func RewriteSplit(path string, f *File, set []KV, replace []TensorData, s Split) ([]string, error) {
	kvs, _, err := f.newKVs(set)
	if err != nil {
		return nil, fmt.Errorf("gguf: %s: %w", path, err)
	}
	parts, _, _, err := f.newParts(replace)
	if err != nil {
		return nil, fmt.Errorf("gguf: %s: %w", path, err)
	}
	tensors := make([]TensorData, len(parts))
	for i, p := range parts {
		t := &f.Tensors[i]
		tensors[i] = TensorData{Name: p.name, Type: p.typ, Dims: t.Dims, Bytes: p.bytes}
		if p.bytes == nil {
			tensors[i].Bytes = func() ([]byte, error) { return f.Data(t), nil }
		}
	}
	paths, ends, err := s.plan(path, tensors, f.Alignment)
	if err != nil {
		return nil, fmt.Errorf("gguf: %s: %w", path, err)
	}
	if len(paths) == 1 {
		return paths, replaceFiles(paths, f, func(_ int, w io.Writer) error { return f.rewrite(w, set, replace) })
	}
	return paths, writeParts(paths, ends, f, f.order, f.Version, kvs, tensors)
}

package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"

	"github.com/guardcpu/guardcpu/gguf/atomicfile"
)

// The file of a reference, little endian:
//
//	"GUARDREF"       magic, 8 bytes
//	version          uint32
//	sections         uint32: how many batches it is made of
//	digest           SHA-256 of what it is a reference of
//	sections × mark  uint32: sectionDone, or anything else while it is not there
//	           sum   uint32: CRC-32C of its records
//	records          of all rows, in order
//
// Everything but the marks follows from the digest, so no length is ever read from a file. A
// section counts when its mark is there and its sum is right: whatever a kill or a power cut leaves, what
// is missing is made again.
const (
	referenceMagic   = "GUARDREF"
	referenceVersion = 1
	referenceStart   = 8 + 4 + 4 + sha256.Size
	sectionDone      = 0x656e6f64 // "done"
)

// recordStore keeps records of one size, in memory or in a file.
type recordStore struct {
	size int    // of a record
	data []byte // in memory, or
	file *os.File
	ends []int // records at which sections end
	good []bool
}

// records is where in the file they begin.
func (s *recordStore) records() int64 { return referenceStart + 8*int64(len(s.ends)) }

// open opens or makes the file of a reference with that digest, and finds the sections that are good.
func (s *recordStore) open(path string, digest [sha256.Size]byte, ends []int, note func(string)) error {
	s.ends, s.good = ends, make([]bool, len(ends))
	head := make([]byte, s.records())
	copy(head, referenceMagic)
	binary.LittleEndian.PutUint32(head[8:], referenceVersion)
	binary.LittleEndian.PutUint32(head[12:], uint32(len(ends)))
	copy(head[16:], digest[:])
	same, why, err := s.reopen(path, head)
	if err != nil {
		return err
	}
	if why != "" && note != nil {
		note(fmt.Sprintf("%s is %s: it is made anew", path, why))
	}
	if same {
		return nil
	}
	err = atomicfile.Write(path, 0o600, func(w io.Writer) error {
		_, err := w.Write(head)
		return err
	})
	if err == nil {
		s.file, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err == nil {
		err = s.file.Truncate(s.records() + int64(s.rows()*s.size))
	}
	return storeError(err)
}

func (s *recordStore) rows() int {
	if len(s.ends) == 0 {
		return 0
	}
	return s.ends[len(s.ends)-1]
}

// reopen opens a file that begins like head and looks at its sections. same is false where there is
// none or, as why says, another one. A file that no reference has left is an error.
func (s *recordStore) reopen(path string, head []byte) (same bool, why string, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, "", nil
	}
	if err != nil {
		return false, "", storeError(err)
	}
	if !info.Mode().IsRegular() {
		return false, "", fmt.Errorf("engine: the reference: %s is no regular file", path)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false, "", storeError(err)
	}
	defer func() {
		if !same {
			f.Close()
		}
	}()
	got := make([]byte, len(head))
	n, err := io.ReadFull(f, got)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, "", storeError(err)
	}
	switch got = got[:n]; {
	case !bytes.HasPrefix(got, []byte(referenceMagic)):
		return false, "", fmt.Errorf("engine: %s is no file of a reference, and is not replaced by one", path)
	case n < 12 || binary.LittleEndian.Uint32(got[8:]) != referenceVersion:
		return false, "a reference of another format", nil
	case n < referenceStart || !bytes.Equal(got[:referenceStart], head[:referenceStart]):
		return false, "the reference of another model, of other data or in another form", nil
	}
	if err := f.Truncate(s.records() + int64(s.rows()*s.size)); err != nil {
		return false, "", storeError(err)
	}
	s.file = f
	var buf []byte
	first := 0
	damaged := 0
	for i, end := range s.ends {
		mark := got[min(len(got), referenceStart+8*i):]
		if len(mark) >= 8 && binary.LittleEndian.Uint32(mark) == sectionDone {
			buf = growBytes(buf, (end-first)*s.size)
			if _, err := f.ReadAt(buf, s.records()+int64(first*s.size)); err != nil {
				return true, "", storeError(err)
			}
			if s.good[i] = crc32.Checksum(buf, castagnoli) == binary.LittleEndian.Uint32(mark[4:]); !s.good[i] {
				damaged++
			}
		}
		first = end
	}
	if damaged > 0 {
		why = fmt.Sprintf("damaged in %d of %d places", damaged, len(s.ends))
	}
	return true, why, nil
}

// has says whether section i is there.
func (s *recordStore) has(i int) bool { return s.file != nil && s.good[i] }

// put keeps section i, whose first record is number first.
func (s *recordStore) put(i, first int, records []byte) error {
	if s.file == nil {
		copy(s.data[first*s.size:], records)
		return nil
	}
	mark := make([]byte, 8)
	binary.LittleEndian.PutUint32(mark, sectionDone)
	binary.LittleEndian.PutUint32(mark[4:], crc32.Checksum(records, castagnoli))
	_, err := s.file.WriteAt(records, s.records()+int64(first*s.size))
	if err == nil {
		_, err = s.file.WriteAt(mark, referenceStart+8*int64(i))
	}
	s.good[i] = err == nil
	return storeError(err)
}

// get reads a record.
func (s *recordStore) get(dst []byte, row int) error {
	if s.file == nil {
		copy(dst, s.data[row*s.size:])
		return nil
	}
	_, err := s.file.ReadAt(dst, s.records()+int64(row*s.size))
	return storeError(err)
}

// complete makes safe what has been put.
func (s *recordStore) complete() error {
	if s.file == nil {
		return nil
	}
	return storeError(s.file.Sync())
}

func (s *recordStore) close() error {
	if s.file == nil {
		return nil
	}
	return storeError(s.file.Close())
}

func storeError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("engine: the reference: %w", err)
}

// referenceDigest is what a reference is of: the model as it is now and how it computes, the samples, and the form.
func (m *Model) referenceDigest(samples []Sample, form ReferenceForm, key string) (digest [sha256.Size]byte) {
	c := &m.Config
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %s %d %d %d %s %v %g\n", key, form, c.Arch.Name, c.NLayers, c.DModel, c.NVocab, m.Ctx.K.Name, m.Ctx.Compute.On(m.Ctx.K), m.loraAlpha)
	for _, s := range samples {
		fmt.Fprintln(h, s.IDs)
	}
	values := m.TrainedState()
	sums := make([]uint32, len(values))
	m.Ctx.Par.For(len(values), func(i int) { sums[i] = values[i].checksum() })
	for i, v := range values {
		fmt.Fprintf(h, "%s %08x\n", v.Name, sums[i])
	}
	h.Sum(digest[:0])
	return digest
}

// checksum is the CRC-32C of a tensor's bytes.
func (s *StateTensor) checksum() (sum uint32) {
	if s.F32 == nil {
		return crc32.Checksum(s.BF16, castagnoli)
	}
	var buf [4096]byte
	for x := s.F32; len(x) > 0; {
		n := min(len(x), len(buf)/4)
		for i, v := range x[:n] {
			binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(v))
		}
		sum = crc32.Update(sum, castagnoli, buf[:4*n])
		x = x[n:]
	}
	return sum
}

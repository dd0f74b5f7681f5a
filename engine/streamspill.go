package engine

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"

	"github.com/guardcpu/guardcpu/engine/nn"
)

// SpillType is how a stream keeps numbers between two of its stages.
type SpillType string

// The types of spills. Rounding to bfloat16 changes a number by at most 2⁻⁹ of itself.
const (
	SpillBF16 SpillType = "bf16"
	SpillF32  SpillType = "f32"
)

// Bytes returns the bytes of a number.
func (t SpillType) Bytes() int {
	if t == SpillF32 {
		return 4
	}
	return 2
}

// spill holds numbers between two stages of a stream, in memory or in a file: sections that
// are written once, in order, and read in order, little endian. A section that is
// read must have the checksum of what was written.
type spill struct {
	name string
	typ  SpillType
	ends []int    // section i holds the numbers ends[i-1]…ends[i]
	sums []uint32 // CRC-32C of each section
	data []byte   // in memory, or
	file *os.File
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// section returns where section i lies, in bytes.
func (s *spill) section(i int) (lo, hi int) {
	if i > 0 {
		lo = s.ends[i-1] * s.typ.Bytes()
	}
	return lo, s.ends[i] * s.typ.Bytes()
}

// size returns the bytes of all sections.
func (s *spill) size() int {
	if len(s.ends) == 0 {
		return 0
	}
	return s.ends[len(s.ends)-1] * s.typ.Bytes()
}

// put writes section i. buf is memory that it may use and returns, maybe grown.
func (s *spill) put(c *nn.Ctx, i int, x []float32, buf []byte) ([]byte, error) {
	lo, hi := s.section(i)
	b := buf
	if s.file == nil {
		b = s.data[lo:hi]
	} else {
		buf = growBytes(buf, hi-lo)
		b = buf
	}
	s.typ.pack(c, b, x)
	s.sums[i] = crc32.Checksum(b, castagnoli)
	if s.file != nil {
		if _, err := s.file.WriteAt(b, int64(lo)); err != nil {
			return buf, fmt.Errorf("engine: spill: %w", err)
		}
	}
	return buf, nil
}

// get reads section i.
func (s *spill) get(c *nn.Ctx, i int, x []float32, buf []byte) ([]byte, error) {
	b, buf, err := s.bytes(i, buf)
	if err != nil {
		return buf, err
	}
	s.typ.unpack(c, x, b)
	return buf, nil
}

// bytes returns the bytes of section i, with the checksum they should have.
func (s *spill) bytes(i int, buf []byte) (b, grown []byte, err error) {
	lo, hi := s.section(i)
	if s.file == nil {
		b = s.data[lo:hi]
	} else {
		buf = growBytes(buf, hi-lo)
		b = buf
		if _, err := s.file.ReadAt(b, int64(lo)); err != nil {
			return nil, buf, fmt.Errorf("engine: spill: %w", err)
		}
	}
	if sum := crc32.Checksum(b, castagnoli); sum != s.sums[i] {
		return nil, buf, fmt.Errorf("engine: spill %s is damaged: bytes %d to %d have the checksum %08x, want %08x", s.name, lo, hi, sum, s.sums[i])
	}
	return b, buf, nil
}

// check reads everything.
func (s *spill) check(buf []byte) (_ []byte, err error) {
	for i := range s.ends {
		if _, buf, err = s.bytes(i, buf); err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// close lets go of the file but leaves it.
func (s *spill) close() {
	if s.file != nil {
		s.file.Close() // what is to stay has been synced
	}
}

// create makes the file of a spill, which only the owner may read: it tells of the data.
func (s *spill) create(dir string) (err error) {
	s.file, err = os.OpenFile(filepath.Join(dir, s.name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	return err
}

// pack sets b to the numbers of x.
func (t SpillType) pack(c *nn.Ctx, b []byte, x []float32) {
	pieces(c, len(x), func(_, lo, hi int) {
		if t == SpillF32 {
			for i, v := range x[lo:hi] {
				binary.LittleEndian.PutUint32(b[4*(lo+i):], math.Float32bits(v))
			}
			return
		}
		var y [256]float32
		for ; lo < hi; lo += len(y) {
			n := min(len(y), hi-lo)
			c.K.RoundBF16(y[:n], x[lo:lo+n])
			putBF16(b[2*lo:], y[:n])
		}
	})
}

// unpack sets x to the numbers in b.
func (t SpillType) unpack(c *nn.Ctx, x []float32, b []byte) {
	pieces(c, len(x), func(_, lo, hi int) {
		if t == SpillF32 {
			for i := range x[lo:hi] {
				x[lo+i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*(lo+i):]))
			}
			return
		}
		bfloat16.Unpack(c.K, x[lo:hi], b[2*lo:2*hi])
	})
}

func growBytes(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// Package checkpoint keeps the state of long work in files, so that work that was stopped goes on
// with the very bits it would have had. A file that is damaged is found out by its checksums, and the
// one before it is used.
//
// A file is
//
//	"guardcpu checkpoint 1\n"         1: the format
//	the tensors, one after the other  little-endian
//	the header                        JSON, with the SHA-256 of every tensor
//	its length                        8 bytes, little-endian
//	SHA-256                           of the first line and the header
//
// so that it is written in one pass, and every byte is under a checksum. The first line, the length and the
// last checksum stay in every format, so that another format can be told from damage.
package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/gguf/atomicfile"
)

// Format is the format that is written, and the one that is read.
const Format = 1

const (
	firstLine = "guardcpu checkpoint %d\n"
	lineLen   = len("guardcpu checkpoint 1\n") // also of formats 2 to 9
	tailLen   = 8 + sha256.Size
	// maxHeader bounds the memory that a damaged length can take.
	maxHeader = 1 << 28
	pieceLen  = 1 << 20
)

// Header is what a file says besides its tensors.
type Header struct {
	Name    string `json:"name"`    // of the work
	Step    int    `json:"step"`    // how many of its steps are done
	Version string `json:"version"` // of the program that wrote it
	Kernels string `json:"kernels"` // the kernel set that computed
	Compute string `json:"compute"` // numbers that products with weights multiplied
	Origin
	Extra   json.RawMessage `json:"extra,omitempty"` // what the work keeps besides tensors
	Tensors []tensor        `json:"tensors"`

	format int
}

// Origin is what work must be the same in to go on from a file.
type Origin struct {
	Model  string `json:"model"`  // SHA-256 of the model
	Data   string `json:"data"`   // SHA-256 of everything else that is read
	Config string `json:"config"` // SHA-256 of the options
}

// tensor is an entry of the header.
type tensor struct {
	Name   string `json:"name"`
	Type   string `json:"type"` // F32 or BF16
	Len    int    `json:"len"`  // elements
	SHA256 string `json:"sha256"`
}

// entry describes s without its hash.
func entry(s *engine.StateTensor) tensor {
	if s.BF16 != nil {
		return tensor{Name: s.Name, Type: "BF16", Len: len(s.BF16) / 2}
	}
	return tensor{Name: s.Name, Type: "F32", Len: len(s.F32)}
}

// size returns the bytes of the tensor, and false if it is none that is written.
func (t *tensor) size() (bytes int64, ok bool) {
	each := map[string]int{"F32": 4, "BF16": 2}[t.Type]
	return int64(t.Len) * int64(each), each > 0 && t.Len >= 0 && t.Len <= math.MaxInt64/4
}

// damage is what is wrong with a file that does not hold what was written.
type damage struct{ what string }

func (d *damage) Error() string { return d.what }

func damaged(format string, args ...any) error { return &damage{fmt.Sprintf(format, args...)} }

// write puts h and the tensors at path, whole or not at all. It completes h.Tensors.
func write(path string, h *Header, state []engine.StateTensor) error {
	return atomicfile.Write(path, 0o600, func(w io.Writer) error {
		line := fmt.Sprintf(firstLine, Format)
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
		h.Tensors = make([]tensor, len(state))
		buf := make([]byte, 0, pieceLen)
		for i := range state {
			t, sum := entry(&state[i]), sha256.New()
			if err := writeTensor(io.MultiWriter(w, sum), &state[i], buf); err != nil {
				return err
			}
			t.SHA256 = hexSum(sum)
			h.Tensors[i] = t
		}
		text, err := json.Marshal(h)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(append([]byte(line), text...))
		text = binary.LittleEndian.AppendUint64(text, uint64(len(text)))
		_, err = w.Write(append(text, sum[:]...))
		return err
	})
}

func writeTensor(w io.Writer, s *engine.StateTensor, buf []byte) error {
	for b := s.BF16; len(b) > 0; { // in pieces, so that hashing and writing take turns
		n := min(len(b), pieceLen)
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	for x := s.F32; len(x) > 0; {
		n := min(len(x), pieceLen/4)
		buf = buf[:0]
		for _, v := range x[:n] {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
		x = x[n:]
	}
	return nil
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// openFile opens a file and reads its header. The file is then at the first tensor.
func openFile(path string) (f *os.File, h *Header, err error) {
	if f, err = os.Open(path); err != nil {
		return nil, nil, err
	}
	if h, err = readHeader(f); err == nil {
		_, err = f.Seek(int64(lineLen), io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, h, nil
}

func readHeader(f *os.File) (*Header, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if size < int64(lineLen+tailLen) {
		return nil, damaged("%d bytes are no checkpoint", size)
	}
	line, tail := make([]byte, lineLen), make([]byte, tailLen)
	if _, err := f.ReadAt(line, 0); err != nil {
		return nil, err
	}
	if _, err := f.ReadAt(tail, size-int64(tailLen)); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(tail)
	if left := uint64(size) - uint64(lineLen+tailLen); n > min(left, maxHeader) {
		return nil, damaged("its header would have %d bytes", n)
	}
	text := make([]byte, n)
	start := size - int64(tailLen) - int64(n)
	if _, err := f.ReadAt(text, start); err != nil {
		return nil, err
	}
	sum := sha256.New()
	sum.Write(line)
	sum.Write(text)
	if !bytes.Equal(sum.Sum(nil), tail[8:]) {
		return nil, damaged("sha256 of the header differs")
	}
	h := &Header{}
	if _, err := fmt.Sscanf(string(line), firstLine, &h.format); err != nil {
		return nil, damaged("it does not begin as a checkpoint does")
	}
	if h.format != Format {
		return h, nil // only what wrote it knows the rest
	}
	if err := json.Unmarshal(text, h); err != nil {
		return nil, damaged("its header does not read: %v", err)
	}
	at := int64(lineLen)
	for i := range h.Tensors {
		n, ok := h.Tensors[i].size()
		if !ok || n > start-at {
			return nil, damaged("tensor %s does not fit", h.Tensors[i].Name)
		}
		at += n
	}
	if at != start {
		return nil, damaged("%d bytes belong to no tensor", start-at)
	}
	return h, nil
}

// readTensors fills the tensors from a file that openFile has opened.
func readTensors(f io.Reader, h *Header, state []engine.StateTensor) error {
	if len(state) != len(h.Tensors) {
		return fmt.Errorf("has %d tensors, want %d: it is of another training", len(h.Tensors), len(state))
	}
	for i := range state {
		want, t := entry(&state[i]), h.Tensors[i]
		if want.SHA256 = t.SHA256; want != t {
			return fmt.Errorf("has %s (%d of %s), want %s (%d of %s): it is of another training", t.Name, t.Len, t.Type, want.Name, want.Len, want.Type)
		}
	}
	buf := make([]byte, pieceLen)
	for i := range state {
		sum := sha256.New()
		if err := readTensor(io.TeeReader(f, sum), &state[i], buf); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				err = damaged("it ends in tensor %s", h.Tensors[i].Name)
			}
			return err
		}
		if hexSum(sum) != h.Tensors[i].SHA256 {
			return damaged("sha256 differs in tensor %s", h.Tensors[i].Name)
		}
	}
	return nil
}

func readTensor(r io.Reader, s *engine.StateTensor, buf []byte) error {
	for b := s.BF16; len(b) > 0; {
		n := min(len(b), pieceLen)
		if _, err := io.ReadFull(r, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	for x := s.F32; len(x) > 0; {
		n := min(len(x), pieceLen/4)
		if _, err := io.ReadFull(r, buf[:4*n]); err != nil {
			return err
		}
		for i := range n {
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(buf[4*i:]))
		}
		x = x[n:]
	}
	return nil
}

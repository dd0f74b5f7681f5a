package engine

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/guardcpu/guardcpu/gguf/atomicfile"
)

// streamRecord says what the stages that a stream has done have left. It is written after they are safe.
type streamRecord struct {
	Version int
	Key     string
	Next    int // the stage to go on with
	Spills  []spillRecord
	Losses  [][]float64
	Scores  [][][]float64
	Squares []float64
}

type spillRecord struct {
	Name string
	Sums []uint32
}

// recordVersion changes with what a record or a spill means.
const recordVersion = 1

// recordFile is the name of a stream's record.
const recordFile = "stream.json"

// sealedRecord is a record as its file holds it.
type sealedRecord struct {
	SHA256 string
	Record json.RawMessage
}

// ours are the names of the files that a stream makes in its directory.
var ours = regexp.MustCompile(`^(d?h\d+|tied|stream\.json|\.?stream\.json.*)$`)

// RemoveStream deletes what streams have left in dir, and dir if nothing else is in it.
func RemoveStream(dir string) error {
	if err := removeSpills(dir, nil); err != nil {
		return err
	}
	os.Remove(dir) // fails where something else is in it
	return nil
}

// StreamSize returns the bytes that streams have left in dir.
func StreamSize(dir string) (n uint64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && ours.MatchString(e.Name()) {
			n += uint64(info.Size())
		}
	}
	return n
}

// removeSpills deletes the files of streams in dir but for those to keep.
func removeSpills(dir string, keep []string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("engine: spill: %w", err)
	}
	for _, e := range entries {
		if ours.MatchString(e.Name()) && e.Type().IsRegular() && !slices.Contains(keep, e.Name()) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("engine: spill: %w", err)
			}
		}
	}
	return nil
}

// open makes the directory of a stream and takes over what is left there of the same work.
func (s *stream) open() error {
	if s.o.Dir == "" {
		return nil
	}
	if err := os.MkdirAll(s.o.Dir, 0o700); err != nil {
		return fmt.Errorf("engine: spill: %w", err)
	}
	if err := s.resume(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.note(fmt.Sprintf("what %s holds of an attribution is not used: %v", s.o.Dir, err))
	}
	return removeSpills(s.o.Dir, s.recorded)
}

func (s *stream) note(text string) {
	if s.o.Note != nil {
		s.o.Note(text)
	}
}

// resume takes over a record. After an error the stream is as it was.
func (s *stream) resume() (err error) {
	if s.o.Key == "" {
		return fs.ErrNotExist
	}
	r, err := s.readRecord()
	if err != nil {
		return err
	}
	spills := map[string]*spill{}
	defer func() {
		if err != nil {
			for _, x := range spills {
				x.close()
			}
		}
	}()
	for _, rec := range r.Spills {
		x := &spill{name: rec.Name, typ: s.o.Spill, ends: s.batchEnds(), sums: rec.Sums}
		if rec.Name == tiedSpill {
			x.typ, x.ends = SpillF32, s.tiedEnds()
		}
		if x.file, err = os.OpenFile(filepath.Join(s.o.Dir, filepath.Base(rec.Name)), os.O_RDWR, 0); err != nil {
			return errors.New("a file of it is missing")
		}
		spills[rec.Name] = x
		if len(x.sums) != len(x.ends) {
			return fmt.Errorf("%s has %d checksums, want %d", rec.Name, len(x.sums), len(x.ends))
		}
		if s.buf, err = x.check(s.buf); err != nil {
			return err
		}
	}
	s.next, s.spills, s.losses, s.scores, s.squares = r.Next, spills, r.Losses, r.Scores, r.Squares
	s.needed()
	for _, st := range s.stages[:s.next] {
		for i := range s.batches {
			s.done += batchFlops(st, s.batches[i], s.groups)
		}
	}
	if s.next < len(s.stages) {
		s.note(fmt.Sprintf("attribution goes on with stage %d of %d (%v)", s.next+1, len(s.stages), s.stages[s.next]))
	}
	return nil
}

// readRecord reads the record and checks that it is of this work.
func (s *stream) readRecord() (*streamRecord, error) {
	data, err := os.ReadFile(filepath.Join(s.o.Dir, recordFile))
	if err != nil {
		return nil, err
	}
	var sealed sealedRecord
	if err := json.Unmarshal(data, &sealed); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", recordFile, err)
	}
	if sum := sha256.Sum256(sealed.Record); hex.EncodeToString(sum[:]) != sealed.SHA256 {
		return nil, fmt.Errorf("%s is damaged: its SHA-256 differs", recordFile)
	}
	r := &streamRecord{}
	if err := json.Unmarshal(sealed.Record, r); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", recordFile, err)
	}
	switch {
	case r.Version != recordVersion:
		return nil, fmt.Errorf("%s has format %d, this binary reads %d", recordFile, r.Version, recordVersion)
	case r.Key != s.o.Key:
		return nil, errors.New("it is of another model, other data or other options")
	case r.Next < 1 || r.Next > len(s.stages) || len(r.Losses) != len(s.losses) || len(r.Scores) != len(s.scores) || len(r.Squares) != len(s.squares):
		return nil, errors.New("it is of another division of the work")
	}
	return r, nil
}

// finish makes safe what a stage has done and then lets go of what nobody reads any more.
func (s *stream) finish(st stage) error {
	s.next++
	var gone []*spill
	for _, name := range st.drop {
		gone = append(gone, s.spills[name])
		delete(s.spills, name)
	}
	if s.o.Key != "" {
		if err := s.record(); err != nil {
			return err
		}
	}
	for _, x := range gone {
		if x.file == nil {
			s.free = append(s.free, x.data)
			continue
		}
		x.close()
		if err := os.Remove(x.file.Name()); err != nil {
			return fmt.Errorf("engine: spill: %w", err)
		}
	}
	return nil
}

// record makes safe what the stages so far have left.
func (s *stream) record() error {
	r := streamRecord{Version: recordVersion, Key: s.o.Key, Next: s.next, Losses: s.losses, Scores: s.scores, Squares: s.squares}
	for name, x := range s.spills {
		if err := x.file.Sync(); err != nil { // of most files nothing is left to write
			return s.spillError(err)
		}
		r.Spills = append(r.Spills, spillRecord{name, x.sums})
	}
	slices.SortFunc(r.Spills, func(a, b spillRecord) int { return cmp.Compare(a.Name, b.Name) })
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("engine: %s: %w", recordFile, err)
	}
	sum := sha256.Sum256(body)
	data, err := json.Marshal(sealedRecord{hex.EncodeToString(sum[:]), body})
	if err != nil {
		return fmt.Errorf("engine: %s: %w", recordFile, err)
	}
	err = atomicfile.Write(filepath.Join(s.o.Dir, recordFile), 0o600, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return s.spillError(err)
	}
	s.needed()
	return nil
}

// needed notes which files a resume needs now.
func (s *stream) needed() {
	s.recorded = []string{recordFile}
	for name := range s.spills {
		s.recorded = append(s.recorded, name)
	}
}

// stop leaves in the directory what a resume needs, after an error or when all is done.
func (s *stream) stop(err error) error {
	if s.o.Dir == "" {
		return err
	}
	for _, x := range s.spills {
		x.close()
	}
	if s.recorded == nil {
		return errors.Join(err, RemoveStream(s.o.Dir))
	}
	return errors.Join(err, removeSpills(s.o.Dir, s.recorded))
}

func (s *stream) spillError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("engine: spill: %w", err)
}

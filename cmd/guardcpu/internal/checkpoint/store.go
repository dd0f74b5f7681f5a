package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"

	"github.com/guardcpu/guardcpu/engine"
)

// Why no work can go on; Load's errors wrap one of these.
var (
	ErrNone   = errors.New("no usable checkpoint")
	ErrFormat = errors.New("checkpoint format")
	ErrOrigin = errors.New("checkpoint belongs to")
)

// Store is a directory of checkpoints of one run. Of each work the last two are kept, so that one is left
// when the other is damaged.
type Store struct {
	Dir     string
	Origin  Origin
	Version string // of the program
	Kernels string // that compute, and
	Compute string // how products with weights are computed; both are told, not compared
	// Say is told in a sentence what was found damaged.
	Say func(string)
}

// file is a checkpoint in the directory.
type file struct {
	step int
	path string
}

// FileName is the name of the checkpoint of a work after a number of its steps.
func FileName(name string, step int) string { return fmt.Sprintf("%s.%06d.ckpt", name, step) }

// files lists the checkpoints of a work, newest first.
func (s *Store) files(name string) ([]file, error) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	pattern := regexp.MustCompile("^" + regexp.QuoteMeta(name) + `\.(\d+)\.ckpt$`)
	var list []file
	for _, e := range entries {
		if m := pattern.FindStringSubmatch(e.Name()); m != nil {
			if step, err := strconv.Atoi(m[1]); err == nil && e.Type().IsRegular() {
				list = append(list, file{step, filepath.Join(s.Dir, e.Name())})
			}
		}
	}
	slices.SortFunc(list, func(a, b file) int { return b.step - a.step })
	return list, nil
}

// Has says whether there is a checkpoint of a work, usable or not.
func (s *Store) Has(name string) (bool, error) {
	files, err := s.files(name)
	return len(files) > 0, err
}

// Size returns the bytes of a checkpoint of the tensors, but for its header.
func Size(state []engine.StateTensor) (bytes uint64) {
	for i := range state {
		t := entry(&state[i])
		n, _ := t.size()
		bytes += uint64(n)
	}
	return bytes
}

// Save keeps the state of a work after a number of its steps, and extra as JSON. When it returns, the
// checkpoint would outlast a loss of power. After an error those before it are as they were.
func (s *Store) Save(name string, step int, extra any, state []engine.StateTensor) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	h := &Header{Name: name, Step: step, Version: s.Version, Kernels: s.Kernels, Compute: s.Compute, Origin: s.Origin}
	var err error
	if h.Extra, err = json.Marshal(extra); err != nil {
		return err
	}
	if err := write(filepath.Join(s.Dir, FileName(name, step)), h, state); err != nil {
		return err
	}
	files, err := s.files(name)
	if err != nil {
		return nil // what was to be kept is
	}
	for _, f := range files[min(2, len(files)):] {
		os.Remove(f.path)
	}
	return nil
}

// Load takes up the newest checkpoint of a work that is whole, and returns its header; nil if there never was
// one. into returns the tensors to fill, nil for none; they are whole when Load returns a header. A damaged file is
// said aloud and removed when the one before it has been read; before the only one there is the beginning of the work.
// What is of another run or format is an error.
func (s *Store) Load(name string, into func(h *Header) []engine.StateTensor) (*Header, error) {
	files, err := s.files(name)
	if err != nil || len(files) == 0 {
		return nil, err
	}
	var bad []file
	var why []error
	for _, f := range files {
		h, err := s.read(f.path, into)
		var d *damage
		if errors.As(err, &d) || errors.Is(err, syscall.EIO) {
			bad, why = append(bad, f), append(why, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(f.path), err)
		}
		for i, b := range bad {
			s.Say(fmt.Sprintf("checkpoint %d of %s is damaged (%v): using %d", b.step, name, why[i], h.Step))
			os.Remove(b.path)
		}
		return h, nil
	}
	if len(bad) == 1 {
		s.Say(fmt.Sprintf("checkpoint %d of %s is damaged (%v): using the state before it", bad[0].step, name, why[0]))
		return nil, os.Remove(bad[0].path)
	}
	return nil, fmt.Errorf("%w of %s: %d is damaged (%w)", ErrNone, name, bad[0].step, why[0])
}

// Peek returns the newest header of a work that reads, and changes nothing; nil if there is none.
func (s *Store) Peek(name string) (*Header, error) {
	files, err := s.files(name)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		file, h, err := openFile(f.path)
		if err != nil {
			continue // Load says what is wrong with it
		}
		file.Close()
		if h.format != Format {
			return nil, s.check(h)
		}
		return h, nil
	}
	return nil, nil
}

func (s *Store) read(path string, into func(h *Header) []engine.StateTensor) (*Header, error) {
	f, h, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := s.check(h); err != nil {
		return nil, err
	}
	if into != nil {
		if state := into(h); state != nil {
			return h, readTensors(f, h, state)
		}
	}
	return h, nil
}

// check says whether work may go on from a file.
func (s *Store) check(h *Header) error {
	short := func(sum string) string { return sum[:min(12, len(sum))] }
	switch {
	case h.format != Format:
		return fmt.Errorf("%w %d, this binary reads %d", ErrFormat, h.format, Format)
	case h.Model != s.Origin.Model:
		return fmt.Errorf("%w another model (sha256 %s…, here %s…)", ErrOrigin, short(h.Model), short(s.Origin.Model))
	case h.Data != s.Origin.Data:
		return fmt.Errorf("%w other data (sha256 %s…, here %s…)", ErrOrigin, short(h.Data), short(s.Origin.Data))
	case h.Config != s.Origin.Config:
		return fmt.Errorf("%w other options (sha256 %s…, here %s…)", ErrOrigin, short(h.Config), short(s.Origin.Config))
	}
	return nil
}

// Remove removes every checkpoint of a work that is not needed any more.
func (s *Store) Remove(name string) error {
	files, err := s.files(name)
	for _, f := range files {
		err = errors.Join(err, os.Remove(f.path))
	}
	return err
}

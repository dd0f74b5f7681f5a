package atomicfile

import (
	"io/fs"
	"os"
	"path/filepath"
)

// pending is a file that has not got its name yet. (renameio is not made for Windows, and
// there a directory cannot be synced; permissions are those of the directory.)
type pending struct {
	*os.File
	path string
	done bool
}

func newPending(path string, _ fs.FileMode) (*pending, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path))
	if err != nil {
		return nil, err
	}
	return &pending{File: f, path: path}, nil
}

func (p *pending) replace() error {
	if err := p.Close(); err != nil {
		return err
	}
	if err := os.Rename(p.Name(), p.path); err != nil {
		return err
	}
	p.done = true
	return nil
}

func (p *pending) cleanup() {
	if !p.done {
		_ = p.Close()
		_ = os.Remove(p.Name())
	}
}

func syncDir(string) error { return nil }

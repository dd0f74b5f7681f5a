package rundir

import (
	"io"
	"os"
	"path/filepath"
)

// Create is WriteFile for what write produces piece by piece. If write fails nothing is
// left. (renameio is not made for Windows, and there a directory cannot be synced.)
func Create(path string, write func(w io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

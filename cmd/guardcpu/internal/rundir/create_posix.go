//go:build !windows

package rundir

import (
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Create is WriteFile for what write produces piece by piece. If write fails nothing is left.
func Create(path string, write func(w io.Writer) error) error {
	dir := filepath.Dir(path)
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(dir), renameio.WithPermissions(0o600))
	if err != nil {
		return err
	}
	defer f.Cleanup() // does nothing after the rename
	if err := write(f); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

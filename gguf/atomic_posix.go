//go:build !windows

package gguf

import (
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// atomically writes a temporary file in the directory of path, syncs it, renames
// it to path and syncs the directory. A file that is replaced hands on its
// permissions; a new one has 0644 less the umask.
func atomically(path string, write func(io.Writer) error) error {
	dir := filepath.Dir(path)
	file, err := renameio.NewPendingFile(path, renameio.WithTempDir(dir),
		renameio.WithPermissions(0o644), renameio.WithExistingPermissions())
	if err != nil {
		return err
	}
	defer file.Cleanup() // does nothing after the rename
	if err := write(file); err != nil {
		return err
	}
	if err := file.CloseAtomicallyReplace(); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

//go:build !windows

package atomicfile

import (
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// pending is a file that has not got its name yet.
type pending struct{ *renameio.PendingFile }

func newPending(path string, perm fs.FileMode) (*pending, error) {
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)),
		renameio.WithPermissions(perm), renameio.WithExistingPermissions())
	if err != nil {
		return nil, err
	}
	return &pending{f}, nil
}

func (p *pending) replace() error { return p.CloseAtomicallyReplace() }

func (p *pending) cleanup() { _ = p.Cleanup() }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

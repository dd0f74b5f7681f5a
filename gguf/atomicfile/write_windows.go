package atomicfile

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Write puts at path what write writes. (renameio is not made for Windows, and there a
// directory cannot be synced; permissions are those of the directory.)
func Write(path string, _ fs.FileMode, write func(io.Writer) error) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
		}
	}()
	if err := write(file); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// Package atomicfile writes files that are whole or absent.
//
// Write fills a temporary file in the directory of path, syncs it, renames it to path and
// syncs the directory. Until the rename path is as it was; after an error the temporary
// file is gone.
//
// WriteSet does so for files that are of use together only, in one directory.
package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Write puts at path what write writes, to a writer that is an [io.ReaderAt], too, for reading back. Where the system has permissions, a file that is
// replaced hands them on, and a new one has perm less the umask.
func Write(path string, perm fs.FileMode, write func(io.Writer) error) error {
	return WriteSet([]string{path}, perm, func(_ int, w io.Writer) error { return write(w) })
}

// WriteSet puts at paths[i] what write(i, …) writes, i in turn. The files get their names
// when all are complete, that of paths[0] last. If there are several and it exists, it is
// removed first: whenever the process ends, paths[0] stands for nothing but a complete set.
// An error before that leaves all paths as they were.
func WriteSet(paths []string, perm fs.FileMode, write func(i int, w io.Writer) error) (err error) {
	files := make([]*pending, len(paths))
	defer func() {
		for _, f := range files {
			if f != nil {
				f.cleanup() // does nothing after the rename
			}
		}
	}()
	for i, path := range paths {
		if files[i], err = newPending(path, perm); err != nil {
			return err
		}
		if err := write(i, files[i]); err != nil {
			return err
		}
		if err := files[i].Sync(); err != nil {
			return err
		}
	}
	dir := filepath.Dir(paths[0])
	if len(paths) > 1 {
		err := os.Remove(paths[0])
		if err == nil {
			err = syncDir(dir)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for i := len(files) - 1; i >= 0; i-- {
		if i == 0 && len(files) > 1 {
			if err := syncDir(dir); err != nil {
				return err
			}
		}
		if err := files[i].replace(); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

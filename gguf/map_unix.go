//go:build unix

package gguf

import (
	"fmt"
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps a regular file. O_NONBLOCK, and looking at the file once more
// after it is open, keep a pipe that took its place from blocking the process.
func mapFile(path string) (data []byte, info fs.FileInfo, unmap func() error, err error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, nil, err
	}
	defer file.Close() // a mapping outlives its descriptor
	if info, err = file.Stat(); err != nil {
		return nil, nil, nil, err
	}
	size := info.Size()
	switch {
	case !info.Mode().IsRegular():
		return nil, nil, nil, fmt.Errorf("it is %s, want a regular file", kindOf(info.Mode()))
	case size > math.MaxInt:
		return nil, nil, nil, fmt.Errorf("%d bytes are more than this system can address", size)
	case size == 0: // cannot be mapped
		return nil, info, func() error { return nil }, nil
	}
	data, err = unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("mapping %d bytes: %w", size, err)
	}
	remember(path, data)
	return data, info, func() error { return unix.Munmap(data) }, nil
}

// forget drops a mapping's pages. That they stay, where it is refused, is no error.
func forget(data []byte) { _ = unix.Madvise(data, unix.MADV_DONTNEED) }

// readAhead has the system read a mapping's pages while the process goes on.
func readAhead(data []byte) { _ = unix.Madvise(data, unix.MADV_WILLNEED) }

//go:build !unix

package gguf

import (
	"io"
	"io/fs"
	"os"
)

// mapFile reads the file whole.
func mapFile(path string) (data []byte, info fs.FileInfo, unmap func() error, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, nil, err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, nil, nil, err
	}
	data, err = io.ReadAll(file)
	return data, info, func() error { return nil }, err
}

// forget does nothing: there is no mapping.
func forget([]byte) {}

// readAhead does nothing: everything has been read.
func readAhead([]byte) {}

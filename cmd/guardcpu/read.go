package main

import (
	"errors"
	"fmt"
	"os"
)

// mostFile bounds a file that is read whole, in bytes.
const mostFile = 256 << 20

// readFile is the content of a regular file. Others are refused before they are opened: a pipe may
// have nobody at its other end, and a device has no end.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, pathCause(err)
	case info.IsDir():
		return nil, errors.New("it is a directory")
	case !info.Mode().IsRegular():
		return nil, errors.New("it is no regular file")
	case info.Size() > mostFile:
		return nil, fmt.Errorf("it has %s, at most %s are read", bytesText(uint64(info.Size())), bytesText(mostFile))
	}
	data, err := os.ReadFile(path)
	return data, pathCause(err)
}

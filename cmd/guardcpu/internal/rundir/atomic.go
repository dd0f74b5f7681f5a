// Package rundir keeps what one run leaves behind: files that are whole or absent,
// the directory they lie in, its manifest and its journal.
package rundir

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/guardcpu/guardcpu/gguf/atomicfile"
)

// Create puts at path what write writes, whole or not at all. A data set may hold
// personal data, so only the owner may read a new file.
func Create(path string, write func(w io.Writer) error) error {
	return atomicfile.Write(path, 0o600, write)
}

// WriteFile is Create for what is in memory.
func WriteFile(path string, data []byte) error {
	return Create(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteJSON writes v as indented JSON with WriteFile.
func WriteJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return WriteFile(path, append(data, '\n'))
}

// Package rundir keeps what one run leaves behind: files that are whole or absent,
// the directory they lie in, its manifest and its journal.
package rundir

import (
	"encoding/json"
	"fmt"
	"io"
)

// WriteFile writes a file that is either whole or absent: into a temporary file
// beside path, synced, renamed, and the directory synced. The data set may hold
// personal data, so only the owner may read it.
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

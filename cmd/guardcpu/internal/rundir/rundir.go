package rundir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Names of the files of a run directory.
const (
	Config   = "config.yaml"
	Manifest = "manifest.json"
	Progress = "progress.jsonl"
	Scores   = "scores.jsonl"
	Metrics  = "metrics.json"
	Report   = "report.html"
	Model    = "model.gguf"
	Logs     = "logs" // TOFU's log files, a directory a model
)

// Dir is the directory of one run.
type Dir struct {
	Path    string
	journal *os.File
	start   time.Time
}

// New makes a run directory under parent named after the minute: 2026-11-23-1503,
// then 2026-11-23-1503-2 and so on.
func New(parent string, now time.Time) (*Dir, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	name := now.Format("2006-01-02-1504")
	for n := 1; ; n++ {
		path := filepath.Join(parent, name)
		if n > 1 {
			path = fmt.Sprintf("%s-%d", path, n)
		}
		d, err := Make(path, now)
		if !errors.Is(err, fs.ErrExist) {
			return d, err
		}
	}
}

// Make makes the run directory path, which must not exist: Mkdir decides between two
// processes that want the same one.
func Make(path string, now time.Time) (*Dir, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(path, Progress), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &Dir{Path: path, journal: f, start: now}, nil
}

// File returns the path of a file in the directory.
func (d *Dir) File(elem ...string) string {
	return filepath.Join(append([]string{d.Path}, elem...)...)
}

// Event appends one line to the journal: the seconds since the start, the name of
// the event, and the fields, in this order. Fields of a value that JSON cannot hold
// (NaN, infinities) are written as text.
func (d *Dir) Event(name string, fields ...Field) error {
	line := []byte(fmt.Sprintf(`{"t":%.3f,"event":%q`, time.Since(d.start).Seconds(), name))
	for _, f := range fields {
		v, err := json.Marshal(f.Value)
		if err != nil {
			if v, err = json.Marshal(fmt.Sprint(f.Value)); err != nil {
				return err
			}
		}
		line = append(line, ',')
		line = append(line, fmt.Sprintf("%q:", f.Name)...)
		line = append(line, v...)
	}
	line = append(line, "}\n"...)
	_, err := d.journal.Write(line)
	return err
}

// Field is one named value of an event.
type Field struct {
	Name  string
	Value any
}

// Close ends the journal, synced.
func (d *Dir) Close() error {
	return errors.Join(d.journal.Sync(), d.journal.Close())
}

package rundir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Names of the files of a run directory.
const (
	Config      = "config.yaml"
	Manifest    = "manifest.json"
	Progress    = "progress.jsonl"
	Scores      = "scores.jsonl"
	Metrics     = "metrics.json"
	Report      = "report.html"
	Model       = "model.gguf"
	Logs        = "logs"        // TOFU's log files, a directory a model
	Checkpoints = "checkpoints" // what a run that was stopped goes on from
	Lock        = "lock"        // while a process works in the directory
)

// early are the files a run makes before its first checkpoint, without which it has not begun.
var early = []string{Lock, Progress, Config, Manifest, Checkpoints}

// all are the files of a run.
var all = append([]string{Scores, Metrics, Report, Model, Logs}, early...)

// Dir is the directory of one run, locked by this process.
type Dir struct {
	Path    string
	lock    *os.File
	journal *os.File
	start   time.Time // when the run would have begun if it had not been stopped
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
		d, err := Make(path)
		if !errors.Is(err, fs.ErrExist) {
			return d, err
		}
	}
}

// Make makes the run directory path, which must not exist.
func Make(path string) (*Dir, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, err
	}
	return Open(path)
}

// Open takes the run directory path for this process: no other can have it until Close, or until the
// process is gone, however it ends. Temporary files that a killed process left are removed. If
// another process has it, the error is a *LockedError.
func Open(path string) (d *Dir, err error) {
	d = &Dir{Path: path}
	if d.lock, err = lock(d.File(Lock)); err != nil {
		return nil, err
	}
	if err = d.sweep(); err == nil {
		err = d.openJournal()
	}
	if err != nil {
		d.lock.Close()
		return nil, err
	}
	return d, nil
}

// Runs returns the directories under parent that may be of runs, the newest first.
func Runs(parent string) ([]string, error) {
	entries, err := os.ReadDir(parent)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			paths = append(paths, filepath.Join(parent, e.Name()))
		}
	}
	began := func(path string) time.Time {
		info, err := os.Stat(filepath.Join(path, Config)) // written once, when the run begins
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	slices.SortStableFunc(paths, func(a, b string) int { return began(b).Compare(began(a)) })
	return paths, nil
}

// Early says whether the directory path, which exists, holds nothing but what a run makes before it has
// begun: a run may begin there.
func Early(path string) (bool, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if !slices.Contains(early, e.Name()) && !temporary(e.Name()) {
			return false, nil
		}
	}
	return true, nil
}

// Clear removes everything of an earlier run, so that one can begin anew.
func (d *Dir) Clear() error {
	for _, name := range all {
		if name == Lock || name == Progress { // both are open
			continue
		}
		if err := os.RemoveAll(d.File(name)); err != nil {
			return err
		}
	}
	d.start = time.Now()
	return d.journal.Truncate(0)
}

// unnamed is what atomicfile calls a file that has not got its name yet, and CheckWritable its probe.
var unnamed = regexp.MustCompile(`^\.(.+?)-?\d+$`)

// temporary says whether a file beside those of a run is one that had not got its name yet. Nothing else is
// touched: the directory may be one of the user's.
func temporary(name string) bool {
	m := unnamed.FindStringSubmatch(name)
	return m != nil && (m[1] == "guardcpu" || slices.Contains(all, m[1]))
}

// sweep removes temporary files.
func (d *Dir) sweep() error {
	return filepath.WalkDir(d.Path, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == d.Path {
			return err
		}
		top := filepath.Dir(path) == d.Path
		switch {
		case e.IsDir() && top && e.Name() != Checkpoints && e.Name() != Logs:
			return fs.SkipDir
		case e.Type().IsRegular() && (top && temporary(e.Name()) || !top && unnamed.MatchString(e.Name())):
			return os.Remove(path)
		}
		return nil
	})
}

// File returns the path of a file in the directory.
func (d *Dir) File(elem ...string) string {
	return filepath.Join(append([]string{d.Path}, elem...)...)
}

// Size returns the bytes of the files in the directory.
func (d *Dir) Size() (bytes uint64) {
	_ = filepath.WalkDir(d.Path, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // what cannot be read does not count
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			bytes += uint64(info.Size())
		}
		return nil
	})
	return bytes
}

// Elapsed returns the time that has been worked in the directory, by a clock that nobody sets.
func (d *Dir) Elapsed() time.Duration { return time.Since(d.start) }

// Finish removes what only an unfinished run needs; with keep, not the checkpoints.
func (d *Dir) Finish(keep bool) error {
	if !keep {
		if err := os.RemoveAll(d.File(Checkpoints)); err != nil {
			return err
		}
	}
	_ = os.Remove(d.File(Lock)) // where a file that is open cannot be removed it stays
	return nil
}

// Close lets go of the directory. The journal is synced.
func (d *Dir) Close() error {
	return errors.Join(d.journal.Sync(), d.journal.Close(), d.lock.Close())
}

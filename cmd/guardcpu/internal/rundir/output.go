package rundir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Why an output was refused; CheckOutput's errors wrap one of these.
var (
	ErrExists   = errors.New("output exists")
	ErrInTheWay = errors.New("output exists and is") // something that is never replaced
	ErrIsInput  = errors.New("output would overwrite an input")
)

// CheckOutput says before work starts whether the file path can be written: it is
// none of the inputs under any spelling (links and ".." included), does not exist
// or is a regular file and force is given, and a file can be made in its directory.
// Inputs that are empty do not count.
func CheckOutput(path string, force bool, inputs ...string) error {
	for _, in := range inputs {
		if in == "" {
			continue
		}
		if same, err := sameFile(path, in); err != nil {
			return err
		} else if same {
			return fmt.Errorf("%s: %w (%s)", path, ErrIsInput, in)
		}
	}
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return fmt.Errorf("%s: %w a directory", path, ErrInTheWay)
	} else if err == nil && !st.Mode().IsRegular() {
		return fmt.Errorf("%s: %w no regular file", path, ErrInTheWay)
	}
	if _, err := os.Lstat(path); err == nil && !force { // also a link that leads nowhere
		return fmt.Errorf("%s: %w", path, ErrExists)
	}
	return CheckWritable(filepath.Dir(path))
}

// CheckWritable says whether files can be made in the directory dir.
func CheckWritable(dir string) error {
	const probe = ".guardcpu-*"
	if left, err := filepath.Glob(filepath.Join(dir, probe)); err == nil {
		for _, path := range left { // of a process that was killed just here
			os.Remove(path)
		}
	}
	f, err := os.CreateTemp(dir, probe)
	if err != nil {
		return fmt.Errorf("%s: output directory is not writable: %w", dir, cause(err))
	}
	f.Close()
	if err := os.Remove(f.Name()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// SweepOutput removes the temporary files that a process which was killed has left of the output path,
// if there is one.
func SweepOutput(path string) {
	if path == "" {
		return
	}
	dir, name := filepath.Split(path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return // writing will say so
	}
	ours := regexp.MustCompile(`^\.` + regexp.QuoteMeta(strings.TrimSuffix(name, ".gguf")) + `(-\d{5}-of-\d{5})?(\.gguf)?\d+$`)
	for _, e := range entries {
		if e.Type().IsRegular() && ours.MatchString(e.Name()) {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// CheckIn says before work starts whether the directory dir, which need not exist
// yet, can hold the file name, in the sense of CheckOutput.
func CheckIn(dir, name string, force bool, inputs ...string) error {
	if st, err := os.Stat(dir); err == nil {
		if !st.IsDir() {
			return fmt.Errorf("%s: %w a file, want a directory", dir, ErrInTheWay)
		}
		return CheckOutput(filepath.Join(dir, name), force, inputs...)
	}
	return CheckWritable(existing(dir))
}

// CheckNewDir says whether the directory dir, which must not exist, can be made.
func CheckNewDir(dir string) error {
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("%s: %w", dir, ErrExists)
	}
	return CheckWritable(existing(dir))
}

// CheckDir says whether files can be made in dir, which need not exist yet.
func CheckDir(dir string) error { return CheckWritable(existing(dir)) }

// existing is path, or the nearest directory above it that exists.
func existing(path string) string {
	path = filepath.Clean(path)
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// cause is the reason inside an error that also names a temporary file.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// sameFile says whether out and in are one file, also where out does not exist yet
// but its directory and name are in's.
func sameFile(out, in string) (bool, error) {
	a, errA := os.Stat(out)
	b, errB := os.Stat(in)
	if errA == nil && errB == nil {
		return os.SameFile(a, b), nil
	}
	x, err := filepath.Abs(out)
	if err != nil {
		return false, err
	}
	y, err := filepath.Abs(in)
	if err != nil {
		return false, err
	}
	return x == y, nil
}

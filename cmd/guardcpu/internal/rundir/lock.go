package rundir

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// LockedError says that another process works in a run directory.
type LockedError struct{ Path, Holder string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("%s: run directory is in use by %s", e.Path, e.Holder)
}

// errHeld is what tryLock returns when another process has the lock.
var errHeld = errors.New("held by another process")

// lock locks the file path, which it makes if need be, and writes into it who holds it. The system
// lets go of the lock when the process is gone: the file may stay.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if err := tryLock(f); err != nil {
		defer f.Close()
		if !errors.Is(err, errHeld) {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		holder, _ := io.ReadAll(io.LimitReader(f, 1<<10))
		dir := strings.TrimSuffix(path, string(os.PathSeparator)+Lock)
		return nil, &LockedError{Path: dir, Holder: cmp.Or(strings.TrimSpace(string(holder)), "another process")}
	}
	held, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if there, err := os.Stat(path); err != nil || !os.SameFile(held, there) { // its last holder has finished and removed it meanwhile
		f.Close()
		return lock(path)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	if err = f.Truncate(0); err == nil {
		_, err = fmt.Fprintf(f, "pid %d (host %s)\n", os.Getpid(), host)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// Package enginetest finds the reference data for tests of several packages; tiny,
// below it, makes small models.
package enginetest

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Shared returns a path under the directory of reference models and TOFU data.
// The directory is GUARDCPU_SHARED, or "shared" beside the repository. The test
// is skipped, saying so, when it is not there.
func Shared(t testing.TB, elem ...string) string {
	t.Helper()
	dir := os.Getenv("GUARDCPU_SHARED")
	if dir == "" {
		_, file, _, _ := runtime.Caller(0)
		dir = filepath.Join(filepath.Dir(file), "..", "..", "..", "shared")
	}
	path := filepath.Join(append([]string{dir}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("reference data is not here (set GUARDCPU_SHARED): %v", err)
	}
	return path
}

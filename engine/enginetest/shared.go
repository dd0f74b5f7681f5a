// Package enginetest finds the reference data for tests of several packages; tiny,
// below it, makes small models.
package enginetest

import (
	"os"
	"path/filepath"
	"testing"
)

// Shared returns a path under the directory of reference models and TOFU data.
// The directory is GUARDCPU_SHARED, or "shared" beside the repository; where that is
// not there the test is skipped, saying so. A directory that was named must be there.
func Shared(t testing.TB, elem ...string) string {
	t.Helper()
	dir, named := os.LookupEnv("GUARDCPU_SHARED")
	if !named {
		dir = filepath.Join(Root(t), "..", "shared")
	}
	path := filepath.Join(append([]string{dir}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		if named {
			t.Fatalf("GUARDCPU_SHARED: %v", err)
		}
		t.Skipf("reference data is not here (set GUARDCPU_SHARED): %v", err)
	}
	return path
}

// Root returns the root of the repository: the first directory with a go.mod, from the
// package under test upwards.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at
		}
		if at == filepath.Dir(at) {
			t.Fatalf("there is no go.mod above %s", dir)
		}
	}
}

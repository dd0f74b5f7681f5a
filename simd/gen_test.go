//go:build amd64 && !purego

package simd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestGenerated runs the program in _gen and compares what it writes with the
// files here.
func TestGenerated(t *testing.T) {
	env := append(os.Environ(), "GOPROXY=off", "GOWORK=off", "GOFLAGS=-mod=readonly")
	goCmd := func(args ...string) ([]byte, error) {
		cmd := exec.Command("go", args...)
		cmd.Env = env
		return cmd.CombinedOutput()
	}
	if out, err := goCmd("list", "-C", "_gen", "-deps", "."); err != nil {
		t.Skipf("the modules of simd/_gen are not here (go mod download -C simd/_gen): %v\n%s", err, out)
	}
	dir := t.TempDir()
	out, err := goCmd("run", "-C", "_gen", ".", "-dir", dir)
	require.NoError(t, err, "%s", out)

	written, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	sources, err := filepath.Glob("*_amd64.s")
	require.NoError(t, err)
	require.Len(t, written, 2*len(sources), "a .s and a .go for each")
	for _, path := range written {
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		have, err := os.ReadFile(filepath.Base(path))
		require.NoError(t, err)
		assert.True(t, string(want) == string(have), "%s is not what _gen writes; run go generate ./simd", filepath.Base(path))
	}
}

// TestInstructions: the assembly has only what its guard in kernels_amd64.go checks
// for, AVX2, FMA and F16C; no AVX-512, whose registers are Z, K, and X and Y from 16 on.
func TestInstructions(t *testing.T) {
	allowed := map[string]bool{"AVX": true, "AVX2": true, "FMA3": true, "F16C": true, "SSE": true, "SSE2": true, "MMX+": true} // MMX+: PREFETCHT0
	avx512 := regexp.MustCompile(`\b(Z\d+|K[0-7]|[XY](1[6-9]|2\d|3[01]))\b`)
	sources, err := filepath.Glob("*_amd64.s")
	require.NoError(t, err)
	require.NotEmpty(t, sources)
	for _, path := range sources {
		src, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Contains(t, string(src), "// Requires: ", path)
		for i, line := range strings.Split(string(src), "\n") {
			if isa, ok := strings.CutPrefix(line, "// Requires: "); ok {
				for name := range strings.SplitSeq(isa, ", ") {
					assert.True(t, allowed[name], "%s:%d needs %s", path, i+1, name)
				}
			} else if !strings.HasPrefix(line, "//") {
				assert.False(t, avx512.MatchString(line), "%s:%d: %s", path, i+1, line)
			}
		}
	}
}

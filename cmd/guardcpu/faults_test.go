//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// buildDir is where built puts the program; empty until then.
var buildDir string

// built is the program, built once for all tests that need a process of their own.
var built = sync.OnceValues(func() (bin string, err error) {
	if buildDir, err = os.MkdirTemp("", "guardcpu-test"); err != nil {
		return "", err
	}
	bin = filepath.Join(buildDir, "guardcpu")
	build := exec.Command("go", "build", "-o", bin, ".")
	_, file, _, _ := runtime.Caller(0)
	build.Dir = filepath.Dir(file)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if buildDir != "" {
		os.RemoveAll(buildDir)
	}
	os.Exit(status)
}

// spawn runs the program as a shell line, in which $GUARDCPU is the program.
func spawn(t *testing.T, line string) result {
	t.Helper()
	cmd := shell(t, line)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

func shell(t *testing.T, line string) *exec.Cmd {
	t.Helper()
	bin, err := built()
	require.NoError(t, err)
	cmd := exec.Command("sh", "-c", line)
	cmd.Env = append(os.Environ(), "GUARDCPU="+bin)
	return cmd
}

// quoted makes a shell line of arguments.
func quoted(args ...string) string {
	var b strings.Builder
	for _, a := range args {
		b.WriteString(" '" + strings.ReplaceAll(a, "'", `'\''`) + "'")
	}
	return b.String()
}

// A model that is made shorter under a running command ends it with a line that names it.
func TestTruncatedUnderTheRun(t *testing.T) {
	for _, threads := range []string{"1", "3"} {
		workshop(t)
		var stderr bytes.Buffer
		cmd := shell(t, "exec $GUARDCPU generate --model model.gguf --prompt a -n 1000000000 --ignore-eos --threads "+threads)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		cmd.Stderr = &stderr
		require.NoError(t, cmd.Start())
		_, err = out.Read(make([]byte, 16)) // it generates
		require.NoError(t, err)
		require.NoError(t, os.Truncate("model.gguf", 4096))
		ended := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		for err == nil {
			_, err = out.Read(make([]byte, 4096))
		}
		_ = cmd.Wait()
		ended.Stop()
		assert.Equal(t, exitIO, cmd.ProcessState.ExitCode(), stderr.String())
		assert.Regexp(t, `^(guardcpu: note.*\n)*guardcpu: model\.gguf could not be read to its end: .*\n$`, stderr.String())
	}
}

package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/progress"
	"github.com/guardcpu/guardcpu/engine/enginetest"
)

var update = flag.Bool("update", false, "write what the commands print into the transcripts")

// result is what one command line did.
type result struct {
	stdout, stderr string
	status         int
}

// guardcpu runs a command line in this process.
func guardcpu(stdin string, args ...string) result {
	return guardcpuContext(context.Background(), stdin, args...)
}

func guardcpuContext(ctx context.Context, stdin string, args ...string) result {
	var stdout, stderr bytes.Buffer
	e := &env{args: append([]string{"guardcpu"}, args...), stdin: strings.NewReader(stdin), stdout: &stdout, stderr: &stderr, bars: progress.New(&stderr)}
	status := e.main(ctx)
	return result{stdout.String(), stderr.String(), status}
}

// TestScripts runs the transcripts in testdata/script. A transcript is a text file:
//
//	# a comment
//	use PATH              copies a file of the reference data into the directory
//	file NAME TEXT        writes a file; \n in TEXT is a line end
//	$ guardcpu ARGUMENTS  runs a command; quotes as in a shell, and < FILE is its input
//	output                what it prints, to the next line of another kind
//	2> line               a line on standard error
//	...                   any lines
//	[65]                  the exit status, if it is not 0
//	$ ls DIR              lists a directory
//
// In an expected line {{…}} is a regular expression. go test -update writes what was printed.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, file) })
	}
}

// directive begins something new in a transcript.
var directive = regexp.MustCompile(`^([$#]|use|file) `)

func runScript(t *testing.T, file string) {
	path, err := filepath.Abs(file)
	require.NoError(t, err)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	shared := map[string]string{} // found from here, before the directory changes
	for _, line := range lines {
		if name, ok := strings.CutPrefix(line, "use "); ok {
			shared[name], err = filepath.Abs(enginetest.Shared(t, name))
			require.NoError(t, err)
		}
	}
	t.Chdir(t.TempDir())
	var out []string
	for i := 0; i < len(lines); {
		line := lines[i]
		i++
		out = append(out, line)
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case word == "use":
			data, err := os.ReadFile(shared[rest])
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Base(rest), data, 0o600))
		case word == "file":
			name, content, _ := strings.Cut(rest, " ")
			require.NoError(t, os.WriteFile(name, []byte(strings.ReplaceAll(content, `\n`, "\n")), 0o600))
		case word == "$":
			var want []string
			for i < len(lines) && !directive.MatchString(lines[i]) {
				want = append(want, lines[i])
				i++
			}
			for len(want) > 0 && want[len(want)-1] == "" { // blank lines between commands
				want = want[:len(want)-1]
				i--
			}
			got := runLine(t, rest)
			out = append(out, got...)
			if !*update {
				assert.True(t, matchLines(want, got), "%s: $ %s\nwant:\n%s\ngot:\n%s", filepath.Base(file), rest, strings.Join(want, "\n"), strings.Join(got, "\n"))
			}
		case line == "" || strings.HasPrefix(line, "#"):
		default:
			t.Fatalf("%s: line %d is not understood: %s", file, i, line)
		}
	}
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(strings.Join(out, "\n")+"\n"), 0o644))
	}
}

// runLine runs one $ line and returns its transcript.
func runLine(t *testing.T, line string) (got []string) {
	args := splitLine(t, line)
	stdin := ""
	if k := slices.Index(args, "<"); k >= 0 {
		data, err := os.ReadFile(args[k+1])
		require.NoError(t, err)
		stdin, args = string(data), args[:k]
	}
	if args[0] == "ls" {
		entries, err := os.ReadDir(args[1])
		require.NoError(t, err)
		for _, e := range entries {
			got = append(got, e.Name())
		}
		return got
	}
	require.Equal(t, "guardcpu", args[0], "a transcript runs guardcpu and ls")
	r := guardcpu(stdin, args[1:]...)
	if s := strings.TrimSuffix(r.stdout, "\n"); s != "" {
		got = append(got, strings.Split(s, "\n")...)
	}
	if s := strings.TrimSuffix(r.stderr, "\n"); s != "" {
		for _, l := range strings.Split(s, "\n") {
			got = append(got, "2> "+l)
		}
	}
	if r.status != 0 {
		got = append(got, fmt.Sprintf("[%d]", r.status))
	}
	return got
}

// splitLine divides a command line at blanks outside of quotes.
func splitLine(t *testing.T, line string) (args []string) {
	var word strings.Builder
	quote, inWord := rune(0), false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, inWord = r, true
		case quote == 0 && r == ' ':
			if inWord {
				args = append(args, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	require.Zero(t, quote, "a quote is not closed: %s", line)
	if inWord {
		args = append(args, word.String())
	}
	return args
}

func matchLines(want, got []string) bool {
	switch {
	case len(want) == 0:
		return len(got) == 0
	case want[0] == "...":
		for k := 0; k <= len(got); k++ {
			if matchLines(want[1:], got[k:]) {
				return true
			}
		}
		return false
	default:
		return len(got) > 0 && matchLine(want[0], got[0]) && matchLines(want[1:], got[1:])
	}
}

func matchLine(want, got string) bool {
	var pattern strings.Builder
	rest := want
	for {
		before, after, found := strings.Cut(rest, "{{")
		pattern.WriteString(regexp.QuoteMeta(before))
		if !found {
			break
		}
		re, tail, _ := strings.Cut(after, "}}")
		pattern.WriteString(re)
		rest = tail
	}
	return regexp.MustCompile("^(?:" + pattern.String() + ")$").MatchString(got)
}

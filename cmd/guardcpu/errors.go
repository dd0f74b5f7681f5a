package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/engine"
)

// Exit statuses. 2 is never used: it is what a Go panic ends with.
const (
	exitOK         = 0
	exitIO         = 5  // a file could not be read or written, or the disk is full
	exitDiverged   = 7  // the loss or a gradient is not finite any more
	exitCheckpoint = 8  // no usable checkpoint
	exitLocked     = 11 // another process works in the run directory
	exitOutput     = 12 // the output exists, or is one of the inputs
	exitUsage      = 64 // the command line or the configuration is wrong
	exitModel      = 65 // the model file is wrong
	exitData       = 66 // a data file is wrong
	exitInternal   = 70 // a bug of guardcpu
	exitStopped    = 75 // stopped by a signal; a run can be gone on with
)

// errStopped is the cause of a context that a signal has cancelled.
var errStopped = errors.New("stopped by a signal")

// statusError is an error with its exit status and, optionally, what to do about it.
type statusError struct {
	status int
	err    error
	remedy string
}

func (e *statusError) Error() string {
	if e.remedy == "" {
		return e.err.Error()
	}
	return e.err.Error() + "; " + e.remedy
}

func (e *statusError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &statusError{status: exitUsage, err: fmt.Errorf(format, args...)}
}

func modelError(err error, remedy string) error {
	return &statusError{status: exitModel, err: err, remedy: remedy}
}

func dataError(err error, remedy string) error {
	return &statusError{status: exitData, err: err, remedy: remedy}
}

func ioError(err error, remedy string) error {
	return &statusError{status: exitIO, err: err, remedy: remedy}
}

func outputError(remedy, format string, args ...any) error {
	return &statusError{status: exitOutput, err: fmt.Errorf(format, args...), remedy: remedy}
}

// describe returns the exit status of err and the one line that is printed for it:
// program, file, place, cause, remedy.
func describe(ctx context.Context, err error) (status int, line string) {
	status = exitIO
	var s *statusError
	stopped := errors.Is(err, context.Canceled) || errors.Is(err, errStopped)
	switch {
	case stopped && ctx.Err() != nil:
		status = exitStopped
		if !errors.As(err, &s) {
			err = &statusError{err: errStopped, remedy: "outputs that were not complete have not been written; run the same command to start again"}
		}
	case isDiverged(err):
		status = exitDiverged
	case errors.As(err, &s):
		status = s.status
	case errors.As(err, new(cli.ExitCoder)): // what the command line library itself refuses
		status = exitUsage
	}
	text := oneLine(err.Error())
	for _, p := range []string{"gguf: ", "engine: ", "chat: ", "tokenizer: ", "quant: ", "tofu: ", "guard: ", "simd: ", "hf: "} {
		text = strings.TrimPrefix(text, p) // the package is no news to who typed the command
	}
	return status, "guardcpu: " + text
}

// oneLine makes text safe for one line of a terminal: line ends become spaces,
// control characters are written as escapes.
func oneLine(text string) string {
	var b strings.Builder
	for _, r := range strings.TrimSpace(text) {
		switch {
		case r == '\n' || r == '\t':
			b.WriteByte(' ')
		case r == '\r':
		case r == unicode.ReplacementChar || unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	return b.String()
}

// suggest says which of the known names is nearest to name, or lists them.
func suggest(name string, known []string) string {
	name = strings.TrimLeft(name, "-")
	best, bestDistance := "", len(name)/2+1
	for _, k := range known {
		if d := editDistance(name, k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "there are " + strings.Join(known, ", ")
}

// editDistance is the number of bytes to insert, delete, replace or swap with their
// neighbour that make b of a (optimal string alignment).
func editDistance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replace := d[i-1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			d[i][j] = min(replace, d[i-1][j]+1, d[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

// isDiverged says whether training stopped because a loss or gradient is not finite.
func isDiverged(err error) bool {
	var d *engine.DivergedError
	return errors.As(err, &d)
}

// isStopped says whether work ended because it was told to.
func isStopped(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, errStopped)
}

// Command guardcpu removes data from a language model on CPU, from a GGUF file to a
// GGUF file. `guardcpu run` does all of it; the other commands do one step each, and
// `guardcpu COMMAND --help` explains them.
//
// It introduces the packages below it to each other: gguf reads and writes models,
// engine computes and trains, tofu reads question-answer data and measures, guard
// scores, weighs and unlearns. Standard output has results alone (with --json one JSON
// value), standard error the progress and, if a command fails, one line: program,
// file, place, cause, what to do. Exit statuses are in errors.go.
//
// Invariants, each with a test:
//   - nothing is written before all inputs and outputs have been checked;
//   - every file is whole or absent, an input is never written to, and an output
//     that exists is replaced only with --force;
//   - config.yaml of a run directory gives the same bytes again, with any number of
//     threads (another kernel set rounds otherwise);
//   - the program links no package that could speak to a network or start programs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/progress"
	"github.com/guardcpu/guardcpu/gguf"
)

// commands is every subcommand, in the order --help shows them.
var commands = []func(*env) *cli.Command{
	runCommand,
	planCommand,
	finetuneCommand,
	attributeCommand,
	unlearnCommand,
	evalCommand,
	generateCommand,
	chatCommand,
	perplexityCommand,
	tokenizeCommand,
	inspectCommand,
	quantizeCommand,
	convertCommand,
	benchCommand,
	doctorCommand,
	versionCommand,
}

// env is the outside world of one invocation, so that tests can stand in for it.
type env struct {
	args   []string // the command line, program name first
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	// bars shows how far long work has come, on stderr only.
	bars *progress.Reporter
	// interrupt, if set, is asked first when an interrupt comes; true: it has dealt with it.
	interrupt atomic.Pointer[func() bool]
}

func main() {
	// A closed pipe on stdout must not end a run (`guardcpu run | head -1`): the
	// write fails with EPIPE instead, and quietWriter drops what follows.
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) { // nohup means it
			signal.Notify(signals, s)
		}
	}
	e := &env{args: os.Args, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, bars: progress.New(os.Stderr)}
	go func() {
		for s := range signals {
			if f := e.interrupt.Load(); s == os.Interrupt && f != nil && (*f)() {
				continue
			}
			fmt.Fprintf(os.Stderr, "guardcpu: %v: stopping; a second signal ends at once\n", s)
			break
		}
		cancel(errStopped)
		<-signals
		os.Exit(exitStopped)
	}()
	os.Exit(e.main(ctx))
}

// main runs one command line and returns the exit status.
func (e *env) main(ctx context.Context) (status int) {
	out := &quietWriter{w: e.stdout}
	e.stdout = out
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // of a mapped file: see gguf.Faulted
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		e.bars.Stop()
		if path, ok := gguf.Faulted(r); ok {
			fmt.Fprintf(e.stderr, "guardcpu: %s could not be read to its end: it was made shorter while it was in use, or its disk fails; outputs that were not complete have not been written\n", oneLine(path))
			status = exitIO
			return
		}
		fmt.Fprintf(e.stderr, "guardcpu: internal error: %s; please report this line (GUARDCPU_TRACE=1 prints where)\n", oneLine(fmt.Sprint(r)))
		if os.Getenv("GUARDCPU_TRACE") != "" {
			fmt.Fprintf(e.stderr, "%s", debug.Stack())
		}
		status = exitInternal
	}()

	err := e.app().Run(ctx, e.args)
	e.bars.Stop()
	if err == nil && out.err != nil {
		err = ioError(fmt.Errorf("standard output: %w", out.err), "")
	}
	if err == nil {
		return exitOK
	}
	status, line := describe(ctx, err)
	fmt.Fprintln(e.stderr, line)
	return status
}

// app builds the command line interface.
func (e *env) app() *cli.Command {
	app := &cli.Command{
		Name:  "guardcpu",
		Usage: "remove data from a language model, on CPU, from GGUF to GGUF",
		Description: `guardcpu fine-tunes, scores, unlearns and evaluates GGUF language models without a
GPU, Python or a network. The method is GUARD (arXiv:2506.10946): each sample to forget
is weighted by how strongly its gradient pulls along with the knowledge to retain.

Examples:
  guardcpu run                        the whole path on the embedded model, in about a minute
  guardcpu run --model m.gguf --forget forget.jsonl --retain retain.jsonl --out unlearned.gguf
  guardcpu inspect m.gguf             what is in a model file
  guardcpu COMMAND --help             options and examples of one command

Exit status: 0 done, 5 input/output, 7 diverged, 8 no usable checkpoint, 11 run directory in use,
12 output exists or is an input, 64 usage, 65 bad model, 66 bad data, 70 internal error, 75 stopped.`,
		Reader:                e.stdin,
		Writer:                e.stdout,
		ErrWriter:             e.stderr,
		Version:               readBuild().Version,
		EnableShellCompletion: true,
		ExitErrHandler:        func(context.Context, *cli.Command, error) {},
		OnUsageError:          onUsageError,
		Action: func(_ context.Context, cmd *cli.Command) error {
			if name := cmd.Args().First(); name != "" {
				return usageError("%q is not a command; %s", name, suggest(name, commandNames(cmd)))
			}
			return cli.ShowRootCommandHelp(cmd)
		},
	}
	for _, make := range commands {
		sub := make(e)
		sub.OnUsageError = onUsageError
		sub.HideHelpCommand = true
		sub.DisableSliceFlagSeparator = true // a file name may hold a comma
		sub.Flags = append(sub.Flags, commonFlags()...)
		sub.Before = func(ctx context.Context, cmd *cli.Command) (context.Context, error) {
			return ctx, applyConfig(cmd)
		}
		app.Commands = append(app.Commands, sub)
	}
	return app
}

// badValue is how the parser of the command line reports a value it cannot use.
var badValue = regexp.MustCompile(`^invalid value (".*") for flag -+(\S+): (.*)$`)

// notParsed is what package strconv says of text it cannot read.
var notParsed = regexp.MustCompile(`^strconv\.(\w+): parsing ".*": (.*)$`)

// onUsageError puts what the parser of the command line says into our words.
func onUsageError(_ context.Context, cmd *cli.Command, err error, _ bool) error {
	text := strings.TrimSuffix(err.Error(), ".")
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: "); ok {
		name = strings.TrimLeft(name, "-")
		return usageError("%s has no option --%s; %s", cmd.Name, name, suggest(name, flagNames(cmd)))
	}
	if m := badValue.FindStringSubmatch(text); m != nil {
		dashes := "--"
		if len(m[2]) == 1 {
			dashes = "-"
		}
		return usageError("%s: %s%s: %s: %s", cmd.Name, dashes, m[2], m[1], plainSyntax(m[3]))
	}
	return usageError("%s: %s; see guardcpu %s --help", cmd.Name, text, cmd.Name)
}

// plainSyntax says in our words what package strconv found wrong; other text stays.
func plainSyntax(text string) string {
	m := notParsed.FindStringSubmatch(text)
	switch {
	case text == "parse error": // of the command line library, for a boolean
		return "want true or false"
	case m == nil:
		return text
	case m[2] != "invalid syntax":
		return m[2]
	case m[1] == "ParseBool":
		return "want true or false"
	case m[1] == "ParseFloat":
		return "want a number"
	default:
		return "want a whole number"
	}
}

func commandNames(cmd *cli.Command) []string {
	var names []string
	for _, c := range cmd.Root().VisibleCommands() {
		names = append(names, c.Name)
	}
	return names
}

// json prints v as JSON on one line of standard output.
func (e *env) json(v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// quietWriter passes writes on until the reader has gone away; from then on it
// swallows them, so that a closed pipe ends no work. It keeps other errors.
type quietWriter struct {
	w    io.Writer
	gone bool
	err  error
}

func (q *quietWriter) Write(p []byte) (int, error) {
	if q.gone {
		return len(p), nil
	}
	n, err := q.w.Write(p)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, syscall.EPIPE):
	default:
		q.err = err
	}
	q.gone = true
	return len(p), nil
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
	"github.com/vbauerster/cupwriter"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/chat"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/gguf"
)

func chatCommand(e *env) *cli.Command {
	var model, prompt, system, template string
	var lines bool
	var how computing
	c := &conversation{env: e}
	return &cli.Command{
		Name:      "chat",
		Usage:     "talk with a model, by its chat template",
		ArgsUsage: " ",
		Description: `At a terminal it asks for messages until the input ends, and keeps what the model has read:
only what is new is computed. Ctrl-C ends an answer, and at the prompt the program; /clear
begins again, /exit ends. From a pipe, all of standard input is one message, or every line
with --lines.

The template is the file's (tokenizer.chat_template), or --chat-template: the name of one in
the file or of a built-in one, a file, or the text itself. It runs in a sandbox: it reads no
files, and its time and memory are bounded. The text of a control token in a message, such as
<|im_end|>, is taken as text, unless --parse-special.

Sampling is llama.cpp's: the repeat penalty, then top-k, top-p, min-p, and the temperature last.
With --json it prints {"role":"assistant","content":…,"finish":…} and counts of tokens, a line
an answer; finish is stop (the model's end, or --stop), length, context, or interrupt.

Examples:
  guardcpu chat --model model.gguf
  guardcpu chat --model model.gguf --system "Answer in one sentence." --temp 0
  guardcpu chat --model model.gguf --prompt "Who wrote Faust?" -n 64
  guardcpu chat --model base.gguf --chat-template chatml < question.txt`,
		Flags: append([]cli.Flag{
			modelFlag(&model),
			loraFlag(&how),
			&cli.StringFlag{Name: "prompt", Aliases: []string{"p"}, Usage: "`TEXT` of the one message", Destination: &prompt},
			&cli.StringFlag{Name: "system", Aliases: []string{"sys"}, Usage: "`TEXT` of the system message", Destination: &system},
			&cli.BoolFlag{Name: "lines", Usage: "every line of standard input is a message", Destination: &lines},
			&cli.StringFlag{Name: "chat-template", Usage: "`TEMPLATE` in place of the file's: a name (" + strings.Join(chat.Names(), ", ") + "), a file, or text", Destination: &template},
			&cli.BoolFlag{Name: "parse-special", Usage: "take the text of a control token in a message, such as <|im_end|>, as that token", Destination: &c.parse},
			&cli.IntFlag{Name: "max-tokens", Aliases: []string{"n"}, Usage: "at most `N` tokens an answer; -1: until the context is full", Value: -1, Destination: &c.o.MaxTokens, Validator: atLeast(-1)},
			&cli.IntFlag{Name: "ctx", Usage: "context of `N` tokens; 0: what the model is made for", Destination: &c.nCtx, Validator: atLeast(0)},
			stopFlag(&c.stops),
			seedFlag(&c.o.Seed, 42),
			threadsFlag(&how.threads),
			computeFlag(&how.compute, nn.ComputeAuto),
		}, samplingFlags(&c.o, engine.GenOptions{Temp: 0.8, TopK: 40, TopP: 0.95, MinP: 0.05, Repeat: 1, RepeatLastN: 64})...),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if cmd.NArg() > 0 {
				return usageError("%s takes no argument %q; the message goes into --prompt", cmd.Name, cmd.Args().First())
			}
			f, err := openGGUF(model)
			if err != nil {
				return err
			}
			defer f.Close()
			if c.template, err = e.chatTemplate(f, template); err != nil {
				return err
			}
			if c.m, err = loadModel(f, how); err != nil {
				return err
			}
			if c.nCtx == 0 {
				c.nCtx = c.m.Config.NCtx
			}
			c.json = cmd.Bool("json")
			c.o.TempLast = true
			if system != "" {
				c.first = []chat.Message{{Role: "system", Content: system}}
			}
			c.clear()
			terminal := isTerminal(e.stdin) && !c.json
			switch {
			case cmd.IsSet("prompt"):
				return c.answer(ctx, prompt)
			case lines || terminal:
				return c.talk(ctx, terminal)
			}
			text, err := e.readText("-")
			if err != nil {
				return err
			}
			text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
			if text == "" {
				return usageError("standard input is empty: there is no message to answer")
			}
			return c.answer(ctx, text)
		},
	}
}

// chatTemplate is the template of f, or the one that is given instead.
func (e *env) chatTemplate(f *gguf.File, given string) (*chat.Template, error) {
	if given == "" {
		t, err := chat.FromGGUF(f)
		if errors.Is(err, chat.ErrNoTemplate) {
			return nil, modelError(err, "use --chat-template FILE or NAME ("+strings.Join(chat.Names(), ", ")+"), or generate to continue a text")
		}
		if err != nil {
			return nil, modelError(err, "use --chat-template to give another")
		}
		return t, nil
	}
	if strings.Contains(given, "{{") || strings.Contains(given, "{%") {
		t, err := chat.New(given)
		if err != nil {
			return nil, &statusError{status: exitUsage, err: fmt.Errorf("--chat-template: %w", trimPackage(err))}
		}
		return t, nil
	}
	named, err := chat.Sources(f)
	if err != nil {
		return nil, modelError(err, "")
	}
	source, ok := named[given]
	if !ok {
		if t, err := chat.Named(given); err == nil {
			return t, nil
		}
		text, err := e.readText(given)
		if errors.Is(err, fs.ErrNotExist) {
			names := append(slices.Sorted(maps.Keys(named)), chat.Names()...)
			names = slices.DeleteFunc(names, func(n string) bool { return n == "" })
			return nil, usageError("--chat-template: %q is neither a file nor a name; there are %s", given, strings.Join(names, ", "))
		}
		if err != nil {
			return nil, err
		}
		source = text
	}
	t, err := chat.New(source)
	if err != nil {
		return nil, dataError(fmt.Errorf("%s: %w", given, trimPackage(err)), "")
	}
	return t, nil
}

// isTerminal says whether a person types r.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && cupwriter.New(f, false).IsTerminal()
}

// conversation is messages, and a session that has read a beginning of them.
type conversation struct {
	env      *env
	m        *engine.Model
	template *chat.Template
	o        engine.GenOptions
	stops    []string
	parse    bool
	json     bool
	nCtx     int

	first    []chat.Message // those that clear leaves
	messages []chat.Message
	session  *engine.Session
	read     []int32 // what the session has been fed
}

// clear begins again.
func (c *conversation) clear() {
	c.messages = slices.Clone(c.first)
	c.session, c.read = c.m.NewSession(1), nil
}

// contextFull is the error of a conversation that has become too long.
type contextFull struct{ tokens, nCtx int }

func (e *contextFull) Error() string {
	return fmt.Sprintf("the conversation has %s, the context holds %d", plural(e.tokens, "token"), e.nCtx)
}

// answered is what --json prints of an answer.
type answered struct {
	chat.Message
	Finish string `json:"finish"`
	Prompt int    `json:"prompt_tokens"`
	Cached int    `json:"cached_tokens"` // of those of the prompt
	New    int    `json:"new_tokens"`
}

// answer prints what the model answers to a message. If that fails, the conversation is as it was before.
func (c *conversation) answer(ctx context.Context, text string) (err error) {
	before := len(c.messages)
	c.messages = append(c.messages, chat.Message{Role: "user", Content: text})
	defer func() {
		if err != nil {
			c.messages = c.messages[:before]
		}
	}()
	ids, err := c.template.Prompt(c.m.Tokenizer, c.messages, c.parse)
	if err != nil {
		return dataError(err, "")
	}
	if len(ids) == 0 {
		return dataError(errors.New("the template makes nothing of the message: there is nothing to answer"), "")
	}
	room := c.nCtx - len(ids)
	if room < 1 {
		return dataError(&contextFull{len(ids), c.nCtx}, "begin again with a shorter one, or raise --ctx")
	}
	kept := 0
	for kept < len(c.read) && kept < len(ids)-1 && c.read[kept] == ids[kept] {
		kept++
	}
	c.session.Truncate(0, kept)

	o, a := c.o, answered{Prompt: len(ids), Cached: kept, Finish: "stop"}
	if o.MaxTokens < 0 || o.MaxTokens > room {
		o.MaxTokens = room
	}
	show := &stream{w: c.env.stdout, tok: c.m.Tokenizer, prompt: ids, stops: c.stops}
	if c.json {
		show.w = nil
	}
	o.Stop = func(_ int, fresh []int32) bool { return show.add(fresh) }
	turn, release := c.interruptible(ctx)
	out, err := c.session.Continue(turn, 0, ids[:kept], ids[kept:], o)
	release()
	c.read = append(ids, out...)[:c.session.Len(0)]
	switch {
	case err != nil && ctx.Err() == nil && turn.Err() != nil:
		a.Finish = "interrupt"
	case isStopped(err):
		return stoppedError()
	case err != nil:
		return modelError(err, "")
	case show.stopped:
	case len(out) == o.MaxTokens && o.MaxTokens == room:
		a.Finish = "context"
	case len(out) == o.MaxTokens:
		a.Finish = "length"
	}
	a.Message = chat.Message{Role: "assistant", Content: show.end(out)}
	a.New = len(out)
	c.messages = append(c.messages, a.Message)
	if c.json {
		return c.env.json(a)
	}
	fmt.Fprintln(c.env.stdout)
	if a.Finish == "context" {
		c.env.bars.Printf("guardcpu: note: the context of %d tokens is full: the answer ends here", c.nCtx)
	}
	return nil
}

// stoppedError is the error of a chat that a signal has ended.
func stoppedError() error { return &statusError{status: exitStopped, err: errStopped} }

// interruptible returns a context that one interrupt cancels without ending the program.
func (c *conversation) interruptible(ctx context.Context) (context.Context, func()) {
	turn, cancel := context.WithCancel(ctx)
	first := true
	stop := func() bool {
		was := first
		first = false
		cancel()
		return was
	}
	c.env.interrupt.Store(&stop)
	return turn, func() {
		c.env.interrupt.Store(nil)
		cancel()
	}
}

// mostLine bounds a message that is a line, in bytes.
const mostLine = 16 << 20

// readLine is in.ReadString('\n') for lines of bounded length.
func readLine(in *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > mostLine:
			return "", fmt.Errorf("a line is longer than %s", bytesText(mostLine))
		case err != bufio.ErrBufferFull:
			return string(line), err
		}
	}
}

// talk answers every line of standard input. At a terminal a line that cannot be answered does not end it.
func (c *conversation) talk(ctx context.Context, terminal bool) error {
	lines, failed := make(chan string), make(chan error, 1)
	next := make(chan struct{})
	defer close(next)
	go func() { // reading cannot be interrupted
		in := bufio.NewReader(c.env.stdin)
		for range next {
			line, err := readLine(in)
			if err != nil && (line == "" || err != io.EOF) {
				failed <- err
				return
			}
			lines <- strings.TrimRight(line, "\r\n")
		}
	}()
	for {
		if terminal {
			fmt.Fprint(c.env.stderr, "> ")
		}
		next <- struct{}{}
		var line string
		select {
		case <-ctx.Done():
			return stoppedError()
		case err := <-failed:
			if terminal {
				fmt.Fprintln(c.env.stderr)
			}
			if err == io.EOF {
				return nil
			}
			return ioError(fmt.Errorf("standard input: %w", pathCause(err)), "")
		case line = <-lines:
		}
		switch strings.TrimSpace(line) {
		case "":
			continue
		case "/exit":
			return nil
		case "/clear":
			c.clear()
			continue
		}
		err := c.answer(ctx, line)
		if err != nil && terminal && ctx.Err() == nil && !isStopped(err) {
			_, text := describe(ctx, err)
			fmt.Fprintln(c.env.stderr, text)
			continue
		}
		if err != nil {
			return err
		}
	}
}

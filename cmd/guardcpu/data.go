package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/tofu"
)

// dataOptions say which rows are forgotten and retained, and how rows become samples.
type dataOptions struct {
	forget, retain string
	data, split    string
	format         string
	maxLength      int
	allowOverlap   bool
}

func (o *dataOptions) flags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "forget", Usage: "data `FILE` of the rows to forget (JSON Lines)", Destination: &o.forget, TakesFile: true, Category: "data"},
		&cli.StringFlag{Name: "retain", Usage: "data `FILE` of the rows to retain (JSON Lines)", Destination: &o.retain, TakesFile: true, Category: "data"},
		&cli.StringFlag{Name: "data", Usage: "one data `FILE` with both, divided by --split", Destination: &o.data, TakesFile: true, Category: "data"},
		&cli.StringFlag{Name: "split", Usage: "with --data: TOFU's `SPLIT` to forget, the last percent of the rows: forget01, forget05, forget10", Value: "forget10", Destination: &o.split, Category: "data"},
		&cli.BoolFlag{Name: "allow-overlap", Usage: "forget rows that are in both sets, in place of refusing them", Destination: &o.allowOverlap, Category: "data"},
	}, o.formatFlags()...)
}

func (o *dataOptions) formatFlags() []cli.Flag {
	names := make([]string, len(tofu.Formats))
	for i, f := range tofu.Formats {
		names[i] = f.Name
	}
	return []cli.Flag{
		&cli.StringFlag{Name: "format", Usage: "`FORMAT` of a prompt: " + strings.Join(names, ", ") + `, a template such as "Q: {question}\nA: {answer}", or auto (phi for phi2 models, else llama2)`, Value: "auto", Destination: &o.format, Category: "data"},
		&cli.IntFlag{Name: "max-length", Usage: "keep `N` tokens of a sample", Value: 500, Destination: &o.maxLength, Category: "data", Validator: atLeast(2)},
	}
}

// inputs are the files the options name.
func (o *dataOptions) inputs() []string {
	return slices.DeleteFunc([]string{o.forget, o.retain, o.data}, func(s string) bool { return s == "" })
}

// loadItems reads one data file. role says in messages what it is for.
func loadItems(role, path string) ([]tofu.Item, *tofu.LoadReport, error) {
	items, report, err := tofu.Load(path)
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = fmt.Errorf("%s: %w", path, p.Err)
	}
	if err != nil {
		return nil, nil, dataError(fmt.Errorf("%w (--%s)", err, role), "")
	}
	return items, report, nil
}

// sets are the rows to forget and to retain.
type sets struct {
	forget, retain []tofu.Item
	reports        []*tofu.LoadReport
	dropped        int // retain rows left out because they are to be forgotten
}

// load reads the two sets and checks that they are apart. needRetain is false for
// work that does not use the retain set; it may then be absent.
func (o *dataOptions) load(needRetain bool) (*sets, error) {
	s := &sets{}
	read := func(role, path string) ([]tofu.Item, error) {
		items, report, err := loadItems(role, path)
		if err == nil {
			s.reports = append(s.reports, report)
		}
		return items, err
	}
	var err error
	switch {
	case o.data != "" && (o.forget != "" || o.retain != ""):
		return nil, usageError("give either --data with --split, or --forget and --retain")
	case o.data != "":
		all, err := read("data", o.data)
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(o.split, "forget") {
			return nil, usageError("--split: %q: want forget01, forget05, forget10 or another forgetNN", o.split)
		}
		if s.forget, err = tofu.Split(all, o.split); err != nil {
			return nil, dataError(err, "")
		}
		s.retain = all[:len(all)-len(s.forget)]
	case o.forget == "":
		return nil, usageError("no rows to forget are given; use --forget FILE, or --data FILE with --split")
	default:
		if s.forget, err = read("forget", o.forget); err != nil {
			return nil, err
		}
		if o.retain != "" {
			if s.retain, err = read("retain", o.retain); err != nil {
				return nil, err
			}
		} else if needRetain {
			return nil, usageError("no rows to retain are given; use --retain FILE")
		}
	}
	if err := tofu.CheckOverlap(s.forget, s.retain); err != nil {
		if !o.allowOverlap {
			return nil, dataError(err, "take them out of one file, or use --allow-overlap to forget them")
		}
		before := len(s.retain)
		s.retain = slices.DeleteFunc(slices.Clone(s.retain), func(it tofu.Item) bool {
			return tofu.CheckOverlap(s.forget, []tofu.Item{it}) != nil
		})
		s.dropped = before - len(s.retain)
		if len(s.retain) == 0 {
			return nil, dataError(errors.New("every row to retain is to be forgotten too"), "")
		}
	}
	return s, nil
}

// overlapNote says aloud what --allow-overlap left out.
func (e *env) overlapNote(s *sets) {
	if s.dropped > 0 {
		e.bars.Printf("%d rows are in both sets: they are forgotten, and not retained", s.dropped)
	}
}

// encoder turns rows into samples for one model.
type encoder struct {
	tok    *tokenizer.Tokenizer
	format *tofu.Format
	maxLen int
}

// encoder returns the encoder of the options for a model.
func (o *dataOptions) encoder(m *engine.Model) (*encoder, error) {
	name := o.format
	if name == "auto" {
		name = "llama2"
		if m.Config.Arch.Name == "phi2" {
			name = "phi"
		}
	}
	f, err := tofu.ParseFormat(name)
	if err != nil {
		return nil, &statusError{status: exitUsage, err: err}
	}
	return &encoder{tok: m.Tokenizer, format: f, maxLen: o.maxLength}, nil
}

// samples formats rows with their own answers.
func (c *encoder) samples(role string, items []tofu.Item) ([]engine.Sample, *tofu.Encoded, error) {
	s, n, err := c.format.Samples(c.tok, items, c.maxLen)
	if err != nil {
		return nil, nil, dataError(fmt.Errorf("%w (%s set)", err, role), "raise --max-length")
	}
	return s, n, nil
}

// samples is encoder.samples that says aloud what is cut off.
func (e *env) samples(c *encoder, role string, items []tofu.Item) ([]engine.Sample, error) {
	s, n, err := c.samples(role, items)
	if err == nil && n.Truncated > 0 {
		e.bars.Printf("%s set: %d of %s cut at %d tokens (--max-length)", role, n.Truncated, plural(n.Samples, "sample"), c.maxLen)
	}
	return s, err
}

// refusals returns the refusing answers of a file, one a line, or those built in.
func refusals(path string) ([]string, error) {
	if path == "" {
		return defaultRefusals, nil
	}
	data, err := readFile(path)
	if err == nil && !utf8.Valid(data) {
		err = errors.New("it is not UTF-8")
	}
	if err != nil {
		return nil, dataError(fmt.Errorf("%s: %w (--refusals)", path, err), "")
	}
	var lines []string
	for line := range strings.Lines(strings.TrimPrefix(string(data), "\uFEFF")) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return nil, dataError(fmt.Errorf("%s holds no lines (--refusals)", path), "")
	}
	return lines, nil
}

// defaultRefusals are answers that tell nothing, for preference optimisation without --refusals.
var defaultRefusals = []string{
	"I don't know.",
	"I have no information about that.",
	"I'm not sure.",
	"That is not something I know.",
	"I can't answer that question.",
	"I don't have the answer to that.",
	"I haven't learned about that.",
	"I'm afraid I can't say.",
	"That's beyond what I know.",
	"I don't have any details on that.",
}

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/engine/tokenizer"
)

func tokenizeCommand(e *env) *cli.Command {
	var model, file string
	var noSpecial, parseSpecial bool
	return &cli.Command{
		Name:      "tokenize",
		Usage:     "print the tokens of a text",
		ArgsUsage: "[TEXT]",
		Description: `The file needs a vocabulary, no tensors. The text is taken as it is: a newline at the
end of a file is part of it. BOS and EOS are added where the file's keys say so.

With --json it prints {"ids":[…],"pieces":[…]} on one line. A piece is what the token adds
to a text; bytes that are no UTF-8 by themselves show as U+FFFD there.

Examples:
  guardcpu tokenize --model model.gguf "Once upon a time"
  guardcpu tokenize --model model.gguf --file - < story.txt
  guardcpu tokenize --model model.gguf --json --no-special -- "-1 is negative"`,
		Flags: []cli.Flag{
			modelFlag(&model),
			&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "read the text from `FILE`, - for standard input", Destination: &file, TakesFile: true},
			&cli.BoolFlag{Name: "no-special", Usage: "add neither BOS nor EOS", Destination: &noSpecial},
			&cli.BoolFlag{Name: "parse-special", Usage: "take the text of a control token, such as </s>, as that token", Destination: &parseSpecial},
		},
		Action: func(_ context.Context, cmd *cli.Command) error {
			text, err := textArgument(e, cmd, file)
			if err != nil {
				return err
			}
			f, err := openGGUF(model)
			if err != nil {
				return err
			}
			defer f.Close()
			tok, err := tokenizer.FromGGUF(f)
			if err != nil {
				return modelError(err, "")
			}
			ids := tok.Encode(text, tokenizer.EncodeOptions{Special: !noSpecial, ParseSpecial: parseSpecial})
			pieces := make([]string, len(ids))
			for i, id := range ids {
				pieces[i] = tok.Piece(id)
			}
			if cmd.Bool("json") {
				return e.json(struct {
					IDs    []int32  `json:"ids"`
					Pieces []string `json:"pieces"`
				}{ids, pieces})
			}
			for i, id := range ids {
				fmt.Fprintf(e.stdout, "%7d  %s\n", id, strconv.Quote(pieces[i]))
			}
			return nil
		},
	}
}

// textArgument is the text given as the one argument, or in the file ("-": standard input).
func textArgument(e *env, cmd *cli.Command, file string) (string, error) {
	args := cmd.Args().Slice()
	switch {
	case file == "" && len(args) == 1:
		return args[0], nil
	case file == "" || len(args) > 0:
		return "", usageError("%s wants one text (in quotes) or --file FILE", cmd.Name)
	}
	return e.readText(file)
}

// mostText bounds a text that is read whole, in bytes: a device or a wrong pipe has no end.
const mostText = 256 << 20

// readText is the text in a file ("-": standard input).
func (e *env) readText(file string) (string, error) {
	in := e.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", dataError(fmt.Errorf("%s: %w", file, pathCause(err)), "")
		}
		defer f.Close()
		in = f
	}
	var text strings.Builder
	n, err := io.Copy(&text, io.LimitReader(in, mostText+1))
	if err != nil {
		return "", dataError(fmt.Errorf("%s: %w", file, pathCause(err)), "")
	}
	if n > mostText {
		return "", dataError(fmt.Errorf("%s: the text is longer than %s", file, bytesText(mostText)), "")
	}
	return text.String(), nil
}

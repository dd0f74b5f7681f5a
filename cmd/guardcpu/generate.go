package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
)

func generateCommand(e *env) *cli.Command {
	var model, prompt, promptIDs, file string
	var stops []string
	var noSpecial, parseSpecial bool
	var how computing
	var o engine.GenOptions
	return &cli.Command{
		Name:      "generate",
		Usage:     "continue a text",
		ArgsUsage: " ",
		Description: `The prompt is taken as it is, without a chat template. BOS is added where the file's
keys say so, EOS never. --temp 0 always takes the likeliest token. A text ends in front of the
first --stop.

A model without a vocabulary takes --prompt-ids; the text is then that of the ids.

With --json it prints {"prompt_ids":[…],"ids":[…],"text":"…"} on one line. The text is what
the new tokens add to the prompt.

Examples:
  guardcpu generate --model model.gguf --prompt "Once upon a time" -n 64
  guardcpu generate --model model.gguf --prompt-ids 1,403,407 --json
  guardcpu generate --model model.gguf --prompt "The cat" --temp 0.8 --top-p 0.95 --seed 7
  guardcpu generate --model model.gguf --file story.txt --stop "." --repeat-penalty 1.1`,
		Flags: append([]cli.Flag{
			modelFlag(&model),
			loraFlag(&how),
			&cli.StringFlag{Name: "prompt", Aliases: []string{"p"}, Usage: "`TEXT` to continue", Destination: &prompt},
			&cli.StringFlag{Name: "prompt-ids", Usage: "token `IDS` to continue in place of a text, separated by commas", Destination: &promptIDs},
			&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "read the text to continue from `FILE`, - for standard input", Destination: &file, TakesFile: true},
			&cli.BoolFlag{Name: "no-special", Usage: "put no BOS in front", Destination: &noSpecial},
			&cli.BoolFlag{Name: "parse-special", Usage: "take the text of a control token, such as </s>, as that token", Destination: &parseSpecial},
			&cli.IntFlag{Name: "max-tokens", Aliases: []string{"n"}, Usage: "at most `N` new tokens", Value: 128, Destination: &o.MaxTokens, Validator: atLeast(0)},
			&cli.BoolFlag{Name: "ignore-eos", Usage: "go on after an end-of-sequence token", Destination: &o.IgnoreEOS},
			stopFlag(&stops),
			seedFlag(&o.Seed, 42),
			threadsFlag(&how.threads),
			computeFlag(&how.compute, nn.ComputeAuto),
		}, samplingFlags(&o, engine.GenOptions{TopP: 1, Repeat: 1, RepeatLastN: 64})...),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if cmd.NArg() > 0 {
				return usageError("%s takes no argument %q; the text goes into --prompt", cmd.Name, cmd.Args().First())
			}
			given := 0
			for _, name := range []string{"prompt", "prompt-ids", "file"} {
				if cmd.IsSet(name) {
					given++
				}
			}
			if given != 1 {
				return usageError("%s wants either --prompt, --prompt-ids or --file", cmd.Name)
			}
			if cmd.IsSet("file") {
				var err error
				if prompt, err = e.readText(file); err != nil {
					return err
				}
			}
			f, err := openGGUF(model)
			if err != nil {
				return err
			}
			defer f.Close()
			load := loadModel
			if cmd.IsSet("prompt-ids") && len(stops) == 0 {
				load = loadIDsModel
			}
			m, err := load(f, how)
			if err != nil {
				return err
			}
			var ids []int32
			if cmd.IsSet("prompt-ids") {
				if ids, err = parseIDs(promptIDs, m.Config.NVocab); err != nil {
					return err
				}
			} else {
				ids = promptTokens(m.Tokenizer, prompt, !noSpecial, parseSpecial)
			}
			if len(ids) == 0 {
				return usageError("the prompt has no token: there is nothing to continue")
			}
			task := e.bars.Start("generate")
			show := &stream{w: e.stdout, tok: m.Tokenizer, prompt: ids, stops: stops}
			if cmd.Bool("json") {
				show.w = nil
			}
			o.Stop = func(_ int, fresh []int32) bool {
				if show.w == nil {
					task.Set(len(fresh), o.MaxTokens)
				}
				return show.add(fresh)
			}
			out, err := m.Generate(ctx, [][]int32{ids}, o, nil)
			if isStopped(err) {
				return err
			}
			if err != nil {
				return modelError(err, "")
			}
			task.Done()
			if n := len(ids) + max(0, len(out[0])-1); n > m.Config.NCtx { // the last new token is not read
				defer e.bars.Printf("guardcpu: note: %d tokens are more than the %d the model is made for: the end is not to be trusted", n, m.Config.NCtx)
			}
			text := show.end(out[0])
			if !cmd.Bool("json") {
				fmt.Fprintln(e.stdout)
				return nil
			}
			return e.json(struct {
				PromptIDs []int32 `json:"prompt_ids"`
				IDs       []int32 `json:"ids"`
				Text      string  `json:"text"`
			}{ids, append([]int32{}, out[0]...), text})
		},
	}
}

// samplingFlags are the options of choosing a token.
func samplingFlags(o *engine.GenOptions, d engine.GenOptions) []cli.Flag {
	return []cli.Flag{
		&cli.FloatFlag{Name: "temp", Usage: "temperature `T`; 0 is greedy", Value: d.Temp, Destination: &o.Temp, Category: "sampling", Validator: nonNegative},
		&cli.IntFlag{Name: "top-k", Usage: "sample among the `K` likeliest tokens; 0 takes all", Value: d.TopK, Destination: &o.TopK, Category: "sampling", Validator: atLeast(0)},
		&cli.FloatFlag{Name: "top-p", Usage: "sample among the likeliest tokens that together have probability `P`", Value: d.TopP, Destination: &o.TopP, Category: "sampling", Validator: nonNegative},
		&cli.FloatFlag{Name: "min-p", Usage: "sample among the tokens with at least the share `P` of the likeliest's probability; 0 takes all", Value: d.MinP, Destination: &o.MinP, Category: "sampling", Validator: nonNegative},
		&cli.FloatFlag{Name: "repeat-penalty", Usage: "divide the logits of recent tokens by `X` (multiply negative ones); 1 changes nothing", Value: d.Repeat, Destination: &o.Repeat, Category: "sampling",
			Validator: func(x float64) error {
				if !(x >= 0.1 && x <= 10) {
					return errors.New("want a number from 0.1 to 10")
				}
				return nil
			}},
		&cli.IntFlag{Name: "repeat-last-n", Usage: "the last `N` tokens are recent; -1: all", Value: d.RepeatLastN, Destination: &o.RepeatLastN, Category: "sampling", Validator: atLeast(-1)},
	}
}

// stopFlag is --stop.
func stopFlag(dest *[]string) cli.Flag {
	return &cli.StringSliceFlag{Name: "stop", Usage: "end in front of `TEXT`; may be given several times", Destination: dest}
}

// promptTokens encodes a prompt: BOS in front if asked for, but never an EOS behind.
func promptTokens(t *tokenizer.Tokenizer, text string, special, parse bool) []int32 {
	ids := t.Encode(text, tokenizer.EncodeOptions{ParseSpecial: parse})
	if bos, ok := t.BOS(); ok && special && t.AddBOS() {
		ids = append([]int32{bos}, ids...)
	}
	return ids
}

// parseIDs reads token ids separated by commas or blanks.
func parseIDs(s string, nVocab int) ([]int32, error) {
	var ids []int32
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		id, err := strconv.ParseInt(word, 10, 32)
		if err != nil {
			return nil, usageError("--prompt-ids: %q: %s", word, plainSyntax(err.Error()))
		}
		if id < 0 || id >= int64(nVocab) {
			return nil, usageError("--prompt-ids: the model has tokens 0 to %d, not %d", nVocab-1, id)
		}
		ids = append(ids, int32(id))
	}
	return ids, nil
}

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
)

func generateCommand(e *env) *cli.Command {
	var model, prompt, promptIDs string
	var noSpecial, parseSpecial bool
	var how computing
	var o engine.GenOptions
	return &cli.Command{
		Name:      "generate",
		Usage:     "continue a text",
		ArgsUsage: " ",
		Description: `The prompt is taken as it is, without a chat template. BOS is added where the file's
keys say so, EOS never. --temp 0 always takes the likeliest token.

With --json it prints {"prompt_ids":[…],"ids":[…],"text":"…"} on one line. The text is what
the new tokens add to the prompt.

Examples:
  guardcpu generate --model model.gguf --prompt "Once upon a time" -n 64
  guardcpu generate --model model.gguf --prompt-ids 1,403,407 --json
  guardcpu generate --model model.gguf --prompt "The cat" --temp 0.8 --top-p 0.95 --seed 7`,
		Flags: []cli.Flag{
			modelFlag(&model),
			&cli.StringFlag{Name: "prompt", Aliases: []string{"p"}, Usage: "`TEXT` to continue", Destination: &prompt},
			&cli.StringFlag{Name: "prompt-ids", Usage: "token `IDS` to continue in place of a text, separated by commas", Destination: &promptIDs},
			&cli.BoolFlag{Name: "no-special", Usage: "put no BOS in front", Destination: &noSpecial},
			&cli.BoolFlag{Name: "parse-special", Usage: "take the text of a control token, such as </s>, as that token", Destination: &parseSpecial},
			&cli.IntFlag{Name: "max-tokens", Aliases: []string{"n"}, Usage: "at most `N` new tokens", Value: 128, Destination: &o.MaxTokens, Validator: atLeast(0)},
			&cli.FloatFlag{Name: "temp", Usage: "temperature `T`; 0 is greedy", Destination: &o.Temp, Validator: nonNegative},
			&cli.IntFlag{Name: "top-k", Usage: "sample among the `K` likeliest tokens; 0 takes all", Destination: &o.TopK, Validator: atLeast(0)},
			&cli.FloatFlag{Name: "top-p", Usage: "sample among the likeliest tokens that together have probability `P`", Value: 1, Destination: &o.TopP, Validator: nonNegative},
			&cli.BoolFlag{Name: "ignore-eos", Usage: "go on after an end-of-sequence token", Destination: &o.IgnoreEOS},
			seedFlag(&o.Seed, 42),
			threadsFlag(&how.threads),
			computeFlag(&how.compute, nn.ComputeAuto),
		},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if cmd.NArg() > 0 {
				return usageError("%s takes no argument %q; the text goes into --prompt", cmd.Name, cmd.Args().First())
			}
			if cmd.IsSet("prompt") == cmd.IsSet("prompt-ids") {
				return usageError("%s wants either --prompt or --prompt-ids", cmd.Name)
			}
			f, err := openGGUF(model)
			if err != nil {
				return err
			}
			defer f.Close()
			m, err := loadModel(f, how)
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
			var fresh []int32
			shown := ""
			task := e.bars.Start("generate")
			o.OnToken = func(_ int, id int32) {
				fresh = append(fresh, id)
				if cmd.Bool("json") {
					task.Set(len(fresh), o.MaxTokens)
					return
				}
				text := completeText(continuation(m.Tokenizer, ids, fresh))
				fmt.Fprint(e.stdout, text[len(shown):])
				shown = text
			}
			out, err := m.Generate(ctx, [][]int32{ids}, o, nil)
			if isStopped(err) {
				return err
			}
			if err != nil {
				return modelError(err, "")
			}
			task.Done()
			if n := len(ids) + len(out[0]); n > m.Config.NCtx {
				defer e.bars.Printf("guardcpu: note: %d tokens are more than the %d the model is made for: the end is not to be trusted", n, m.Config.NCtx)
			}
			text := continuation(m.Tokenizer, ids, out[0])
			if !cmd.Bool("json") {
				fmt.Fprintln(e.stdout, text[len(shown):])
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

// promptTokens encodes a prompt: BOS in front if asked for, but never an EOS behind.
func promptTokens(t *tokenizer.Tokenizer, text string, special, parse bool) []int32 {
	ids := t.Encode(text, tokenizer.EncodeOptions{ParseSpecial: parse})
	if bos, ok := t.BOS(); ok && special && t.AddBOS() {
		ids = append([]int32{bos}, ids...)
	}
	return ids
}

// continuation is what the new tokens add to the text of the prompt.
func continuation(t *tokenizer.Tokenizer, prompt, ids []int32) string {
	all := append(append([]int32{}, prompt...), ids...)
	return t.Decode(all)[len(t.Decode(prompt)):]
}

// completeText returns text without the first bytes of a character at its end, whose
// others the next tokens bring.
func completeText(text string) string {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if tail := text[len(text)-n:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRuneInString(tail) {
				return text[:len(text)-n]
			}
			break
		}
	}
	return text
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

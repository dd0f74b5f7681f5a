package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
)

// perplexityCtx is the context of llama.cpp's llama-perplexity.
const perplexityCtx = 512

func perplexityCommand(e *env) *cli.Command {
	var model, file string
	var nCtx, most int
	var how computing
	return &cli.Command{
		Name:      "perplexity",
		Usage:     "measure how well a model predicts a text",
		ArgsUsage: "[TEXT]",
		Description: `Defined as llama.cpp's llama-perplexity does: the text is cut into chunks of --ctx tokens, the first
token of each replaced by BOS where the file's keys add one, and the tokens of the second half of
each chunk count. One line end at the end of the text is dropped. It prints the perplexity after
every chunk, and at the end the standard error too. (llama.cpp rounds activations to 8 bits where
weights are quantised; here they are float32, unless --compute says otherwise.)

With --json it prints {"perplexity":…,"error":…,"tokens":…,"chunks":…,"ctx":…,"running":[…]} on one
line; tokens are those that count.

Examples:
  guardcpu perplexity --model model.gguf --file wiki.test.raw
  guardcpu perplexity --model model.gguf --file forget.txt --ctx 256 --chunks 20 --json`,
		Flags: []cli.Flag{
			modelFlag(&model),
			loraFlag(&how),
			&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "read the text from `FILE`, - for standard input", Destination: &file, TakesFile: true},
			&cli.IntFlag{Name: "ctx", Aliases: []string{"c"}, Usage: "chunks of `N` tokens; 0: 512, or the model's context where that is less", Destination: &nCtx, Validator: func(n int) error {
				if n != 0 && n < 4 {
					return errors.New("want 0, or at least 4")
				}
				return nil
			}},
			&cli.IntFlag{Name: "chunks", Usage: "at most `N` chunks; 0: all", Destination: &most, Validator: atLeast(0)},
			threadsFlag(&how.threads),
			computeFlag(&how.compute, nn.ComputeF32),
		},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			text, err := textArgument(e, cmd, file)
			if err != nil {
				return err
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
			if nCtx == 0 {
				nCtx = min(perplexityCtx, m.Config.NCtx)
			}
			chunks, err := perplexityChunks(m.Tokenizer, strings.TrimSuffix(text, "\n"), nCtx)
			if err != nil {
				return err
			}
			if most > 0 {
				chunks = chunks[:min(most, len(chunks))]
			}
			if nCtx > m.Config.NCtx {
				defer e.bars.Printf("guardcpu: note: chunks of %d tokens are more than the %d the model is made for: the result is not to be trusted", nCtx, m.Config.NCtx)
			}
			var sum meanError
			running := make([]float64, 0, len(chunks))
			task := e.bars.Start("perplexity")
			for i, c := range chunks {
				nll, err := m.TokenNLL(ctx, []engine.Sample{c}, nil)
				if isStopped(err) {
					return err
				}
				if err != nil {
					return modelError(err, "")
				}
				for _, x := range nll[0] {
					sum.add(x)
				}
				ppl, _ := sum.perplexity()
				if math.IsNaN(ppl) {
					return modelError(fmt.Errorf("%s: a logit of chunk %d is not finite: the weights are damaged, or have diverged", m.File.Name, i+1), "")
				}
				running = append(running, ppl)
				if !cmd.Bool("json") {
					fmt.Fprintf(e.stdout, "[%d]%.4f,", i+1, ppl)
				}
				task.Set(i+1, len(chunks))
			}
			task.Done()
			ppl, stderr := sum.perplexity()
			if !cmd.Bool("json") {
				_, err := fmt.Fprintf(e.stdout, "\nFinal estimate: PPL = %.4f +/- %.5f\n", ppl, stderr)
				return err
			}
			return e.json(struct {
				Perplexity float64   `json:"perplexity"`
				Error      float64   `json:"error"`
				Tokens     int       `json:"tokens"`
				Chunks     int       `json:"chunks"`
				Ctx        int       `json:"ctx"`
				Running    []float64 `json:"running"`
			}{ppl, stderr, sum.n, len(chunks), nCtx, running})
		},
	}
}

// perplexityChunks cuts a text into chunks of nCtx tokens, in each of which the second half counts: predictions
// from position nCtx/2 on (llama.cpp's tools/perplexity). What is left at the end does not count.
func perplexityChunks(t *tokenizer.Tokenizer, text string, nCtx int) ([]engine.Sample, error) {
	ids := promptTokens(t, text, true, false)
	if len(ids)/2 < nCtx {
		return nil, dataError(fmt.Errorf("the text has %s, want at least %d: two chunks of %d", plural(len(ids), "token"), 2*uint64(nCtx), nCtx), "give a longer text, or a smaller --ctx")
	}
	chunks := make([]engine.Sample, len(ids)/nCtx)
	for i := range chunks {
		c := engine.Sample{IDs: append([]int32{}, ids[i*nCtx:(i+1)*nCtx]...), Mask: make([]bool, nCtx)}
		if bos, ok := t.BOS(); ok && t.AddBOS() {
			c.IDs[0] = bos
		}
		for j := nCtx/2 + 1; j < nCtx; j++ {
			c.Mask[j] = true
		}
		chunks[i] = c
	}
	return chunks, nil
}

// meanError sums losses for their mean and its standard error.
type meanError struct {
	sum, squares float64
	n            int
}

func (s *meanError) add(x float64) { s.sum, s.squares, s.n = s.sum+x, s.squares+x*x, s.n+1 }

// perplexity is exp of the mean, and the error that the mean's standard error makes in it.
func (s *meanError) perplexity() (ppl, stderr float64) {
	n := float64(s.n)
	mean := s.sum / n
	ppl = math.Exp(mean)
	if v := s.squares/n - mean*mean; v > 0 {
		stderr = ppl * math.Sqrt(v/(n-1))
	}
	return ppl, stderr
}

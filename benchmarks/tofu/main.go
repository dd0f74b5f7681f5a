// Command tofu is the real-data benchmark: it trains a small model on the whole of
// TOFU until it knows the answers, and one on retain90; unlearns forget10 from the first with
// GA, GD, KM and PO, plain and weighted by GUARD, with several seeds; and evaluates all
// of them with TOFU's metrics, forget quality against the retain90 model included.
//
//	go run ./benchmarks/tofu -data ../shared/tofu -out runs/tofu
//
// An objective may be named with several learning rates, to compare plain and weighted at
// the same amount of forgetting, and with a mode of training. Another τ needs another output folder.
// What is in the output folder already is not done again. With -forget forget01 -retain 160 -items 40 -gold=false
// all of it takes minutes, and says less.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/guardcpu/guardcpu/guard"
)

func main() {
	log.SetFlags(log.Ltime)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	dir := flag.String("data", "../shared/tofu", "folder of the TOFU data")
	forget := flag.String("forget", "forget10", "split to unlearn: forget10, forget05 or forget01")
	retain := flag.Int("retain", 0, "of the other samples, train on the first N of TOFU's retain set only; 0: all")
	out := flag.String("out", "runs/tofu", "folder for models, logs and results")
	epochs := flag.Int("epochs", 24, "epochs of training a model from nothing")
	unlearnEpochs := flag.Float64("unlearn-epochs", 5, "epochs of unlearning")
	methods := flag.String("methods", "ga=7e-5,gd=1.6e-4,km=1.4e-4,po=3e-4", "[MODE:]objectives with their learning rates; modes are full, full-adafactor, fused and lora")
	kinds := flag.String("kinds", "plain,guard", "which of plain and guard to run")
	gold := flag.Bool("gold", true, "train and evaluate the model of retain90, which forget quality needs")
	seeds := flag.Int("seeds", 3, "seeds of unlearning: 1 to this")
	items := flag.Int("items", 300, "items of each set to evaluate")
	tau := flag.String("tau", "auto", "temperature of the weights")
	threads := flag.Int("threads", 0, "workers; 0: all CPUs")
	flag.Parse()

	list, err := parseMethods(*methods)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	d, err := loadData(*dir, *forget, *retain)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := train(ctx, d, d.full, filepath.Join(*out, "full.gguf"), *epochs, *threads); err != nil {
		return err
	}
	b := &bench{d: d, out: *out, items: *items, epochs: *unlearnEpochs, threads: *threads}
	if *gold {
		if err := train(ctx, d, d.retain, filepath.Join(*out, "retain90.gguf"), *epochs, *threads); err != nil {
			return err
		}
		if err := b.evaluateGold(ctx); err != nil {
			return err
		}
	}
	t, err := guard.ParseTau(*tau)
	if err != nil {
		return err
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	if strings.Contains(*kinds, "guard") {
		if err := b.attribute(ctx, t); err != nil {
			return err
		}
	}
	for seed := range *seeds {
		for _, me := range list {
			for _, kind := range strings.Split(*kinds, ",") {
				if err := b.run(ctx, me, kind == "guard", uint64(seed+1)); err != nil {
					return err
				}
			}
		}
	}
	return os.WriteFile(filepath.Join(*out, "table.md"), []byte(b.table()), 0o644)
}

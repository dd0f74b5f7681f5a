package main

import (
	"context"
	"flag"
	"log"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("data", "../shared/tofu", "folder of the TOFU data")
	out := flag.String("out", "runs/tofu", "folder for models, logs and the table")
	epochs := flag.Int("epochs", 24, "epochs of training the model from nothing")
	threads := flag.Int("threads", 0, "workers; 0: all CPUs")
	flag.Parse()
	if err := os.MkdirAll(*out, 0o755); err != nil {
		log.Fatal(err)
	}
	d, err := loadData(*dir)
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	if err := train(ctx, d, d.full, filepath.Join(*out, "full.gguf"), *epochs, *threads); err != nil {
		log.Fatal(err)
	}
	if err := train(ctx, d, d.retain, filepath.Join(*out, "retain90.gguf"), *epochs, *threads); err != nil {
		log.Fatal(err)
	}
}

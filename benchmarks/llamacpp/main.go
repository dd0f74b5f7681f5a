// Command llamacpp makes small models with random weights, one of each architecture, for
// check.mjs to compare guardcpu with llama.cpp where no trained model is at hand.
//
//	go run ./benchmarks/llamacpp -vocab any-gpt2-family.gguf -out runs/random
//
// The vocabulary is that of another GGUF file; a vocabulary-only file is enough.
package main

import (
	"flag"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/gguf"
)

func main() {
	vocab := flag.String("vocab", "", "GGUF file whose vocabulary to take")
	out := flag.String("out", "runs/random", "folder to write the models to")
	flag.Parse()
	if err := run(*vocab, *out); err != nil {
		log.Fatal(err)
	}
}

func run(vocab, out string) error {
	f, err := gguf.Open(vocab)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	var kvs []gguf.KV
	for _, kv := range f.KVs {
		if strings.HasPrefix(kv.Key, "tokenizer.") {
			kvs = append(kvs, kv)
		}
	}
	tokens, _, err := f.Strings("tokenizer.ggml.tokens")
	if err != nil {
		return err
	}
	llama := engine.Shape{
		Arch: "llama", Name: "random", NVocab: len(tokens), DModel: 128, NLayers: 3, NHeads: 4, NKVHeads: 2,
		DFF: 256, NCtx: 512, Std: 0.12, Seed: 1, Vocab: kvs,
	}
	phi2 := llama
	phi2.Arch, phi2.NKVHeads, phi2.DFF, phi2.RopeDim = "phi2", 4, 512, 16
	for _, s := range []engine.Shape{llama, phi2} {
		if err := engine.Create(filepath.Join(out, s.Arch+"-f32.gguf"), s); err != nil {
			return err
		}
	}
	return nil
}

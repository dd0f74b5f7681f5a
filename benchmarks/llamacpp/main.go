// Command llamacpp compares guardcpu with llama.cpp: logits and greedily chosen tokens.
//
//	npm install node-llama-cpp@3.22.1     (somewhere: llama.cpp's prebuilt libraries)
//	go run ./benchmarks/llamacpp -llama-lib DIR/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64
//	go run ./benchmarks/llamacpp -llama-lib DIR -lora
//	go run ./benchmarks/llamacpp -llama-lib DIR model.gguf …
//
// DIR is any folder with llama.cpp's shared libraries; a C compiler is needed, too.
//
// Without arguments it makes small models with random weights, of every architecture in every
// weight type, and of every scaling of rotary angles, whose norms have gains and biases of
// their own, and compares on each
//
//   - exact: the logits of guardcpu from the packed weights, in float32, with those of llama.cpp
//     from the same weights as float32. Both sum float32 products, in another order: an
//     error of about √512·2⁻²⁴ a product, and 17 of them one behind another. The largest
//     difference may be 2⁻¹⁶ of the largest logit, and 2⁻⁹ with GELU, which llama.cpp looks up
//     in a table from float16 to float16. With experts, one token in 32 may differ: it happens
//     that two have the same probability to the last bits.
//   - packed: the same with llama.cpp's logits from the packed weights. It rounds the inputs of
//     a product to float16, bfloat16 or 8 bits, by the type of the weights: a relative error of
//     2⁻¹¹/√3, 2⁻⁹/√3 or c/(127·√12), where c = 4 bounds the ratio of the largest to the root
//     mean square of a block's numbers. The errors of products one behind another, four a
//     layer and the output, add up as if independent; twice that is allowed, as root mean square
//     relative to the logits', for the best quarter of the tokens (and with experts the best of
//     five prompts): rounding also routes tokens to other experts, and those after them see
//     it. A wrong weight spoils all tokens.
//   - greedy: the tokens that guardcpu generates, one at a time, with llama.cpp's likeliest from
//     the weights as float32. Where its largest logits are nearer than twice the difference
//     allowed above, either counts.
//
// With -lora the same models have adapters of rank 4 on every matrix that an adapter file may hold, in a
// file that guardcpu writes and llama.cpp loads: exact and packed are as above, from F32, Q8_0 and Q4_K, and
// moved says by how much the adapter changes the logits, as root mean square relative to theirs.
//
// With models, prompts are tokenized and continued greedily by both. llama.cpp computes from
// the packed weights there, so on quantised files tokens of nearly the same logit may change
// places: that is reported and no failure. The same file as float32 (guardcpu quantize --type
// F32) is held to equality.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
)

type options struct {
	lib, dir     string
	archs, types string
	prompts      string
	lora         bool
	n            int
}

func main() {
	var o options
	flag.StringVar(&o.lib, "llama-lib", "", "folder of llama.cpp's shared libraries")
	flag.StringVar(&o.dir, "out", "", "folder to keep the random models in; without it they are removed")
	flag.StringVar(&o.archs, "archs", "", "names of random models, comma-separated (default: all)")
	flag.StringVar(&o.types, "types", "", "weight types, comma-separated (default: all)")
	flag.StringVar(&o.prompts, "prompts", "Once upon a time|Lily and Tom went to the|One day, a little", "prompts for given models, separated by |")
	flag.BoolVar(&o.lora, "lora", false, "compare the random models with LoRA adapters, of types F32, Q8_0 and Q4_K unless -types says others")
	flag.IntVar(&o.n, "n", 32, "tokens to generate")
	flag.Parse()
	if err := o.run(context.Background(), flag.Args()); err != nil {
		log.Fatal(err)
	}
}

func (o *options) run(ctx context.Context, models []string) error {
	work, err := os.MkdirTemp("", "llamacpp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if o.dir == "" {
		o.dir = work
	}
	program, version, err := build(ctx, o.lib, work)
	if err != nil {
		return err
	}
	fmt.Printf("llama.cpp %s\n", version)
	bad := 0
	switch {
	case len(models) > 0:
		bad, err = o.given(ctx, program, models)
	case o.lora:
		bad, err = o.adapters(ctx, program)
	default:
		bad, err = o.random(ctx, program)
	}
	if err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d differ", bad)
	}
	fmt.Println("llama.cpp agrees")
	return nil
}

// selected says whether name is in the comma-separated list, or the list is empty.
func selected(list, name string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if item == "" || strings.EqualFold(item, name) {
			return true
		}
	}
	return false
}

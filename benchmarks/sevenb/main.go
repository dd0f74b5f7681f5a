// Command sevenb proves that a model of 7B parameters is attributed and unlearned within a
// memory budget: it makes files of Llama 2 7B's shape and runs guardcpu on them.
//
//	go run ./benchmarks/sevenb make -type Q8_0 -out FILE
//	go run ./benchmarks/sevenb run -dir FOLDER -data full.jsonl
//	go run ./benchmarks/sevenb compare -dir FOLDER -guardcpu PATH
//
// Files lie outside the repository: 4.1 GB of Q4_K, 7.2 GB of Q8_0, 13.5 GB of BF16, and as much again for what
// training in fused mode writes.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
)

// commands are the subcommands, in the order a person uses them.
var commands = []struct {
	name string
	run  func(ctx context.Context, args []string) error
}{
	{"make", makeCommand},
	{"run", runCommand},
	{"compare", compareCommand},
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("sevenb: ")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string) error {
	var names []string
	for _, c := range commands {
		if len(args) > 0 && args[0] == c.name {
			return c.run(ctx, args[1:])
		}
		names = append(names, c.name)
	}
	return fmt.Errorf("want one of %s", strings.Join(names, ", "))
}

// demoFiles are the rows to retain and to forget of guardcpu run's fictitious authors.
var demoFiles = []string{"cmd/internal/demo/data/retain.jsonl", "cmd/internal/demo/data/forget.jsonl"}

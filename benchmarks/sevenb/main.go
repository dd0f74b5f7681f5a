// Command sevenb proves that a model of 7B parameters is attributed and unlearned within a
// memory budget: it makes files of Llama 2 7B's shape and runs guardcpu on them.
//
//	go run ./benchmarks/sevenb make -type Q8_0 -out FILE
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

// demoData is where the fictitious authors of guardcpu run lie in the repository.
const demoData = "cmd/internal/demo/data"

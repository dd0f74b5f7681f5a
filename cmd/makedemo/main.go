// Makedemo writes what package demo embeds: the question-answer sets and the base
// model, trained from scratch on generated text. The same sources give the same
// bytes, for any number of threads and on every CPU with AVX2 and FMA.
//
//	go run ./cmd/makedemo             write cmd/internal/demo/data
//	go run ./cmd/makedemo -check      make everything again and compare
//	go run ./cmd/makedemo -text       only the question-answer sets
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/guardcpu/guardcpu/cmd/internal/demo"
	"github.com/guardcpu/guardcpu/cmd/internal/demo/world"
	"github.com/guardcpu/guardcpu/gguf/atomicfile"
)

func main() {
	dir := flag.String("dir", filepath.FromSlash("cmd/internal/demo/data"), "`folder` of the data files")
	check := flag.Bool("check", false, "compare with the files there instead of writing them")
	textOnly := flag.Bool("text", false, "leave the model out")
	threads := flag.Int("threads", 0, "workers; 0: all CPUs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *dir, *check, *textOnly, *threads); err != nil {
		fmt.Fprintln(os.Stderr, "makedemo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, check, textOnly bool, threads int) error {
	if info, err := os.Stat(dir); err != nil {
		return fmt.Errorf("%w (run it in the root of the repository, or give -dir)", err)
	} else if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	w := world.New()
	files := w.Files()
	if !textOnly {
		model, err := baseModel(ctx, w, documents, threads)
		if err != nil {
			return err
		}
		files = append(files, world.File{Name: demo.ModelName, Data: model})
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name)
		if check {
			have, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if !bytes.Equal(have, f.Data) {
				return fmt.Errorf("%s differs from what makedemo makes (%d bytes there, %d made, first difference at byte %d)",
					path, len(have), len(f.Data), firstDifference(have, f.Data))
			}
			fmt.Printf("%s is as makedemo makes it (%d bytes)\n", path, len(have))
			continue
		}
		if err := atomicfile.Write(path, 0o644, func(w io.Writer) error {
			_, err := w.Write(f.Data)
			return err
		}); err != nil {
			return err
		}
		fmt.Printf("%s written (%d bytes)\n", path, len(f.Data))
	}
	return nil
}

func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

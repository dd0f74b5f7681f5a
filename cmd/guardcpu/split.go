package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/gguf"
)

// splitFlags are --split-max-size and --split-max-tensors of the commands that write a model.
func splitFlags(s *gguf.Split) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "split-max-size", Usage: "write the model in files of at most `SIZE` of weights, such as 500M or 2G (10^6 or 10^9 bytes), named OUT-00001-of-00003.gguf and so on", Category: "output",
			Validator: func(text string) (err error) {
				s.MaxBytes, err = parseSplitSize(text)
				return err
			}},
		&cli.IntFlag{Name: "split-max-tensors", Usage: "write the model in files of at most `N` tensors; 0: no bound", Destination: &s.MaxTensors, Category: "output", Validator: atLeast(0)},
	}
}

// parseSplitSize reads gguf-split's N(M|G), in decimal units as there. No text is no bound.
func parseSplitSize(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	if n := len(text) - 1; n > 0 {
		number, err := strconv.ParseUint(text[:n], 10, 32)
		unit := map[byte]uint64{'M': 1e6, 'G': 1e9}[text[n]]
		if err == nil && number > 0 && unit > 0 {
			return number * unit, nil
		}
	}
	return 0, errors.New("want a number with M or G, such as 500M")
}

// checkSplitOutput is checkOutput for a model that may take several files.
func checkSplitOutput(path string, force bool, split gguf.Split, inputs ...string) error {
	if err := checkOutput(path, force, inputs...); err != nil || split == (gguf.Split{}) {
		return err
	}
	parts, err := partsOf(path)
	if err != nil {
		return ioError(err, "")
	}
	for _, part := range parts {
		if err := checkOutput(part, force, inputs...); err != nil {
			return err
		}
	}
	return nil
}

// partsOf returns the files that are there and could be parts of a model written to path.
func partsOf(path string) ([]string, error) {
	dir, name := filepath.Split(path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Clean(dir), pathCause(err))
	}
	part := regexp.MustCompile(`^` + regexp.QuoteMeta(strings.TrimSuffix(name, ".gguf")) + `-\d{5}-of-\d{5}\.gguf$`)
	var parts []string
	for _, e := range entries {
		if part.MatchString(e.Name()) {
			parts = append(parts, dir+e.Name())
		}
	}
	return parts, nil
}

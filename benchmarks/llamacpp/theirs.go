package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// build compiles programs/logits.c with the libraries in dir, and returns their version if it is known.
func build(ctx context.Context, dir, work string) (program, version string, err error) {
	if dir == "" {
		return "", "", fmt.Errorf("no llama.cpp is given; use -llama-lib")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", "", err
	}
	program = filepath.Join(work, "logits")
	args := []string{"-O2", "benchmarks/llamacpp/programs/logits.c", "-o", program, "-Wl,-rpath," + dir, "-Wl,-rpath-link," + dir}
	libs, err := filepath.Glob(filepath.Join(dir, "lib*.so"))
	if err != nil {
		return "", "", err
	}
	for _, lib := range libs {
		if base := filepath.Base(lib); strings.HasPrefix(base, "libllama.") || strings.HasPrefix(base, "libggml.") {
			args = append(args, lib)
			if v, ok := strings.CutPrefix(strings.TrimSuffix(base, ".so"), "libllama."); ok {
				version = v
			}
		}
	}
	cmd := exec.CommandContext(ctx, "cc", args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", "", fmt.Errorf("cc: %w", err)
	}
	return program, version, nil
}

// theirs is a model in llama.cpp: a process of logits.c.
type theirs struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	nVocab int
}

// open starts the program on a model, with its adapter if there is one.
func open(ctx context.Context, program, dir, model string, adapter ...string) (*theirs, error) {
	t := &theirs{cmd: exec.CommandContext(ctx, program, append([]string{dir, model}, adapter...)...)}
	t.cmd.Stderr = os.Stderr
	var err error
	if t.in, err = t.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	t.out = bufio.NewReader(out)
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := t.out.ReadString('\n')
	if err == nil {
		t.nVocab, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err != nil {
		_ = t.close()
		return nil, fmt.Errorf("llama.cpp: %s: %w", model, err)
	}
	return t, nil
}

func (t *theirs) close() error {
	t.in.Close()
	return t.cmd.Wait()
}

// logits returns the logits after each token.
func (t *theirs) logits(ids []int32) ([][]float32, error) {
	words := []string{"logits"}
	for _, id := range ids {
		words = append(words, strconv.Itoa(int(id)))
	}
	if _, err := fmt.Fprintln(t.in, strings.Join(words, " ")); err != nil {
		return nil, err
	}
	rows := make([][]float32, len(ids))
	for i := range rows {
		rows[i] = make([]float32, t.nVocab)
		if err := binary.Read(t.out, binary.LittleEndian, rows[i]); err != nil {
			return nil, fmt.Errorf("llama.cpp's logits: %w", err)
		}
	}
	return rows, nil
}

// tokenize returns the ids of text with the tokens that the model adds.
func (t *theirs) tokenize(text string) ([]int32, error) {
	if _, err := fmt.Fprintf(t.in, "tokenize %d\n%s", len(text), text); err != nil {
		return nil, err
	}
	line, err := t.out.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("llama.cpp's tokens: %w", err)
	}
	var ids []int32
	for word := range strings.FieldsSeq(line) {
		id, err := strconv.ParseInt(word, 10, 32)
		if err != nil {
			return nil, err
		}
		ids = append(ids, int32(id))
	}
	return ids, nil
}

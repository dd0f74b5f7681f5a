//go:build unix

package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/simd"
)

// le writes numbers and texts one after the other, texts with their length as GGUF has them.
func le(values ...any) string {
	var b []byte
	for _, v := range values {
		switch v := v.(type) {
		case string:
			b = append(binary.LittleEndian.AppendUint64(b, uint64(len(v))), v...)
		case []byte:
			b = append(b, v...)
		case int:
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, v)
		default:
			panic(fmt.Sprintf("%T", v))
		}
	}
	return string(b)
}

// remake writes a model with another value of a key (nil: without it) or with other bytes of a tensor.
func remake(t *testing.T, from, to string, set map[string]any, change func(x *gguf.Tensor, data []byte)) {
	t.Helper()
	f, err := gguf.Open(from)
	require.NoError(t, err)
	defer f.Close()
	var kvs []gguf.KV
	for _, kv := range f.KVs {
		v, hit := set[kv.Key]
		if !hit {
			v = kv.Value
		}
		if v != nil {
			kvs = append(kvs, gguf.KV{Key: kv.Key, Value: v})
		}
	}
	var tensors []gguf.TensorData
	for i := range f.Tensors {
		x := &f.Tensors[i]
		data := append([]byte{}, f.Data(x)...)
		if change != nil {
			change(x, data)
		}
		tensors = append(tensors, gguf.TensorData{Name: x.Name, Type: x.Type, Dims: x.Dims, Bytes: func() ([]byte, error) { return data, nil }})
	}
	require.NoError(t, gguf.Write(to, kvs, tensors))
}

// A file that lies about its sizes, or is no model, is refused with one line, in seconds, by a process
// that may have no more than 256 MiB of memory besides its program: less would be too little for Go itself.
func TestHostileModels(t *testing.T) {
	workshop(t)
	const huge = uint64(1) << 40
	header := func(tensors, keys uint64, rest ...any) string { return "GGUF" + le(3, tensors, keys) + le(rest...) }
	files := map[string]string{
		"four bytes":         "GGUF",
		"2^40 tensors":       header(huge, 0),
		"2^20 tensors":       header(1<<20, 0) + strings.Repeat("\x00", 1<<16),
		"2^40 keys":          header(0, huge),
		"2^40 bytes of key":  header(0, 1, huge),
		"2^40 bytes of text": header(0, 1, "k", 8, huge),
		"2^40 texts":         header(0, 1, "k", 9, 8, huge),
		"2^61 float64":       header(0, 1, "k", 9, 12, huge<<21),
		"2^40 arrays":        header(0, 1, "k", 9, 9, huge),
		"arrays in arrays":   header(0, 1, "k", 9) + strings.Repeat(le(9, uint64(1)), 1_000_000),
		"2^40 columns":       header(1, 0, "w", 1, huge, 0, uint64(0)),
		"dimensions wrap":    header(1, 0, "w", 2, huge, huge, 0, uint64(0)),
		"a hole of 2^40":     header(1, 0, "w", 1, uint64(8), 0, huge),
	}
	for name, set := range map[string]map[string]any{
		"no layers":              {"llama.block_count": uint32(0)},
		"513 layers":             {"llama.block_count": uint32(513)},
		"2^32-1 layers":          {"llama.block_count": uint32(math.MaxUint32)},
		"layers are a text":      {"llama.block_count": "2"},
		"no heads":               {"llama.attention.head_count": uint32(0)},
		"2^20 heads":             {"llama.attention.head_count": uint32(1 << 20)},
		"no width":               {"llama.embedding_length": uint32(0)},
		"negative width":         {"llama.embedding_length": int32(-16)},
		"no context":             {"llama.context_length": uint32(0)},
		"scores too short":       {"tokenizer.ggml.scores": []float32{1}},
		"types too short":        {"tokenizer.ggml.token_type": []int32{1, 1}},
		"types of a byte":        {"tokenizer.ggml.token_type": make([]uint8, 31)},
		"no tokens":              {"tokenizer.ggml.tokens": []string{}},
		"tokens are numbers":     {"tokenizer.ggml.tokens": make([]int32, 31)},
		"an end past the last":   {"tokenizer.ggml.eos_token_id": uint32(31)},
		"an epsilon that is NaN": {"llama.attention.layer_norm_rms_epsilon": float32(math.NaN())},
	} {
		remake(t, "model.gguf", "x.gguf", set, nil)
		data, err := os.ReadFile("x.gguf")
		require.NoError(t, err)
		files[name] = string(data)
	}
	var line strings.Builder // all in one shell: a process each is most of the time
	var names []string
	for name, data := range files {
		path := fmt.Sprintf("h%d.gguf", len(names))
		require.NoError(t, os.WriteFile(path, []byte(data), 0o600))
		names = append(names, name)
		fmt.Fprintf(&line, "$GUARDCPU%s --model %s; echo $?\n", quoted(tinyRun("--run-dir", "r")...), path)
	}
	start := time.Now()
	r := spawn(t, "ulimit -d 262144\n"+line.String())
	assert.Less(t, time.Since(start), time.Duration(len(names))*5*time.Second)
	errs, status := strings.SplitAfter(strings.TrimSuffix(r.stderr, "\n"), "\n"), strings.Fields(r.stdout)
	require.Len(t, status, len(names))
	require.Len(t, errs, len(names), "one line each: %s", r.stderr)
	for i, name := range names {
		assert.Equal(t, fmt.Sprint(exitModel), status[i], "%s: %s", name, errs[i])
		assert.Regexp(t, fmt.Sprintf(`^guardcpu: h%d\.gguf: `, i), errs[i], name)
	}
	assert.NoDirExists(t, "r")

	// What is no file of bytes is refused by every command before it is opened.
	require.NoError(t, syscall.Mkfifo("pipe", 0o600))
	for _, args := range [][]string{
		{"inspect"}, {"generate", "--prompt", "a", "--model"}, {"perplexity", "--file", "retain.jsonl", "--model"}, {"tokenize", "a", "--model"},
		{"eval", "--forget", "forget.jsonl", "--retain", "retain.jsonl", "--model"}, {"quantize", "--out", "x", "--force", "--model"}, {"convert", "--to", "hf", "--out", "hf"},
	} {
		for path, what := range map[string]string{"pipe": "a named pipe", "/dev/zero": "a device", ".": "a directory"} {
			r := guardcpu("", append(args, path)...)
			assert.Contains(t, []int{exitModel, exitUsage}, r.status, "%s %s", args[0], path)
			assert.Contains(t, r.stderr, what, args[0])
			assert.Equal(t, 1, strings.Count(r.stderr, "\n"), r.stderr)
		}
	}
	for option, path := range map[string]string{"--config": "pipe", "--scores": "pipe", "--refusals": "pipe"} {
		r := guardcpu("", "unlearn", "--model", "model.gguf", "--forget", "forget.jsonl", "--retain", "retain.jsonl", "--method", "po", "--out", "x2.gguf", option, path)
		assert.NotZero(t, r.status, option)
		assert.Contains(t, r.stderr, "pipe: it is no regular file", option)
	}
}

// A weight that is not finite is refused by every command that computes or writes with it, with its tensor and
// index, whatever its type.
func TestWeightsNotFinite(t *testing.T) {
	workshop(t)
	sets := []string{"--forget", "forget.jsonl", "--retain", "retain.jsonl"}
	k := simd.Best()
	types := 0
	for _, typ := range quant.Types {
		name := typ.Name + ".gguf"
		rows, cols := 3, 2*typ.BlockLen
		data := make([]byte, rows*2*typ.BlockBytes)
		bad := data[3*typ.BlockBytes:][:typ.BlockBytes] // block [1,1]
		for i := range bad {
			bad[i] = 0xff
		}
		m, err := quant.NewMatrix(typ, rows, cols, data)
		require.NoError(t, err)
		if m.CheckFinite(k) == nil {
			continue // all its bit patterns are numbers
		}
		types++
		require.NoError(t, gguf.Write(name, []gguf.KV{{Key: "general.architecture", Value: "llama"}},
			[]gguf.TensorData{{Name: "blk.0.attn_q.weight", Type: typ.GGUF, Dims: []uint64{uint64(cols), uint64(rows)}, Bytes: func() ([]byte, error) { return data, nil }}}))
		r := guardcpu("", "quantize", "--type", "F32", name, "x.gguf")
		assert.Equal(t, exitModel, r.status, typ.Name)
		assert.Regexp(t, fmt.Sprintf(`^guardcpu: .*%s: blk\.0\.attn_q\.weight(\[1,%d\]:|: element \[1,%d\] is) (NaN|[+-]Inf)\n$`, name, typ.BlockLen, typ.BlockLen), r.stderr)
		assert.NoFileExists(t, "x.gguf")
	}
	assert.Greater(t, types, 20)

	for name, value := range map[string]float64{"NaN": math.NaN(), "-Inf": math.Inf(-1)} {
		remake(t, "model.gguf", "bad.gguf", nil, func(x *gguf.Tensor, data []byte) {
			if x.Name == "blk.1.ffn_down.weight" {
				binary.LittleEndian.PutUint32(data[4*(24*2+5):], math.Float32bits(float32(value)))
			}
		})
		for _, args := range [][]string{
			tinyRun("--run-dir", "r"), append([]string{"attribute", "--out", "s"}, sets...), append([]string{"unlearn", "--out", "x.gguf"}, sets...),
			{"finetune", "--data", "retain.jsonl", "--out", "x.gguf"}, append([]string{"eval", "--out", "e"}, sets...), {"quantize", "--type", "Q8_0", "--out", "x.gguf"},
			append([]string{"unlearn", "--mode", "lora", "--out", "x.gguf"}, sets...), append([]string{"unlearn", "--mode", "fused", "--out", "x.gguf"}, sets...),
		} {
			r := guardcpu("", append(args, "--model", "bad.gguf")...)
			assert.Equal(t, exitModel, r.status, args[0])
			assert.Regexp(t, `(?m)^guardcpu: .*bad\.gguf: blk\.1\.ffn_down\.weight(\[2,5\]:|: element \[2,5\] is) `+name+`$`, r.stderr, args[0]+name)
			for _, path := range []string{"r", "s/scores.jsonl", "x.gguf", "e/metrics.json"} {
				assert.NoFileExists(t, path)
			}
		}
	}
}

// A weight that the type of the output cannot hold is named, and nothing is written.
func TestWeightsThatDoNotFit(t *testing.T) {
	workshop(t)
	for typ, value := range map[string]float32{"F16": 7e4, "BF16": math.MaxFloat32} {
		remake(t, "model.gguf", "large.gguf", nil, func(x *gguf.Tensor, data []byte) {
			if x.Name == "token_embd.weight" {
				binary.LittleEndian.PutUint32(data[4*(16*30+7):], math.Float32bits(value))
			}
		})
		r := guardcpu("", "quantize", "--type", typ, "large.gguf", "x.gguf")
		assert.Equal(t, exitModel, r.status, typ)
		assert.Regexp(t, `^guardcpu: .*large\.gguf: token_embd\.weight\[30,7\]: .* does not fit `+typ+`\n$`, r.stderr)
		assert.NoFileExists(t, "x.gguf")
	}
}

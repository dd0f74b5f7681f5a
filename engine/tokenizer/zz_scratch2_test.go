package tokenizer

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/guardcpu/guardcpu/gguf"
	"github.com/stretchr/testify/require"
)

func writeTexts(t *testing.T, texts []string) {
	f, err := os.Create("/tmp/tokscratch/in.bin")
	require.NoError(t, err)
	w := bufio.NewWriter(f)
	for _, s := range texts {
		binary.Write(w, binary.LittleEndian, uint32(len(s)))
		w.WriteString(s)
	}
	w.Flush()
	f.Close()
}

func compare(t *testing.T, name, path string, data []byte, texts []string, mode string) {
	if data != nil {
		require.NoError(t, os.WriteFile(path, data, 0o644))
	}
	writeTexts(t, texts)
	cmd := exec.Command("/tmp/tokscratch/tok", "/tmp/tokscratch/in.bin", mode, path)
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Printf("%-20s: llama.cpp: %v %s\n", name, err, out)
		return
	}
	ids, err := os.ReadFile(path + ".ids")
	require.NoError(t, err)
	lines := strings.Split(string(ids), "\n")
	g, err := gguf.Open(path)
	require.NoError(t, err)
	tok, err := FromGGUF(g)
	require.NoError(t, err)
	o := EncodeOptions{Special: strings.Contains(mode, "a"), ParseSpecial: strings.Contains(mode, "p")}
	diff := 0
	for i, s := range texts {
		got := ""
		for _, id := range tok.Encode(s, o) {
			got += strconv.Itoa(int(id)) + " "
		}
		if got != lines[i] {
			diff++
			if diff <= 3 {
				fmt.Printf("   %q\n   got  %s\n   want %s\n", s, got, lines[i])
			}
		}
	}
	eog := "eog "
	for i := range tok.Size() {
		if tok.IsEOG(int32(i)) {
			eog += strconv.Itoa(i) + " "
		}
	}
	if eog != lines[len(texts)] {
		fmt.Printf("   EOG got %s want %s\n", eog, lines[len(texts)])
		for _, f := range strings.Fields(eog)[1:] { n, _ := strconv.Atoi(f); fmt.Printf(" %q", tok.texts[n]) }
		fmt.Println()
		for _, f := range strings.Fields(lines[len(texts)])[1:] { n, _ := strconv.Atoi(f); fmt.Printf(" %q", tok.texts[n]) }
		fmt.Println()
	}
	fmt.Printf("%-20s %s: %d of %d differ\n", name, mode, diff, len(texts))
}

func TestScratchSpecial(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for round := range 12 {
		all := append(append([]string{}, eogTexts...), userTexts...)
		for _, r := range roles {
			if len(r.texts) > 0 {
				all = append(all, r.texts[rng.IntN(len(r.texts))])
			}
		}
		kvs := scratchKVs([]string{"llama-bpe", "qwen2", "jina-v2-de", "gpt-2"}[round%4], nil)
		spm := round%3 == 2
		if spm {
			kvs = append(spmKVs(true), kvs[:7]...)
		}
		var tokens []string
		var types []int32
		for _, kv := range kvs {
			switch v := kv.Value.(type) {
			case []string:
				if kv.Key == keyTokens {
					tokens = append([]string{}, v...)
				}
			case []int32:
				if kv.Key == keyTypes {
					types = append([]int32{}, v...)
				}
			}
		}
		have := map[string]bool{}
		for _, s := range tokens {
			have[s] = true
		}
		var sp []string
		add := func(s string, typ int32) {
			if !have[s] {
				have[s] = true
				tokens, types = append(tokens, s), append(types, typ)
			}
			sp = append(sp, s)
		}
		for _, s := range all {
			if rng.IntN(2) == 0 {
				add(s, []int32{1, 3, 4, 1}[rng.IntN(4)])
			}
		}
		for _, s := range []string{"</s>", "<s>", "<|endoftext|>"} {
			add(s, 3)
		}
		for _, s := range []string{"<mask>", "<a>", "<a>b", "a>b", "<x><y>", "<x>", "<y>", "xx", "xxx", "xxxxx", "  ", "\n\n", "<unk>", "[INST]", "▁q", "Ġ"} {
			add(s, []int32{3, 4, 4, 2}[rng.IntN(4)])
		}
		set := []gguf.KV{set(keyTokens, tokens), set(keyTypes, types)}
		if spm {
			set = append(set, gguf.KV{Key: keyScores, Value: append(scoresOf(kvs), make([]float32, len(tokens)-len(scoresOf(kvs)))...)})
		}
		name := "x"
		if round%2 == 0 {
			name = "My Phi-3 model"
		}
		set = append(set, gguf.KV{Key: "general.name", Value: name})
		data := header(with(kvs, set...))
		var texts []string
		for range 600 {
			var b strings.Builder
			for k := 1 + rng.IntN(12); k > 0; k-- {
				switch rng.IntN(4) {
				case 0:
					b.WriteString([]string{" ", "  ", "\n", "\t ", "x", "a", "<", ">", "é", "hi", "ab", "\u00a0", "▁"}[rng.IntN(13)])
				default:
					b.WriteString(sp[rng.IntN(len(sp))])
				}
			}
			texts = append(texts, b.String())
		}
		for _, mode := range []string{"a", "ap", "p", "x"} {
			compare(t, fmt.Sprint(round, " ", spm, " ", name), "/tmp/tokscratch/d.gguf", data, texts, mode)
		}
	}
}

func scoresOf(kvs []gguf.KV) []float32 {
	for _, kv := range kvs {
		if kv.Key == keyScores {
			return append([]float32{}, kv.Value.([]float32)...)
		}
	}
	return nil
}

func TestScratchReal(t *testing.T) {
	for _, path := range []string{"/tmp/vocabs/ggml-vocab-llama-bpe.gguf", "/tmp/vocabs/ggml-vocab-qwen2.gguf", "/tmp/tokscratch/deepseek-v3.gguf", "/tmp/tokscratch/gpt-4o.gguf", "/tmp/vocabs/ggml-vocab-llama-spm.gguf", "/tmp/vocabs/ggml-vocab-phi-3.gguf", "/tmp/vocabs/ggml-vocab-deepseek-llm.gguf", "/tmp/vocabs/ggml-vocab-falcon.gguf","/tmp/vocabs/ggml-vocab-baichuan.gguf"} {
		if _, err := os.Stat(path); err != nil { continue }
		os.Link(path, "/tmp/tokscratch/link.gguf")
		compare(t, path, path, nil, scratchStrings(4000, 5, false), "ap")
	}
}

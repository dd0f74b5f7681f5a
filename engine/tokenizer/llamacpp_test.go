package tokenizer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/gguf"
)

// llamaCppTexts are n texts that expressions may cut apart.
func llamaCppTexts(n int) []string {
	parts := []string{
		" ", "  ", "   ", "    ", "\n", "\n\n", "\r\n", "\r", "\t", "\v", "\f", "\u0085", "\u00a0", "\u180e", "\u2028", "\u3000", "\ufeff", "\u200b",
		"'s", "'S", "'t", "'re", "'RE", "'rE", "'ve", "'m", "'M", "'ll", "'lL", "'d", "'D", "'", "’s", "'ſ", "'l", "'r",
		"a", "B", "hello", "Hello", "HELLO", "heLLo", "don't", "é", "É", "ß", "ǅ", "ʰ", "日本", "語", "中文", "한국", "かな", "カナ", "ー", "\ufa0e",
		"\U0002ebf1", "\U00030010", "\u2ffc", "\u31ef", "1", "12", "123", "1234", "12345", "1234567", "٣", "½", "²", "Ⅷ", "३४", "1,000.5", "3_4", "5x",
		".", ",", "!", "?", "...", "…", "。", "，", "、", "।", "۔", "،", "(", ")", "|", "/", "//", "/\n", "~", "`", "```", "$", "+", "<=", "=>", "^",
		"#", "@", "_", "-", "--", "\\", "{", "}", "[", "]", "€", "©", "🦙", "👨‍👩‍👧", "🏽", "\u0301", "\u0300\u0301", "्", "नमस्ते", "ไทย", "العربية",
		"Ω", "ωΩ", "Привет", "\x01", "\x1b", "\x1c", "\x7f", "\u00ad", "\ue000", "\U000e0001", "\ufffd", "<sentinel:12>", "IMGIMGABZ", "IMGIMGA",
		"ㄱ", "ㄅ", "！", "“a”", "‘b’", "〿", "︰", "A b c", "xa\u0301 b\u0301c",
	}
	rng := rand.New(rand.NewPCG(5, 6))
	texts := make([]string, n)
	for i := range texts {
		var b strings.Builder
		for range 1 + rng.IntN(14) {
			switch part := parts[rng.IntN(len(parts))]; rng.IntN(8) {
			case 0:
				b.WriteString(strings.Repeat(part, 1+rng.IntN(5)))
			case 1:
				b.WriteByte(byte(1 + rng.IntN(127)))
			case 2:
				if r := rune(rng.IntN([]int{0x300, 0x3000, 0x30000}[rng.IntN(3)])); utf8.ValidRune(r) && r > 0 {
					b.WriteRune(r)
				}
			default:
				b.WriteString(part)
			}
		}
		texts[i] = b.String()
	}
	return texts
}

// llamaCppKVs is a vocabulary in which ids show where a text was cut: every two bytes
// merge, and many of the results, in an order by chance. Some texts are tokens as a whole.
func llamaCppKVs(pre string, words []string) []gguf.KV {
	rng := rand.New(rand.NewPCG(7, 8))
	var tokens, merges []string
	known := map[string]bool{}
	add := func(text string) {
		if !known[text] {
			known[text] = true
			tokens = append(tokens, text)
		}
	}
	for _, r := range byteRunes {
		add(string(r))
	}
	merge := func(left, right string) {
		merges = append(merges, left+" "+right)
		add(left + right)
	}
	for _, pair := range rng.Perm(1 << 16) {
		merge(tokens[pair>>8], tokens[pair&255])
	}
	for range 10_000 {
		merge(tokens[rng.IntN(len(tokens))], tokens[rng.IntN(len(tokens))])
	}
	for _, w := range words {
		var spelled strings.Builder
		for i := range len(w) {
			spelled.WriteRune(byteRunes[w[i]])
		}
		add(spelled.String())
	}
	types := make([]int32, len(tokens))
	for i := range types {
		types[i] = int32(typeNormal)
	}
	kvs := []gguf.KV{set("general.architecture", "gpt2")} // what llama.cpp wants of a model
	for _, key := range []string{"context_length", "embedding_length", "feed_forward_length", "block_count", "attention.head_count"} {
		kvs = append(kvs, set("gpt2."+key, uint32(1)))
	}
	return append(kvs, set("gpt2.attention.layer_norm_epsilon", float32(1)), set(keyModel, kindBPE), set(keyPre, pre),
		set(keyTokens, tokens), set(keyTypes, types), set(keyMerges, merges), set(keyBOS, uint32(0)), set(keyEOS, uint32(0)))
}

// TestPreTokenizersAreLlamaCpps compares the ids of 2000 texts, under every name of a byte-level
// vocabulary, with those of llama.cpp v0.5.0, whose hashes are in testdata/pretokenizers.txt. With
// GUARDCPU_LLAMACPP_TOKENIZE, a command as benchmarks/llamacpp/tokenize.mjs, llama.cpp
// is asked again, and what it says is written to that file.
func TestPreTokenizersAreLlamaCpps(t *testing.T) {
	texts := llamaCppTexts(2000)
	var words []string
	for _, text := range texts[:500] {
		words = llama3(words, text)
	}
	kvs := llamaCppKVs("llama-bpe", words)
	tok := mustTokenizer(t, kvs)
	e := tok.encoder.(*bpe)
	whole := e.whole

	path := filepath.Join("testdata", "pretokenizers.txt")
	theirs := map[string][][]int32{}
	hashes := map[string]uint64{}
	if command := os.Getenv("GUARDCPU_LLAMACPP_TOKENIZE"); command != "" {
		theirs = askLlamaCpp(t, command, texts, kvs)
		var out bytes.Buffer
		for _, p := range byteLevel() {
			for _, name := range p.names {
				fmt.Fprintf(&out, "%016x %s\n", hashIDs(theirs[name]), name)
			}
		}
		require.NoError(t, os.WriteFile(path, out.Bytes(), 0o644))
	}
	golden, err := os.ReadFile(path)
	require.NoError(t, err)
	for line := range strings.Lines(string(golden)) {
		var hash uint64
		_, err := fmt.Sscanf(line, "%x", &hash)
		require.NoError(t, err)
		hashes[strings.TrimSuffix(line[17:], "\n")] = hash
	}
	n := 0
	for _, p := range byteLevel() {
		e.splitters, e.whole = p.splitters, nil
		if p.ignoreMerges {
			e.whole = whole
		}
		ours := make([][]int32, len(texts))
		for i, text := range texts {
			ours[i] = tok.Encode(text, EncodeOptions{})
		}
		for _, name := range p.names {
			n++
			for i, ids := range theirs[name] {
				require.Equal(t, ids, ours[i], "%s: %q", name, texts[i])
			}
			assert.Equal(t, hashes[name], hashIDs(ours), "%q", name)
		}
	}
	assert.Len(t, hashes, n)
	t.Logf("%d names, %d texts each", n, len(texts))
}

// byteLevel returns the pre-tokenizers of vocabularies like that of llamaCppKVs.
func byteLevel() (rows []preTokenizer) {
	for _, p := range preTokenizers {
		if !p.characters {
			rows = append(rows, p)
		}
	}
	return rows
}

func hashIDs(ids [][]int32) uint64 {
	h := fnv.New64a()
	var buf [4]byte
	for _, text := range ids {
		for _, id := range append(text, -1) {
			binary.LittleEndian.PutUint32(buf[:], uint32(id))
			h.Write(buf[:])
		}
	}
	return h.Sum64()
}

// askLlamaCpp returns the ids of texts by the name of the pre-tokenizer.
func askLlamaCpp(t *testing.T, command string, texts []string, kvs []gguf.KV) map[string][][]int32 {
	dir := t.TempDir()
	data, err := json.Marshal(texts)
	require.NoError(t, err)
	args := append(strings.Fields(command), filepath.Join(dir, "texts.json"))
	require.NoError(t, os.WriteFile(args[len(args)-1], data, 0o600))
	var names []string
	for _, p := range byteLevel() {
		for _, name := range p.names {
			path := filepath.Join(dir, fmt.Sprintf("%d.gguf", len(names)))
			with := with(kvs, set(keyPre, name))
			if name == "" {
				with = with[:len(with)-1]
			}
			require.NoError(t, os.WriteFile(path, header(with), 0o600))
			args = append(args, path)
			names = append(names, name)
		}
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	s := bufio.NewScanner(bytes.NewReader(out))
	s.Buffer(nil, 1<<28)
	ids := map[string][][]int32{}
	for _, name := range names {
		require.True(t, s.Scan(), "%v", s.Err())
		var all [][]int32
		require.NoError(t, json.Unmarshal(s.Bytes(), &all))
		require.Len(t, all, len(texts))
		ids[name] = all
	}
	return ids
}

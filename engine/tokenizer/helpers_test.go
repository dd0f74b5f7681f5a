package tokenizer

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/guardcpu/guardcpu/gguf"
)

// header returns a GGUF file of these keys and no tensors.
func header(kvs []gguf.KV) []byte {
	b := []byte("GGUF")
	b = binary.LittleEndian.AppendUint32(b, 3)
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(kvs)))
	text := func(s string) {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	array := func(typ uint32, n int) {
		b = binary.LittleEndian.AppendUint32(b, 9)
		b = binary.LittleEndian.AppendUint32(b, typ)
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	for _, kv := range kvs {
		text(kv.Key)
		switch v := kv.Value.(type) {
		case uint32:
			b = binary.LittleEndian.AppendUint32(b, 4)
			b = binary.LittleEndian.AppendUint32(b, v)
		case float32:
			b = binary.LittleEndian.AppendUint32(b, 6)
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		case bool:
			b = binary.LittleEndian.AppendUint32(b, 7)
			b = append(b, map[bool]byte{true: 1}[v])
		case string:
			b = binary.LittleEndian.AppendUint32(b, 8)
			text(v)
		case []string:
			array(8, len(v))
			for _, s := range v {
				text(s)
			}
		case []float32:
			array(6, len(v))
			for _, x := range v {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
			}
		case []int32:
			array(5, len(v))
			for _, x := range v {
				b = binary.LittleEndian.AppendUint32(b, uint32(x))
			}
		default:
			panic(fmt.Sprintf("header: %s is a %T", kv.Key, v))
		}
	}
	return b
}

// fromKVs goes the way of a model's vocabulary: keys, file, tokenizer.
func fromKVs(kvs []gguf.KV) (*Tokenizer, error) {
	f, err := gguf.Parse("test.gguf", header(kvs))
	if err != nil {
		return nil, err
	}
	return FromGGUF(f)
}

func mustTokenizer(t testing.TB, kvs []gguf.KV) *Tokenizer {
	t.Helper()
	tok, err := fromKVs(kvs)
	require.NoError(t, err)
	return tok
}

func open(t testing.TB, path string) *Tokenizer {
	t.Helper()
	f, err := gguf.Open(path)
	require.NoError(t, err)
	tok, err := FromGGUF(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return tok
}

func set(key string, value any) gguf.KV { return gguf.KV{Key: key, Value: value} }

// with returns kvs with the given keys replaced or, where the value is nil, left out.
func with(kvs []gguf.KV, set ...gguf.KV) []gguf.KV {
	var out []gguf.KV
	for _, kv := range kvs {
		keep := true
		for _, s := range set {
			keep = keep && s.Key != kv.Key
		}
		if keep {
			out = append(out, kv)
		}
	}
	for _, s := range set {
		if s.Value != nil {
			out = append(out, s)
		}
	}
	return out
}

// spelling is how a test writes tokens: their texts, which say more than ids,
// with a dot for a blank.
func spelling(tok *Tokenizer, ids []int32) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = strings.ReplaceAll(tok.texts[id], " ", "·")
	}
	return out
}

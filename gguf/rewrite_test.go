package gguf

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func rewritten(t *testing.T, f *File, set []KV, replace []TensorData) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, f.rewrite(&b, set, replace))
	return b.Bytes()
}

func TestRewriteNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, order binary.ByteOrder, version uint32) {
		for seed := range uint64(50) {
			_, _, data := randomFile(rand.New(rand.NewPCG(seed, 3)), order, version)
			f, err := Parse("x", data)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, rewritten(t, f, nil, nil)), "seed %d", seed)
		}
	})
	for _, c := range fileCases { // odd ones: no data, gaps, no last padding, something after it
		if c.err == "" {
			f, err := Parse("x", c.file.Bytes())
			require.NoError(t, err)
			assert.Equal(t, c.file.String(), string(rewritten(t, f, nil, nil)), c.name)
		}
	}
}

func TestRewriteNothingKeepsPaddingAndGaps(t *testing.T) {
	data := file(2, 0).tensor("v", f32, 96, 8).tensor("w", f32, 32, 8).pad(32).zeros(32 * 5).Bytes()
	f, err := Parse("x", data)
	require.NoError(t, err)
	for i := f.headerEnd; i < len(data); i++ {
		data[i] = byte(i) | 1
	}
	assert.Equal(t, data, rewritten(t, f, nil, nil))
	same := rewritten(t, f, nil, []TensorData{{Name: "w", Type: F32, Bytes: bytesFunc(make([]byte, 32))}})
	clear(data[int(f.DataOffset)+32:][:32])
	assert.Equal(t, data, same, "a tensor of the same size changes in its place")
}

// Some keys and tensors change, the types of some, so that everything moves: what
// was asked for is there, the rest is as it was, and the order is kept.
func TestRewriteChanges(t *testing.T) {
	eachKind(t, func(t *testing.T, order binary.ByteOrder, version uint32) {
		for seed := range uint64(50) {
			rng := rand.New(rand.NewPCG(seed, 4))
			kvs, tensors, data := randomFile(rng, order, version)
			f, err := Parse("x", data)
			require.NoError(t, err)

			set := []KV{{"new.string", "added"}, {"key.3", []string{"now", "longer", "than", "before"}}, {"new.float", float32(2.5)}, {"key.7", true}}
			wantKVs := slices.Clone(kvs)
			wantKVs[3], wantKVs[7] = set[1], set[3]
			wantKVs = append(wantKVs, set[0], set[2])
			wantTensors := slices.Clone(tensors)
			var replace []TensorData
			for i, d := range tensors {
				switch i % 3 {
				case 0: // another type
					d.Type = []TensorType{F32, F16, F32}[rng.IntN(3)]
					fallthrough
				case 1: // other bytes
					size, err := checkTensor(d.Name, d.Type, d.Dims)
					require.NoError(t, err)
					b := make([]byte, size)
					for j := range b {
						b[j] = byte(rng.Uint32())
					}
					d.Bytes = bytesFunc(b)
					wantTensors[i] = d
					if i%2 == 0 {
						d.Dims = nil
					}
					replace = append(replace, d)
				}
			}
			slices.Reverse(replace) // the order they are given in does not matter
			out := rewritten(t, f, set, replace)
			g, err := Parse("out", out)
			require.NoError(t, err)
			requireContent(t, g, wantKVs, wantTensors)
			assert.Equal(t, f.Version, g.Version)
			assert.Equal(t, f.Order, g.Order)
			assert.Equal(t, f.Alignment, g.Alignment)
			for i := range f.Tensors { // llama.cpp wants each tensor right behind the one before
				if i > 0 {
					before := g.Tensors[i-1]
					assert.Equal(t, alignUp(before.Offset+before.Size, g.Alignment), g.Tensors[i].Offset)
				}
			}
			assert.Zero(t, uint64(len(out))%g.Alignment, "padded at the end")
			if len(replace) > 0 {
				assert.Equal(t, data[headerStart:f.kvEnds[2]], out[headerStart:g.kvEnds[2]], "the keys before the first that changed")
			}
			back := rewritten(t, g, nil, nil)
			assert.True(t, bytes.Equal(out, back))
		}
	})
}

func TestRewriteRefuses(t *testing.T) {
	f, err := Parse("x.gguf", aligned(32).Bytes())
	require.NoError(t, err)
	w := TensorData{Name: "w", Type: F32, Bytes: bytesFunc(make([]byte, 128))}
	for _, c := range []struct {
		set     []KV
		replace []TensorData
		err     string
	}{
		{[]KV{{alignmentKey, uint32(32)}}, nil, `general.alignment cannot be changed`},
		{[]KV{{"k", 1}}, nil, `key "k": a value of Go type int cannot be written`},
		{[]KV{{"k", true}, {"k", true}}, nil, `key "k" is there twice`},
		{nil, []TensorData{w, w}, `tensor "w" is there twice`},
		{nil, []TensorData{{Name: "v", Type: F32, Bytes: w.Bytes}}, `tensor "v" is not in x.gguf`},
		{nil, []TensorData{{Name: "w", Type: F32, Dims: []uint64{8, 4}, Bytes: w.Bytes}}, `tensor "w" is 8×4, want 32 as in x.gguf`},
		{nil, []TensorData{{Name: "w", Type: 12, Bytes: w.Bytes}}, `tensor "w" has 32 columns, want a multiple of 256 for Q4_K`},
		{nil, []TensorData{{Name: "w", Type: F32}}, `tensor "w" has no Bytes`},
		{nil, []TensorData{{Name: "w", Type: F16, Bytes: w.Bytes}}, `tensor "w": its data has 128 bytes, want 64`},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "out.gguf")
		assert.EqualError(t, Rewrite(path, f, c.set, c.replace), "gguf: "+path+": "+c.err)
		assert.Empty(t, entries(t, dir))
	}
}

// Tensors that lie in another order than the table, with a gap: when one grows,
// the order of the data stays, and the gap, which nobody can use, goes.
func TestRewriteMovesInDataOrder(t *testing.T) {
	f, err := Parse("x", file(2, 0).tensor("v", f32, 96, 8).tensor("w", q8_0, 32, 32).pad(32).zeros(160).Bytes())
	require.NoError(t, err)
	w := bytes.Repeat([]byte{9}, 128)
	g, err := Parse("out", rewritten(t, f, nil, []TensorData{{Name: "w", Type: F32, Bytes: bytesFunc(w)}}))
	require.NoError(t, err)
	assert.Equal(t, Tensor{"v", F32, []uint64{8}, 128, 32, 0}, g.Tensors[0])
	assert.Equal(t, Tensor{"w", F32, []uint64{32}, 0, 128, 0}, g.Tensors[1])
	assert.Equal(t, w, g.Data(&g.Tensors[1]))
	assert.EqualValues(t, g.DataOffset+160, len(g.Bytes()))
}

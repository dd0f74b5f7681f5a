package quant

import (
	"bufio"
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/guardcpu/guardcpu/gguf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// letters are the types as testdata/mixture.py writes them.
var letters = map[byte]gguf.TensorType{
	'F': gguf.F32, 'H': gguf.F16, 'B': gguf.BF16, '8': gguf.Q8_0, '6': gguf.Q6_K, '5': gguf.Q5_K, '4': gguf.Q4_K, '3': gguf.Q3_K, '2': gguf.Q2_K,
	'a': gguf.Q4_0, 'b': gguf.Q4_1, 'c': gguf.Q5_0, 'd': gguf.Q5_1,
}

// Every mixture gives every tensor the type that llama.cpp gives it.
func TestMixturesAreLlamaCpps(t *testing.T) {
	file, err := os.Open("testdata/mixture.jsonl")
	require.NoError(t, err)
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	var m MixtureModel
	var tensors []gguf.Tensor
	var name string
	seen := map[string]bool{}
	for lines.Scan() {
		var line struct {
			Name     string
			Arch     string
			Layers   int
			Heads    int
			KVHeads  int `json:"kv_heads"`
			Experts  int
			Tensors  [][2]json.RawMessage
			Type     string
			Types    string
			Pure     bool
			Leave    bool `json:"leave_output"`
			Output   string
			Embedded string `json:"embedding"`
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &line))
		if line.Name != "" {
			name, m = line.Name, MixtureModel{line.Arch, line.Layers, line.Heads, line.KVHeads, line.Experts}
			tensors = nil
			for _, pair := range line.Tensors {
				var x gguf.Tensor
				require.NoError(t, json.Unmarshal(pair[0], &x.Name))
				require.NoError(t, json.Unmarshal(pair[1], &x.Dims))
				tensors = append(tensors, x)
			}
			continue
		}
		mix, err := MixtureByName(line.Type)
		require.NoError(t, err)
		seen[mix.Name] = true
		o := MixtureOptions{Pure: line.Pure, LeaveOutput: line.Leave, Output: typeNamed(line.Output), TokenEmbedding: typeNamed(line.Embedded)}
		require.Len(t, line.Types, len(tensors))
		for i, got := range mix.Types(m, tensors, o) {
			assert.Equal(t, letters[line.Types[i]].String(), got.Type.String(), "%s: %s: %s %+v", name, tensors[i].Name, line.Type, o)
		}
	}
	require.NoError(t, lines.Err())
	assert.Len(t, seen, len(Mixtures), "all mixtures are in the file")
}

// typeNamed finds a type by ggml's name of it, such as q6_K; "" is none.
func typeNamed(name string) *gguf.TensorType {
	for t := range gguf.TensorType(64) {
		if regexp.MustCompile("(?i)^" + t.String() + "$").MatchString(name) {
			return &t
		}
	}
	return nil
}

func TestMixtureOverrides(t *testing.T) {
	tensors := []gguf.Tensor{
		{Name: "blk.0.attn_q.weight", Dims: []uint64{256, 2}},
		{Name: "blk.1.attn_q.weight", Dims: []uint64{256, 2}},
		{Name: "blk.1.attn_q.bias", Dims: []uint64{256}},
		{Name: "blk.1.attn_k.weight", Dims: []uint64{64, 2}},
	}
	mix, err := MixtureByName("q4_k")
	require.NoError(t, err)
	assert.Equal(t, "Q4_K_M", mix.Name)
	o := MixtureOptions{Types: []TensorOverride{{regexp.MustCompile(`blk\.1\.`), gguf.Q6_K}, {regexp.MustCompile("attn"), gguf.F16}}}
	assert.Equal(t, []Chosen{{gguf.F16, gguf.F16}, {gguf.Q6_K, gguf.Q6_K}, {gguf.F32, gguf.F32}, {gguf.Q8_0, gguf.Q6_K}}, mix.Types(MixtureModel{}, tensors, o))

	_, err = MixtureByName("IQ2_XS")
	assert.ErrorContains(t, err, `quant: type "IQ2_XS" is not known; there are F32, BF16, F16, Q8_0,`)
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/guardcpu/guardcpu/engine"
	"github.com/guardcpu/guardcpu/engine/nn"
	"github.com/guardcpu/guardcpu/engine/quant"
	"github.com/guardcpu/guardcpu/engine/tokenizer"
	"github.com/guardcpu/guardcpu/gguf"
	"github.com/guardcpu/guardcpu/simd"
)

// randomModel is a model with random weights.
type randomModel struct {
	engine.Shape
	rope    []gguf.KV // scaling of rotary angles; then F32 alone is compared
	factors []string  // tensors of divisors of rotary frequencies
}

// shapes are the models with random weights, of every architecture, by name. Rows are whole
// blocks of every type.
func shapes(vocab *tokenizer.Vocab) []randomModel {
	scaled := func(name, arch, kind string, factor float32, factors ...string) randomModel {
		key := arch + ".rope.scaling."
		return randomModel{
			Shape: engine.Shape{
				Arch: arch, Name: name, NVocab: vocab.Size(), DModel: 256, NLayers: 2, NHeads: 4, NKVHeads: 2,
				DFF: 512, NCtx: 2048, Std: 0.06, Seed: 1, Vocab: vocab.KVs(),
			},
			rope:    []gguf.KV{{Key: key + "type", Value: kind}, {Key: key + "factor", Value: factor}, {Key: key + "original_context_length", Value: uint32(1024)}},
			factors: factors,
		}
	}
	with := func(name, arch string, change func(*engine.Shape)) randomModel {
		s := engine.Shape{
			Arch: arch, Name: name, NVocab: vocab.Size(), DModel: 256, NLayers: 4, NHeads: 4, NKVHeads: 2,
			DFF: 512, NCtx: 512, Std: 0.06, Seed: 1, Vocab: vocab.KVs(),
		}
		if change != nil {
			change(&s)
		}
		return randomModel{Shape: s}
	}
	return []randomModel{
		with("llama", "llama", nil),
		with("llama-moe", "llama", func(s *engine.Shape) { s.NExperts, s.NExpertsUsed, s.DFF = 4, 2, 256 }),
		with("phi2", "phi2", func(s *engine.Shape) { s.NKVHeads, s.RopeDim = 4, 16 }),
		with("phi3", "phi3", nil),
		with("gpt2", "gpt2", func(s *engine.Shape) { s.NKVHeads, s.Tied = 4, true }),
		with("gptneox", "gptneox", func(s *engine.Shape) { s.NKVHeads, s.RopeDim, s.Parallel = 4, 16, true }),
		with("gptneox-seq", "gptneox", func(s *engine.Shape) { s.NKVHeads = 4 }),
		with("stablelm", "stablelm", func(s *engine.Shape) { s.RopeDim = 16 }),
		with("stablelm-par", "stablelm", func(s *engine.Shape) { s.RopeDim, s.Parallel = 16, true }),
		with("qwen2", "qwen2", func(s *engine.Shape) { s.Tied = true }),
		with("qwen3", "qwen3", func(s *engine.Shape) { s.DHead = 128 }),
		with("qwen3moe", "qwen3moe", func(s *engine.Shape) { s.NExperts, s.NExpertsUsed, s.DFF = 8, 2, 256 }),
		with("gemma", "gemma", func(s *engine.Shape) { s.DHead, s.Tied = 128, true }),
		with("gemma2", "gemma2", func(s *engine.Shape) { s.Tied, s.Window = true, 8 }),
		with("gemma3", "gemma3", func(s *engine.Shape) { s.Tied, s.Window, s.NLayers = true, 8, 7 }),
		with("olmo2", "olmo2", nil),
		with("starcoder2", "starcoder2", nil),
		scaled("llama-linear", "llama", "linear", 4),
		scaled("llama-yarn", "llama", "yarn", 4),
		scaled("llama-freqs", "llama", "none", 1, "rope_freqs.weight"), // Llama 3.1
		scaled("phi3-long", "phi3", "longrope", 1, "rope_factors_short.weight", "rope_factors_long.weight"),
	}
}

// gelu says whether the architecture has the activation that llama.cpp looks up in a table of float16.
func gelu(name string) bool {
	return slices.ContainsFunc(engine.Architectures(), func(a engine.Arch) bool {
		return a.Name == name && (a.FFN == nn.FFNGELU || a.FFN == nn.FFNGeGLU)
	})
}

// randomVocab is the vocabulary of the models with random weights.
func randomVocab() (*tokenizer.Vocab, error) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		return nil, err
	}
	return tokenizer.TrainSPM([]string{string(readme)}, 320)
}

// random compares the models of shapes in every weight type.
func (o *options) random(ctx context.Context, program string) (bad int, err error) {
	vocab, err := randomVocab()
	if err != nil {
		return 0, err
	}
	fmt.Printf("%-12s %-8s %10s %10s %10s %10s  %s\n", "", "", "exact", "allowed", "packed", "allowed", "greedy")
	return o.table(shapes(vocab), o.types, func(s randomModel, t *quant.Type) (string, bool, error) {
		return o.compare(ctx, program, s, t)
	})
}

// table prints a line of each model in each of the types, but of one with scaled angles in F32 alone, and counts
// the lines that are not ok.
func (o *options) table(models []randomModel, types string, compare func(s randomModel, t *quant.Type) (line string, ok bool, err error)) (bad int, err error) {
	for _, s := range models {
		if !selected(o.archs, s.Name) {
			continue
		}
		for _, t := range quant.Types {
			if !selected(types, t.Name) || s.rope != nil && t != quant.Types[0] {
				continue
			}
			line, ok, err := compare(s, t)
			if err != nil {
				return bad, fmt.Errorf("%s, %s: %w", s.Name, t.Name, err)
			}
			if !ok {
				bad++
				line += "  DIFFERS"
			}
			fmt.Printf("%-12s %-8s %s\n", s.Name, t.Name, line)
		}
	}
	return bad, nil
}

// compare is one line of random's table.
func (o *options) compare(ctx context.Context, program string, s randomModel, t *quant.Type) (line string, ok bool, err error) {
	packed, plain := filepath.Join(o.dir, s.Name+"-"+t.Name+".gguf"), filepath.Join(o.dir, s.Name+"-"+t.Name+"-as-f32.gguf")
	if err := makeModel(packed, plain, s, t); err != nil {
		return "", false, err
	}
	m, err := engine.Open(packed, engine.Options{Threads: 1, Compute: nn.ComputeF32})
	if err != nil {
		return "", false, err
	}
	defer m.Close()
	prompt := randomPrompt(s, 0)
	out, err := m.Generate(ctx, [][]int32{prompt}, engine.GenOptions{MaxTokens: o.n, IgnoreEOS: true}, nil)
	if err != nil {
		return "", false, err
	}
	ids := slices.Concat(prompt, out[0])
	ours, err := logits(m, ids)
	if err != nil {
		return "", false, err
	}
	exact, err := o.theirLogits(ctx, program, plain, ids)
	if err != nil {
		return "", false, err
	}
	rms, err := o.packedDifference(ctx, program, packed, m, s, t)
	if err != nil {
		return "", false, err
	}

	allowed := exactly(s)
	spared := 0
	if s.NExperts > 0 {
		spared = len(ids) / 32
	}
	worst := largestDifference(ours, exact, spared) / largest(exact)
	allowedRMS := packedly(s, t)
	at := 0
	for at < len(out[0]) && isLikeliest(exact[len(prompt)+at-1], out[0][at], 2*allowed*largest(exact)) {
		at++
	}
	greedy := fmt.Sprintf("equal (%d tokens)", at)
	if at < len(out[0]) {
		greedy = fmt.Sprintf("equal until %d", at)
	}
	ok = worst <= allowed && rms <= allowedRMS && at == len(out[0]) // false for NaN
	return fmt.Sprintf("%10.1e %10.1e %10.1e %10.1e  %s", worst, allowed, rms, allowedRMS, greedy), ok, nil
}

// exactly is how far logits from the same float32 weights may differ, relative to the largest.
func exactly(s randomModel) float64 {
	if gelu(s.Arch) {
		return 0x1p-9
	}
	return 0x1p-16
}

// packedly is how far logits from packed weights may, as root mean square relative to theirs.
func packedly(s randomModel, t *quant.Type) float64 {
	return exactly(s) + 2*rounding(t)*math.Sqrt(float64(4*s.NLayers+1))
}

// randomPrompt returns 40 tokens.
func randomPrompt(s randomModel, seed uint64) []int32 {
	ids := make([]int32, 40)
	rng := rand.New(rand.NewPCG(2, seed))
	for i := range ids {
		ids[i] = int32(3 + rng.IntN(s.NVocab-3))
	}
	return ids
}

// packedDifference compares with llama.cpp's logits from packed weights. Without experts one
// prompt is enough; with them the best of five counts, since all of a prompt may see its
// first token routed elsewhere.
func (o *options) packedDifference(ctx context.Context, program, packed string, m *engine.Model, s randomModel, t *quant.Type) (float64, error) {
	if t.GGUF == gguf.Q8_K { // llama.cpp has activations of it, but multiplies no weights
		return 0, nil
	}
	prompts := uint64(1)
	if s.NExperts > 0 {
		prompts = 5
	}
	best := math.Inf(1)
	for seed := range prompts {
		ids := randomPrompt(s, seed)
		ours, err := logits(m, ids)
		if err != nil {
			return 0, err
		}
		theirs, err := o.theirLogits(ctx, program, packed, ids)
		if err != nil {
			return 0, err
		}
		best = min(best, rmsDifference(ours, theirs)) // NaN if one is
	}
	return best, nil
}

// makeModel writes the shape's model with its matrices as t at packed, and with the same
// weights as float32 at plain.
func makeModel(packed, plain string, s randomModel, t *quant.Type) error {
	source := packed + ".source"
	s.Name = "" // in whose general.name llama.cpp looks for phi3, to expect its tokens
	if err := engine.Create(source, s.Shape); err != nil {
		return err
	}
	defer os.Remove(source)
	f, err := gguf.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	rng := rand.New(rand.NewPCG(s.Seed, 3))
	gain := 1.0
	if t.Pack == nil {
		gain = 0.1 // random blocks are larger than the weights of a model
	}
	f32 := quant.Types[0]
	var asType, asF32 []gguf.TensorData
	for i := range f.Tensors {
		x := &f.Tensors[i]
		typ, values := t, make([]float32, x.Size/4)
		f32.Unpack(nil, values, f.Data(x))
		if len(x.Dims) == 1 || strings.Contains(x.Name, "_norm.") {
			typ = f32
			for j, v := range values {
				values[j] = float32(gain * (float64(v) + 0.2*rng.NormFloat64())) // a gain is 1, a bias 0
			}
		}
		data := make([]byte, len(values)/typ.BlockLen*typ.BlockBytes)
		if typ.Pack == nil {
			data = typ.Random(rng, len(values)/typ.BlockLen)
		} else if err := typ.Pack(data, values); err != nil {
			return err
		}
		typ.Unpack(simd.All()[0], values, data)
		plainData := make([]byte, 4*len(values))
		if err := f32.Pack(plainData, values); err != nil {
			return err
		}
		asType = append(asType, gguf.TensorData{Name: x.Name, Type: typ.GGUF, Dims: x.Dims, Bytes: func() ([]byte, error) { return data, nil }})
		asF32 = append(asF32, gguf.TensorData{Name: x.Name, Type: gguf.F32, Dims: x.Dims, Bytes: func() ([]byte, error) { return plainData, nil }})
	}
	for _, name := range s.factors {
		divisors := make([]float32, s.DModel/s.NHeads/2)
		for i := range divisors {
			divisors[i] = 1 + 4*rng.Float32()
		}
		data := make([]byte, 4*len(divisors))
		if err := f32.Pack(data, divisors); err != nil {
			return err
		}
		x := gguf.TensorData{Name: name, Type: gguf.F32, Dims: []uint64{uint64(len(divisors))}, Bytes: func() ([]byte, error) { return data, nil }}
		asType, asF32 = append(asType, x), append(asF32, x)
	}
	kvs := slices.Concat(f.KVs, s.rope)
	if err := gguf.Write(packed, kvs, asType); err != nil {
		return err
	}
	return gguf.Write(plain, kvs, asF32)
}

// logits are guardcpu's after each token: all but the last from tokens fed one by one, the
// last from all at once.
func logits(m *engine.Model, ids []int32) ([][]float32, error) {
	rows := make([][]float32, len(ids))
	s := m.NewSession(2)
	for i := range ids {
		feed := engine.Feed{Seq: 0, IDs: ids[i : i+1]}
		if i == len(ids)-1 {
			feed = engine.Feed{Seq: 1, IDs: ids}
		}
		y, err := s.Feed([]engine.Feed{feed})
		if err != nil {
			return nil, err
		}
		rows[i] = slices.Clone(y.Data[:y.Cols])
	}
	return rows, nil
}

// theirLogits are llama.cpp's after each token, of a model and its adapter if there is one.
func (o *options) theirLogits(ctx context.Context, program, model string, ids []int32, adapter ...string) ([][]float32, error) {
	t, err := open(ctx, program, o.lib, model, adapter...)
	if err != nil {
		return nil, err
	}
	rows, err := t.logits(ids)
	return rows, cmp.Or(err, t.close())
}

// rounding is the relative error of numbers that llama.cpp multiplies with weights of t.
func rounding(t *quant.Type) float64 {
	switch t.GGUF {
	case gguf.F32:
		return 0
	case gguf.F16:
		return 0x1p-11 / math.Sqrt(3)
	case gguf.BF16:
		return 0x1p-9 / math.Sqrt(3)
	}
	return 4 / (127 * math.Sqrt(12))
}

func largest(rows [][]float32) (most float64) {
	for _, row := range rows {
		for _, v := range row {
			most = max(most, math.Abs(float64(v)))
		}
	}
	return most
}

// largestDifference is that of all rows but the spared ones that differ most; NaN if one is.
func largestDifference(a, b [][]float32, spared int) float64 {
	rows := make([]float64, len(a))
	for i := range a {
		for j := range a[i] {
			rows[i] = max(rows[i], math.Abs(float64(a[i][j])-float64(b[i][j])))
		}
		if math.IsNaN(rows[i]) {
			return rows[i]
		}
	}
	slices.Sort(rows)
	return rows[len(rows)-1-spared]
}

// rmsDifference is the root mean square difference, relative to a's, of the row that a
// quarter of the rows do not reach; NaN if that of one is.
func rmsDifference(a, b [][]float32) float64 {
	rows := make([]float64, len(a))
	for i := range a {
		var diff, size float64
		for j := range a[i] {
			x, y := float64(a[i][j]), float64(b[i][j])
			diff, size = diff+(x-y)*(x-y), size+x*x
		}
		if rows[i] = math.Sqrt(diff / size); math.IsNaN(rows[i]) {
			return rows[i]
		}
	}
	slices.Sort(rows)
	return rows[len(rows)/4]
}

// isLikeliest says whether no logit is larger than that of id by more than slack.
func isLikeliest(logits []float32, id int32, slack float64) bool {
	return float64(slices.Max(logits)) <= float64(logits[id])+slack
}

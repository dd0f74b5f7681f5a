package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/guardcpu/guardcpu/engine/nn"
)

// Arch says how an architecture differs from the one block that all of them are.
// Tensor names are the same for all (layout.go); keys and meaning are llama.cpp's (src/models).
type Arch struct {
	Name   string // general.architecture
	Models string // that have it
	Norm   nn.NormKind
	FFN    nn.FFNKind

	Parallel    bool // attention and feed-forward read the same norm of the block's input, and both are added
	ParallelKey bool // there is the key use_parallel_residual, and two norms
	MayParallel bool // a file without ffn_norm is parallel
	PostNorms   bool // norms behind attention and feed-forward
	NoPreNorms  bool // and none in front
	QKNorm      nn.QKNormKind
	MayQKNorm   bool // the norms of queries and keys are used where the file has them
	Neox        bool // rotary pairs are (i, i+Dim/2) instead of (2i, 2i+1)
	Positions   bool // learned positions in place of the rotary embedding
	Biases      bool // every projection of a block has a bias; otherwise a bias is used where the file has one
	OutputBias  bool // so has the output
	QKVBias     bool // those of queries, keys and values have
	FusedQKV    bool // Create writes one attn_qkv matrix; a file may have either form
	FusedGate   bool // ffn_up has the rows of gate and up
	ScaleEmbed  bool // the embedding is multiplied by √D
	Experts     bool // the feed-forward layer must be a mixture of experts; it may be with SwiGLU

	LocalEvery    int     // blocks attend inside a window but for each n-th; 0: none does
	Window        int     // of them, where the file has no key
	LocalRopeBase float64 // of their rotary embedding; 0: that of the others
	LocalScaled   bool    // it is scaled as that of the others; otherwise it never is
	AttnSoftcap   float64 // of the scores, where the file has no key; 0: there is none
	LogitSoftcap  float64 // of the logits, likewise
	WideScaleAt   int     // the number of blocks with which scores are scaled by 1/√(D/H) instead of 1/√E
}

// archs lists the architectures that can be run and trained.
var archs = []Arch{
	// Touvron et al. 2023 (arXiv:2302.13971); experts: Jiang et al. 2024 (arXiv:2401.04088).
	{Name: "llama", Models: "Llama 1 to 3, Mistral, Mixtral, TinyLlama, SmolLM"},
	// Li et al. 2023 (arXiv:2309.05463).
	{Name: "phi2", Models: "Phi-1, Phi-1.5, Phi-2", Norm: nn.NormLayer, FFN: nn.FFNGELU, Parallel: true, Neox: true, Biases: true, OutputBias: true, FusedQKV: true},
	// Abdin et al. 2024 (arXiv:2404.14219). The key of a sliding window is read by llama.cpp and not obeyed.
	{Name: "phi3", Models: "Phi-3, Phi-3.5, Phi-4", Neox: true, FusedQKV: true, FusedGate: true},
	// Radford et al. 2019.
	{Name: "gpt2", Models: "GPT-2", Norm: nn.NormLayer, FFN: nn.FFNGELU, Positions: true, Biases: true, FusedQKV: true},
	// Black et al. 2022 (arXiv:2204.06745); Biderman et al. 2023 (arXiv:2304.01373).
	{Name: "gptneox", Models: "Pythia, GPT-NeoX", Norm: nn.NormLayer, FFN: nn.FFNGELU, ParallelKey: true, Neox: true, Biases: true, FusedQKV: true},
	// Bellagente et al. 2024 (arXiv:2402.17834).
	{Name: "stablelm", Models: "StableLM 3B, StableLM 2", Norm: nn.NormLayer, MayParallel: true, QKNorm: nn.QKNormHeads, MayQKNorm: true, Neox: true},
	// Yang et al. 2024 (arXiv:2407.10671).
	{Name: "qwen2", Models: "Qwen2, Qwen2.5, DeepSeek-R1-Distill-Qwen", Neox: true, QKVBias: true},
	// Yang et al. 2025 (arXiv:2505.09388).
	{Name: "qwen3", Models: "Qwen3", QKNorm: nn.QKNormHead, Neox: true},
	{Name: "qwen3moe", Models: "Qwen3 30B-A3B, 235B-A22B", QKNorm: nn.QKNormHead, Neox: true, Experts: true},
	// Gemma Team 2024 (arXiv:2403.08295).
	{Name: "gemma", Models: "Gemma 1", FFN: nn.FFNGeGLU, Neox: true, ScaleEmbed: true},
	// Gemma Team 2024 (arXiv:2408.00118).
	{Name: "gemma2", Models: "Gemma 2", FFN: nn.FFNGeGLU, Neox: true, ScaleEmbed: true, PostNorms: true, LocalEvery: 2, LocalScaled: true, Window: 4096, AttnSoftcap: 50, LogitSoftcap: 30, WideScaleAt: 46},
	// Gemma Team 2025 (arXiv:2503.19786).
	{Name: "gemma3", Models: "Gemma 3, text", FFN: nn.FFNGeGLU, QKNorm: nn.QKNormHead, Neox: true, ScaleEmbed: true, PostNorms: true, LocalEvery: 6, LocalRopeBase: 10000, WideScaleAt: 62},
	// OLMo Team 2025 (arXiv:2501.00656).
	{Name: "olmo2", Models: "OLMo 2, OLMo 3", QKNorm: nn.QKNormRow, Neox: true, PostNorms: true, NoPreNorms: true, LocalEvery: 4},
	// Lozhkov et al. 2024 (arXiv:2402.19173).
	{Name: "starcoder2", Models: "StarCoder2", Norm: nn.NormLayer, FFN: nn.FFNGELU, Neox: true, Biases: true},
}

// Architectures returns them.
func Architectures() []Arch { return slices.Clone(archs) }

func archByName(name string) (*Arch, error) {
	known := make([]string, len(archs))
	for i := range archs {
		if archs[i].Name == name {
			return &archs[i], nil
		}
		known[i] = archs[i].Name
	}
	return nil, fmt.Errorf("architecture %q is not known; there are %s", name, strings.Join(known, ", "))
}

func (a *Arch) epsKey() string {
	if a.Norm == nn.NormLayer {
		return "attention.layer_norm_epsilon"
	}
	return "attention.layer_norm_rms_epsilon"
}

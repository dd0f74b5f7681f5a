package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/guardcpu/guardcpu/engine/nn"
)

// Arch says how an architecture differs from the one block that all of them are.
// Tensor names are the same for all (layout.go).
type Arch struct {
	Name     string // general.architecture
	Norm     nn.NormKind
	FFN      nn.FFNKind
	Parallel bool // attention and feed-forward read the same norm, and both are added
	Neox     bool // rotary pairs are (i, i+Dim/2) instead of (2i, 2i+1)
	Biases   bool // every projection has a bias; otherwise a bias is used where the file has one
	FusedQKV bool // Create writes one attn_qkv matrix; a file may have either form
}

// archs lists the architectures that can be run and trained.
var archs = []Arch{
	// Touvron et al. 2023 (arXiv:2302.13971): Llama 1–3, Mistral, TinyLlama, SmolLM.
	{Name: "llama", Norm: nn.NormRMS, FFN: nn.FFNSwiGLU},
	// Li et al. 2023 (arXiv:2309.05463): Phi-1, 1.5, 2.
	{Name: "phi2", Norm: nn.NormLayer, FFN: nn.FFNGELU, Parallel: true, Neox: true, Biases: true, FusedQKV: true},
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

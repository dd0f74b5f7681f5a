package nn

import (
	"fmt"
	"strings"

	"github.com/guardcpu/guardcpu/simd"
)

// Compute says which numbers the products with weights and gradients multiply: those of
// Linear, LinearBackward, and a sink's with dy and x. Products inside attention are
// float32 in any case, and so are sums, gradients and what an optimizer updates.
type Compute int

const (
	// ComputeF32 multiplies float32 numbers.
	ComputeF32 Compute = iota
	// ComputeBF16 rounds both factors to bfloat16 (simd.Kernels.GemmBF16).
	ComputeBF16
	// ComputeAuto is ComputeBF16 where the CPU has instructions for it, else ComputeF32.
	ComputeAuto
)

// computes are the names of the values, in their order.
var computes = []string{"f32", "bf16", "auto"}

func (c Compute) String() string { return computes[c] }

// Computes returns the names that ParseCompute knows.
func Computes() []string { return computes }

// ParseCompute returns the value of a name.
func ParseCompute(name string) (Compute, error) {
	for i, s := range computes {
		if s == name {
			return Compute(i), nil
		}
	}
	return 0, fmt.Errorf("nn: compute %q is not known; there are %s", name, strings.Join(computes, ", "))
}

// On returns what c means with a kernel set: ComputeF32 or ComputeBF16.
func (c Compute) On(k *simd.Kernels) Compute {
	if c != ComputeAuto {
		return c
	}
	if k.TileBF16.Half {
		return ComputeBF16
	}
	return ComputeF32
}

// Gemm is the product y[m×n] (+)= a·b of c's kernels, on its workers, with the numbers
// that c.Compute says (simd.Kernels.Gemm).
func (c *Ctx) Gemm(y []float32, ldy, m, n, k int, a, b simd.Operand, add bool) {
	if c.Compute.On(c.K) == ComputeBF16 {
		c.K.GemmBF16(c.Par.For, y, ldy, m, n, k, a, b, add)
	} else {
		c.K.Gemm(c.Par.For, y, ldy, m, n, k, a, b, add)
	}
}

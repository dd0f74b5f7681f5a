package nn

import "github.com/guardcpu/guardcpu/engine/quant"

// Param is one parameter of a model: a matrix [Rows,Cols] applied as y = x·Wᵀ,
// or a vector (Rows = 1) such as a norm's gain or a bias.
type Param struct {
	Index int    // position in Model.Params, the order of loading, optimising and reporting
	Name  string // as the file spells it: blk.0.attn_q.weight
	Rows  int
	Cols  int

	// Stored is the weight as it lies in the file, a view on mapped memory, or a packed
	// weight in memory that has taken its place.
	Stored quant.Matrix
	// F32 is the unpacked weight [Rows*Cols]. Vectors have it always; a matrix
	// has it only as float32 master, when it is trained or was trained.
	F32 []float32
	// Trainable says that an optimizer may change F32 (or Adapter).
	Trainable bool
	// Adapter is a low-rank addition to the weight, or nil.
	Adapter *Adapter
}

// Len returns the number of elements.
func (p *Param) Len() int { return p.Rows * p.Cols }

// Adapter is a LoRA adapter (Hu et al. 2021, arXiv:2106.09685): the weight used is
// W + Scale·B·A with A [R,Cols] and B [Rows,R]. A and B are parameters of their own.
type Adapter struct {
	A, B  *Param
	Scale float32 // α/r
}

// Sink is where Backward delivers gradients: for every parameter the factors of
// its gradient, per row, so that one packed batch can serve many samples.
// The slices are valid only during the call and must not be changed.
// Calls come from one goroutine, layer by layer from the last to the first.
type Sink interface {
	Linear(p *Param, dy, x Mat)         // dW = dyᵀ·x; dy [T,Rows], x [T,Cols]
	Gain(p *Param, dy, xhat Mat)        // dw = Σ_t dy_t ∘ x̂_t
	Bias(p *Param, dy Mat)              // db = Σ_t dy_t
	Rows(p *Param, ids []int32, dy Mat) // dE[ids[t]] += dy_t, embedding rows
}

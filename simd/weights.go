package simd

// Weights are what a set does with each type of packed weights; a field has ggml's name
// of the type. A set has assembly for some and the portable loops for the others.
type Weights struct {
	F16, BF16              Packed
	Q8_0                   Packed
	Q4_0, Q4_1, Q5_0, Q5_1 Packed
}

var weightsGeneric = Weights{
	F16:  f16Generic,
	BF16: bf16Generic,
	Q8_0: q8_0Generic,
	Q4_0: q4_0Generic,
	Q4_1: q4_1Generic,
	Q5_0: q5_0Generic,
	Q5_1: q5_1Generic,
}

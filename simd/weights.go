package simd

// Weights are what a set does with each type of packed weights; a field has ggml's name
// of the type. A set has assembly for some and the portable loops for the others.
type Weights struct {
	F16, BF16              Packed
	Q8_0                   Packed
	Q4_0, Q4_1, Q5_0, Q5_1 Packed

	Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K Packed

	IQ1_S, IQ1_M           Packed
	IQ2_XXS, IQ2_XS, IQ2_S Packed
	IQ3_XXS, IQ3_S         Packed
	IQ4_NL, IQ4_XS         Packed
	TQ1_0, TQ2_0           Packed
	MXFP4, NVFP4           Packed
}

var weightsGeneric = Weights{
	F16:  f16Generic,
	BF16: bf16Generic,
	Q8_0: q8_0Generic,
	Q4_0: q4_0Generic,
	Q4_1: q4_1Generic,
	Q5_0: q5_0Generic,
	Q5_1: q5_1Generic,

	Q2_K: q2_kGeneric,
	Q3_K: q3_kGeneric,
	Q4_K: q4_kGeneric,
	Q5_K: q5_kGeneric,
	Q6_K: q6_kGeneric,
	Q8_K: q8_kGeneric,

	IQ1_S:   iq1_sGeneric,
	IQ1_M:   iq1_mGeneric,
	IQ2_XXS: iq2_xxsGeneric,
	IQ2_XS:  iq2_xsGeneric,
	IQ2_S:   iq2_sGeneric,
	IQ3_XXS: iq3_xxsGeneric,
	IQ3_S:   iq3_sGeneric,
	IQ4_NL:  iq4_nlGeneric,
	IQ4_XS:  iq4_xsGeneric,
	TQ1_0:   tq1_0Generic,
	TQ2_0:   tq2_0Generic,
	MXFP4:   mxfp4Generic,
	NVFP4:   nvfp4Generic,
}

// Package engine runs and trains language models from GGUF files on CPU.
//
// A Model binds the tensors of a file to the one transformer block that package nn
// computes; an architecture is a row of flags (arch.go). Weights stay as they are
// packed in the file until they are trained.
//
//	Session   feeds tokens to sequences that keep their keys and values; Generate
//	Trace     runs a packed batch of samples forwards, and backwards into a Sink
//	Trainer   takes optimizer steps on sums of Terms, after TrainFull (float32 masters),
//	          TrainFused (bfloat16, updated inside the backward pass) or TrainLoRA; Finetune
//	Reference answers with a past state's logits, without a second model
//	Export    writes the model back as a copy of its file with the changed tensors
//
// # Gradients
//
// Backward hands every parameter's gradient to a sink as its factors, per row, so
// that one packed batch serves many samples. With T rows, y = x·Wᵀ and the upstream gradient dy:
//
//	                 factors            Accumulate         Dot, for the rows of a sample
//	matrix           dy [T,N], x [T,K]  dW += dyᵀ·x        Σ_t dy_t·(G·x_t)
//	gain of a norm   dy, x̂ [T,D]       dw += Σ_t dy_t∘x̂_t Σ_t (dy_t∘x̂_t)·G
//	bias             dy                 db += Σ_t dy_t     Σ_t dy_t·G
//	embedding rows   ids, dy            dE[id_t] += dy_t   Σ_t dy_t·G[id_t]
//
// Accumulate sums for an optimizer; Dot scores samples against a gradient G and
// never holds a sample's own; Norm measures; Update applies an optimizer to a tensor as soon as its
// gradient is complete and drops it. Adapters (LoRA) stand in front of all of them: the factors of
// W become those of A and B. A tied embedding is one parameter: it gets rows and matrix factors.
//
// # Invariants
//
// Results do not depend on the number of workers: outputs are divided, sums are
// not. Session and Trace give the same logits up to the order of sums, because they
// call the same functions. Params has one order, used to load, optimise, score and report.
package engine

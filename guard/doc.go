// Package guard removes the influence of a forget set from a model's weights by
// GUARD: Niu, Ma, Zhou, Zhou, Zhang, Etesami, Milenkovic, "GUARD: Guided Unlearning
// and Retention via Data Attribution for Large Language Models", arXiv:2506.10946v2
// (October 2025). [Attribute] scores every forget sample by how far its gradient
// pulls along with that of the retained data, [Multipliers] turns scores into
// weights, and [Unlearn] runs the objectives of the TOFU benchmark with them. It
// speaks in [engine.Sample] and knows neither files nor prompts nor metrics.
//
// # Notation
//
//	D_f, n_f   Data.Forget, len(Data.Forget)
//	D_r, n_r   Data.Retain, len(Data.Retain)
//	θ₀         the model as it is when Attribute or Unlearn is called
//	l_i        loss of sample i: Attribution.ForgetLoss       TokenLoss
//	g_i        ∇l_i(θ₀), never formed
//	g_r        (1/n_r) Σ_j ∇l_j(θ₀); ‖g_r‖ is Attribution.GradNorm
//	a_i        ⟨g_r, g_i⟩: Attribution.Scores                  score.go
//	τ          Tau, AutoTau                                    weights.go
//	w_i        softmax(-a/τ)_i: SampleWeights
//	n_f·w_i    Multipliers, Data.Multipliers, Batch.Multipliers
//	nll        summed over the answer tokens of a sample, in nats
//	B          Options.Batch; k, j of the pairing: Item        pairing.go
//	p_ref, p_θ Batch.Reference, the model being trained        loss_km.go
//
// # Why weights help
//
// To first order a step θ₀ + η·Σ w_i·g_i, the ascent on the weighted forget loss,
// changes the mean retain loss by η·Σ w_i·a_i. The softmax is the exact minimiser
// over the simplex of Σ w_i·a_i + τ·Σ w_i·ln w_i, so it lowers just this term, and τ says
// how far the weights may leave the uniform ones for it. Two tests hold the package to both.
//
// # What is known of the method
//
// Of the paper, its abstracts and secondary summaries were readable when this was
// written; no code of the authors has been found. Tags: [V] seen in the paper's
// public text, [S] told by a secondary source, [C] read in code, [I] inferred or
// chosen here. TOFU is locuslab/tofu at bdc209e.
//
//   - a_i = ⟨g_r, g_i⟩ at the model before unlearning, computed once, with the
//     mean gradient of the whole retain set and no division by norms [S].
//   - w_i = exp(-a_i/τ)/Σ_j exp(-a_j/τ) [S]; weights "inversely proportional to
//     their proxy attribution scores" [V].
//   - The loss of each forget sample is multiplied by its weight, in GA, GD, KM and
//     PO [S].
//
// # Choices that the paper leaves open
//
// Each is an option; its default and the reason:
//
//   - Loss of a sample (ScoreOptions.TokenLoss): "mean" over the answer tokens, for
//     TOFU trains on token means [C] and a long answer should not get a large
//     score for its length alone; "sum" is there [I].
//   - Parameters: all that are trainable, so the score speaks of the step that will
//     be taken; with LoRA those are the adapters [I]. Of a fresh adapter B is zero,
//     so the gradient of A is zero and the score is that of the B's [I].
//   - Retain set (ScoreOptions.RetainSamples): all of it; a seeded random subset
//     comes with a standard error of every score (Groups, default 4: enough for the order of
//     magnitude of an error, and each costs a gradient in memory) [I].
//   - Scale of the weights: each loss is multiplied by n_f·w_i, mean 1, so that τ = ∞
//     is the plain objective bit for bit, and the forget and retain terms of GD, KM
//     and PO keep their ratio on average [I].
//   - τ (Tau): "auto", the τ at which the effective sample size 1/Σw² is half of n_f.
//     Scores have no natural unit (they shrink with the gradients of a well
//     trained model), so no number can be a default; a share of the samples means the
//     same on every model. A number, a multiple of the scores' standard deviation, and inf are
//     there [I].
//   - PO: the weights stand on the refusal to question i, the term that forgets;
//     the retain samples have none [I].
//   - Micro-batches (Options.MicroBatch): the whole batch, so a loss is one mean over all
//     its answer tokens and does not depend on how memory is divided. TOFU's runs
//     average the token means of micro-batches of 4 [C]: MicroBatch 4.
//   - KM's positions (Options.KL): "all", every real position averaged. TOFU sums
//     over all positions too but divides by the padded length, 500 a sample [C],
//     which makes the term about 7 to 9 times weaker with answers of TOFU's length and
//     would make it depend on a padding that does not exist here; "tofu"
//     divides so, "answer" takes the answer alone [I].
//   - Tokens a batch of attribution (ScoreOptions.BatchTokens): 512. The products are no
//     faster on more rows, and of more rows a trace cannot keep as many blocks
//     (engine.DefaultKeep): 110M parameters are scored at 216 tokens/s in batches of
//     512, at 181 in batches of 2,048.
//   - Memory (ScoreOptions.Memory): where the gradient of the whole model does not fit, a stream of
//     chunks of blocks gives the same scores for 8·P instead of 6·P flops a token. Between chunks
//     numbers are kept in bfloat16 (Spill), which moves a score by some thousandths of the
//     scores' spread; float32 takes twice the space and moves nothing [I].
//   - Optimisation (DefaultOptions): TOFU's recipe [C], for the paper's own is not
//     known: AdamW, 5 epochs of batches of 32, int(5·n_f)/32 steps, linear warmup over the steps of
//     one epoch and linear decay, weight decay 0.01, learning rate 2e-5 (Phi's; 1e-5
//     for Llama 2), no clipping (DeepSpeed drops the trainer's default [I]).
//
// # Deviations from TOFU's code
//
//   - Order and pairing follow the same distributions, but torch's random numbers
//     cannot be had; ours come from (seed, epoch, row) alone.
//   - Batches run on over the ends of epochs, so that every row is used equally
//     often; TOFU's loader ends each epoch with a smaller batch. The steps are as many.
//   - A batch larger than the forget set is cut to it, where TOFU would do no step.
//   - There is no padding: no position after the end of a sample is computed, in KM
//     neither.
//   - The objective "dpo" of TOFU is not here: its code cannot run, and its authors
//     state that the paper's preference optimisation is "idk", our po.
//   - Computation is float32 on float32 master weights; TOFU trains in bfloat16.
//
// # Invariants, each with a test
//
//   - The number of workers changes no bit of a score or of an unlearned weight.
//   - Multipliers of 1, and none, and τ = ∞ give the same bits.
//   - KM's divergence and its gradient are exactly zero before the first step.
//   - How samples are packed changes a score by rounding only.
package guard

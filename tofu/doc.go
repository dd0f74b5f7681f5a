// Package tofu examines what a model knows of a set of questions, as the TOFU
// benchmark does (P. Maini et al., "TOFU: A Task of Fictitious Unlearning for
// LLMs", arXiv:2401.06121; code: github.com/locuslab/tofu at bdc209e): it reads
// data sets, formats questions and answers, measures losses and generated text, and
// computes TOFU's aggregates and GUARD's sacrifice rate. It knows nothing of how a
// model was made to forget.
//
//	data file ─Load▶ []Item ─Format▶ []engine.Sample
//	Sets + model ─Evaluate▶ Logs ─Metrics▶ Metrics ─SacrificeRate▶ []Sacrifice
//	                        Logs ─Write/ReadLogs─ eval_log*.json
//
// # Notation
//
//	ℓ    nats per token of the answer, EOS included    avg_gt_loss
//	ℓ̃    of the paraphrased answer                     avg_paraphrased_loss
//	ℓₖ   of the k-th of K perturbed (false) answers    average_perturb_loss
//	p    exp(−ℓ), pₖ = exp(−ℓₖ)
//	c    exp((1/K) Σₖ ℓₖ − ℓ̃), correct over wrong       1/truth_ratio of the log
//	r    ((1/K) Σₖ exp(−ℓₖ)) / exp(−ℓ̃), the arithmetic variant of 1/c
//
// A set is one of retain, forget, real_authors and world_facts. The values of an
// item are in MetricTable; model utility and forget quality are defined at
// Logs.Metrics, the sacrifice rate at Sacrifice.
//
// # Which of TOFU's variants
//
// TOFU computes its aggregates in two ways. aggregate_eval_stat.py, which made the
// published numbers, averages the perturbed answers geometrically (c), utils.py,
// which runs during training, arithmetically (r); model utility of the full
// Llama-2 model is 0.6227 in one and 0.5859 in the other. The first is ours, the
// second is reported as truth_ratio_arith and model_utility_arith.
//
// # Deviations
//
//   - Generation ends at EOS. In TOFU's Phi-1.5 logs it runs on; IgnoreEOS does so.
//   - The reference text of ROUGE is the answer itself, and of an answer that was
//     cut off what was kept, not the decoded tokens split at the answer's tag.
//   - Text is text: "</s>" in a question is never the token </s>.
//   - Losses are float64 sums of float32 logits; TOFU's are bfloat16 or float32.
//   - Where TOFU's script stops (data without paraphrases, a set that is missing),
//     the metrics that need it are absent and a reason says so.
//   - Forget quality is computed from ln c, which orders items as c does and cannot
//     overflow.
//   - Files are read strictly: a row that is not all right is an error, nothing is
//     skipped.
//   - The sacrifice rate is GUARD's (arXiv:2506.10946), whose formula is only known
//     in words; sign, direction and when it is undefined are stated at Sacrifice.
package tofu

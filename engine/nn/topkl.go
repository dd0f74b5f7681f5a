package nn

import (
	"cmp"
	"math"
	"slices"

	"github.com/guardcpu/guardcpu/simd"
)

// TopK sets ids to the len(ids) likeliest tokens of a row of V logits, in the order of their numbers; of
// tokens that are equally likely the first count. It panics if there are more ids than logits.
func TopK(ids []int32, logits []float32) {
	k := len(ids)
	if k > len(logits) {
		panicf("TopK: %d ids, %d logits", k, len(logits))
	}
	if k == 0 {
		return
	}
	// ids is a heap whose root is the least likely: every token that is likelier takes its place.
	worse := func(a, b int32) bool {
		x, y := logits[a], logits[b]
		return x < y || x == y && a > b
	}
	sift := func(i int) {
		for {
			c := 2*i + 1
			if c >= k {
				return
			}
			if c+1 < k && worse(ids[c+1], ids[c]) {
				c++
			}
			if !worse(ids[c], ids[i]) {
				return
			}
			ids[i], ids[c] = ids[c], ids[i]
			i = c
		}
	}
	for i := range ids {
		ids[i] = int32(i)
	}
	for i := k/2 - 1; i >= 0; i-- {
		sift(i)
	}
	for v := k; v < len(logits); v++ {
		if logits[v] > logits[ids[0]] {
			ids[0] = int32(v)
			sift(0)
		}
	}
	slices.SortFunc(ids, cmp.Compare[int32])
}

// LumpedLogProbs sets logp to the logarithms of the probabilities of the tokens ids in a row of V logits
// and returns that of all others together, −Inf if there are none:
//
//	logp[i] = z[ids[i]] − log Σ_v exp z[v]
//	rest    = log Σ_{v∉ids} exp z[v] − log Σ_v exp z[v]
//
// rounded to float32; the sums are taken apart, so that a small rest is as exact as the others.
// logits are overwritten: those of ids by zero, those of others by exp(z[v] − max_{w∉ids} z[w]), whose
// sum is the second result. ids are distinct. It panics if the lengths disagree.
func LumpedLogProbs(k *simd.Kernels, logp []float32, logits []float32, ids []int32) (rest float32, sum float64) {
	if len(logp) != len(ids) {
		panicf("LumpedLogProbs: %d ids, %d probabilities", len(ids), len(logp))
	}
	for i, id := range ids {
		logp[i] = logits[id]
	}
	for _, id := range ids {
		logits[id] = float32(math.Inf(-1))
	}
	top, lse := math.Inf(-1), math.Inf(-1) // lse: of the others
	if len(ids) < len(logits) {
		var others float32
		others, sum = expInPlace(k, logits)
		lse = float64(others) + math.Log(sum)
		top = lse
	}
	for _, z := range logp {
		top = max(top, float64(z))
	}
	var all float64
	for _, z := range logp {
		all += math.Exp(float64(z) - top)
	}
	all = top + math.Log(all+math.Exp(lse-top))
	for i, id := range ids {
		logits[id] = 0
		logp[i] = float32(float64(logp[i]) - all)
	}
	return float32(lse - all), sum
}

// LumpedKL returns the divergence of the model's distribution p from the reference's q over k+1
// categories, the k tokens ids and all others as one,
//
//	kl = Σ_i q_i·(log q_i − log p_i) + q_r·(log q_r − log p_r)   in nats
//
// with log q_i = logq[i] and log q_r = rest, as LumpedLogProbs gives them; it is at most the divergence over
// all tokens. The row of logits is overwritten by the gradient of coef·kl,
//
//	coef·(p[v] − q[v])           of a token of ids
//	coef·(p_r − q_r)·p[v]/p_r    of another
//
// which is exactly zero where the reference's logits were equal bit for bit, as kl is then. buf is
// memory for len(ids) numbers. It panics if the lengths disagree.
func LumpedKL(k *simd.Kernels, logits []float32, ids []int32, logq []float32, rest float32, buf []float32, coef float32) (kl float64) {
	if len(logq) != len(ids) {
		panicf("LumpedKL: %d ids, %d probabilities of the reference", len(ids), len(logq))
	}
	logp := buf[:len(ids)]
	restP, sum := LumpedLogProbs(k, logp, logits, ids)
	if sum > 0 {
		// p[v]/p_r = logits[v]/sum
		q, p := math.Exp(float64(rest)), math.Exp(float64(restP))
		if q > 0 {
			kl = q * (float64(rest) - float64(restP))
		}
		scaleRow(k, logits, float32(float64(coef)*(p-q)/sum))
	}
	for i, id := range ids {
		q, p := math.Exp(float64(logq[i])), math.Exp(float64(logp[i]))
		if q > 0 {
			kl += q * (float64(logq[i]) - float64(logp[i]))
		}
		logits[id] = float32(float64(coef) * (p - q))
	}
	return kl
}

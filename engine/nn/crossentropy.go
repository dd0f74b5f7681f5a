package nn

import (
	"math"

	"github.com/guardcpu/guardcpu/simd"
)

// vocabChunk is how many logits one kernel call takes. The sums of the calls are
// added in float64, which keeps a vocabulary's sum as exact as a short row's.
const vocabChunk = 1024

// NLL returns the negative log-likelihood of the target in nats,
//
//	nll = log Σ_v exp(logits[v]) − logits[target]
//
// of one row of V logits, which it leaves as they are. Nothing is averaged.
// It panics if the target is not in [0,V).
func NLL(k *simd.Kernels, logits []float32, target int32) float64 {
	checkTarget("NLL", logits, target)
	buf := scratch(min(len(logits), vocabChunk))
	defer scratchPool.Put(buf)
	top := k.Max(logits)
	var sum float64
	for lo := 0; lo < len(logits); lo += vocabChunk {
		x := logits[lo:min(lo+vocabChunk, len(logits))]
		sum += float64(k.ExpSub((*buf)[:len(x)], x, top))
	}
	return float64(top) + math.Log(sum) - float64(logits[target])
}

// CrossEntropy returns the nll of the target as [NLL] does and overwrites the row
// of logits by the gradient of coef·nll:
//
//	logits[v] = coef·(softmax(logits)[v] − [v = target])
//
// A mean over tokens is the caller's choice of coef. It panics if the target is
// not in [0,V).
func CrossEntropy(k *simd.Kernels, logits []float32, target int32, coef float32) (nll float64) {
	checkTarget("CrossEntropy", logits, target)
	atTarget := float64(logits[target])
	top, sum := expInPlace(k, logits)
	// nll = top + log(sum) − logits[target]
	scaleRow(k, logits, float32(float64(coef)/sum))
	logits[target] -= coef
	return float64(top) + math.Log(sum) - atTarget
}

// KLDivergence returns the divergence of the model's distribution p from the
// reference's q, both given by one row of logits,
//
//	kl = KL(q‖p) = Σ_v q[v]·(log q[v] − log p[v])   in nats
//
// and overwrites logits by the gradient of coef·kl, which is coef·(p − q): exactly
// zero where the rows are equal bit for bit, as kl is then. ref is overwritten.
// Nothing is averaged. The terms are float32 and their sum cancels, which leaves an
// error of about 1e-6 nats. It panics if the lengths disagree.
func KLDivergence(k *simd.Kernels, logits, ref []float32, coef float32) (kl float64) {
	if len(logits) != len(ref) {
		panicf("KLDivergence: %d logits, %d of the reference", len(logits), len(ref))
	}
	if len(logits) == 0 {
		return 0
	}
	buf := scratch(min(len(logits), vocabChunk))
	defer scratchPool.Put(buf)
	topP, topQ := k.Max(logits), k.Max(ref)
	var sumP, sumQ, dot float64 // Σ exp(logits−topP), Σ exp(ref−topQ), Σ exp(ref−topQ)·(ref−logits)
	for lo := 0; lo < len(logits); lo += vocabChunk {
		p, q := logits[lo:min(lo+vocabChunk, len(logits))], ref[lo:min(lo+vocabChunk, len(ref))]
		diff := (*buf)[:len(p)]
		copy(diff, q)
		k.Axpy(diff, -1, p)
		sumP += float64(k.ExpSub(p, p, topP))
		sumQ += float64(k.ExpSub(q, q, topQ))
		dot += float64(k.Dot(q, diff))
	}
	scaleRow(k, logits, float32(float64(coef)/sumP))
	scaleRow(k, ref, float32(float64(coef)/sumQ))
	for lo := 0; lo < len(logits); lo += vocabChunk {
		hi := min(lo+vocabChunk, len(logits))
		k.Axpy(logits[lo:hi], -1, ref[lo:hi])
	}
	return dot/sumQ - (float64(topQ) + math.Log(sumQ)) + (float64(topP) + math.Log(sumP))
}

// expInPlace overwrites x by exp(x − top) and returns top = max(x) and the sum.
func expInPlace(k *simd.Kernels, x []float32) (top float32, sum float64) {
	top = k.Max(x)
	for lo := 0; lo < len(x); lo += vocabChunk {
		part := x[lo:min(lo+vocabChunk, len(x))]
		sum += float64(k.ExpSub(part, part, top))
	}
	return top, sum
}

func scaleRow(k *simd.Kernels, x []float32, a float32) {
	for lo := 0; lo < len(x); lo += vocabChunk {
		k.Scale(x[lo:min(lo+vocabChunk, len(x))], a)
	}
}

func checkTarget(op string, logits []float32, target int32) {
	if target < 0 || int(target) >= len(logits) {
		panicf("%s: target %d of %d logits", op, target, len(logits))
	}
}

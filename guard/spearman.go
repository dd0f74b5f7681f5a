package guard

import (
	"math"
	"slices"
)

// Spearman is the rank correlation of x and y (Spearman 1904): Pearson's of their ranks, equal values
// having the mean of theirs. NaN if all values of one are equal.
func Spearman(x, y []float64) float64 {
	rx, ry := ranks(x), ranks(y)
	mean := float64(len(x)-1) / 2
	var xy, xx, yy float64
	for i := range rx {
		a, b := rx[i]-mean, ry[i]-mean
		xy, xx, yy = xy+a*b, xx+a*a, yy+b*b
	}
	return xy / math.Sqrt(xx*yy)
}

// ranks returns the rank of each value, from 0.
func ranks(x []float64) []float64 {
	order := make([]int, len(x))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		switch {
		case x[i] < x[j]:
			return -1
		case x[i] > x[j]:
			return 1
		}
		return i - j
	})
	r := make([]float64, len(x))
	for lo := 0; lo < len(order); {
		hi := lo + 1
		for hi < len(order) && x[order[hi]] == x[order[lo]] {
			hi++
		}
		for _, i := range order[lo:hi] {
			r[i] = float64(lo+hi-1) / 2
		}
		lo = hi
	}
	return r
}

// weightedSum returns Σ_k share[k]·parts[k].
func weightedSum(parts [][]float64, share []float64) []float64 {
	out := make([]float64, len(parts[0]))
	for k, p := range parts {
		for i, v := range p {
			out[i] += share[k] * v
		}
	}
	return out
}

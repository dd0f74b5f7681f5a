package par

import (
	"fmt"
	"testing"
)

// How much of the second worker's time short loops get: ns/op of two equal items of
// work, against both on one worker.
func BenchmarkFor(b *testing.B) {
	for _, work := range []int{1 << 10, 1 << 14, 1 << 18} {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("work=%d/workers=%d", work, workers), func(b *testing.B) {
				p := New(workers)
				sums := make([]float64, 128)
				for b.Loop() {
					p.For(2, func(i int) {
						s := sums[64*i]
						for j := range work {
							s += float64(j)
						}
						sums[64*i] = s
					})
				}
			})
		}
	}
}

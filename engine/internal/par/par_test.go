package par

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestForRunsEveryItemOnce(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 7, 64} {
		for _, n := range []int{0, 1, 2, 63, 1000} {
			seen := make([]atomic.Int32, n)
			New(workers).ForWorker(n, func(worker, i int) {
				assert.Less(t, worker, workers)
				seen[i].Add(1)
			})
			for i := range seen {
				assert.Equal(t, int32(1), seen[i].Load(), "%d workers, item %d of %d", workers, i, n)
			}
		}
	}
}

func TestNilPoolRunsOnTheCaller(t *testing.T) {
	var p *Pool
	n := 0
	p.For(5, func(i int) { n += i })
	assert.Equal(t, 10, n)
	assert.Equal(t, 1, p.Workers())
}

func TestPanicReachesTheCaller(t *testing.T) {
	for _, workers := range []int{1, 4} {
		assert.PanicsWithValue(t, "item 3", func() {
			New(workers).For(10, func(i int) {
				if i == 3 {
					panic("item 3")
				}
			})
		})
	}
}

func TestLoopsNest(t *testing.T) {
	p := New(3)
	var sum atomic.Int64
	p.For(10, func(i int) { p.For(10, func(j int) { sum.Add(int64(i * j)) }) })
	assert.Equal(t, int64(45*45), sum.Load())
}

// Helpers that fall asleep, are woken late and are hired by several callers at once
// lose no item and no loop.
func TestHelpersComeAndGo(t *testing.T) {
	var callers sync.WaitGroup
	for c := range 4 {
		callers.Go(func() {
			p := New(2 + c)
			for i := range 3000 {
				var n atomic.Int64
				p.For(3, func(int) { n.Add(1) })
				if n.Load() != 3 {
					t.Errorf("caller %d, loop %d ran %d items of 3", c, i, n.Load())
				}
				if i%100 == c {
					time.Sleep(200 * time.Microsecond) // longer than helpers look for work
				}
			}
		})
	}
	callers.Wait()
}

// A wake can come late, for a loop that is done already: the helper waits on.
func TestLateWake(t *testing.T) {
	h := newHelper()
	h.wake <- struct{}{}
	next := &loop{}
	go func() {
		time.Sleep(5 * time.Millisecond)
		h.give(next, 1)
	}()
	assert.Same(t, next, h.wait())
}

// A loop allocates nothing, once there are helpers.
func TestLoopsMakeNoAllocations(t *testing.T) {
	for _, workers := range []int{1, 2, 16} {
		p := New(workers)
		var n atomic.Int64
		item := func(int) { n.Add(1) }
		body := func(int, int) { n.Add(1) }
		for range 100 {
			p.For(64, item)
		}
		// The garbage collector may take what is kept: not every loop.
		assert.Less(t, testing.AllocsPerRun(200, func() { p.For(64, item); p.ForWorker(64, body) }), 1.0, "%d workers", workers)
	}
}

// Package par divides independent work among a fixed number of workers.
//
// Work items never share a sum, so the number of workers changes no bit of any
// result; it only changes who computes an item.
package par

import (
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// Pool runs loops of independent items on a fixed number of goroutines.
// The zero value and nil run everything on the calling goroutine.
type Pool struct {
	workers int
}

// New returns a pool of n workers; n < 1 means one for each CPU the process may use.
func New(n int) *Pool {
	if n < 1 {
		n = runtime.GOMAXPROCS(0)
	}
	return &Pool{workers: n}
}

// Workers returns the number of goroutines a loop is divided among, at least 1.
func (p *Pool) Workers() int {
	if p == nil || p.workers < 1 {
		return 1
	}
	return p.workers
}

// For calls body(i) once for every i in [0,n), in any order, and returns when
// all calls have returned. A panic in body is raised again in the caller.
func (p *Pool) For(n int, body func(i int)) {
	p.run(n, body, nil)
}

// ForWorker is For with the number of the worker that runs the item,
// 0 ≤ worker < Workers(), for scratch memory that must not be shared.
func (p *Pool) ForWorker(n int, body func(worker, i int)) { p.run(n, nil, body) }

// run runs the body that is not nil.
func (p *Pool) run(n int, item func(i int), body func(worker, i int)) {
	w := min(p.Workers(), n)
	l := loops.Get().(*loop)
	l.n, l.item, l.body = n, item, body
	if w <= 1 {
		for i := range n {
			l.do(0, i)
		}
		l.release()
		return
	}
	l.next.Store(0)
	l.crew = hire(l.crew[:0], w-1)
	l.busy.Store(int32(len(l.crew)))
	l.left.Add(len(l.crew))
	for k, h := range l.crew {
		h.give(l, k+1)
	}
	l.run(0)
	spin(l.idle)
	l.left.Wait()
	if r := l.failed.Load(); r != nil {
		panic(*r)
	}
	l.release()
}

// loop is one call of For or ForWorker.
type loop struct {
	n      int
	item   func(i int)
	body   func(worker, i int)
	crew   []*helper
	next   atomic.Int64
	failed atomic.Pointer[any]
	busy   atomic.Int32   // helpers that have not finished, to spin on
	left   sync.WaitGroup // the same, to block on
	idle   func() bool    // busy is 0
}

// loops are those that are over, to be used again: nobody looks at one any more when
// left is 0. One that failed is not kept.
var loops = sync.Pool{New: func() any {
	l := new(loop)
	l.idle = func() bool { return l.busy.Load() == 0 }
	return l
}}

// release lets go of what belongs to the caller.
func (l *loop) release() {
	l.item, l.body = nil, nil
	loops.Put(l)
}

// do does item i.
func (l *loop) do(worker, i int) {
	if l.item != nil {
		l.item(i)
	} else {
		l.body(worker, i)
	}
}

// run takes items until there are none.
func (l *loop) run(worker int) {
	defer func() {
		if r := recover(); r != nil {
			reason := any(r) // on the heap only when there is one
			l.failed.CompareAndSwap(nil, &reason)
		}
	}()
	for {
		i := int(l.next.Add(1)) - 1
		if i >= l.n || l.failed.Load() != nil {
			return
		}
		l.do(worker, i)
	}
}

// A helper is a goroutine that waits for loops. Helpers are shared by all pools and
// never end: starting a goroutine, and waking one that sleeps, takes as long as many of
// the loops here run. A helper that has finished therefore looks for the next loop
// for some microseconds before it sleeps.
type helper struct {
	loop   atomic.Pointer[loop]
	worker int // its number in the loop it is given
	asleep atomic.Bool
	wake   chan struct{}
	given  func() bool // loop is not nil
}

// idle are the helpers without a loop, of the all there are.
var (
	mu   sync.Mutex
	idle []*helper
	all  int
)

// hire adds up to n helpers to crew. There are fewer where loops run at the same time
// or inside one another: then the callers do the work.
func hire(crew []*helper, n int) []*helper {
	mu.Lock()
	defer mu.Unlock()
	for len(idle) < n && all < n {
		h := newHelper()
		idle = append(idle, h)
		all++
		go h.work()
	}
	k := max(0, len(idle)-n)
	crew = append(crew, idle[k:]...)
	idle = idle[:k]
	return crew
}

func newHelper() *helper {
	h := &helper{wake: make(chan struct{}, 1)}
	h.given = func() bool { return h.loop.Load() != nil }
	return h
}

// give hands l to a helper without a loop.
func (h *helper) give(l *loop, worker int) {
	h.worker = worker
	h.loop.Store(l)
	if h.asleep.CompareAndSwap(true, false) {
		h.wake <- struct{}{}
	}
}

func (h *helper) work() {
	debug.SetPanicOnFault(true) // of a mapped file that is truncated: For raises it again in its caller
	for {
		l := h.wait()
		l.run(h.worker)
		mu.Lock()
		idle = append(idle, h)
		mu.Unlock()
		l.busy.Add(-1)
		l.left.Done()
	}
}

// wait returns the next loop. Whoever takes asleep back from true decides: the helper
// goes on by itself, or give wakes it, maybe late and for a loop that is done already.
func (h *helper) wait() *loop {
	for {
		spin(h.given)
		if l := h.loop.Swap(nil); l != nil {
			return l
		}
		h.asleep.Store(true)
		if h.loop.Load() == nil || !h.asleep.CompareAndSwap(true, false) {
			<-h.wake
		}
	}
}

// spin looks at done again and again for some tens of microseconds, letting other
// goroutines run in between.
func spin(done func() bool) {
	for range 100 {
		for range 50 {
			if done() {
				return
			}
		}
		runtime.Gosched()
	}
}

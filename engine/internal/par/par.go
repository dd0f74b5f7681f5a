// Package par divides independent work among a fixed number of workers.
//
// Work items never share a sum, so the number of workers changes no bit of any
// result; it only changes who computes an item.
package par

import (
	"runtime"
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
	p.ForWorker(n, func(_, i int) { body(i) })
}

// ForWorker is For with the number of the worker that runs the item,
// 0 ≤ worker < Workers(), for scratch memory that must not be shared.
func (p *Pool) ForWorker(n int, body func(worker, i int)) {
	w := min(p.Workers(), n)
	if w <= 1 {
		for i := range n {
			body(0, i)
		}
		return
	}
	var (
		next   atomic.Int64
		failed atomic.Pointer[any]
		wg     sync.WaitGroup
	)
	run := func(worker int) {
		defer func() {
			if r := recover(); r != nil {
				failed.CompareAndSwap(nil, &r)
			}
		}()
		for {
			i := int(next.Add(1)) - 1
			if i >= n || failed.Load() != nil {
				return
			}
			body(worker, i)
		}
	}
	wg.Add(w - 1)
	for k := 1; k < w; k++ {
		go func() {
			defer wg.Done()
			run(k)
		}()
	}
	run(0)
	wg.Wait()
	if r := failed.Load(); r != nil {
		panic(*r)
	}
}

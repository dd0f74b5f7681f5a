//go:build unix

package par

import (
	"runtime/debug"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A look at memory that is not there panics in the caller, whichever worker it was.
func TestFault(t *testing.T) {
	page, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	require.NoError(t, err)
	defer func() { require.NoError(t, syscall.Munmap(page)) }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	p := New(3)
	for worker := range p.Workers() {
		sum := 0
		assert.Panics(t, func() {
			for { // until that worker takes an item
				p.ForWorker(64, func(w, _ int) {
					if w == worker {
						sum += int(page[0])
					}
				})
			}
		}, worker)
		assert.Zero(t, sum)
	}
}

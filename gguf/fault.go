package gguf

import (
	"runtime"
	"sync"
	"unsafe"
)

// A mapped file that is truncated, or on a disk that fails, cannot be read any more: the look at such a
// page is a fault, which ends the process unless debug.SetPanicOnFault has made a panic of it. Faulted
// says whose fault a panic is.

// mappings are the address ranges of mapped files, those that are unmapped too: a panic unwinds
// past Close before anybody asks. A range that is mapped again takes its place.
var mappings struct {
	sync.Mutex
	list []mapping
}

type mapping struct {
	from, to uintptr
	path     string
}

// remember notes where a file is mapped.
func remember(path string, data []byte) {
	from := uintptr(unsafe.Pointer(unsafe.SliceData(data)))
	m := mapping{from, from + uintptr(len(data)), path}
	mappings.Lock()
	defer mappings.Unlock()
	kept := mappings.list[:0]
	for _, old := range mappings.list {
		if old.to <= m.from || m.to <= old.from {
			kept = append(kept, old)
		}
	}
	mappings.list = append(kept, m)
}

// Faulted returns the path of the mapped file whose bytes could not be read, if that is what the
// value of a panic says. It is for goroutines that have called debug.SetPanicOnFault(true).
func Faulted(recovered any) (path string, ok bool) {
	fault, ok := recovered.(interface {
		runtime.Error
		Addr() uintptr
	})
	if !ok {
		return "", false
	}
	addr := fault.Addr()
	mappings.Lock()
	defer mappings.Unlock()
	for _, m := range mappings.list {
		if m.from <= addr && addr < m.to {
			return m.path, true
		}
	}
	return "", false
}

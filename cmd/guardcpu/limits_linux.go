package main

import (
	"io/fs"
	"math"

	"golang.org/x/sys/unix"
)

// processLimits returns what setrlimit leaves to this process. Both count memory that is set apart and not
// used, too: of the address space the runtime sets much apart, of what may be written 64 MiB at a time.
func processLimits(root fs.FS) (all []limit) {
	status := fields(root, "proc/self/status")
	for _, r := range []struct {
		kind  int
		held  string
		slack uint64
		name  string
	}{{unix.RLIMIT_DATA, "VmData:", 128 << 20, "RLIMIT_DATA"}, {unix.RLIMIT_AS, "VmSize:", 192 << 20, "RLIMIT_AS"}} {
		var l unix.Rlimit
		if unix.Getrlimit(r.kind, &l) != nil || l.Cur >= math.MaxInt64 {
			continue
		}
		left := uint64(1) // nothing is left, which is known
		if held := status[r.held]<<10 + r.slack; held < l.Cur {
			left = l.Cur - held
		}
		all = append(all, limit{left, r.name})
	}
	return all
}

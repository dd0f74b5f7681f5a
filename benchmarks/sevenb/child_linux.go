package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// lookAt reads how much memory a process has resident: zero if it has ended.
func lookAt(pid int) (l look) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return l
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, err := strconv.ParseInt(f[1], 10, 54)
		if err != nil {
			continue
		}
		switch f[0] {
		case "RssAnon:":
			l.anonymous = kib << 10
		case "RssFile:", "RssShmem:":
			l.mapped += kib << 10
		}
	}
	return l
}

// peakRSS is the largest resident memory of a process that has ended, in bytes.
func peakRSS(state *os.ProcessState) int64 {
	return state.SysUsage().(*syscall.Rusage).Maxrss << 10 // KiB
}

// forget takes a file out of the system's cache.
func forget(f *os.File) error {
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

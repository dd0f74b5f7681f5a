package main

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"github.com/guardcpu/guardcpu/engine/optim"
)

// trainBytes is what training holds for each parameter that it changes: a float32 master,
// a gradient, and what the optimizer keeps.
func trainBytes(optimizer string) int {
	for _, k := range optim.Optimizers {
		if k.Name == optimizer {
			return 4 + 4 + 4*k.Moments
		}
	}
	return 0 // not known, which the trainer says
}

// runCopies is what a run holds for each parameter besides: in float32 the state before unlearning,
// and the given model or, later, the one to write.
const runCopies = 2 * 4

// scoreBytes is what attribution holds for each parameter: a float32 master and the gradient of
// every group of retained samples, of which there are several where nRetain samples are drawn from.
func scoreBytes(o scoreOptions, nRetain int) int {
	groups := 1
	if n := o.RetainSamples; n > 0 && n < nRetain {
		groups = min(o.Groups, n)
	}
	return 4 + 4*groups
}

// usableMemory returns the bytes this process can still take: what the system has
// available, or less under a control group's limit; 0 if neither is known.
func usableMemory() uint64 {
	_, free := systemMemory()
	if limit := memoryLimit(); limit > 0 && (free == 0 || limit < free) {
		return limit
	}
	return free
}

// systemMemory reads /proc/meminfo; elsewhere than on Linux it knows nothing.
func systemMemory() (total, available uint64) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	for line := range bytes.Lines(data) {
		f := strings.Fields(string(line))
		if len(f) < 2 {
			continue
		}
		kib, err := strconv.ParseUint(f[1], 10, 54)
		if err != nil {
			continue
		}
		switch f[0] {
		case "MemTotal:":
			total = kib << 10
		case "MemAvailable:":
			available = kib << 10
		}
	}
	return total, available
}

// memoryLimit returns the smallest memory limit of the control groups this process
// is in (version 2, then version 1), 0 if there is none.
func memoryLimit() uint64 {
	paths := []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}
	if data, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		for line := range bytes.Lines(data) {
			if group, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "0::"); ok && group != "/" {
				for g := group; g != "" && g != "/"; g = g[:max(0, strings.LastIndexByte(g, '/'))] {
					paths = append(paths, "/sys/fs/cgroup"+g+"/memory.max")
				}
			}
		}
	}
	var limit uint64
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
		if err == nil && n < 1<<62 && (limit == 0 || n < limit) { // version 1 says 2^63 less a page for none
			limit = n
		}
	}
	return limit
}

package main

import (
	"runtime"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
)

func files(contents map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, text := range contents {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

func TestSystemMemory(t *testing.T) {
	total, free := systemMemory(files(map[string]string{"proc/meminfo": "MemTotal:       24000000 kB\nMemFree:  1 kB\nMemAvailable:   1000 kB\nHugePages_Total:       0\n"}))
	assert.Equal(t, uint64(24000000<<10), total)
	assert.Equal(t, uint64(1000<<10), free)
	total, free = systemMemory(files(nil))
	assert.Zero(t, total)
	assert.Zero(t, free)
}

// Limits of groups around count as well, memory of files can be taken back, and files that
// say no limit, or nonsense, are none.
func TestControlGroupLimits(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		name        string
		files       map[string]string
		limit, left uint64
	}{
		{"none", nil, 0, 0},
		{"version 2, in a container", map[string]string{
			"proc/self/cgroup":          "0::/\n",
			"sys/fs/cgroup/memory.max":  "2147483648\n",
			"sys/fs/cgroup/memory.stat": "anon 1073741824\nfile 9999\n",
		}, 2 * gib, gib},
		{"version 2, the group around is smaller", map[string]string{
			"proc/self/cgroup":                              "0::/user.slice/job.scope\n",
			"sys/fs/cgroup/user.slice/memory.max":           "1073741824\n",
			"sys/fs/cgroup/user.slice/memory.stat":          "anon 4096\n",
			"sys/fs/cgroup/user.slice/job.scope/memory.max": "max\n",
		}, gib, gib - 4096},
		{"version 2, throttled before the limit", map[string]string{
			"proc/self/cgroup":                "0::/job\n",
			"sys/fs/cgroup/job/memory.max":    "4294967296\n",
			"sys/fs/cgroup/job/memory.high":   "1073741824\n",
			"sys/fs/cgroup/other/memory.high": "4096\n",
		}, gib, gib},
		{"version 1", map[string]string{
			"proc/self/cgroup":                                 "8:pids:/x\n4:memory:/job/a\n0::/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":       "9223372036854771712\n",
			"sys/fs/cgroup/memory/job/a/memory.limit_in_bytes": "3221225472\n",
			"sys/fs/cgroup/memory/job/a/memory.stat":           "rss 1\ntotal_rss 1073741824\n",
		}, 3 * gib, 2 * gib},
		{"full", map[string]string{
			"sys/fs/cgroup/memory.max":  "4096\n",
			"sys/fs/cgroup/memory.stat": "anon 8192\n",
		}, 4096, 1},
		{"nonsense", map[string]string{
			"proc/self/cgroup":         "0\n:::\n0::relative/../..\n4:memory:\n",
			"sys/fs/cgroup/memory.max": "a lot\n",
		}, 0, 0},
	} {
		root := files(c.files)
		assert.Equal(t, c.limit, memoryLimit(root), c.name)
		assert.Equal(t, c.left, groupMemory(root), c.name)
	}
}

// The peak of this process is at least what it holds, where anything is known.
func TestPeakMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("known on Linux only")
	}
	held := make([]byte, 32<<20)
	for i := range held {
		held[i] = 1
	}
	peak := peakMemory()
	assert.Greater(t, peak, uint64(len(held)))
	assert.Less(t, peak, uint64(1)<<40)
	runtime.KeepAlive(held)
}

package main

import (
	"bytes"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// limit is how much memory this process may take, and who says so.
type limit struct {
	bytes uint64 // 0: not known
	from  string // "machine", "cgroup", "RLIMIT_DATA", "RLIMIT_AS", "GOMEMLIMIT"
}

// goMemLimit is what the environment has told the garbage collector.
var goMemLimit = debug.SetMemoryLimit(-1)

// memoryLimits returns the smallest of what the machine has available, the control groups leave,
// and the process has been given by setrlimit or GOMEMLIMIT.
func memoryLimits() limit {
	root := os.DirFS("/")
	_, free := systemMemory(root)
	least := limit{free, "machine"}
	if free == 0 {
		least = limit{}
	}
	all := append([]limit{{groupMemory(root), "cgroup"}}, processLimits(root)...)
	if goMemLimit < math.MaxInt64 {
		all = append(all, limit{uint64(goMemLimit), "GOMEMLIMIT"})
	}
	for _, l := range all {
		if l.bytes > 0 && (least.bytes == 0 || l.bytes < least.bytes) {
			least = l
		}
	}
	return least
}

// usableMemory returns the bytes this process can still take; 0 if nothing is known.
func usableMemory() uint64 { return memoryLimits().bytes }

// peakMemory returns the most bytes that this process has had resident; 0 if that is not known.
func peakMemory() uint64 { return fields(os.DirFS("/"), "proc/self/status")["VmHWM:"] << 10 }

// systemMemory reads proc/meminfo; elsewhere than on Linux it knows nothing.
func systemMemory(root fs.FS) (total, available uint64) {
	f := fields(root, "proc/meminfo")
	return f["MemTotal:"] << 10, f["MemAvailable:"] << 10
}

// fields reads a file of lines that begin with a name and a number.
func fields(root fs.FS, name string) map[string]uint64 {
	data, err := fs.ReadFile(root, name)
	if err != nil {
		return nil
	}
	all := map[string]uint64{}
	for line := range bytes.Lines(data) {
		if f := strings.Fields(string(line)); len(f) > 1 {
			if n, err := strconv.ParseUint(f[1], 10, 54); err == nil {
				all[f[0]] = n
			}
		}
	}
	return all
}

// memoryLimit returns the smallest memory limit of the control groups this process
// is in (version 2, then version 1), 0 if there is none.
func memoryLimit(root fs.FS) (least uint64) {
	for _, g := range controlGroups(root) {
		if n := g.limit(root); n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}

// groupMemory returns what the control groups this process is in leave: of each its limit less what
// its processes hold; what it keeps of files can be taken from it. 0 if there is no limit.
func groupMemory(root fs.FS) (least uint64) {
	for _, g := range controlGroups(root) {
		n := g.limit(root)
		if n == 0 {
			continue
		}
		if held := fields(root, filepath.Join(g.dir, "memory.stat"))[g.held]; held < n {
			n -= held
		} else {
			n = 1 // nothing is left, which is known
		}
		if least == 0 || n < least {
			least = n
		}
	}
	return least
}

// controlGroup is a directory with the limits of a control group.
type controlGroup struct {
	dir    string
	limits []string // files
	held   string   // the line of memory.stat that counts memory that is of no file
}

// controlGroups lists the groups this process is in, with those around them. In a container
// the files of its own group are those of the root.
func controlGroups(root fs.FS) (groups []controlGroup) {
	v2 := controlGroup{"sys/fs/cgroup", []string{"memory.max", "memory.high"}, "anon"}
	v1 := controlGroup{"sys/fs/cgroup/memory", []string{"memory.limit_in_bytes"}, "total_rss"}
	groups = []controlGroup{v2, v1}
	data, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return groups
	}
	for line := range bytes.Lines(data) {
		id, rest, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
		controllers, name, _ := strings.Cut(rest, ":")
		g := v1
		switch {
		case id == "0" && controllers == "":
			g = v2
		case controllers != "memory":
			continue
		}
		for top := g.dir; name != "/" && filepath.IsAbs(name); name = filepath.Dir(name) {
			g.dir = filepath.Join(top, name)
			groups = append(groups, g)
		}
	}
	return groups
}

// limit returns the smallest of a group's limits, 0 if there is none.
func (g controlGroup) limit(root fs.FS) (least uint64) {
	for _, name := range g.limits {
		data, err := fs.ReadFile(root, filepath.Join(g.dir, name))
		if err != nil {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
		if err == nil && n < 1<<62 && (least == 0 || n < least) { // version 1 says 2^63 less a page for none
			least = n
		}
	}
	return least
}

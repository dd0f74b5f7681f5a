// Package machine says what the benchmarks run on.
package machine

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/cpuid/v2"
)

// Name names the machine by its CPU: amd-epyc-fam25m1-2cpu.
func Name() string {
	c := cpuid.CPU
	words := strings.FieldsFunc(strings.ToLower(c.BrandName), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	return fmt.Sprintf("%s-fam%dm%d-%dcpu", strings.Join(words, "-"), c.Family, c.Model, runtime.NumCPU())
}

// Busy is the time all CPUs have worked since the machine started, 0 where /proc/stat does not
// say so. Time that a hypervisor took away counts.
func Busy() time.Duration {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(data), "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0
	}
	var ticks int64
	for i, x := range f[1:9] {
		if i == 3 || i == 4 { // idle, and waiting for a disk
			continue
		}
		n, err := strconv.ParseInt(x, 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 on every Linux
}

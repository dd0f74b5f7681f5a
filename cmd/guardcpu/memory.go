package main

import (
	"errors"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"
)

// budget is how much memory a command may take at most, resident, the weights that it looks at in a mapped file
// among it. take decides it; before that it holds what --memory says.
type budget struct{ limit }

// memoryFlag is --memory.
func memoryFlag(b *budget) cli.Flag {
	return &cli.StringFlag{Name: "memory", Usage: "take at most `SIZE` of memory, such as 12GiB or 800M (the default: what the machine, its control group, ulimit and GOMEMLIMIT leave, less a sixteenth, at most 1 GiB); results do not depend on it but for rounding", Category: "common",
		Validator: func(text string) (err error) {
			b.bytes, err = parseMemory(text)
			return err
		}}
}

// parseMemory reads a size with its unit: K, M, G, T, also as KiB, are powers of 1024; KB is 1000 bytes.
func parseMemory(text string) (uint64, error) {
	bad := errors.New("want a number with a unit, such as 12GiB or 800M")
	s := strings.ToUpper(strings.TrimSpace(text))
	if s == "" {
		return 0, nil
	}
	base := 1024.0
	if cut, ok := strings.CutSuffix(s, "IB"); ok {
		s = cut
	} else if cut, ok := strings.CutSuffix(s, "B"); ok {
		s, base = cut, 1000
	}
	n := len(s) - 1
	if n < 1 {
		return 0, bad
	}
	power := strings.IndexByte("KMGT", s[n]) + 1
	x, err := strconv.ParseFloat(strings.TrimSpace(s[:n]), 64)
	if err != nil || power == 0 || !(x > 0) {
		return 0, bad
	}
	if x *= math.Pow(base, float64(power)); !(x >= 1 && x < 1<<62) {
		return 0, bad
	}
	return uint64(x), nil
}

// take settles the budget and makes the garbage collector keep to it. Nothing known is no limit.
func (b *budget) take() {
	if b.bytes > 0 {
		b.from = "--memory"
	} else {
		b.limit = memoryLimits()
		b.bytes -= min(b.bytes/16, 1<<30)
	}
	b.forHeap(0)
}

// forHeap leaves the heap what the budget has besides mapped bytes of files.
func (b *budget) forHeap(mapped uint64) {
	if b.bytes == 0 {
		debug.SetMemoryLimit(goMemLimit)
		return
	}
	debug.SetMemoryLimit(max(1, int64(b.bytes)-int64(mapped)))
}

// forPlan makes the heap keep to what a plan says, if that is less than the budget.
func (b *budget) forPlan(heap uint64) {
	if b.bytes == 0 || heap < b.bytes {
		debug.SetMemoryLimit(int64(heap))
	}
}

// garbage is how much of the heap in use may be garbage, in percent: most of it is large slices of numbers, which
// cost a collection nothing, so that it may come often.
const garbage = 25

// collectOften keeps the garbage small, unless GOGC says how much there may be.
func collectOften() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
}

// String is the budget in a sentence: 2.0 GiB allowed (cgroup).
func (b *budget) String() string {
	if b.bytes == 0 {
		return "no limit known"
	}
	return bytesText(b.bytes) + " allowed (" + b.from + ")"
}

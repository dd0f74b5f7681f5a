package main

import (
	"fmt"
	"strconv"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// bytesText writes a size as people read it: 1.1 MiB.
func bytesText(n uint64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	x, units := float64(n), "KMGTPE"
	for i := range len(units) {
		if x /= 1024; x < 1024 || i == len(units)-1 {
			return fmt.Sprintf("%.1f %ciB", x, units[i])
		}
	}
	panic("unreachable")
}

// countText writes a number in groups of three digits: 292,800.
func countText(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural writes a number of things: 1 step, 2 steps.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return countText(uint64(n)) + " " + thing + "s"
}

// seconds is a duration as JSON results have it, to a millisecond.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// durationText writes a duration to a tenth of a second, or a second when it is long.
func durationText(d time.Duration) string {
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

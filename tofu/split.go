package tofu

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Split returns the rows of a TOFU split of the full set, in their order: "full",
// "forgetNN", the last NN percent of the rows, or "retainNN", the first NN
// percent. On the 4000 rows of TOFU forget01, forget05 and forget10 are rows
// 3960, 3800 and 3600 to 3999, and retain99, retain95 and retain90 the others.
// The result shares the memory of items.
func Split(items []Item, name string) ([]Item, error) {
	if name == "full" {
		return items, nil
	}
	for _, kind := range []string{"forget", "retain"} {
		digits, ok := strings.CutPrefix(name, kind)
		percent, err := strconv.ParseUint(digits, 10, 8)
		if !ok || len(digits) != 2 || err != nil || percent == 0 {
			continue
		}
		share := float64(percent) / 100
		if kind == "retain" {
			share = float64(100-percent) / 100
		}
		forget, retain, err := splitShare(items, share)
		if err != nil {
			return nil, fmt.Errorf("tofu: split %q: %w", name, err)
		}
		if kind == "forget" {
			return forget, nil
		}
		return retain, nil
	}
	return nil, fmt.Errorf("tofu: split %q is not known; there are full, forgetNN and retainNN with NN from 01 to 99", name)
}

// splitShare divides the rows as TOFU does: the last share of them, rounded to a
// whole number of rows, is to be forgotten. Neither part may be empty.
func splitShare(items []Item, share float64) (forget, retain []Item, err error) {
	n := int(math.Round(share * float64(len(items))))
	if !(share > 0 && share < 1) || n == 0 || n == len(items) {
		return nil, nil, fmt.Errorf("a share of %v of %d rows leaves the forget or the retain set empty", share, len(items))
	}
	at := len(items) - n
	return items[at:], items[:at:at], nil
}

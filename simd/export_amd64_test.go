//go:build !purego

package simd

// Features returns the names of what a set checks for.
func Features(set string) (names []string, ok bool) {
	for _, t := range tiers {
		for _, f := range t.needs {
			names = append(names, f.String())
		}
		if t.set.Name == set {
			return names, true
		}
	}
	return nil, false
}

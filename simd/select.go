package simd

import (
	"fmt"
	"os"
	"strings"
)

// EnvName is the environment variable that names the set to use.
const EnvName = "GUARDCPU_SIMD"

// All returns the sets this CPU can run: generic first, best last.
func All() []*Kernels {
	return append([]*Kernels{&generic}, accelerated()...)
}

// ByName returns the set of that name. The error of a name that is not known, or
// that this CPU cannot run, lists those it can.
func ByName(name string) (*Kernels, error) {
	var have []string
	for _, k := range All() {
		if k.Name == name {
			return k, nil
		}
		have = append(have, k.Name)
	}
	return nil, fmt.Errorf("simd: no kernel set %q on this CPU; there are %s", name, strings.Join(have, ", "))
}

// Select returns the set named by GUARDCPU_SIMD, or the last of All if it is
// empty or not set. The error is for the person who set the variable.
func Select() (*Kernels, error) {
	name := os.Getenv(EnvName)
	if name == "" {
		all := All()
		return all[len(all)-1], nil
	}
	k, err := ByName(name)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, EnvName)
	}
	return k, nil
}

// Best is Select for callers that cannot report an error: it panics instead.
func Best() *Kernels {
	k, err := Select()
	if err != nil {
		panic(err)
	}
	return k
}

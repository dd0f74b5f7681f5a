//go:build !linux

package rundir

// FreeSpace is known on Linux only; elsewhere a full disk shows when it is written to.
func FreeSpace(string) (bytes uint64, ok bool) { return 0, false }

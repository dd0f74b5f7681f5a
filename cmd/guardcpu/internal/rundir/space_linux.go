package rundir

import "golang.org/x/sys/unix"

// FreeSpace returns the bytes that can still be written in the file system of dir,
// which need not exist yet.
func FreeSpace(dir string) (bytes uint64, ok bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(existing(dir), &st); err != nil {
		return 0, false
	}
	return st.Bavail * uint64(st.Bsize), true
}

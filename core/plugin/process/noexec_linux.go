package process

import "golang.org/x/sys/unix"

// NoExec says whether programs in a folder cannot be executed, as the file system is mounted so.
func NoExec(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Flags&unix.ST_NOEXEC != 0
}

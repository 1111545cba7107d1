package backup

import "golang.org/x/sys/unix"

// freeSpace is how many bytes may be written to the file system of a folder, -1 where that is not known.
func freeSpace(dir string) int64 {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return -1
	}
	return int64(st.Bavail) * int64(st.Bsize)
}

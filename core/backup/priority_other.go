//go:build !linux

package backup

import "golang.org/x/sys/unix"

// LowPriority has the process give way to others for processors: a server beside it comes first.
func LowPriority() { _ = unix.Setpriority(unix.PRIO_PROCESS, 0, 10) }

// syncDisk has the disk keep everything that was written.
func syncDisk(string) error {
	unix.Sync()
	return nil
}

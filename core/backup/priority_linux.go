package backup

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// LowPriority has the process give way to others, for processors and disks: a server beside it comes first. It is for
// programs that do nothing else. Failing is of no matter.
func LowPriority() {
	const (
		niceness   = 10
		ioIdle     = 3 << 13 // IOPRIO_CLASS_IDLE
		ioWhoOfOne = 1       // IOPRIO_WHO_PROCESS, which is a thread
	)
	threads, _ := os.ReadDir("/proc/self/task") // those that come later have it from these
	for _, t := range threads {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, niceness)
			_, _, _ = unix.RawSyscall(unix.SYS_IOPRIO_SET, ioWhoOfOne, uintptr(id), ioIdle)
		}
	}
}

// syncDisk has the disk keep everything that was written to the file system of a folder.
func syncDisk(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

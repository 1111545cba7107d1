//go:build unix

package realtime

import (
	"syscall"
	"time"
)

var lastCPU time.Duration

// cpuSeconds is the processor time used since the last call.
func cpuSeconds() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	now := time.Duration(u.Utime.Nano() + u.Stime.Nano())
	d := now - lastCPU
	lastCPU = now
	return d.Seconds()
}

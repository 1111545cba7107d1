package process

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

// Exit tells how a process ended.
type Exit struct {
	// Code is the exit code, -1 after a signal.
	Code int
	// Signal is the signal that ended the process, 0 for none.
	Signal syscall.Signal
	// OutOfMemory: the limit of memory was reached and a process of the tree killed for it.
	OutOfMemory bool
	// Stopped: the host had called Kill.
	Stopped bool
	// Reason says why, where more than code and signal is known.
	Reason string
	At     time.Time
	// CPU is the time used by the process and the children that it waited for.
	CPU time.Duration
}

// Success tells whether the process ended with code 0.
func (e Exit) Success() bool { return e.Code == 0 && e.Signal == 0 }

// String is a text for operators, such as "killed by signal 9 (out of memory: limit 256 MiB)".
func (e Exit) String() string {
	text := fmt.Sprintf("exited with code %d", e.Code)
	if e.Signal != 0 {
		text = fmt.Sprintf("killed by signal %d", int(e.Signal))
	}
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	return text
}

// describe makes the Exit; the cgroup still exists.
func (p *Process) describe(state *os.ProcessState, err error) Exit {
	e := Exit{Code: -1, At: time.Now(), Stopped: p.stopped, Reason: p.reason}
	if err != nil {
		e.Reason = err.Error()
		return e
	}
	e.Code, e.CPU = state.ExitCode(), state.UserTime()+state.SystemTime()
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		e.Signal = status.Signal()
	}
	switch {
	case p.reason != "":
		e.OutOfMemory = p.reason == outOfMemory(p.spec.Limits)
	case p.group.oomKilled():
		e.OutOfMemory, e.Reason = true, outOfMemory(p.spec.Limits)
	case e.Stopped:
		e.Reason = "stopped by the host"
	}
	return e
}

func outOfMemory(l Limits) string { return "out of memory: limit " + bytesText(l.MemoryBytes) }

// bytesText writes a size in the largest binary unit that gives a whole number.
func bytesText(n int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; i < len(units)-1 && n >= 1024 && n%1024 == 0; i++ {
		n /= 1024
	}
	return fmt.Sprintf("%d %s", n, units[i])
}

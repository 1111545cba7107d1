//go:build unix && !linux

package process

import (
	"os"
	"syscall"
)

func startQuietly(path string, args []string, attr *os.ProcAttr) (*os.Process, error) {
	return os.StartProcess(path, args, attr)
}

func startChild(path string, args []string, attr *os.ProcAttr, pgid int, _ *group) (*os.Process, error) {
	attr.Sys = &syscall.SysProcAttr{Setpgid: true, Pgid: pgid}
	return os.StartProcess(path, args, attr)
}

func signalGroup(p *Process, sig syscall.Signal) error { return syscall.Kill(-p.pgid, sig) }

func killTree(p *Process) { _ = signalGroup(p, syscall.SIGKILL) }

// remember has no cheap counterpart here.
func remember(*Process) {}

package process

import (
	"os"
	"syscall"
)

// guard has no counterpart here.
type guard struct{}

func startGuard(*group) *guard { return nil }
func (g *guard) pid() int      { return 0 }
func (g *guard) end()          {}

func startChild(path string, args []string, attr *os.ProcAttr, _ int, _ *group) (*os.Process, error) {
	return os.StartProcess(path, args, attr)
}

func signalGroup(p *Process, sig syscall.Signal) error {
	if sig == syscall.SIGKILL || sig == syscall.SIGTERM {
		return p.proc.Kill()
	}
	return ErrUnsupported
}

func killTree(p *Process) { _ = p.proc.Kill() }

// flock always succeeds: a folder whose host is gone can be removed, and files that are open cannot.
func flock(*os.File) bool { return true }

func ownedByUs(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

const nonBlock = 0

// remember has no cheap counterpart here.
func remember(*Process) {}

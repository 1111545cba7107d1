//go:build !linux

package process

import (
	"os"
	"strconv"
)

// group has no counterpart here.
type group struct{}

func newGroup(l Limits, a *Applied) *group {
	const why = "not enforced: this system has no cgroups"
	*a = Applied{Memory: noLimit, CPU: noLimit, Processes: noLimit, OpenFiles: noLimit, Tree: "process group"}
	if l.MemoryBytes > 0 {
		a.Memory = why
	}
	if l.CPUs > 0 {
		a.CPU = why
	}
	if l.Processes > 0 {
		a.Processes = why
	}
	if l.OpenFiles > 0 {
		a.OpenFiles = "not enforced: this system cannot limit another process"
	}
	return nil
}

func (g *group) remove()            {}
func (g *group) oomKilled() bool    { return false }
func (g *group) openKill() *os.File { return nil }
func (p *Process) limit()           {}

func awaitExit(int) {}

// Stats is not available on this system.
func (p *Process) Stats() (Stats, error) { return Stats{}, ErrUnsupported }

// Sweep has nothing to do on this system.
func Sweep() error { return nil }

// hostID names this process among those that run.
func hostID() string { return strconv.Itoa(os.Getpid()) }

func hostAlive(string) bool { return false }

func cloneFile(_, _ *os.File) bool { return false }

// Package process starts and ends the processes of plugins.
package process

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

type Spec struct {
	Path      string
	Args, Env []string
	Dir, Name string
	Limits    Limits
}

type Limits struct {
	MemoryBytes          int64
	CPUs                 float64
	Processes, OpenFiles int
}

type Stats struct {
	Memory               int64
	CPU                  time.Duration
	Processes, OpenFiles int
	Started              time.Time
}

type Process struct {
	cmd            *exec.Cmd
	stdin          io.WriteCloser
	stdout, stderr io.ReadCloser
	done           chan struct{}
	mu             sync.Mutex
	exit           string
}

func Start(s Spec) (*Process, error) {
	p := &Process{cmd: exec.Command(s.Path, s.Args...), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir = s.Env, s.Dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.stdin, _ = p.cmd.StdinPipe()
	or, ow, _ := os.Pipe()
	er, ew, _ := os.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = ow, ew
	p.stdout, p.stderr = or, er
	errc := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := p.cmd.Start()
		ow.Close()
		ew.Close()
		errc <- err
		if err != nil {
			return
		}
		werr := p.cmd.Wait()
		p.mu.Lock()
		p.exit = fmt.Sprint(p.cmd.ProcessState, werr)
		p.mu.Unlock()
		close(p.done)
	}()
	return p, <-errc
}

func (p *Process) Pid() int              { return p.cmd.Process.Pid }
func (p *Process) Done() <-chan struct{} { return p.done }
func (p *Process) Exit() string          { p.mu.Lock(); defer p.mu.Unlock(); return p.exit }
func (p *Process) Stdout() io.ReadCloser { return p.stdout }
func (p *Process) Stderr() io.ReadCloser { return p.stderr }
func (p *Process) Stats() (Stats, error) { return Stats{}, nil }
func (p *Process) Kill(grace time.Duration) error {
	if grace > 0 {
		_ = syscall.Kill(-p.Pid(), syscall.SIGTERM)
		select {
		case <-p.done:
			return nil
		case <-time.After(grace):
		}
	}
	return syscall.Kill(-p.Pid(), syscall.SIGKILL)
}

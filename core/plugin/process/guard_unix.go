//go:build unix

package process

import (
	"os"
	"syscall"
)

// guardScript waits for the end of stdin, which comes with the end of the host, and kills the group that it leads, and the
// cgroup whose cgroup.kill it has as descriptor 3. It uses nothing but built-in commands.
const guardScript = `trap "" HUP INT QUIT TERM USR1 USR2 PIPE ALRM TSTP TTIN TTOU
read -r _
[ "$1" = cgroup ] && echo 1 >&3
kill -KILL 0`

// guard leads the process group of a child. A nil guard is one that could not be started, for want of a shell.
type guard struct {
	proc *os.Process
	host *os.File // held open as long as the host lives
}

// startGuard starts the guard of a group, or returns nil.
func startGuard(g *group) *guard {
	in, host, err := os.Pipe()
	if err != nil {
		return nil
	}
	defer func() { _ = in.Close() }()
	args := []string{"galley-guard", "-c", guardScript, "galley-guard"}
	files := []*os.File{in, nil, nil}
	if kill := g.openKill(); kill != nil {
		defer func() { _ = kill.Close() }()
		files, args = append(files, kill), append(args, "cgroup")
	}
	attr := &os.ProcAttr{Dir: "/", Env: []string{}, Files: files, Sys: &syscall.SysProcAttr{Setpgid: true}}
	proc, err := startQuietly("/bin/sh", args, attr)
	if err != nil {
		_ = host.Close()
		return nil
	}
	return &guard{proc: proc, host: host}
}

// pid is also the number of the process group; 0 without a guard.
func (g *guard) pid() int {
	if g == nil {
		return 0
	}
	return g.proc.Pid
}

// end kills and collects the guard.
func (g *guard) end() {
	if g == nil {
		return
	}
	_ = g.proc.Kill()
	_, _ = g.proc.Wait()
	_ = g.host.Close()
}

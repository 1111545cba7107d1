package process

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// spawner is the thread that forks all children. It never ends, since their parent-death signal is bound to it.
var spawner = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		closeOnExec()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

// onSpawner runs f on the spawner's thread and waits for it.
func onSpawner(f func()) {
	finished := make(chan struct{})
	spawner() <- func() { defer close(finished); f() }
	<-finished
}

// closeOnExec marks the descriptors that the host itself inherited. All that Go opens are marked already.
func closeOnExec() {
	if unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	names, _ := filepath.Glob("/proc/self/fd/*")
	for _, name := range names {
		if fd, err := strconv.Atoi(filepath.Base(name)); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

// startQuietly starts a helper on the spawner's thread.
func startQuietly(path string, args []string, attr *os.ProcAttr) (proc *os.Process, err error) {
	onSpawner(func() { proc, err = os.StartProcess(path, args, attr) })
	return proc, err
}

// startChild starts the child in the process group pgid (0: one of its own) and in the cgroup.
func startChild(path string, args []string, attr *os.ProcAttr, pgid int, g *group) (proc *os.Process, err error) {
	sys := &syscall.SysProcAttr{Setpgid: true, Pgid: pgid, Pdeathsig: syscall.SIGKILL}
	attr.Sys = sys
	if g != nil && g.fd >= 0 {
		sys.UseCgroupFD, sys.CgroupFD = true, g.fd
	}
	onSpawner(func() {
		var leave func() error
		if leave, err = g.enter(); err != nil {
			return
		}
		proc, err = startRetrying(path, args, attr)
		if err != nil && sys.UseCgroupFD {
			// Kernels before 5.7 and some filters of system calls know no CLONE_INTO_CGROUP.
			sys.UseCgroupFD = false
			if proc, err = startRetrying(path, args, attr); err == nil {
				err = g.join(proc.Pid)
			}
		}
		err = errors.Join(err, leave())
	})
	if err != nil && proc != nil {
		_ = proc.Kill()
		_, _ = proc.Wait()
	}
	return proc, err
}

// startRetrying starts a process, again where a fork of another goroutine holds the just written file open for writing
// until its own exec.
func startRetrying(path string, args []string, attr *os.ProcAttr) (*os.Process, error) {
	for wait := time.Millisecond; ; wait *= 2 {
		proc, err := os.StartProcess(path, args, attr)
		if !errors.Is(err, syscall.ETXTBSY) || wait > 200*time.Millisecond {
			return proc, err
		}
		time.Sleep(wait)
	}
}

// awaitExit waits for the end of a child and leaves it uncollected, so that its number stays its own.
func awaitExit(pid int) {
	for {
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			return
		}
	}
}

// signalGroup sends a signal to the process group. The caller holds p.mu and the process is not reaped.
func signalGroup(p *Process, sig syscall.Signal) error { return syscall.Kill(-p.pgid, sig) }

// killTree kills the group, the cgroup, and, without a cgroup, the descendants that left the group as far as they were seen
// while their parents lived. The caller holds p.mu.
func killTree(p *Process) {
	remember(p)
	_ = signalGroup(p, syscall.SIGKILL)
	for pid, start := range p.known {
		if s, ok := readStat(pid); ok && s.start == start {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	p.group.kill()
}

// remember notes the descendants, and theirs, where there is no cgroup to tell them. The caller holds p.mu and the process
// is not reaped.
func remember(p *Process) {
	if p.group != nil {
		return
	}
	known := map[int]uint64{}
	add := func(pids []int) {
		for _, pid := range pids {
			if s, ok := readStat(pid); ok {
				known[pid] = s.start
			}
		}
	}
	add(descendants(p.proc.Pid))
	for pid, start := range p.known {
		if s, ok := readStat(pid); ok && s.start == start {
			known[pid] = start
			add(descendants(pid))
		}
	}
	p.known = known
}

// limit sets the resource limits on the child and on what it has started by now.
func (p *Process) limit() {
	limits := p.spec.Limits
	set := map[int]uint64{}
	p.applied.OpenFiles = noLimit
	if limits.OpenFiles > 0 {
		set[unix.RLIMIT_NOFILE] = uint64(limits.OpenFiles)
		p.applied.OpenFiles = byRlimit
	}
	if p.applied.Memory == watched {
		set[unix.RLIMIT_DATA] = uint64(2*limits.MemoryBytes) + 512<<20
	}
	if len(set) == 0 {
		return
	}
	for _, pid := range append([]int{p.proc.Pid}, descendants(p.proc.Pid)...) {
		for resource, n := range set {
			err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: n, Max: n}, nil)
			if err != nil && resource == unix.RLIMIT_NOFILE && pid == p.proc.Pid {
				p.applied.OpenFiles = "not enforced: " + err.Error()
			}
		}
	}
}

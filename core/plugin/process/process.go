package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	defaultGrace = 3 * time.Second
	// drainTime is how long output can still be read after the end, should somebody who escaped hold the pipe.
	drainTime = 2 * time.Second
	// killTime bounds the wait for processes that were sent SIGKILL; one in an uninterruptible call may take longer.
	killTime = 10 * time.Second
)

// Spec says what to run.
type Spec struct {
	// Name stands in messages; empty: Path.
	Name string
	// Path is the file that is executed; it is not looked up in PATH.
	Path string
	// Args are the arguments without the program's own name.
	Args []string
	// Env is the whole environment; nothing is inherited.
	Env []string
	// Dir is the working directory; empty: the host's.
	Dir    string
	Limits Limits
	// Grace is the time between SIGTERM and SIGKILL in Kill; 0: three seconds.
	Grace time.Duration
}

// Limits of a process and all its descendants together; 0 means none.
type Limits struct {
	// MemoryBytes is the memory that is resident, swap included.
	MemoryBytes int64
	// CPUs is a number of processors, such as 0.5.
	CPUs float64
	// Processes counts processes and their threads, as the pids controller does. A Go program has about ten.
	Processes int
	// OpenFiles counts the descriptors of each process by itself.
	OpenFiles int
}

// Applied says in words how each limit is enforced: "cgroup v2", "cgroup v1", "rlimit", "watched", "none" where no
// limit is asked for, or "not enforced: " and the reason.
type Applied struct {
	Memory, CPU, Processes, OpenFiles string
	// Tree says what ends descendants: "cgroup.kill", "cgroup v1" or "process group".
	Tree string
}

// Stats is what a tree of processes uses.
type Stats struct {
	// MemoryBytes is resident memory, without the file cache where a cgroup tells it, else the sum of RSS.
	MemoryBytes int64
	// CPU is user and system time, also of descendants that ended as far as the system accounts for them.
	CPU time.Duration
	// Processes and Threads are the numbers of living ones, OpenFiles their descriptors.
	Processes, Threads, OpenFiles int
	Started                       time.Time
}

// ErrEnded is returned for a process that has ended.
var ErrEnded = errors.New("the process has ended")

// ErrUnsupported is returned where the system offers no way.
var ErrUnsupported = errors.New("not supported on this system")

// Process is a started child. Its methods may be called at any time and from any goroutine.
type Process struct {
	spec    Spec
	proc    *os.Process
	pgid    int
	guard   *guard
	group   *group
	applied Applied
	started time.Time

	stdin, stdout, stderr *os.File

	mu      sync.Mutex // held while signals are sent, so that none goes to a number that was given out anew
	reaped  bool
	known   map[int]uint64 // descendants that were seen, with their start times, where no cgroup holds them
	reason  string         // why the host killed it
	stopped bool

	done chan struct{}
	exit Exit
}

// Start starts a process. The caller reads Stdout and Stderr to their ends, or closes them, as a full pipe blocks the child.
// The process is collected whether Wait is called or not, and its descendants end with it.
func Start(spec Spec) (*Process, error) {
	if spec.Name == "" {
		spec.Name = spec.Path
	}
	if spec.Grace <= 0 {
		spec.Grace = defaultGrace
	}
	p := &Process{spec: spec, done: make(chan struct{})}
	p.group = newGroup(spec.Limits, &p.applied)
	if err := p.launch(); err != nil {
		p.guard.end()
		p.group.remove()
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	p.started = time.Now()
	p.limit()
	go p.reap()
	if p.group == nil || p.applied.Memory == watched || p.applied.Processes == watched {
		go p.watch()
	}
	return p, nil
}

// launch makes the pipes and starts the guard and the child.
func (p *Process) launch() (err error) {
	var files [3]*os.File // the child's ends
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
		if err != nil {
			p.closePipes()
		}
	}()
	if files[0], p.stdin, err = os.Pipe(); err != nil {
		return err
	}
	if p.stdout, files[1], err = os.Pipe(); err != nil {
		return err
	}
	if p.stderr, files[2], err = os.Pipe(); err != nil {
		return err
	}
	p.guard = startGuard(p.group)
	env := p.spec.Env
	if env == nil {
		env = []string{} // nil would mean the host's
	}
	attr := &os.ProcAttr{Dir: p.spec.Dir, Env: env, Files: files[:]}
	p.proc, err = startChild(p.spec.Path, append([]string{p.spec.Path}, p.spec.Args...), attr, p.guard.pid(), p.group)
	if err != nil {
		return err
	}
	if p.pgid = p.guard.pid(); p.pgid == 0 {
		p.pgid = p.proc.Pid
	}
	return nil
}

func (p *Process) closePipes() {
	for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
		_ = f.Close() // of a nil file this is an error and nothing else
	}
}

// reap waits for the end of the process, ends what it leaves, and tells everybody.
func (p *Process) reap() {
	awaitExit(p.proc.Pid)
	p.mu.Lock()
	killTree(p)
	state, err := p.proc.Wait()
	if p.guard != nil {
		_ = signalGroup(p, syscall.SIGKILL) // whom a fork brought in meanwhile; the guard keeps the number of the group ours
		p.guard.end()
	}
	p.reaped = true
	p.exit = p.describe(state, err)
	p.mu.Unlock()
	_ = p.stdin.Close()
	deadline := time.Now().Add(drainTime)
	_ = p.stdout.SetReadDeadline(deadline)
	_ = p.stderr.SetReadDeadline(deadline)
	p.group.remove()
	close(p.done)
}

// Pid is the number of the process.
func (p *Process) Pid() int { return p.proc.Pid }

// Name is what Spec says.
func (p *Process) Name() string { return p.spec.Name }

// Started is the time of the start.
func (p *Process) Started() time.Time { return p.started }

// Applied says how the limits are enforced.
func (p *Process) Applied() Applied { return p.applied }

// Stdin is the child's input, a pipe. It is closed when the process ends.
func (p *Process) Stdin() *os.File { return p.stdin }

// Stdout is the child's output; it ends when the last process that holds it does, at the latest two seconds after the
// process.
func (p *Process) Stdout() io.ReadCloser { return output{p.stdout} }

// Stderr is like Stdout.
func (p *Process) Stderr() io.ReadCloser { return output{p.stderr} }

// output turns the deadline that is set after the end of the process into the end of the stream.
type output struct{ *os.File }

func (o output) Read(b []byte) (int, error) {
	n, err := o.File.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// Done is closed when the process has ended and been collected, and its descendants killed.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit tells how the process ended; false while it runs.
func (p *Process) Exit() (Exit, bool) {
	select {
	case <-p.done:
		return p.exit, true
	default:
		return Exit{}, false
	}
}

// Wait waits for the end of the process or of the context, whose error it then returns.
func (p *Process) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-p.done:
		return p.exit, nil
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

// Signal sends a signal to the process group. It returns ErrEnded after the end.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return ErrEnded
	}
	return signalGroup(p, sig)
}

// Kill ends the process and its descendants: SIGTERM to the group, after the grace time or the end of the context SIGKILL
// to all. It returns when they are gone, and may be called again.
func (p *Process) Kill(ctx context.Context) error {
	p.mu.Lock()
	p.stopped = true
	if !p.reaped {
		remember(p) // before SIGTERM ends the parents of those who left the group
	}
	p.mu.Unlock()
	if err := p.Signal(syscall.SIGTERM); err == nil {
		grace := time.NewTimer(p.spec.Grace)
		defer grace.Stop()
		select {
		case <-p.done:
			return nil
		case <-ctx.Done():
		case <-grace.C:
		}
	}
	return p.killNow("")
}

// killNow kills the tree at once and waits for its end. A reason becomes part of the exit's text.
func (p *Process) killNow(reason string) error {
	p.mu.Lock()
	if !p.reaped {
		if p.reason == "" {
			p.reason = reason
		}
		killTree(p)
	}
	p.mu.Unlock()
	late := time.NewTimer(killTime)
	defer late.Stop()
	select {
	case <-p.done:
		return nil
	case <-late.C:
		return fmt.Errorf("%s (process %d) has been killed but does not end", p.spec.Name, p.proc.Pid)
	}
}

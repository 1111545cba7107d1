package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin/runner"
)

// Runner lets hashicorp/go-plugin run a Process. Its stderr goes to a Log, and go-plugin gets an empty one.
type Runner struct {
	spec Spec
	log  *Log

	mu      sync.Mutex
	process *Process
	logged  io.ReadCloser // ends when the log has all
}

var _ runner.Runner = (*Runner)(nil)

// NewRunner makes a runner; Start starts the process. A nil log discards stderr.
func NewRunner(spec Spec, log *Log) *Runner {
	if spec.Name == "" {
		spec.Name = spec.Path
	}
	return &Runner{spec: spec, log: log}
}

// RunnerFunc is for ClientConfig.RunnerFunc: the environment of each runner is spec's followed by what go-plugin adds (the
// cookie, versions, certificate and folder for sockets), so SkipHostEnv should be set. made is told each runner; may be nil.
func RunnerFunc(spec Spec, log *Log, made func(*Runner)) func(hclog.Logger, *exec.Cmd, string) (runner.Runner, error) {
	return func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
		own := spec
		own.Env = append(slices.Clone(spec.Env), cmd.Env...)
		r := NewRunner(own, log)
		if made != nil {
			made(r)
		}
		return r, nil
	}
}

// Process is the started process, nil before.
func (r *Runner) Process() *Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.process
}

// Start starts the process and the reading of its stderr.
func (r *Runner) Start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process != nil {
		return errors.New("the process has been started already")
	}
	p, err := Start(r.spec)
	if err != nil {
		return err
	}
	ended, end := io.Pipe()
	r.process, r.logged = p, ended
	go func() {
		defer func() { _, _ = p.stderr.Close(), end.Close() }()
		if r.log == nil {
			_, _ = io.Copy(io.Discard, p.Stderr())
		} else {
			_, _ = r.log.ReadFrom(p.Stderr())
		}
	}()
	return nil
}

// Wait waits for the end of the process; an end other than exit code 0 is an *ExitError. go-plugin calls it when stdout and
// stderr have been read.
func (r *Runner) Wait(ctx context.Context) error {
	p := r.Process()
	if p == nil {
		return errors.New("the process has not been started")
	}
	exit, err := p.Wait(ctx)
	if err != nil {
		return err
	}
	_ = p.stdout.Close()
	if !exit.Success() {
		return &ExitError{Exit: exit}
	}
	return nil
}

// ExitError is an exit as an error.
type ExitError struct{ Exit Exit }

func (e *ExitError) Error() string { return e.Exit.String() }

// Kill ends the process and all that it started.
func (r *Runner) Kill(ctx context.Context) error {
	if p := r.Process(); p != nil {
		return p.Kill(ctx)
	}
	return nil
}

// Stdout is the process's output. It is nil before Start.
func (r *Runner) Stdout() io.ReadCloser {
	if p := r.Process(); p != nil {
		return p.Stdout()
	}
	return nil
}

// Stderr has no bytes and ends when the log has all of the process's stderr.
func (r *Runner) Stderr() io.ReadCloser {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logged
}

// Name is the name of the Spec.
func (r *Runner) Name() string { return r.spec.Name }

// ID is the number of the process, empty before it is started.
func (r *Runner) ID() string {
	if p := r.Process(); p != nil {
		return strconv.Itoa(p.Pid())
	}
	return ""
}

// Diagnose says what is known of a process that did not begin to speak the protocol.
func (r *Runner) Diagnose(context.Context) string {
	text := "file: " + r.spec.Path
	if info, err := os.Stat(r.spec.Path); err != nil {
		text += "\n" + err.Error()
	} else {
		text += fmt.Sprintf(" (%s, %d bytes)", info.Mode(), info.Size())
	}
	if p := r.Process(); p != nil {
		if exit, ended := p.Exit(); ended {
			text += "\n" + exit.String()
		}
	}
	if r.log != nil {
		for _, line := range r.log.Last(20) {
			text += "\n" + line.Message
		}
	}
	return text
}

// PluginToHost returns the address as it is: both see the same files and networks.
func (r *Runner) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

// HostToPlugin returns the address as it is.
func (r *Runner) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

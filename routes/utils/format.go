package utils

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// blackVersion is the formatter that is installed where the machine has none: the reference's.
const blackVersion = "26.5.1"

const (
	maxCode        = 1 << 20 // bytes
	formatTimeout  = 30 * time.Second
	installTimeout = 3 * time.Minute
	retryInstall   = 5 * time.Minute // after a failure
)

var errNoFormatter = errors.New("no formatter for Python was found: install black or ruff on the server, or python3 with pip, by which it gets black itself")

// formatter formats Python with a program of the machine, or with one that it has pip install into a folder.
type formatter struct {
	dir     string
	offline bool
	log     *slog.Logger

	mu      sync.Mutex
	command *command // nil until one was found
	pending *install // nil while none is under way
	failed  error    // of the last installation
	again   time.Time
}

// command is a program that reads code and writes it formatted.
type command struct {
	args []string
	env  []string // added to the process's
}

// install is an installation that several requests may wait for.
type install struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// format gives code in the form that black gives it. Errors are for the caller to read.
func (f *formatter) format(ctx context.Context, code string) (string, error) {
	if len(code) > maxCode {
		return "", fmt.Errorf("the code is longer than %d bytes", maxCode)
	}
	cmd, err := f.find(ctx)
	if err != nil {
		return "", err
	}
	limited, cancel := context.WithTimeout(ctx, formatTimeout)
	defer cancel()
	out, stderr, err := cmd.run(limited, strings.NewReader(code))
	switch {
	case err == nil:
		return out, nil
	case errors.Is(limited.Err(), context.DeadlineExceeded):
		return "", errors.New("formatting the code took too long")
	}
	if !errors.As(err, new(*exec.ExitError)) {
		f.forget(cmd) // the program is gone
		return "", fmt.Errorf("the formatter does not run: %w", err)
	}
	message := strings.TrimSpace(stderr)
	if _, rest, ok := strings.Cut(message, "cannot format -: "); ok {
		message = rest
	}
	if message == "" {
		message = err.Error()
	}
	return "", errors.New(message)
}

func (c *command) run(ctx context.Context, stdin io.Reader) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Env = append(os.Environ(), append([]string{"PYTHONUTF8=1"}, c.env...)...)
	cmd.Dir = os.TempDir()
	cmd.Stdin = stdin
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func (f *formatter) forget(c *command) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.command == c {
		f.command = nil
	}
}

// blackArgs have black read standard input, look at nobody's settings, and leave out its own double check, as its API does.
var blackArgs = []string{"-q", "--fast", "--config", os.DevNull, "-"}

// find gives the program to format with, and installs one if the machine has none.
func (f *formatter) find(ctx context.Context) (*command, error) {
	f.mu.Lock()
	if f.command == nil {
		f.command = f.present(ctx)
	}
	if f.command != nil || ctx.Err() != nil {
		defer f.mu.Unlock()
		return f.command, ctx.Err()
	}
	if f.pending == nil {
		python, err := exec.LookPath("python3")
		switch {
		case err != nil || f.offline:
			defer f.mu.Unlock()
			return nil, errNoFormatter
		case f.failed != nil && time.Now().Before(f.again):
			defer f.mu.Unlock()
			return nil, f.failed
		}
		f.begin(python)
	}
	p := f.pending
	f.mu.Unlock()
	select {
	case <-p.done:
	case <-ctx.Done():
		return nil, ctx.Err() // the installation goes on for the next
	}
	if p.err != nil {
		return nil, p.err
	}
	return f.find(ctx)
}

// present finds what the machine or an earlier installation has.
func (f *formatter) present(ctx context.Context) *command {
	var list []*command
	if path, err := exec.LookPath("black"); err == nil {
		list = append(list, &command{args: append([]string{path}, blackArgs...)})
	}
	if python, err := exec.LookPath("python3"); err == nil {
		module := append([]string{python, "-m", "black"}, blackArgs...)
		list = append(list, &command{args: module})
		if _, err := os.Stat(f.home()); err == nil {
			list = append(list, &command{args: module, env: []string{"PYTHONPATH=" + f.home()}})
		}
	}
	if path, err := exec.LookPath("ruff"); err == nil {
		list = append(list, &command{args: []string{path, "format", "--isolated", "--quiet", "--no-cache", "-"}})
	}
	for _, c := range list {
		limited, cancel := context.WithTimeout(ctx, formatTimeout)
		out, _, err := c.run(limited, strings.NewReader("x=1\n"))
		cancel()
		if err == nil && out == "x = 1\n" {
			return c
		}
	}
	return nil
}

func (f *formatter) home() string { return filepath.Join(f.dir, "black-"+blackVersion) }

// begin installs in the background: a client that goes does not end it. mu is held.
func (f *formatter) begin(python string) {
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	p := &install{cancel: cancel, done: make(chan struct{})}
	f.pending = p
	go func() {
		defer cancel()
		err := f.install(ctx, python)
		if err == nil && f.present(ctx) == nil {
			err = errors.New("it does not run")
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.pending, f.failed = nil, nil
		if err != nil {
			f.log.Warn("black was not installed", "error", err)
			p.err = fmt.Errorf("%w (installing black failed)", errNoFormatter)
			f.failed, f.again = p.err, time.Now().Add(retryInstall)
		}
		close(p.done)
	}()
}

// install has pip put black into a folder, which gets its name once it is whole.
func (f *formatter) install(ctx context.Context, python string) error {
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(f.dir, ".install-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if _, _, err := (&command{args: []string{python, "-m", "pip", "--version"}}).run(ctx, nil); err != nil {
		// without pip: Python brings one for virtual environments
		venv := filepath.Join(tmp, "venv")
		if err := succeed(ctx, python, "-m", "venv", venv); err != nil {
			return err
		}
		python = filepath.Join(venv, "bin", "python")
	}
	target := filepath.Join(tmp, "black")
	if err := succeed(ctx, python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-warn-script-location",
		"--target", target, "black=="+blackVersion); err != nil {
		return err
	}
	if err := os.RemoveAll(f.home()); err != nil { // one that does not run
		return err
	}
	if err := os.Rename(target, f.home()); err != nil {
		return err
	}
	f.log.Info("black installed", "folder", f.home())
	return nil
}

func succeed(ctx context.Context, args ...string) error {
	_, stderr, err := (&command{args: args}).run(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args[:min(3, len(args))], " "), err, strings.TrimSpace(stderr))
	}
	return nil
}

// stop gives up an installation that is under way and waits for its end.
func (f *formatter) stop() {
	f.mu.Lock()
	p := f.pending
	f.mu.Unlock()
	if p != nil {
		p.cancel()
		<-p.done
	}
}
